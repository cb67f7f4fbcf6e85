"""The page of ``tslens link``: which components each capability depends on, and what that rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from tslens.grading.local.trust import SEES_FAULTS, agreement_told
from tslens.link.map_report import MapReport, MapStatus
from tslens.link.map_status import FLOOR, with_statuses
from tslens.viz.map_details import details
from tslens.viz.map_matrix import capabilities_of, matrix_section
from tslens.viz.map_scatter import scatter
from tslens.viz.map_tables import by_measure, measures_of, members_section, readouts_section, ways_section
from tslens.viz.map_words import STATUSES, in_order, spoken
from tslens.viz.page import build_page, definitions, escape, limits_section, write_page

MOST_NAMED = 3  # components of a capability in the first sentence
MOST_TOLD = 400  # letters of a fact
_SCRIPTS = ("figures.js", "map.js")
_NOT_FACTS = frozenset(
    {
        "model",
        "judge",
        "judge_version",
        "agreement",
        "ngram",
        "doses",
        "not_graded",
        "means",
        "loss_nats",
        "bits_per_byte",
        "random",
        "random_sets",
        "version",
        "failures",
    }
)
"""What the page says elsewhere."""

_MEANINGS = {
    "share lost": "Of a readout, the difference between right and wrong that is lost without the component, of all of "
    "the untouched model's. Above 100% it prefers the wrong ones.",
    "graded": "How many points fewer the judge gives to what is written without the component, on the same prompts "
    "with the same random numbers; in units of what one planted fault of medium strength costs with the same judge, "
    "and in points where no such fault is for the criterion, or the judge does not see it.",
    "corrected interval": "95% over stories, templates or prompts, so wide that with 95% probability it holds for all "
    "components and measures of its kind at once.",
    "random of like cost": "Random sets of heads and neurons, larger and larger, ablated in the same way; what they "
    "lose where their total loss is that of the component. Whatever harms a model harms its readouts.",
    "loss": "What the ablation costs in total, nats per token on stories.",
    "role": "All heads, or all neurons, of a role, ablated at once.",
}


def write_map_page(report: MapReport, path: Path) -> None:
    """Write the page of a map: one HTML file, nothing from the network. Equal input gives equal bytes.

    Raises RunError where ``path`` cannot be written.
    """
    model = str(report.header.get("model", "a model"))
    page = build_page(
        title=f"Capability map of {model}",
        lead=summary(report),
        header={"model": model, **_facts(report.header)},
        main=_style()
        + _judge(report)
        + (matrix_section(report) if report.rows else "")
        + _scatters(report)
        + (by_measure(report) if report.rows else "")
        + readouts_section(report)
        + ways_section(report)
        + members_section(report)
        + _meaning()
        + limits_section(cannot_tell(report)),
        data={"components": details(report)},
        scripts=_SCRIPTS,
        has_patterns=False,
    )
    write_page(path, page)


def summary(report: MapReport) -> str:
    """What was found, in one sentence."""
    if not report.rows:
        return "The model passes no readout, so nothing is said about its parts."
    carrying = _named(report, "carries")
    n = len(report.components)
    if not carrying:
        candidates = len(_named(report, "candidate"))
        more = (
            f"; {candidates} {'is a candidate' if candidates == 1 else 'are candidates'}"
            if candidates
            else ""
        )
        return f"Of {n} components and roles none is shown to carry a capability{more}."
    parts = []
    for capability in report.capabilities:
        names = [spoken(name) for name in in_order([one for one, of in carrying.items() if capability in of])]
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        parts.append(f"{spoken(capability)}: {', '.join(names[:MOST_NAMED]) or 'none'}{more}")
    verb = "carries" if len(carrying) == 1 else "carry"
    return f"{len(carrying)} of {n} components and roles {verb} a capability ({'; '.join(parts)})."


def counts_at_floors(report: MapReport) -> dict[float, int]:
    """How many components would carry a measure at half the floor, at the floor, and at double, by floor."""
    floor = float(report.header.get("floor", FLOOR))
    return {
        one: len({row.component for row in with_statuses(report.rows, floor=one) if row.status == "carries"})
        for one in (floor / 2, floor, 2 * floor)
    }


def cannot_tell(report: MapReport) -> list[str]:
    """What the map cannot tell, with the figures that say how far."""
    floors = counts_at_floors(report)
    at = ", ".join(f"{count} at a floor of {floor:g}" for floor, count in floors.items())
    found = [
        "What others do in its place: components that stand in for each other are not seen when one of them is "
        "ablated, so one without a mark may still have a part in it.",
        "What a component does with its mean: ablation puts the mean at the position in its place, which is still "
        "there afterwards, and later parts see what they never saw in training. The three ways side by side say how "
        "far it depends on that.",
        "How exact a share is: the error of what there is in all, by which the loss is divided, is not counted.",
        f"Where the border is: components that carry something are {at}. The floor is a convention.",
    ]
    random = report.header.get("random")
    if random and random["n"]:
        found.append(
            f"Chance alone: random sets, each held against the others, would count as taking more than random in "
            f"{random['n_more']} of {random['n']} cases (sets times readouts)."
        )
    ngram = report.header.get("ngram")
    if ngram:
        passed = {one["readout"] for one in ngram["readouts"] if one["passes"]}
        both = [
            spoken(str(one["readout"]))
            for one in report.readouts
            if one["passes"] and one["readout"] in passed
        ]
        if both:
            found.append(
                f"Whether more than the last few tokens is needed for {', '.join(both)}: a {ngram['order']}-gram "
                "passes too."
            )
    else:
        found.append(
            "Whether a readout needs more than the last few tokens: no n-gram was read beside the model."
        )
    if "judge" in report.header:
        one = (
            "the local judge, which measures texts and understands none" if _is_local(report) else "one judge"
        )
        found.append(
            f"How good a story is: grades are those of {one}. How far it sees faults: tslens audit judge."
        )
        found.append(
            "What a component that was not graded takes from texts: only those that readouts point at were graded"
            + (
                f", {len(report.header['not_graded'])} of them not."
                if report.header.get("not_graded")
                else "."
            )
        )
    else:
        found.append("What is lost in stories that the model writes: nothing was graded.")
    found.append("Anything about other seeds, sizes or stories: these are figures of one trained model.")
    return found


def _named(report: MapReport, status: MapStatus) -> dict[str, set[str]]:
    """Components with a status, with the capabilities in which they have it."""
    found: dict[str, set[str]] = {}
    for row in report.rows:
        if row.status == status:
            found.setdefault(row.component, set()).add(row.capability)
    return found


def _is_local(report: MapReport) -> bool:
    return str(report.header.get("judge")) == "local"


# Sections -------------------------------------------------------------------------------------------------


def _judge(report: MapReport) -> str:
    """Whose grades these are, and of which capabilities nothing is said."""
    header = report.header
    if "judge" not in header:
        said = '<p class="says">By readouts alone: no text was graded.</p>\n'
    elif _is_local(report):
        said = (
            f'<p class="says"><b>The judge is the local one ({escape(str(header.get("judge_version", "")))}): its '
            f"grades are not those of GPT-4. {SEES_FAULTS}</b></p>\n"
            f'<p class="hint">{escape(agreement_told())}</p>\n'
        )
    else:
        version = escape(str(header.get("judge_version", "")))
        said = f'<p class="says"><b>The judge is {escape(str(header["judge"]))}</b> ({version}).</p>\n'
    silent = [spoken(name) for name in capabilities_of(report) if name not in report.capabilities]
    if silent and report.rows:
        said += f'<p class="hint">The model passes no readout of {escape(", ".join(silent))}: nothing is said.</p>\n'
    return f'<section id="judge">\n<h2 class="unseen">Who judged</h2>\n{said}</section>\n'


def _scatters(report: MapReport) -> str:
    """A drawing for each readout, one of which is shown: first one that some component carries, if there is."""
    drawn = sorted(
        (rows for (evidence, _), rows in measures_of(report).items() if evidence == "readout"),
        key=lambda rows: -max((row.share.value for row in rows if row.status == "carries"), default=0.0),
    )
    if not drawn:
        return ""
    options = "".join(
        f'<option value="{escape(rows[0].measure)}">{escape(spoken(rows[0].measure))}</option>'
        for rows in drawn
    )
    figures = "".join(
        f'<figure data-measure="{escape(rows[0].measure)}"><figcaption>{escape(spoken(rows[0].measure))}</figcaption>'
        f"\n{scatter(rows)}</figure>\n"
        for rows in drawn
    )
    return (
        '<section id="costs">\n<h2>Share lost against total loss</h2>\n'
        '<p class="hint">A point is a component. Dashed line: what random sets of heads and neurons lose at the same '
        "cost; a point above it loses more than the average random set of its cost. ◆ carries (named), ● candidate, "
        "hollow: the rest, pale: nothing for sure.</p>\n"
        '<form class="fields" hidden><label>readout <select class="shows" data-rows="drawings">'
        f'{options}</select></label></form>\n<div id="drawings">\n{figures}</div>\n</section>\n'
    )


def _meaning() -> str:
    statuses = {f"{mark} {status}".strip(): text for status, (mark, text) in STATUSES.items()}
    return (
        f'<section id="meaning">\n<h2>How to read the numbers</h2>\n<h3>Figures</h3>\n{definitions(_MEANINGS)}'
        f"<h3>Status</h3>\n{definitions(statuses)}</section>\n"
    )


def _facts(header: Mapping[str, Any]) -> dict[str, str]:
    """What else the header holds, in words; long facts stand at the foot of the page."""
    found = {"judge": str(header["judge"])} if "judge" in header else {}
    for name, value in header.items():
        if name not in _NOT_FACTS and value is not None:
            said = f"number of {name[2:]}" if name.startswith("n_") else name
            found[said.replace("_", " ")] = _told(value)[:MOST_TOLD]
    if "loss_nats" in header:
        found["loss, nats per token"] = _told(header["loss_nats"])
    if header.get("doses"):
        found["points that one planted fault costs"] = _told(header["doses"])
    if header.get("not_graded"):
        found["pass, and were not graded"] = _told(list(map(spoken, header["not_graded"])))[:MOST_TOLD]
    return found


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{str(name).replace('_', ' ')} {_told(one)}" for name, one in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_told, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _style() -> str:
    return f"<style>\n{(files('tslens') / 'assets/page/map.css').read_text(encoding='utf-8')}</style>\n"
