"""No code comes from files: not from pickles, not from text, not from the folder where one happens to stand."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = {
    "pickle",
    "_pickle",
    "cloudpickle",
    "dill",
    "joblib",
    "marshal",
    "shelve",
    "runpy",
    "code",
    "codeop",
    "pty",
}
RUNS_TEXT = {"eval", "exec", "compile", "__import__"}  # also as builtins.eval
NEVER = {"allow_pickle", "trust_remote_code", "shell"}  # arguments that are False in any call
STARTS = {"subprocess", "os", "np", "numpy"}  # calls of these take no arguments that are not written out
LOADS = re.compile(r"(json|tomllib|numpy|spacy|safetensors\.\w+|tslens\..*)\.loads?")  # what may load
OF_SYSTEM = re.compile(
    r"os\.(system|popen|exec\w*|spawn\w*|posix_spawn\w*)|subprocess\.get\w*|\w+\.read_pickle"
)


def full_names(tree):
    """What each name that a module imports stands for: ``t`` for ``torch``, ``load`` for ``torch.load``."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found


def offences(text):
    """What a module does that would run code from a file, each with its line."""
    tree = ast.parse(text)
    known = full_names(tree)
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            if name.partition(".")[0] in MODULES:
                yield f"line {node.lineno}: imports {name}"
        if not isinstance(node, ast.Call):
            continue
        first, dot, rest = ast.unparse(node.func).partition(".")
        called = known.get(first, first) + dot + rest
        given = {word.arg: getattr(word.value, "value", ...) for word in node.keywords}
        is_tensors = called == "torch.load" and given.get("weights_only") is True
        is_loading = (
            called.rpartition(".")[2] in {"load", "loads", "full_load", "unsafe_load"} and "." in called
        )
        if called.removeprefix("builtins.") in RUNS_TEXT or OF_SYSTEM.fullmatch(called):
            yield f"line {node.lineno}: calls {called}"
        if is_loading and not LOADS.fullmatch(called) and not is_tensors:
            yield f"line {node.lineno}: calls {called}"
        if None in given and called.partition(".")[0] in STARTS:
            yield f"line {node.lineno}: {called} with arguments that nobody sees"
        for word, value in given.items():
            if word in NEVER and value is not False:
                yield f"line {node.lineno}: {word} is not False"


def test_nothing_in_the_package_runs_what_a_file_says():
    found = []
    for path in (ROOT / "tslens").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        found += [f"{path.relative_to(ROOT)}, {each}" for each in offences(text)]
    assert not found


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from joblib import load",
        "eval(text)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=flag)",
        "subprocess.run(words, shell=True)",
        "yaml.load(text)",
        "os.system(words)",
        "import torch as t; t.load(path)",
        "from torch import load; load(path)",
        "from yaml import load as read; read(text)",
        "from os import system; system(words)",
        "os.execvp(words[0], words)",
        "import runpy",
        "pandas.read_pickle(path)",
        "torch.jit.load(path)",
        "import builtins; builtins.eval(text)",
        "import code; code.interact()",
        "import subprocess as s; s.run(words, **options)",
    ],
)
def test_it_would_be_seen(text):
    assert list(offences(text))


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """The current folder is a stranger's: modules in it leave a file when they are imported."""
    for name in ("pickle", "socket", "struct", "signal", "typer", "rich", "tslens"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write('{name} ')\n")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    ran = tmp_path / "ran"
    assert not ran.exists(), f"modules of the current folder were run: {ran.read_text()}"


def test_a_command_that_is_repeated_imports_nothing_from_the_current_folder(trap):
    from tslens.audit.recorded import find_records, to_repeat

    (trap / "rows.jsonl").write_text('{"schema": "tslens.head_score/1"}\n')
    (trap / "rows.provenance.json").write_text(json.dumps({"command": "tslens heads --model m"}))
    words, where = to_repeat(find_records(trap / "rows.jsonl")[0], trap / "new")
    start = words[: words.index("heads")]
    done = subprocess.run([*start, "--version"], cwd=where, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_processes_that_share_work_import_nothing_from_the_current_folder(trap, monkeypatch):
    from tslens.corpus.parallel import map_chunks

    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    assert list(map_chunks(sorted, [3, 1, 2, 0], n_processes=2, chunk_size=2)) == [1, 3, 0, 2]


def test_a_settings_file_of_the_current_folder_changes_no_figure(how_many, tmp_path, monkeypatch):
    if not how_many(0, 1):
        pytest.skip("a part of make test-faults")
    script = """
import sys
from pathlib import Path
from tslens.viz.figures import drawing
with drawing(2, 2, Path(sys.argv[1]) / "figure", ["x"], [[1]]) as figure:
    figure.add_subplot().plot([1, 2], [3, 4])
"""
    made = []
    for name, settings in (
        ("plain", ""),
        ("strange", "lines.linewidth: 9\ntext.usetex: True\nfont.size: 30\n"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "matplotlibrc").write_text(settings)
        done = subprocess.run([sys.executable, "-c", script, "."], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        made.append([(folder / f"figure.{kind}").read_bytes() for kind in ("svg", "pdf", "png")])
    assert made[0] == made[1]
