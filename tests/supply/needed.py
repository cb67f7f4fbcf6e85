"""What the package needs, by its own declarations: every distribution on every Python and platform it is meant for."""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
CONSTRAINTS = ROOT / "constraints.txt"
PYTHONS = (11, 12, 13, 14)  # the minor version of Python 3
PLATFORMS = {
    "linux": ("Linux", "posix", ("x86_64", "aarch64")),
    "darwin": ("Darwin", "posix", ("x86_64", "arm64")),
    "win32": ("Windows", "nt", ("AMD64",)),
}
ENVIRONMENTS = [
    {
        "python_version": f"3.{minor}",
        "python_full_version": f"3.{minor}.0",
        "sys_platform": name,
        "platform_system": system,
        "os_name": os_name,
        "platform_machine": machine,
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    for minor in PYTHONS
    for name, (system, os_name, machines) in PLATFORMS.items()
    for machine in machines
]


@dataclass
class Needed:
    """Who needs a distribution. ``groups``: "base", "build" or extras; ``first``: the first requirement met."""

    first: Requirement
    groups: set[str] = field(default_factory=set)
    platforms: set[str] = field(default_factory=set)


def declared() -> dict[str, list[Requirement]]:
    """What ``pyproject.toml`` asks for: "base" to run, "build" to build, and each extra."""
    told = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = {"base": told["project"]["dependencies"], "build": told["build-system"]["requires"]}
    groups |= told["project"]["optional-dependencies"]
    return {group: [Requirement(text) for text in texts] for group, texts in groups.items()}


@functools.cache
def needed(requires: Callable[[Requirement], list[str]]) -> dict[str, Needed]:
    """All distributions that are needed somewhere, by name, sorted. ``requires``: what one says that it requires."""
    found: dict[str, Needed] = {}
    parsed: dict[str, list[Requirement]] = {}
    for environment in ENVIRONMENTS:
        holding: dict[
            tuple[str, str], list[Requirement]
        ] = {}  # what a distribution with an extra requires here
        for group, asked in declared().items():
            seen: set[tuple[str, str]] = set()
            todo = [requirement for requirement in asked if _holds(requirement, environment, "")]
            while todo:
                requirement = todo.pop()
                name = canonicalize_name(requirement.name)
                entry = found.setdefault(name, Needed(requirement))
                entry.groups.add(group)
                entry.platforms.add(environment["sys_platform"])
                if name not in parsed:
                    parsed[name] = [Requirement(text) for text in requires(entry.first)]
                for key in ((name, extra) for extra in ("", *requirement.extras)):
                    if key not in holding:
                        holding[key] = [each for each in parsed[name] if _holds(each, environment, key[1])]
                    if key not in seen:
                        seen.add(key)
                        todo += holding[key]
    return dict(sorted(found.items()))


def _holds(requirement: Requirement, environment: dict[str, str], extra: str) -> bool:
    return not requirement.marker or requirement.marker.evaluate(environment | {"extra": extra})


def installed_requires(requirement: Requirement) -> list[str]:
    """What an installed distribution requires; nothing for one that is not installed."""
    try:
        return metadata.requires(requirement.name) or []
    except metadata.PackageNotFoundError:
        return []


def is_installed(name: str) -> bool:
    """Is this distribution in the environment that runs this?"""
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def read_pins(text: str) -> Mapping[str, str]:
    """Version of each package that the text of a constraints file pins."""
    return {canonicalize_name(n): v for n, v in re.findall(r"^([\w.-]+)==([^\s;\\]+)", text, re.MULTILINE)}
