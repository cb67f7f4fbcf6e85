"""Writes the table of docs/licences.md: every distribution that is installed with tslens, with its licence.

A licence is what the distribution's own metadata say, by SPDX name. One that says it in other words stands in
``IN_OTHER_WORDS``; one whose licence is in neither ``PERMISSIVE`` nor ``WEAK`` stops the script, to be looked at by a
person. Run: .venv/bin/python tests/supply/make_licences.py
"""

from __future__ import annotations

import re
from importlib import metadata
from typing import NamedTuple

from needed import CONSTRAINTS, ROOT, installed_requires, is_installed, needed, read_pins
from packaging.version import Version

FILE = ROOT / "docs" / "licences.md"
BEGIN, END = "<!-- written by make_licences.py -->\n", "<!-- end of what make_licences.py writes -->\n"
PERMISSIVE = {
    *(
        "0BSD",
        "Apache-2.0",
        "Apache-2.0 WITH LLVM-exception",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "BSL-1.0",
        "CC0-1.0",
    ),
    *("CNRI-Python", "ISC", "Matplotlib", "MIT", "MIT-CMU", "PSF-2.0", "Zlib"),
}
WEAK = {"MPL-2.0"}  # asks to publish changes of its own files, and nothing of who uses them
IN_OTHER_WORDS = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache 2.0 License": "Apache-2.0",
    "Apache License": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "BSD 3-Clause License": "BSD-3-Clause",
    "ISC License": "ISC",
    "ISC License (ISCL)": "ISC",
    "ISC license": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
BY_HAND = {  # read in the distribution itself: its metadata say nothing, too much or two things
    "appnope": "BSD-2-Clause",
    "matplotlib": "Matplotlib",
    "nest-asyncio2": "BSD-2-Clause",
    "transformers-stream-generator": "MIT",
}


class Row(NamedTuple):
    """One line of the table."""

    package: str
    version: str
    licence: str
    needed_by: str

    def __str__(self) -> str:
        return f"| {' | '.join(self)} |"


def main() -> None:
    """Write the table between its marks."""
    before, _, rest = FILE.read_text(encoding="utf-8").partition(BEGIN)
    FILE.write_text(before + BEGIN + table(rows()) + END + rest.partition(END)[2], encoding="utf-8")


def table(rows: list[Row]) -> str:
    """The rows under a head."""
    head = "\n| package | version | licence | needed by |\n|---|---|---|---|\n"
    return head + "".join(f"{row}\n" for row in rows) + "\n"


def rows() -> list[Row]:
    """Every distribution that is needed on some platform, by name, as it is installed here.

    What is needed to run tslens at all is in every installation: no extra is named beside it.
    """
    pins = read_pins(CONSTRAINTS.read_text(encoding="utf-8"))
    found = []
    for name, entry in needed(installed_requires).items():
        version = Version(metadata.version(name)).public if is_installed(name) else pins[name]
        groups = ["base"] if "base" in entry.groups else sorted(entry.groups)
        found.append(Row(name, version, licence_of(name), ", ".join(groups)))
    return found


def licence_of(name: str) -> str:
    """The licence of a distribution by its SPDX name. Raises SystemExit for one that nobody has looked at."""
    licence = BY_HAND.get(name) or read_licence(metadata.metadata(name))
    for part in re.split(r" AND | OR ", licence):
        if part.strip("()") not in PERMISSIVE | WEAK:
            raise SystemExit(f"{name}: is {part!r} a licence that tslens may depend on? See {__file__}.")
    return licence


def read_licence(told: metadata.PackageMetadata) -> str:
    """What metadata say: an SPDX expression, a short text, or a classifier."""
    classifiers = [
        text.split(" :: ")[-1] for text in told.get_all("Classifier") or [] if text.startswith("License")
    ]
    named = [IN_OTHER_WORDS[text] for text in classifiers if text in IN_OTHER_WORDS]
    text = (told.get("License") or "").strip()
    if expression := told.get("License-Expression"):
        return expression
    if text and len(text) < 60 and text != "UNKNOWN" and "\n" not in text:
        return IN_OTHER_WORDS.get(text, text)
    return named[0] if named else "none told"


if __name__ == "__main__":
    main()
