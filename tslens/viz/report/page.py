"""The page of ``tslens report``: the first sight, then one model at a time, its parts drawn when they are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from tslens.errors import UsageError
from tslens.grading.local.trust import SEES_FAULTS
from tslens.link.joined.model_part import ModelPart
from tslens.viz.heads_words import STATUSES as OF_HEADS
from tslens.viz.map_words import STATUSES as OF_MAP
from tslens.viz.page import build_page, definitions, embed_json, escape, limits_section, write_page
from tslens.viz.report.model_data import model_data
from tslens.viz.report.overview import (
    carriers_section,
    models_section,
    roles_section,
    summary,
)
from tslens.viz.report.studies import Study, studies_section

MAX_BYTES = 10_000_000
_SCRIPTS = ("figures.js", "rows.js", "report_text.js", "report_model.js", "report.js", "report_source.js")
CANNOT_TELL = (
    "Whether what holds for these models holds for others: every figure is of one trained model and its stories.",
    "What parts do together: one part at a time is ablated, and parts that stand in for each other are not seen.",
    "Why a token costs more without a part: a change on one text is an observation without a null. What holds "
    "over many items stands in the maps.",
)


def write_report_page(
    path: Path, parts: Sequence[ModelPart], studies: Sequence[Study], *, header: Mapping[str, str]
) -> None:
    """Write the report: one HTML file below 10 MB, nothing from the network. Equal input gives equal bytes.

    Where it would be larger, attention patterns of all texts but the first of each model are left out, which it says.
    Raises UsageError where it is too large then, RunError where ``path`` cannot be written.
    """
    for has_patterns in (True, False):
        page = _page(parts, studies, header, has_patterns=has_patterns)
        if len(page.encode()) <= MAX_BYTES:
            write_page(path, page)
            return
    raise UsageError(
        f"A report of these {len(parts)} models would be larger than {MAX_BYTES // 10**6} MB.",
        "Name fewer models, or fewer texts with --texts.",
    )


def _page(
    parts: Sequence[ModelPart], studies: Sequence[Study], header: Mapping[str, str], *, has_patterns: bool
) -> str:
    held = "".join(
        f'<script type="application/json" class="model" data-name="{escape(part.name)}">'
        f"{embed_json(model_data(part, has_patterns=has_patterns))}</script>\n"
        for part in parts
    )
    left_out = (
        ()
        if has_patterns
        else ("To stay small, attention patterns are held of the first text of each model.",)
    )
    overview = "".join(
        (
            models_section(parts),
            carriers_section(parts),
            roles_section(parts),
            studies_section(studies),
            _meaning(parts),
            limits_section((*CANNOT_TELL, *left_out)),
        )
    )
    return build_page(
        title="Report on story models" if len(parts) > 1 else f"Report on {parts[0].name}",
        lead=summary(parts),
        header=header,
        main=f"{_style()}{_search()}<div id=overview>\n{overview}</div>\n{_view()}{held}",
        data={"models": [part.name for part in parts], "made": dict(header)},
        scripts=_SCRIPTS,
    )


def _search() -> str:
    return (
        '<nav id="go" hidden>\n<label><span class="unseen">Search</span><input id="search" type="search" '
        'placeholder="Search: L0H5, subject, tense, a word of a text" autocomplete="off" aria-controls="results">'
        "</label> <small>keys: <kbd>/</kbd> search, <kbd>j</kbd> <kbd>k</kbd> next and previous, <kbd>Esc</kbd> back, "
        '<kbd>s</kbd> sources</small>\n<button type="button" id="sources" aria-pressed="false">Sources</button>\n'
        '<ol id="results" hidden></ol>\n</nav>\n<aside id="source" aria-live="polite" hidden></aside>\n'
        '<p id="lost" class="says" hidden>This page holds no model of that name.</p>\n'
    )


def _view() -> str:
    return (
        '<div id="view" hidden>\n<p id="way"></p>\n<h2 id="who" tabindex="-1"></h2>\n'
        '<nav id="tabs" aria-label="Parts of the model"></nav>\n<div id="part"></div>\n</div>\n'
    )


def _meaning(parts: Sequence[ModelPart]) -> str:
    heads = {f"{mark} {status}".strip(): text for status, (mark, text) in OF_HEADS.items()}
    maps = {f"{mark} {status}".strip(): text for status, (mark, text) in OF_MAP.items()}
    is_local = any(part.grades is not None and part.grades.header.get("judge") == "local" for part in parts)
    said = (
        f'<p class="says"><b>Grades are the local judge\'s, not those of GPT-4. {SEES_FAULTS}</b></p>\n'
        if is_local
        else ""
    )
    return (
        f'<section id="meaning">\n<h2>How to read the marks</h2>\n{said}<h3>Of heads and neurons</h3>\n'
        f"{definitions(heads)}<h3>Of what parts carry</h3>\n{definitions(maps)}</section>\n"
    )


def _style() -> str:
    return f"<style>\n{(files('tslens') / 'assets/page/report.css').read_text(encoding='utf-8')}</style>\n"
