"""The page writer: one HTML file that holds everything it needs and asks nothing of the network.

1. Text is data: it is escaped, and characters that cannot be seen are spelled (``\\u2028``), so that a token
   can neither make an element nor hide.
2. Scripts stand in the file, CircuitsVis' bundle once. The Content-Security-Policy of the page names each of
   them by its hash and forbids all else: no other script runs, and nothing is fetched.
3. Equal input gives equal bytes: no time, no random names.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import unicodedata
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import tslens
from tslens.files import atomic_write

MAX_PAGE_BYTES = 4_900_000
"""A page stays below 5 MB, so that it opens on a phone and passes as an attachment."""

_LONG_FACT = 32
_NOSCRIPT = (
    "<noscript><p>Scripts are off. The tables on this page are complete without them; only what is "
    "drawn of a chosen head is missing.</p></noscript>\n"
)
_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_SPELLED = {"\n": "↵", "\t": "⇥"}


def visible(text: str) -> str:
    """Text whose control, direction, surrogate and line-separator characters are spelled out."""
    return "".join(
        _SPELLED.get(char) or f"\\u{ord(char):04x}" if unicodedata.category(char) in _UNSEEN else char
        for char in text
    )


def escape(text: str) -> str:
    """Text as HTML, for content and for quoted attributes."""
    return html.escape(visible(text), quote=True)


def embed_json(value: Any) -> str:
    """JSON for a script element: ASCII, without ``<``. Raises ValueError on NaN and infinities."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def number(value: float, digits: int = 2) -> str:
    """A figure with a true minus sign."""
    return f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def signed(value: float, digits: int = 2) -> str:
    """A figure that always shows its sign."""
    return f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def circuitsvis_script() -> str:
    """CircuitsVis' bundle, fit to stand inside a script element.

    The package is found without being imported, because its import costs torch. Its one closing tag is
    escaped, its source map (a second request) is left out.
    """
    spec = find_spec("circuitsvis")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("circuitsvis is a dependency of tslens and is not installed")
    bundle = Path(spec.submodule_search_locations[0]) / "dist" / "cdn" / "iife.js"
    lines = bundle.read_text(encoding="utf-8").replace("</script", "<\\/script").splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("//# sourceMappingURL=")).rstrip() + "\n"


def build_page(
    *,
    title: str,
    lead: str,
    header: Mapping[str, str],
    main: str,
    data: Mapping[str, Any],
    scripts: Sequence[str],
    has_patterns: bool = True,
) -> str:
    """The whole file as text.

    ``lead``: what was found, in one sentence. ``header``: facts; long ones stand at the foot.
    ``main``: HTML, escaped by its maker. ``data``: JSON for the scripts, which are names in
    ``assets/page``. ``has_patterns``: the page draws attention, with CircuitsVis' bundle.
    """
    assets = files("tslens") / "assets" / "page"
    code = [
        *([circuitsvis_script()] if has_patterns else []),
        *((assets / name).read_text(encoding="utf-8") for name in scripts),
    ]
    return "".join(
        (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
            f'<meta http-equiv="Content-Security-Policy" content="{_policy(code)}">\n',
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
            '<meta name="color-scheme" content="light dark">\n',
            f'<meta name="generator" content="tslens {escape(tslens.__version__)}">\n',
            f'<link rel="icon" href="data:,">\n<title>{escape(title)}</title>\n',
            f"<style>\n{(assets / 'page.css').read_text(encoding='utf-8')}</style>\n</head>\n<body>\n",
            f"<header>\n<h1>{escape(title)}</h1>\n",
            f'<p class="lead">{escape(lead)}</p>\n{_top_facts(header)}</header>\n',
            _NOSCRIPT if has_patterns else "",
            f"<main>\n{main}</main>\n{_foot(header, has_patterns=has_patterns)}",
            f'<script type="application/json" id="data">{embed_json(data)}</script>\n',
            *(f"<script>{text}</script>\n" for text in code),
            "</body>\n</html>\n",
        )
    )


def write_page(path: Path, text: str) -> None:
    """Write a page whole or not at all. Raises RunError where the folder cannot be written."""
    with atomic_write(path) as file:
        file.write(text)


def room_left(page: str) -> int:
    """Bytes that a page of this text may still grow by."""
    return max(0, MAX_PAGE_BYTES - len(page.encode()))


def limits_section(cannot_tell: Sequence[str]) -> str:
    """What the page cannot tell, in its own section."""
    items = "".join(f"<li>{escape(item)}</li>\n" for item in cannot_tell)
    return f'<section id="limits">\n<h2>What this page cannot tell you</h2>\n<ul>\n{items}</ul>\n</section>\n'


def definitions(pairs: Mapping[str, str]) -> str:
    """Terms and what they mean."""
    return "<dl>\n" + "".join(
        f"<div><dt>{escape(term)}</dt><dd>{escape(text)}</dd></div>\n" for term, text in pairs.items()
    ) + "</dl>\n"  # fmt: skip


def _policy(code: Sequence[str]) -> str:
    hashes = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in code)
    allowed = " ".join(f"'sha256-{value}'" for value in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _top_facts(header: Mapping[str, str]) -> str:
    short = {key: value for key, value in header.items() if len(value) <= _LONG_FACT}
    items = "".join(
        f"<div><dt>{escape(key)}</dt><dd>{escape(value)}</dd></div>" for key, value in short.items()
    )
    return f'<dl class="facts">{items}</dl>\n' if items else ""


def _foot(header: Mapping[str, str], *, has_patterns: bool) -> str:
    drawings = f", drawings by CircuitsVis {version('circuitsvis')}" if has_patterns else ""
    made = {"made by": f"tslens {tslens.__version__}{drawings}"}
    facts = definitions({**header, **made})
    return f'<footer id="provenance">\n<h2>Where this comes from</h2>\n{facts}</footer>\n'
