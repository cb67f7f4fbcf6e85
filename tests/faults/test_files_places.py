"""What stands in a file's place, and names that lead elsewhere: pipes, folders, devices, links, traversal."""

import json
import os
import shutil
import threading
from pathlib import Path

import files_fuzz as fuzz
import pytest


def _readers():
    """Every reader of a file that a stranger may give: by name, the ending it asks for and what it does."""
    from tslens.audit.differences import compare_files
    from tslens.audit.judge_people import read_scores
    from tslens.audit.recorded import find_records
    from tslens.cli.generate import _read_prompts
    from tslens.cli.grade_prompts import _of_file
    from tslens.cli.request import _read_template
    from tslens.corpus.diversity.sampling import read_completions
    from tslens.corpus.foreign_tokenizer import read_llama2c_tokenizer
    from tslens.corpus.stories import describe_source, read_stories
    from tslens.corpus.tokenizer import StoryTokenizer, read_splitter
    from tslens.files import read_json, read_jsonl
    from tslens.grading.completions_file import read_texts
    from tslens.grading.prompts import read_beginnings
    from tslens.grading.results import load_grades
    from tslens.grading.short import read_short_prompts
    from tslens.model.load import load_model, read_digests
    from tslens.model.ngram import NgramModel
    from tslens.model.run_list import find_runs
    from tslens.probes.results import load_head_scores

    stories = {ending: (ending, lambda path: list(read_stories(path))) for ending in (".txt", ".parquet")}
    return stories | {
        "stories": (".jsonl", lambda path: list(read_stories(path))),
        "packed stories": (".jsonl.gz", lambda path: list(read_stories(path))),
        "hash": (".jsonl", describe_source),
        "model": (".safetensors", load_model),
        "llama2c": (".bin", load_model),
        "their tokenizer": (".bin", lambda path: read_llama2c_tokenizer(path, n_tokens=300)),
        "n-gram": (".safetensors", NgramModel.load),
        "hashes": (".npy", read_digests),
        "tokenizer": (".json", StoryTokenizer.load),
        "splitter": (".json", read_splitter),
        "json": (".json", read_json),
        "rows": (".jsonl", lambda path: read_jsonl(path, "tslens.x/1")),
        "heads": (".jsonl", load_head_scores),
        "grades": (".jsonl", load_grades),
        "completions": (".jsonl", read_texts),
        "measured completions": (".jsonl", read_completions),
        "prompts": (".jsonl", read_beginnings),
        "prompts in YAML": (".yaml", read_beginnings),
        "short prompts": (".json", read_short_prompts),
        "prompts of a command": (".json", _of_file),
        "generated": (".jsonl", _read_prompts),
        "template": (".txt", _read_template),
        "records": (".json", find_records),
        "compared": (".csv", lambda path: compare_files(path, path, tolerance=0)),
        "scores": (".csv", read_scores),
        "run": ("", lambda path: find_runs(path.parent)),
    }


def in_time(read, path, root, seconds=20):
    """Whether the file was read; a reader that waits for a pipe is let go, and fails the test."""
    found = []
    thread = threading.Thread(target=lambda: found.append(_outcome(read, root)), daemon=True)
    thread.start()
    thread.join(seconds)
    if not found:
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
        thread.join(seconds)
        raise AssertionError("it waits for ever")
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0]


def _outcome(read, root):
    try:
        return fuzz.survives(read, root)
    except BaseException as error:
        return error


PLACES = ["folder", "pipe", "zero", "loop", "dangling", "empty"]


@pytest.mark.parametrize("place", PLACES)
def test_no_file_is_read_from_what_is_none(tmp_path, place):
    """A pipe would wait for ever, /dev/zero never end; a link that leads in a circle or nowhere is no file."""
    for name, (ending, read) in _readers().items():
        path = tmp_path / name.replace(" ", "_") / f"x{ending or '.jsonl'}"
        path.parent.mkdir()
        path = path.with_name("metrics.jsonl") if name == "run" else path
        if place == "folder":
            path.mkdir()
        elif place == "pipe":
            os.mkfifo(path)
        elif place == "zero":
            path.symlink_to("/dev/zero")
        elif place == "loop":
            path.symlink_to(path)
        elif place == "dangling":
            path.symlink_to(path.parent / "absent")
        else:
            path.write_bytes(b"")
        try:
            was_read = in_time(lambda path=path, read=read: read(path), path, tmp_path)
        except BaseException as error:
            raise AssertionError(f"{name}: {type(error).__name__}: {error}") from error
        assert not was_read or name in ("run", "compared", "hash"), name


def test_names_that_no_file_can_have(tmp_path):
    for name, (ending, read) in _readers().items():
        for stem in ("a\0b", "a" * 5000, "\udcff", "../" * 40 + "etc/passwd\0"):
            path = tmp_path / f"{stem}{ending}"
            try:
                fuzz.survives(lambda read=read, path=path: read(path), tmp_path)
            except Exception as error:
                raise AssertionError(f"{name}, {stem[:9]!r}: {type(error).__name__}: {error}") from error


@pytest.fixture
def run(trained_run, tmp_path):
    """A copy of a run in a folder of runs, and beside it a folder that is nobody's business."""
    folder = tmp_path / "runs" / "l1_h16" / "seed0"
    shutil.copytree(trained_run, folder)
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("metrics.jsonl", "config.json", "DONE", "corpus.json", "precious.txt"):
        (outside / name).write_text("precious")
    return folder


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory, tokenizer):
    """What a run leaves, without training one."""
    from tslens.files import write_json, write_jsonl
    from tslens.model.checkpoint import save_checkpoint
    from tslens.model.spec import ModelSpec
    from tslens.model.transformer import TinyTransformer
    from tslens.run_folder import METRICS_SCHEMA

    folder = tmp_path_factory.mktemp("run") / "seed0"
    model = TinyTransformer(ModelSpec.from_name("l1_h16"), tokenizer.vocab_size, seed=0, tokenizer=tokenizer)
    for step in (0, 1, 2):
        save_checkpoint(model, folder / "checkpoints" / f"step_{step:06d}.safetensors")
    tokenizer.save(folder / "tokenizer.json")
    row = {"step": 2, "n_tokens": 64, "split": "validation", "loss_nats": 5.0, "bits_per_byte": 3.0}
    write_jsonl(folder / "metrics.jsonl", METRICS_SCHEMA, {"model": "l1_h16"}, [row])
    write_json(folder / "config.json", {"model": "l1_h16", "seed": 0})
    write_json(folder / "DONE", {"steps": 2})
    return folder


def whole(folder):
    """Nothing of a folder is gone or changed."""
    return sorted(path.name for path in folder.iterdir()) == [
        *("DONE", "config.json", "corpus.json", "metrics.jsonl", "precious.txt"),
    ] and all(path.read_text() == "precious" for path in folder.iterdir())


LINKS = {
    "a folder in the run": ("results", "."),
    "checkpoints": ("checkpoints", "."),
    "a checkpoint": ("checkpoints/step_000001.safetensors", "precious.txt"),
    "the lock": (".lock", "precious.txt"),
    "settings": ("config.json", "config.json"),
    "the mark": ("DONE", "DONE"),
    "the rest of a removal beside it": ("../.seed0.removing", "."),
    "the rest of another removal": ("../../.old.removing", "."),
    "corpora": ("../../.corpora", "."),
    "a corpus": ("../../.corpora/c", "."),
    "the run itself": (".", "."),
    "its model": ("..", "."),
}


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("options", [("--remove", "l1_h16@seed0"), ("--checkpoints",), ("--unused-corpora",)])
def test_removal_does_not_follow_a_link(tslens, run, tmp_path, monkeypatch, name, options):
    """A run of a stranger may hold links to anywhere: what they point to stays."""
    monkeypatch.chdir(tmp_path)
    where, target = LINKS[name]
    place, outside = Path(os.path.normpath(run / where)), tmp_path / "outside"
    if name == "corpora":
        others = tmp_path / "others"
        (others / "c").mkdir(parents=True)
        (others / "c" / "corpus.json").write_text("precious")
        (run.parents[1] / ".corpora").symlink_to(others)
    else:
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        place.unlink(missing_ok=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(Path(os.path.normpath(outside / target)))
    done = tslens("runs", "runs", *options, "--yes")
    assert done.code in {0, 1, 2} and "Traceback" not in done.err, done.err
    if name == "corpora":
        assert (others / "c" / "corpus.json").read_text() == "precious"
    assert whole(outside), sorted(outside.iterdir())


def test_a_lock_that_is_a_link_to_a_file_leaves_it_whole(run, tmp_path):
    """Locks are opened for writing: a list of runs must not empty what a run's lock points to."""
    from tslens.errors import TslensError
    from tslens.files import locked
    from tslens.model.run_list import find_runs

    (run / ".lock").symlink_to(tmp_path / "outside" / "precious.txt")
    find_runs(tmp_path / "runs")
    with pytest.raises((TslensError, OSError)), locked(run):
        pass
    assert whole(tmp_path / "outside")


@pytest.mark.parametrize("where", ["results", "results/heads", "results/heads/deeper"])
def test_results_are_not_written_through_a_link(tslens, run, tmp_path, monkeypatch, where):
    """What a run holds may lead anywhere; a run, or a folder of runs, may itself stand behind a link of the user's."""
    from tslens.errors import RunError
    from tslens.run_folder import RunFolder

    monkeypatch.chdir(tmp_path)
    (run / where).parent.mkdir(parents=True, exist_ok=True)
    (run / where).symlink_to(tmp_path / "outside")
    done = tslens("heads", "--model", "runs/l1_h16/seed0", "--n-stories", 1)
    assert done.code == 1 and "symbolic link" in done.err and "Traceback" not in done.err, done.err
    assert len([line for line in done.err.splitlines() if line.strip()]) <= 4, done.err
    with pytest.raises(RunError, match="symbolic link"):
        RunFolder(run).results("heads")
    assert whole(tmp_path / "outside")
    (run / where).unlink()
    for name in ("disk", "one"):
        (tmp_path / name).mkdir()
    (tmp_path / "disk" / "runs").symlink_to(tmp_path / "runs")
    (tmp_path / "one" / "seed0").symlink_to(run)
    for path in (run, tmp_path / "disk" / "runs" / "l1_h16" / "seed0", tmp_path / "one" / "seed0"):
        assert RunFolder(path).results("heads") == path / "results" / "heads"


@pytest.mark.parametrize("where", ["completions", "local"])
def test_grades_are_not_written_through_a_link(run, tmp_path, where):
    """``--out`` may be a link, for the user named it; what is in it may not."""
    from tslens.cli.grade_texts import Wanted, job_of_model
    from tslens.errors import RunError

    out = tmp_path / "out"
    (tmp_path / "disk").mkdir()
    out.symlink_to(tmp_path / "disk")
    wanted = Wanted("beginnings", 1, None, 1.0, 0)
    assert job_of_model(str(run), wanted, "local", "two_turns", out).path.parent == out / "local"
    (out / where).symlink_to(tmp_path / "outside")
    with pytest.raises(RunError, match="symbolic link"):
        job_of_model(str(run), wanted, "local", "two_turns", out)


@pytest.mark.parametrize("where", ["checkpoints", "samples", "tensorboard"])
@pytest.mark.parametrize("resume", [True, False])
def test_training_does_not_write_through_a_link(run, tmp_path, where, resume):
    """It stops before it reads a story or writes a lock."""
    from tslens.config import train_config
    from tslens.errors import RunError
    from tslens.run_folder import RunFolder
    from tslens.train.loop import train_model

    shutil.rmtree(run / where, ignore_errors=True)
    (run / where).symlink_to(tmp_path / "outside")
    config = train_config(None, model="l1_h16", seed=0, steps=10)
    with pytest.raises(RunError, match="symbolic link"):
        train_model(config, None, RunFolder(run), resume=resume)
    assert whole(tmp_path / "outside") and not (run / ".lock").exists()


def test_a_line_is_not_added_through_a_link(tmp_path):
    from tslens.errors import RunError
    from tslens.files import append_line

    (tmp_path / "secret").write_text("precious")
    (tmp_path / "metrics.jsonl").symlink_to("secret")
    with pytest.raises(RunError):
        append_line(tmp_path / "metrics.jsonl", "{}")
    assert (tmp_path / "secret").read_text() == "precious"
    append_line(tmp_path / "secret", " é")
    assert (tmp_path / "secret").read_bytes() == "precious é\n".encode()


def test_the_mask_of_the_process_is_left_alone(tmp_path, monkeypatch):
    """Were it zero for a moment, what another thread makes then could be written by anybody."""
    from tslens.files import atomic_write

    before, modes = os.umask(0o027), []
    try:
        with monkeypatch.context() as watched:
            watched.setattr(os, "umask", lambda mask: pytest.fail("the mask was changed"))
            with atomic_write(tmp_path / "made") as file:
                modes.append(os.fstat(file.fileno()).st_mode)
        modes.append((tmp_path / "made").stat().st_mode)
    finally:
        os.umask(before)
    assert [mode & 0o777 for mode in modes] == [0o640, 0o640]


BAD_NAMES = [
    "../../../outside/x",
    "/tmp/x",
    "..",
    ".",
    "",
    "a/b",
    "a\0b",
    "a" * 5000,
    "\n",
    7,
    None,
    ["x"],
    "-x",
]


@pytest.mark.parametrize("name", BAD_NAMES, ids=lambda name: repr(name)[:20])
def test_a_run_with_a_name_that_leads_elsewhere_is_refused(run, tmp_path, name):
    """Results are written under the label of a run, so that it must be a name and nothing else."""
    from tslens.errors import TslensError
    from tslens.model.load import find_model
    from tslens.run_folder import RunFolder

    (run / "config.json").write_text(json.dumps({"model": name, "seed": 0}))
    with pytest.raises(TslensError):
        RunFolder(run).label()
    with pytest.raises(TslensError):
        find_model(run)
    for seed in ("../../x", True, -1, 0.5, None):
        (run / "config.json").write_text(json.dumps({"model": "l1_h16", "seed": seed}))
        with pytest.raises(TslensError):
            RunFolder(run).label()


def test_checkpoints_with_other_names_are_passed_over(run):
    from tslens.run_folder import RunFolder

    for name in ("step_x1", "step_", "step_-5", "step_" + "9" * 60, "step_1e3"):
        (run / "checkpoints" / f"{name}.safetensors").write_bytes(b"")
    assert RunFolder(run).last_checkpoint().name == "step_000002.safetensors"
