"""A full disk and a folder that may not be written, at every write of every command.

A small project is copied onto a disk; there a command runs that meets a fault, and then, where it left something,
the same command again without one. Whatever the place of the fault: exit code 1 (3 where a part was done), an error of
two lines, no traceback; what stood there before is byte for byte the same, and what is new is a whole file that a run
without fault writes, too. Where a tmpfs can be mounted the disks are real ones; the others are pretended everywhere.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import loopback
import numpy as np
import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="its disks are those of Linux")
IS_FULL = os.environ.get("TSLENS_FAULTS") == "full"
TRAIN = "train --model l1_h32 --data stories.jsonl --steps 20 --vocab-size 300 --batch-tokens 512"
GRADE = "grade --judge local --samples 1 --max-tokens 40 --prompts prompts.jsonl"
FEW = "--stories author:60:7 --n-stories 40"
ONE = f"--model l1_h32@seed0 {FEW}"
LINK = "link --model l1_h32@seed0 --stories author:60:7 --n-stories 6 --pairs 20"
PROJECT = [TRAIN]
WHOLE_PROJECT = [
    TRAIN,
    f"{TRAIN} --seed 1",
    TRAIN.replace("l1_h32", "l1_h16"),
    f"heads {ONE} --n-explain 0 --out runs/l1_h32/seed0/results/heads",
    "scaling sizes --draws 50 --out kept/s.json",
    f"{GRADE} --model l1_h32@seed0",
    f"{GRADE} --model l1_h32@seed1",
]
COMMANDS = {
    "import": "data import stories.jsonl --vocab-size 300 --out corpus",
    "author": "data author --stories 20 --processes 1 --out a.jsonl.gz",
    "author_printed": "data author --stories 5 --processes 1",
    "train": f"{TRAIN} --seed 3",
    "train_anew": f"{TRAIN} --seed 3 --vocab-size 290",
    "export_huggingface": "export exported --model l1_h32@seed0 --to huggingface",
    "export_hooked": "export exported --model l1_h32@seed0 --to hooked-transformer",
    "generate": "generate --model l1_h32@seed0 --prompt Once --max-tokens 8 --out texts.jsonl",
    "look": "look 'Tom had a dog.' --model l1_h32@seed0 --html look.html",
    "runs": "runs",
    "demo": "demo --stories 300 --minutes 0.005 --out demo",
    "look_labels": "look --labels --stories author:20:3 --number 7 --html look.html",
    "instruct": "data instruct author:200 --stories 20 --processes 1 --out i.jsonl --prompts-out p.jsonl --prompts 3",
    "annotate": "data annotate stories.jsonl --stories 20 --processes 1 --out l.jsonl.gz",
    "diversity": "data diversity stories.jsonl --model l1_h32@seed0 --stories 10 --html d.html",
    "tensorboard": f"{TRAIN} --seed 4 --tensorboard",
    "grid": "train --grid 'layers=1,2 hidden=24' --data stories.jsonl --steps 5 --vocab-size 300 --batch-tokens 512",
    "heads": f"heads {ONE} --n-explain 2 --html h.html",
    "neurons": f"neurons {ONE} --n-explain 2 --html n.html",
    "produces": f"produces {ONE} --n-explain 2",
    "kinds": f"kinds {ONE} --figure k.svg",
    "programs": f"programs --model l1_h16@seed0 {FEW} --n-swap 2",
    "match": f"match l1_h32@seed0 l1_h32@seed1 {FEW} --components heads",
    "weights": f"weights {ONE} --n-explain 2",
    "ablate": f"ablate {ONE}",
    "circuit": "circuit --model l1_h32@seed0 --prompt 'Tom had a' --stories author:40:7 --n-stories 10 "
    "--html c.html --svg c.svg",
    "grade": f"{GRADE} --model l1_h16@seed0 --html g.html",
    "link": f"{LINK} --html m.html",
    "link_graded": f"{LINK} --judge local --samples 1 --max-tokens 4 --most-graded 1 --html m.html",
    "link_table": "link --table l1_h32@seed0 l1_h16@seed0 --stories author:60:7 --n-stories 6 --pairs 20 --out tab",
    "compare": "compare l1_h32@seed0 l1_h32@seed1 --judge local --prompts prompts.jsonl --samples 1 "
    "--max-tokens 40 --html c.html",
    "compare_roles": f"compare l1_h32@seed0 l1_h32@seed1 {FEW}",
    "scaling": "scaling sizes --draws 50 --figure s --out s.json",
    "emergence": "emergence runs/l1_h32/seed0 --stories author:60:7 --n-stories 30 --pairs 20 --positions 30 "
    "--probe previous_token --figure e",
    "audit": "audit heads --quick --only hand-set --out audit.jsonl",
    "audit_judge": "audit judge --judge local --quick --only length --out judge.jsonl",
    "report": "report l1_h32@seed0 --texts 1 --html r.html",
    "verify": "verify kept --out again",
    "request": "data request --stories 3 --model loop-1 --out r.jsonl",
    "grade_asked": f"{GRADE} --model l1_h16@seed0".replace("local", "openai:loop-1"),
    "describe": "describe --model l1_h32@seed0 --stories author:100:7 --n-stories 60 --by openai:loop-1 "
    "--neuron L0N1 --out d.jsonl",
    "remove": "runs --remove l1_h32@seed1 --yes",
    "remove_checkpoints": "runs --remove l1_h32@seed1 --checkpoints --yes",
}
SAMPLE = ("import", "train", "export_huggingface")
LIGHT = (
    "import",
    "author",
    "author_printed",
    "train",
    "train_anew",
    "export_huggingface",
    "export_hooked",
    "generate",
    "look",
    "runs",
    "look_labels",
    "instruct",
    "verify",
    "remove",
    "remove_checkpoints",
    "tensorboard",
)
NAMES = tuple(COMMANDS) if IS_FULL else SAMPLE
MODULES = () if IS_FULL else ("tslens.cli.main", "tslens.train.loop", "tslens.model.export")
GOES_ON = {"train": "--resume", "train_anew": "--resume", "tensorboard": "--resume"}  # else the same command
REMOVES = {"remove", "remove_checkpoints"}
PARTS = (0, 0.5, 0.25, 0.75, 0.9, 0.1, 0.4, 0.6)
# what holds times and speeds; and what a training replaces as it goes
VARY = re.compile(
    r"provenance\.json$|metrics\.jsonl$|_state\.pt$|\.html$|annotations\.sqlite$|/\.ledger/|^demo/"
)
REPLACED = re.compile(rf"{VARY.pattern}|best\.safetensors$|readings\.jsonl$")


# The disks ----------------------------------------------------------------------------------------------------


class Disks:
    """The process that runs commands on disks; ``reference`` is what each writes without a fault."""

    def __init__(self, files: Path, url: str) -> None:
        server = Path(__file__).with_name("disk_server.py")
        lines = [shlex.split(line) for line in (WHOLE_PROJECT if IS_FULL else PROJECT)]
        command = [sys.executable, str(server), str(files), json.dumps(lines), json.dumps(MODULES)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TSLENS_C")}
        environment |= {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "sk-loopback-0123456789"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.can_mount = self._answer()["mounts"]
        self._references = {}
        self.n_stopped = Counter()

    def _answer(self):
        found = json.loads(self._process.stdout.readline())
        assert "failed" not in found, found["failed"]
        return found

    def run(self, name, fault):
        argv = shlex.split(COMMANDS[name])
        again = [*argv, GOES_ON[name]] if name in GOES_ON else argv
        self.n_stopped["tried"] += 1
        self._process.stdin.write(json.dumps({"argv": argv, "again": again, "fault": fault}) + "\n")
        self._process.stdin.flush()
        found = self._answer()
        found["new"] = named(found["new"])
        if "second" in found:
            found["second"]["files"] = named(found["second"]["files"])
        self.n_stopped[f"ended with {found['code']}"] += 1
        self.n_stopped["run again"] += "second" in found
        return found

    def reference(self, name):
        if name not in self._references:
            found = self.run(name, {})
            assert found["code"] in {0, 3}, (name, found["err"][-800:])
            self._references[name] = found
        return self._references[name]

    def close(self):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


@pytest.fixture(scope="module")
def disks(stories, tmp_path_factory):
    folder = tmp_path_factory.mktemp("disks") / "files"
    folder.mkdir()
    write_lines(folder / "stories.jsonl", ({"text": story.text} for story in stories))
    write_lines(
        folder / "prompts.jsonl", ({"prompt": text} for text in ("Tom had a", "One day, Mia", "The dog"))
    )
    if IS_FULL:
        write_sizes(folder / "sizes")
    with answering() if IS_FULL else nullcontext() as model:
        disks = Disks(folder, model.url if model else "")
        yield disks
        disks.close()
    print(dict(disks.n_stopped))


def named(files):
    """Files whose names are the same in every run: without those of TensorBoard, nor the steps of the demo, which
    trains for some time."""
    return {
        re.sub(r"step_\d+", "step", path) if path.startswith("demo/") else path: sha256
        for path, sha256 in files.items()
        if "events.out" not in path
    }


def answering():
    """The server on loopback of the tests of the client: it says what it is asked for."""
    return loopback.Loopback()


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_sizes(folder):
    """Five runs whose losses are a function of size and tokens."""
    from tslens.config import TrainConfig
    from tslens.files import write_json, write_jsonl
    from tslens.model.spec import ModelSpec
    from tslens.run_folder import METRICS_SCHEMA, RunFolder

    for model in ("l1_h16", "l1_h32", "l1_h64", "l2_h64", "l2_h128"):
        run = RunFolder(folder / model / "seed0")
        size = ModelSpec.from_name(model).n_params(4096)
        settings = TrainConfig(model=model, budget="tokens", amount=2e6, seed=0, decay="constant")
        write_json(run.config, {**settings.to_json(), "corpus_sha256": "c", "tokenizer_sha256": "t"})
        tokens = np.linspace(2e5, 2e6, 10)
        loss = 1.2 + (size / 1e6) ** -0.35 + 1.5 * (tokens / 3e6) ** -0.4
        rows = [
            {
                "step": i,
                "n_tokens": int(n),
                "split": "validation",
                "loss_nats": float(one),
                "bits_per_byte": 1.0,
            }
            for i, (n, one) in enumerate(zip(tokens, loss, strict=True))
        ]
        header = {"model": model, "pass_tokens": 2_000_000, "flops_per_token": 6.0 * size}
        write_jsonl(run.metrics, METRICS_SCHEMA, header, rows)


# What must hold -----------------------------------------------------------------------------------------------


def problems(name, fault, found, reference):
    """What is wrong with how a command ended that met a fault; empty if nothing is."""
    wrong = []
    lines = [line for line in found["err"].splitlines() if line.strip()]
    begins = [number for number, line in enumerate(lines) if line.startswith("error:")]
    if found["code"] not in {0, 1, 3}:
        wrong.append(f"exit code {found['code']}")
    if found["code"] == 1 and (not begins or len(lines) - begins[0] != 2):
        wrong.append("no error of two lines")
    wrong += [text for text in ("Traceback", "Exception ignored") if text in found["err"]]
    is_hopeless = not any(fault.values()) or {"read_only", "refused", "user"} & set(fault)
    if found["code"] == 0 and is_hopeless and reference["new"]:
        wrong.append("done, though nothing can be written")
    wrong += differences("after the fault", found["new"], reference["new"], REPLACED)
    torn = [path for path in found["torn"] if not path.startswith("home/")]
    changed = [] if name in REMOVES else found["changed"]
    wrong += [f"{word}: {paths[:3]}" for word, paths in (("torn", torn), ("changed", changed)) if paths]
    second = found.get("second")
    if second and second["code"] != reference["code"]:
        wrong.append(f"again: exit code {second['code']}: {second['err'][-400:]}")
    elif second:
        files = second["files"]
        wrong += differences("again", files, reference["new"], VARY)
        missing = set(reference["new"]) - set(files)
        wrong += [f"again: missing {sorted(missing)[:3]}"] if missing else []
    return [f"{name} {fault}: {text}" for text in wrong] + ([found["err"][-600:]] if wrong else [])


def differences(when, files, reference, may_differ):
    """Files that a run without fault does not write, or not so."""
    others = sorted(set(files) - set(reference))
    differing = sorted(
        path
        for path in set(files) & set(reference)
        if files[path] != reference[path] and not may_differ.search(path)
    )
    kinds = (("no file of a whole run", others), ("other bytes", differing))
    return [f"{when}, {word}: {paths[:3]}" for word, paths in kinds if paths]


def tried(disks, name, faults):
    """Let a command meet faults, and assert that all went as it must."""
    reference, wrong = disks.reference(name), []
    for fault in faults:
        wrong += problems(name, fault, disks.run(name, fault), reference)
    assert not wrong, "\n".join(wrong)


# Faults -------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", NAMES)
def test_disks_that_are_full(disks, name, how_many):
    if not disks.can_mount:
        pytest.skip("no tmpfs can be mounted here")
    used = disks.reference(name)["used"]
    n_rooms = how_many(1, len(PARTS) if name in LIGHT else 2)
    rooms = [int(max(0, used) * part) // 4096 * 4096 for part in PARTS[:n_rooms]]
    faults = [{"room": room} for room in dict.fromkeys(rooms)] + [{"read_only": True}, {"inodes": 1}]
    tried(disks, name, faults[: how_many(1, len(faults))])


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", NAMES)
def test_writes_that_are_refused(disks, name, how_many):
    reference = disks.reference(name)
    is_light = name in LIGHT
    calls = [int(reference["n_events"] * part) for part in PARTS[1 : how_many(2, 6 if is_light else 2)]]
    faults = [{"events": n} for n in dict.fromkeys(calls)]
    faults += [
        {"limit": 3000},
        {"user": True},
        {"refused": True},
        {"limit": 0},
        {"limit": 100_000},
        {"events": 0},
    ]
    tried(disks, name, faults[: how_many(1, len(faults))])
