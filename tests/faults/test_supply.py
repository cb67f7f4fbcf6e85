"""What is installed: every file pinned and hashed, every licence looked at, every promise of SECURITY.md with tests."""

import hashlib
import importlib
import re
import subprocess
import sys
import zipfile
from email.message import Message
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONSTRAINTS = ROOT / "constraints.txt"
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})(?: \\)?$")


@pytest.fixture(scope="module")
def supply():
    """Imports a script of ``tests/supply``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "tests" / "supply")
        yield importlib.import_module
    for name in ("needed", "make_constraints", "make_licences"):
        sys.modules.pop(name, None)


def read_constraints():
    """Hashes of each pinned package."""
    hashes, name = {}, None
    for line in CONSTRAINTS.read_text(encoding="utf-8").splitlines():
        if line.startswith(" "):
            hashes[name].append(HASH.search(line)[1])
        elif not line.startswith("#"):
            name = re.match(r"([a-z0-9-]+)==\S", line)[1]
            assert name not in hashes, f"{name} stands there twice"
            hashes[name] = []
    return hashes


def test_all_that_is_needed_is_pinned_and_all_but_torch_is_hashed(supply):
    hashes = read_constraints()
    needed = supply("needed")
    assert set(hashes) == set(needed.needed(needed.installed_requires))
    assert {name for name, found in hashes.items() if not found} == {"torch"}
    every = [digest for found in hashes.values() for digest in found]
    assert len(set(every)) == len(every)


def test_what_is_pinned_is_what_is_installed(supply):
    needed = supply("needed")
    pins = needed.read_pins(CONSTRAINTS.read_text(encoding="utf-8"))
    here = {name: metadata.version(name).split("+")[0] for name in pins if needed.is_installed(name)}
    assert here == {name: pins[name] for name in here}
    assert set(pins) - set(here) <= {"appnope"}  # of another platform


def test_an_extra_and_a_marker_are_followed(supply, monkeypatch):
    needed = supply("needed")
    graph = {
        "a": ['b[fast]; sys_platform == "win32"', "c"],
        "b": ['d; extra == "fast"', 'e; extra == "slow"', 'f; python_version < "3.11"'],
        "c": [],
        "d": ["a"],
    }
    monkeypatch.setattr(
        needed, "declared", lambda: {"base": [needed.Requirement("a")], "test": [needed.Requirement("c")]}
    )
    found = needed.needed(lambda requirement: graph[requirement.name])
    assert list(found) == ["a", "b", "c", "d"]
    assert found["d"].platforms == {"win32"}
    assert found["c"].groups == {"base", "test"} and found["c"].platforms == set(needed.PLATFORMS)


def test_install_takes_nothing_unhashed_but_torch_and_ourselves():
    recipe = re.search(
        r"^\$\(STAMP\): .*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
    )[1]
    installs = [line for line in recipe.splitlines() if "$(PIP)" in line or "pip install" in line]
    assert len(installs) == 5
    for line in installs:
        if "$(TORCH)" not in line:
            assert "--no-deps" in line, line
            ours = line.endswith("--no-build-isolation --config-settings editable_mode=compat -e .")
            assert "--require-hashes" in line or ours, line
    assert installs[-1].endswith("$(PIP) $(TORCH)"), (
        "dependencies of torch come last, when all that is pinned is there"
    )
    assert "pip check" in recipe


def test_a_wheel_is_taken_for_the_pythons_and_platforms_we_name(supply):
    make = supply("make_constraints")
    taken = {
        "x-1-py3-none-any.whl": True,
        "x-1-py2.py3-none-any.whl": True,
        "x-1-cp311-cp311-manylinux_2_28_x86_64.whl": True,
        "x-1-cp314-cp314-macosx_11_0_arm64.whl": True,
        "x-1-cp39-abi3-win_amd64.whl": True,
        "x-1-py3-none-manylinux2014_aarch64.manylinux_2_17_aarch64.whl": True,
        "x-1-cp310-cp310-manylinux_2_28_x86_64.whl": False,
        "x-1-cp314-cp314t-manylinux_2_28_x86_64.whl": False,
        "x-1-cp315-abi3-manylinux_2_28_x86_64.whl": False,
        "x-1-cp311-cp311-musllinux_1_2_x86_64.whl": False,
        "x-1-pp311-pypy311_pp73-win_amd64.whl": False,
        "x-1-cp311-cp311-win32.whl": False,
    }
    assert {name: make.is_for_us(name) for name in taken} == taken
    lacking = list(
        make.without_wheel(["x-1-cp311-cp311-win_amd64.whl", "x-1-cp312-abi3-manylinux_2_28_x86_64.whl"])
    )
    assert "3.11 win_amd64" not in lacking and "3.12 win_amd64" in lacking
    assert "3.11 linux.*x86_64" in lacking and "3.14 linux.*x86_64" not in lacking


@pytest.mark.parametrize("is_changed", [False, True])
def test_a_file_that_was_changed_is_not_installed(how_many, tmp_path, is_changed):
    """The flags of the Makefile, with a wheel of ours and no index."""
    if not is_changed and not how_many(0, 1):
        pytest.skip("a part of make test-faults")
    wheel = tmp_path / "tiny_thing-1.0-py3-none-any.whl"
    told = "Metadata-Version: 2.1\nName: tiny-thing\nVersion: 1.0\n"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_thing-1.0.dist-info/METADATA", told)
        archive.writestr(
            "tiny_thing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tiny_thing-1.0.dist-info/RECORD", "")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if is_changed:
        with zipfile.ZipFile(wheel, "a") as archive:
            archive.writestr("tiny_thing.py", "import os\n")
    (tmp_path / "lock.txt").write_text(f"tiny-thing==1.0 \\\n    --hash=sha256:{digest}\n")
    flags = [
        "--no-deps",
        "--require-hashes",
        "--no-build-isolation",
        "--disable-pip-version-check",
        "-r",
        "lock.txt",
    ]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--isolated",
            "--no-index",
            "--find-links",
            ".",
            "--dry-run",
            *flags,
        ],
        cwd=tmp_path,
        env={"PIP_CONFIG_FILE": "/dev/null", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode != 0) == is_changed, done.stderr
    assert ("DO NOT MATCH THE HASHES" in done.stderr) == is_changed, done.stderr


def test_the_page_of_licences_is_what_is_installed(supply):
    make = supply("make_licences")
    page = make.FILE.read_text(encoding="utf-8")
    written = page.partition(make.BEGIN)[2].partition(make.END)[0]
    rows = make.rows()
    assert written == make.table(rows), "write it again: python tests/supply/make_licences.py"
    assert {row.package for row in rows} == set(read_constraints())
    weak = {row.package for row in rows if any(name in row.licence for name in make.WEAK)}
    named = re.search(r"^MPL-2.0 \((.*?)\)", page, re.MULTILINE)[1]
    assert weak == set(named.split(", ")), "the page names those under MPL-2.0"


@pytest.mark.parametrize(
    ("told", "is_refused"),
    [
        ({"License-Expression": "MIT"}, False),
        ({"License": "Apache License, Version 2.0"}, False),
        ({"License": "UNKNOWN", "Classifier": "License :: OSI Approved :: MIT License"}, False),
        ({"License-Expression": "(MIT OR GPL-3.0-only)"}, True),
        ({"License": "AGPL"}, True),
        ({"Classifier": "License :: OSI Approved :: GNU General Public License v3 (GPLv3)"}, True),
        ({"License": "MIT License with a clause of our own"}, True),
        ({}, True),
    ],
)
def test_a_licence_that_nobody_has_looked_at_stops(supply, monkeypatch, told, is_refused):
    make = supply("make_licences")
    message = Message()
    for key, value in told.items():
        message[key] = value
    monkeypatch.setattr(make.metadata, "metadata", lambda _: message)
    if is_refused:
        with pytest.raises(SystemExit, match="thing: is"):
            make.licence_of("thing")
    else:
        assert make.licence_of("thing") in ("MIT", "Apache-2.0")


def test_every_asset_has_a_row():
    """Of the table of what comes in the package; no row is of nothing."""
    page = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
    section = page.partition("## What comes in the package")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    patterns = [pattern for row in rows for pattern in re.findall(r"`([^`]+)`", row)]
    assets = ROOT / "tslens" / "assets"
    files = {path.relative_to(assets).as_posix() for path in assets.rglob("*") if path.is_file()}
    covers = {pattern: {file for file in files if matches(file, pattern)} for pattern in patterns}
    assert all(covers.values()), [pattern for pattern, found in covers.items() if not found]
    assert files == set().union(*covers.values()), files - set().union(*covers.values())


def matches(file, pattern):
    """``page/*`` is all below ``page``; anything else is one file."""
    return file.startswith(pattern.removesuffix("*")) if pattern.endswith("/*") else file == pattern


def test_every_promise_names_tests_that_are_there():
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    promised = text.partition("## What is promised")[2].partition("\n## ")[0]
    rows = [line for line in promised.splitlines() if line.startswith("| ") and "---" not in line][1:]
    assert len(rows) >= 8
    for row in rows:
        named = re.findall(r"`(tests/[^`]+)`", row)
        assert named, f"no test is named: {row}"
        for path in named:
            assert (ROOT / path).is_file(), f"{path} is not there: {row}"
