"""Writes constraints.txt: the versions installed here, with the hashes of their files on the package index.

1. From ``pyproject.toml``, all extras and what builds the package, walk through what each distribution requires, on
   every Python and platform of ``needed.ENVIRONMENTS``. What is not installed here (a package of another platform)
   keeps its version of ``constraints.txt``, or gets the newest that its requirement allows.
2. Each gets the SHA-256 of its wheels for these Pythons and platforms; of its source only if it has no wheel.
3. torch gets a version and no hash: its builds (CPU, CUDA, ROCm) have one version and different files.

The index is the one that pip is set to use; its hashes are believed once, here, and checked at every installation. To
move to newer versions: install them into ``.venv``, run this and ``make_licences.py``, then ``make install`` in a fresh
clone. Run: .venv/bin/python tests/supply/make_constraints.py
"""

from __future__ import annotations

import functools
import json
import os
import re
import sys
import urllib.request
from collections.abc import Iterator
from email import message_from_bytes
from importlib import metadata
from typing import Any

from needed import CONSTRAINTS, PLATFORMS, PYTHONS, installed_requires, is_installed, needed, read_pins
from packaging.requirements import Requirement
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import Version

UNHASHED = "torch"
HEAD = """\
# Exact versions that work together, with the SHA-256 of every file that may be installed for Python 3.11 to 3.14 on
# Linux, macOS and Windows. torch has a version only: its builds for CPU and GPUs share one. What make install reads;
# tests/supply/make_constraints.py writes it.
"""
_PLATFORM = re.compile(r"any|(many)?linux.*_(x86_64|aarch64)|macosx_.*_(x86_64|arm64|universal2)|win_amd64")
_PLACES = ("linux.*x86_64", "linux.*aarch64", "macosx.*(arm64|universal2)", "win_amd64")


def main() -> None:
    """Write the file, and say what has no wheel somewhere."""
    lines = [f"{UNHASHED}=={Version(metadata.version(UNHASHED)).public}"]
    for name, entry in needed(_requires).items():
        if name == UNHASHED:
            continue
        version = _version_of(entry.first)
        here = is_installed(name) or len(entry.platforms) == len(PLATFORMS)
        files = _files_of(name, version)
        lines.append(f"{name}=={version}" + ("" if here else marker_of(entry.platforms)))
        lines[-1] += "".join(f" \\\n    --hash=sha256:{digest}" for digest in sorted(files.values()))
        lacking = list(without_wheel(list(files)))
        if lacking:
            print(f"{name} {version} has no wheel for {', '.join(lacking)}", file=sys.stderr)
    CONSTRAINTS.write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"{CONSTRAINTS.name}: {len(lines)} packages", file=sys.stderr)


def marker_of(platforms: set[str]) -> str:
    """A marker that holds on these platforms only."""
    return "; " + " or ".join(f'sys_platform == "{name}"' for name in sorted(platforms))


def fits(interpreter: str, abi: str, platform: str, minor: int) -> bool:
    """Can CPython 3.``minor`` of one of the platforms take a wheel with this tag?"""
    if not _PLATFORM.fullmatch(platform):
        return False
    if interpreter.startswith("cp3") and abi == "abi3":
        return int(interpreter[3:]) <= minor
    if interpreter.startswith("py3"):
        return abi == "none" and int(interpreter[3:] or 0) <= minor
    return interpreter == f"cp3{minor}" and abi in (interpreter, "none")


def is_for_us(wheel: str) -> bool:
    """Is this wheel for one of the Pythons and platforms?"""
    tags = parse_wheel_filename(wheel)[3]
    return any(fits(tag.interpreter, tag.abi, tag.platform, minor) for tag in tags for minor in PYTHONS)


def without_wheel(files: list[str]) -> Iterator[str]:
    """Pythons and platforms that none of these files is a wheel for."""
    tags = [tag for file in files if file.endswith(".whl") for tag in parse_wheel_filename(file)[3]]
    for minor in PYTHONS:
        for place in _PLACES:
            where = re.compile(f"any|.*{place}")
            if not any(
                fits(t.interpreter, t.abi, t.platform, minor) and where.fullmatch(t.platform) for t in tags
            ):
                yield f"3.{minor} {place}"


@functools.cache
def _version_of(requirement: Requirement) -> str:
    """The installed version, else the pinned one, else the newest that is allowed."""
    name = canonicalize_name(requirement.name)
    if is_installed(name):
        return metadata.version(name)
    known = read_pins(CONSTRAINTS.read_text(encoding="utf-8")).get(name)
    if known and requirement.specifier.contains(known):
        return known
    return str(max(requirement.specifier.filter({version for version, _ in _index_files(name)})))


@functools.cache
def _requires(requirement: Requirement) -> list[str]:
    """What a distribution says that it requires; for one of another platform, what the index says."""
    if is_installed(requirement.name):
        return installed_requires(requirement)
    version, files = _version_of(requirement), _index_files(canonicalize_name(requirement.name))
    urls = (file["url"] for found, file in files if str(found) == version and file["url"].endswith(".whl"))
    return message_from_bytes(_fetch(next(urls) + ".metadata")).get_all("Requires-Dist", [])


def _files_of(name: str, version: str) -> dict[str, str]:
    """SHA-256 of the files of a version that may be installed, by name: wheels, else the source."""
    files = {
        f["filename"]: f["hashes"]["sha256"] for found, f in _index_files(name) if found == Version(version)
    }
    wheels = {file: digest for file, digest in files.items() if file.endswith(".whl") and is_for_us(file)}
    if not files:
        raise SystemExit(f"The index has no files of {name} {version}.")
    return wheels or {file: digest for file, digest in files.items() if not file.endswith(".whl")}


@functools.cache
def _index_files(name: str) -> list[tuple[Version, dict[str, Any]]]:
    """The files of a package that the index has and nobody withdrew: version, what the index says of it."""
    from pip._internal.models.index import (
        PyPI,
    )  # here: to import pip changes what setuptools does in a process

    address = os.environ.get("PIP_INDEX_URL", PyPI.simple_url).rstrip("/")
    page = json.loads(_fetch(f"{address}/{name}/", accept="application/vnd.pypi.simple.v1+json"))
    files = [(_version_in(file["filename"]), file) for file in page["files"] if not file.get("yanked")]
    return [(version, file) for version, file in files if version]


def _version_in(filename: str) -> Version | None:
    """The version that a file's name says; None for old kinds of file."""
    try:
        return (parse_wheel_filename if filename.endswith(".whl") else parse_sdist_filename)(filename)[1]
    except (InvalidWheelFilename, InvalidSdistFilename):
        return None


def _fetch(url: str, *, accept: str = "*/*") -> bytes:
    """What lies at an address of the index."""
    with urllib.request.urlopen(
        urllib.request.Request(url, headers={"Accept": accept}), timeout=60
    ) as answer:
        return answer.read()


if __name__ == "__main__":
    main()
