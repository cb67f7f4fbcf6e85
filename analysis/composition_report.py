"""What ``analysis/composition.py`` writes from its files: the report on paths between components with roles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markdown_table import table

from tslens.link.composition.choice import FLOORS, kind_of
from tslens.link.composition.report import RANK, CompositionReport, PathScore, RolePair
from tslens.probes.programs.report import Estimate
from tslens.viz.heads_words import words as head_words
from tslens.viz.neurons_words import words as neuron_words

INPUTS = {"q": "queries", "k": "keys", "v": "values"}
CONTROLS = {"neurons": "other neurons", "heads": "other heads", "directions": "random directions"}
PAIRS = ("senders", "heads", "with the role", "heads with it", "paths", "largest on attention where chosen",
         "tested", "status")  # fmt: skip
MOST_ROWS = 30  # of the table of other pairs


@dataclass(frozen=True)
class Saved:
    """What the folder holds of one model."""

    name: str
    header: Mapping[str, Any]
    report: CompositionReport


def interval(one: Estimate | None) -> str:
    """An estimate with its interval, nothing if there is none."""
    return "" if one is None else f"{one.value:+.4f} [{one.low:+.4f}, {one.high:+.4f}]"


def of_sender(kind: str, role: str) -> str:
    """A sender's role in words."""
    return neuron_words(role) if kind == "neuron" else of_head(role)


def of_head(role: str) -> str:
    """A head's role in words."""
    probe = role.removesuffix(" before")
    return head_words(probe) + (" before" if role != probe else "")


def of_path(path: PathScore) -> str:
    """Such as ``L0N5 (introduction) to the keys of L1H3 (name)``."""
    kind = kind_of(path.senders[0])
    role = of_sender(kind, path.sender_role)
    who = (
        f"{path.senders[0]} ({role})"
        if len(path.senders) == 1
        else f"all {len(path.senders)} {kind}s ({role})"
    )
    return f"{who} to the {INPUTS[path.input]} of {path.receiver} ({of_head(path.receiver_role)})"


def answer(saved: Sequence[Saved]) -> Iterator[str]:
    """The verdict on the authors' guess, then on all other pairs, a paragraph each; on models that have paths."""
    reports = [one.report for one in saved if one.report.n_layers > 1]
    for what, asked in (("The authors' guess", True), ("Any other pair of roles", False)):
        tested = [path for report in reports for path in report.paths if path.asked == asked]
        pairs = [pair for report in reports for pair in report.pairs if pair.asked == asked]
        of = Counter(path.status for path in tested)
        more = "more candidates" if of["found"] else "candidates"
        found = f"{of['found'] or 'none'} found, {of['candidate'] or 'no'} {more}"
        lines = [
            f"**{what}: {found}**. Tested in models of several layers ({len(reports)}): {len(tested)} paths."
        ]
        lines.append(
            _ruled_out([path for path in tested if path.input != "v"], "attention", "attention mass")
        )
        lines.append(_ruled_out([path for path in tested if path.input == "v"], "values", "what is carried"))
        if asked and (n_untested := sum(pair.n_tested == 0 for pair in pairs)):
            lines.append(f" Not tested: {n_untested} of {len(pairs)} pairs of roles; the tables say why.")
        yield "".join(lines) + "\n\n"


def _ruled_out(paths: Sequence[PathScore], on: str, of: str) -> str:
    """How large the largest effect is, how large it may be, and how large one would have been seen."""
    if not paths:
        return ""
    largest, highest = max(paths, key=_beyond), max(path.beyond_high for path in paths)
    least = sorted(path.least_seen for path in paths)
    said = (
        f" On {on} ({len(paths)} paths) the largest effect beyond controls is {largest.beyond.value:+.3f} of {of} "
        f"({of_path(largest)})."
    )
    if all(path.status == "no" for path in paths):
        said += f" More than {highest:.3f} is ruled out for each (95%, corrected for all tested paths of its model)."
    return said + (
        f" An effect of {least[len(least) // 2]:.3f} would have made half of them candidates, of {least[-1]:.3f} all."
    )


def _beyond(path: PathScore) -> float:
    return path.beyond.value


def headline(one: Saved) -> str:
    """A model in a line."""
    report = one.report
    if report.n_layers == 1:
        return f"- **{one.name}**: {report.pairs[0].why_none}.\n"
    counts, by_lot = report.counts, sum(1 / (1 + path.n_controls) for path in report.paths)
    kinds = Counter(path.control_kind for path in report.paths)
    beside = ", ".join(f"{CONTROLS[kind]} for {n} paths" for kind, n in kinds.items())
    return (
        f"- **{one.name}**: {len(report.paths)} paths tested, {counts['found']} found, {counts['candidate']} more "
        f"candidates. {sum(path.n_above == 0 for path in report.paths)} do more than all their controls; by lot it "
        f"would be {by_lot:.1f}, but the paths are the largest of many. Controls: {beside or 'none'}.\n"
    )


def asked_pairs(report: CompositionReport) -> str:
    """The pairs of roles of the authors' guess."""
    return table(PAIRS, [_pair(pair) for pair in report.pairs if pair.asked])


def other_pairs(report: CompositionReport) -> str:
    """Pairs of roles with a path that was tested, best first; how many there are in all."""
    others = [pair for pair in report.pairs if not pair.asked]
    tested = [pair for pair in others if pair.n_tested]
    return (
        f"{len(others)} other pairs of roles have paths. In {len(tested)} of them a path reached the floor where paths "
        "are chosen, and was tested.\n\n" + (table(PAIRS, [_pair(pair) for pair in tested]) if tested else "")
    )


def _pair(pair: RolePair) -> list[str]:
    return [
        f"{of_sender(pair.sender_kind, pair.sender_role)} ({pair.sender_kind})", of_head(pair.receiver_role),
        str(pair.n_senders), str(pair.n_receivers), str(pair.n_paths),
        "" if pair.largest is None else f"{pair.largest:+.4f}", str(pair.n_tested), pair.why_none or pair.status,
    ]  # fmt: skip


def paths(scores: Sequence[PathScore]) -> str:
    """Paths, best first."""
    rows = [
        [
            of_path(path), path.status, f"{path.chosen:+.4f}", f"{path.clean:.3f}", interval(path.effect),
            f"{path.controls:+.4f}", f"{path.n_above} of {path.n_controls} {path.control_kind}",
            f"{path.beyond.value:+.4f}", f"[{path.beyond_low:+.4f}, {path.beyond_high:+.4f}]",
            f"{path.least_seen:.3f}", interval(path.loss),
            interval(path.loss_beyond), str(path.n_stories),
        ]
        for path in scores
    ]  # fmt: skip
    names = ["path", "status", "where chosen", "untouched", "effect", "controls", "as large", "beyond", "corrected",
             "would be seen at", "loss", "loss beyond controls", "stories"]  # fmt: skip
    return table(names, rows) if rows else "None.\n\n"


def write_report(saved: Sequence[Saved]) -> Iterator[str]:
    """The report, piece by piece."""
    yield "# Composition\n\n"
    yield "Written by `analysis/composition.py`. Terms: `docs/methods.md`, *Composition*.\n\n"
    yield (
        "Does a neuron that fires at the introduction of the protagonist, or at mentions, feed a head that later "
        "attends to the name, to mentions of the protagonist, or to whom a pronoun means (the guess of Eldan and Li)? "
        "And do components of any role feed heads of another?\n\n"
    )
    yield from answer(saved)
    yield "".join(map(headline, saved)) + "\n"
    yield (
        "*Effect*: what is lost with the path cut, for queries and keys in attention mass on the role's keys, for "
        "values as a share of what the head mixes of these keys. *Beyond*: the effect minus the mean of the controls, "
        "with its ends *corrected* for all tested paths. A candidate has the lower one at the floor "
        f"({FLOORS['k']} of attention mass, {FLOORS['v']} of what is carried) and no control *as large*. *Would be "
        "seen at*: the mean that would have been a candidate.\n\n"
    )
    for one in saved:
        report = one.report
        if report.n_layers == 1:
            continue
        yield f"## {one.name}\n\n"
        yield (
            f"{report.n_stories} stories of {one.header['stories']} (sha256 {one.header['data_sha256']}): paths "
            f"chosen on {report.n_chosen_on}, tested on {report.n_tested_on} others, losses on {report.n_loss} of "
            f"these, {report.n_excluded} training stories left out, seed {report.seed}. Roles: "
            f"{'; '.join(one.header['roles'])}. Rows: `{one.name}.jsonl`.\n\n"
        )
        yield f"### The authors' guess\n\n{asked_pairs(report)}"
        best = report.best_first()
        yield paths([path for path in best if path.asked])
        yield f"### Any other pair of roles\n\n{other_pairs(report)}"
        others = [path for path in best if not path.asked]
        if len(others) > MOST_ROWS:
            yield f"The first {MOST_ROWS} of {len(others)} paths, {_by_status(others)}:\n\n"
        yield paths(others[:MOST_ROWS])


def _by_status(scores: Sequence[PathScore]) -> str:
    of = Counter(path.status for path in scores)
    return ", ".join(f"{of[status]} {status}" for status in RANK)
