"""The structure is what docs and README say: import arrows, the file map, public names, no leaks."""

import ast
import re
from pathlib import Path

import pytest

import tslens

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "tslens"
TIERS = [
    {"errors"},
    {"types", "labels", "reading"},
    {"stats", "files", "config", "provenance", "allocator", "assets"},
    {"llm", "run_folder"},
    {"corpus"},
    {"model"},
    {"causal"},
    {"train", "probes", "grading"},
    {"audit", "link"},
    {"viz"},
    {"cli"},
]
ONLY_IN = {
    "transformer_lens": "model",
    "circuitsvis": "viz",
    "matplotlib": "viz",
    "typer": "cli",
    "rich": "cli",
    "spacy": "corpus",
    "tokenizers": "corpus",
    "transformers": "model",
    "openai": "llm",
    "datasets": "corpus",
    "huggingface_hub": "corpus",
    "pyarrow": "corpus",
    "ray": "train",
}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem[0] != "_")


def part_of(path):
    """Folder of a module inside the package, or its own name."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path):
    """Full names of all that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def tier(part):
    """Place of a part in the order of tiers."""
    return next(index for index, parts in enumerate(TIERS) if part in parts)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_follow_the_arrows(path):
    mine = part_of(path)
    for name in imports_of(path):
        top, *rest = name.split(".")
        if top == "tslens" and rest and rest[0] != "__version__":
            theirs = rest[0]
            assert theirs == mine or tier(theirs) < tier(mine), f"{mine} imports {name}"
        assert ONLY_IN.get(top, mine) == mine, f"{mine} imports {top}"


def test_one_module_imports_the_parser():
    found = {path for path in MODULES for name in imports_of(path) if name.split(".")[0] == "spacy"}
    assert found == {PACKAGE / "corpus" / "annotate.py"}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_modules_are_short_and_named_by_their_subject(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
    assert path.stem not in {"utils", "common", "helpers"}


def test_no_tier_is_forgotten():
    assert {part_of(path) for path in MODULES} | {"assets"} == set().union(*TIERS)


def test_the_readme_maps_the_files():
    """Every line `path   what it is` of the map exists, and every package folder and top-level entry is in it."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"## Files\n+```\n(.*?)```", text, re.DOTALL)
    assert block, "README has no file map"
    named = {line.split()[0].rstrip("/") for line in block[1].splitlines() if line.strip()}
    for name in named:
        assert (ROOT / name).exists(), f"README names {name}, which is not there"
    parts = {
        f"tslens/{part_of(path)}" + ("" if (PACKAGE / part_of(path)).is_dir() else ".py") for path in MODULES
    }
    assert parts <= named, parts - named
    assert {"training", "analysis", "reports", "tests", "examples", "docs"} <= named


def test_make_targets_are_in_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for target in phony[1].split():
        assert f"make {target}" in readme, target


def test_public_names_resolve():
    for name in tslens.__all__:
        assert getattr(tslens, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = tslens.nonsense


def test_public_functions_are_described():
    for name in tslens.__all__:
        if name != "__version__":
            assert (getattr(tslens, name).__doc__ or "").strip(), name


def test_nothing_advises_the_wrong_distribution():
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *MODULES]:
        assert not re.search(r"pip install [\"']?tslens", path.read_text(encoding="utf-8")), path
