"""How stories follow their instructions, by rule: the share of each kind that is followed, beside what a judge thinks.

1. Each thing asked for has a verdict (``corpus.instructions.compliance``). Words count in any inflection and as any
   part of speech, as the prompt does not say which. A summary is held against the story by the labels of both.
2. A text's share of a kind is followed, of what could be told; shares are averaged over prompts (``short``).
3. Combinations of kinds that training never asked for stand in rows of their own.

What is followed without being asked for (most stories have dialogue) is for :func:`exchanged` to show: the same stories
held against the instructions of the next prompt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from tslens.corpus.annotate import annotate
from tslens.corpus.instructions.compliance import Compliance, check_instruction
from tslens.corpus.instructions.draw import HELD_OUT, Combination
from tslens.corpus.instructions.form import KINDS, Instruction, Kind
from tslens.corpus.labelled import read_labels
from tslens.grading.short import share_over_prompts
from tslens.grading.summary import Mean
from tslens.types import Graded, Labels, Story

Labeller = Callable[[Sequence[str]], Sequence[Labels]]
"""Labels of some texts, in order."""

TRAINED = "trained combinations"


def parsed_labels(texts: Sequence[str]) -> list[Labels]:
    """Labels by the annotator. Raises DataError where no parser is installed."""
    found = [read_labels(story) for story in annotate(Story(text) for text in texts)]
    return [labels for labels in found if labels is not None]


@dataclass(frozen=True)
class Followed:
    """How one text follows its instructions.

    ``held_out``: the combination that training never asked for, as in "words+summary"; None where it asks for none.
    """

    graded: Graded
    compliance: Compliance
    held_out: str | None

    def to_json(self) -> dict[str, Any]:
        """The row as plain JSON types."""
        return {
            **asdict(self.graded),
            "verdicts": [asdict(verdict) for verdict in self.compliance.verdicts],
            "shares": dict(self.compliance.shares),
            "is_followed": self.compliance.is_followed,
            "held_out": self.held_out,
        }


def check_texts(
    texts: Iterable[Graded], *, label: Labeller = parsed_labels, held_out: Sequence[Combination] = HELD_OUT
) -> list[Followed]:
    """A verdict for each thing that each text was asked for; texts without instructions, or given again, are left out.

    ``label``: is asked once, for summaries and the stories that were to tell them, each different text once.
    Raises DataError for instructions of another form.
    """
    asked = [
        (one, f"{one.prompt}{one.completion}", Instruction.from_json(one.instructions).as_prompted())
        for one in texts
        if one.instructions is not None and not one.repeat
    ]
    needed = dict.fromkeys(
        text for _, story, what in asked if "summary" in what.kinds for text in (story, what.summary)
    )
    labels = dict(zip(needed, label(list(needed)), strict=True)) if needed else {}
    return [
        Followed(
            one,
            check_instruction(what, story, labels.get(story), labels.get(what.summary)),
            _held_out(what.kinds, held_out),
        )
        for one, story, what in asked
    ]


def _held_out(kinds: Sequence[Kind], combinations: Sequence[Combination]) -> str | None:
    found = next((one for one in combinations if one <= set(kinds)), None)
    return None if found is None else "+".join(kind for kind in KINDS if kind in found)


def exchanged(texts: Iterable[Graded]) -> list[Graded]:
    """The texts that have instructions, each with those of the next prompt; empty where there is one prompt only."""
    asked = [one for one in texts if one.instructions is not None]
    of_prompt = {one.prompt_id: one.instructions for one in asked}
    names = list(of_prompt)
    if len(names) < 2:
        return []
    following = dict(zip(names, [*names[1:], *names[:1]], strict=True))
    return [replace(one, instructions=of_prompt[following[one.prompt_id]]) for one in asked]


@dataclass(frozen=True)
class ComplianceRow:
    """How some texts follow their instructions.

    ``kinds``: share of what was asked for that is followed, by kind, of texts of which it can be told. ``followed``:
    share of texts that follow all, None where of none it can be told. ``n``: texts. ``untold``: texts of which a kind
    cannot be told, by kind.
    """

    kinds: Mapping[Kind, Mean]
    followed: Mean | None
    n: int
    untold: Mapping[Kind, int]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {
            "kinds": {kind: share.to_json() for kind, share in self.kinds.items()},
            "followed": self.followed.to_json() if self.followed else None,
            "n": self.n,
            "untold": dict(self.untold),
        }


def summarise_compliance(found: Iterable[Followed]) -> Mapping[str, ComplianceRow]:
    """A row of the combinations that training may ask for, then one for each held-out combination that there is.

    The keys are "trained combinations" and "held out: words+summary".
    """
    rows: dict[str, list[Followed]] = {}
    for one in sorted(found, key=lambda one: one.held_out is not None):
        name = TRAINED if one.held_out is None else f"held out: {one.held_out}"
        rows.setdefault(name, []).append(one)
    return {name: _row(part) for name, part in rows.items()}


def _row(found: Sequence[Followed]) -> ComplianceRow:
    shares: dict[Kind, list[tuple[str, float]]] = {kind: [] for kind in KINDS}
    untold: Counter[Kind] = Counter()
    for one in found:
        told = one.compliance.shares
        for kind, share in told.items():
            shares[kind].append((one.graded.prompt_id, share))
        untold.update({verdict.kind for verdict in one.compliance.verdicts} - set(told))
    whole = [
        (one.graded.prompt_id, float(one.compliance.is_followed))
        for one in found
        if one.compliance.is_followed is not None
    ]
    return ComplianceRow(
        kinds={kind: share_over_prompts(values) for kind, values in shares.items() if values},
        followed=share_over_prompts(whole) if whole else None,
        n=len(found),
        untold={kind: untold[kind] for kind in KINDS if untold[kind]},
    )
