"""The ten claims of the paper about width, depth, loss and heads, each as contrasts with a verdict.

The claims are those of Eldan and Li 2023 (arXiv:2305.07759, sections 3 to 5). Each has one or more *aspects*, all of
which must hold. Of each aspect every source that has the models is asked for a contrast (``contrasts``) that is above
zero where the claim is right: ours by a judge, ours by readouts, other people's by GPT-4o and by a person. What each
contrast is was written down before it was computed; what was changed after it is said (``docs/methods.md``, The
paper's claims).

Axes: cell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

from tslens.link.sizes.contrasts import Estimate
from tslens.stats import LEVEL

Verdict = Literal["holds", "fails", "cannot be told"]
CLAIMS: Mapping[int, str] = {
    1: "every grade rises as validation loss falls",
    2: "grammar plateaus before consistency and creativity",
    3: "consistency jumps between width 64 and 128",
    4: "one layer fails at instructions, two do to an extent; instructions depend more on depth, plot more on width",
    5: "factual knowledge depends more on width, context tracking more on depth",
    6: "the largest models are near the teacher in grammar and consistency, not in creativity",
    7: "more heads help where heads are few",
    8: "depth matters more for consistency than for grammar",
    9: "models under 10M parameters match GPT-2 and GPT-Neo of 125M on these prompts",
    10: "the optimal model size grows as a power of the FLOPs",
}
OF_LARGE_MODELS = (2, 6)
"""Claims about models larger than ours: ours can bear them out, not refute them."""


ASPECTS: Mapping[int, tuple[str, ...]] = {
    1: ("grammar", "creativity", "consistency", "plot"),
    2: ("consistency", "creativity"),
    3: ("consistency",),
    4: ("layers", "instructions", "plot"),
    5: ("facts", "context"),
    6: ("grammar", "consistency", "creativity"),
    7: ("loss", "grammar", "consistency"),
    8: ("consistency",),
    9: ("grades",),
    10: ("exponent",),
}
"""What a claim says, all of which must hold."""


@dataclass(frozen=True)
class Evidence:
    """What one source says of an aspect of a claim. ``part``: the contrast in words.

    ``estimate``: above zero where the claim is right; None with a reason.
    """

    claim: int
    aspect: str
    part: str
    source: str
    estimate: Estimate | None
    why_not: str = ""

    @property
    def verdict(self) -> Verdict:
        """By the 95% interval."""
        return self.at_level(LEVEL)

    def at_level(self, level: float) -> Verdict:
        """By the interval of another level."""
        if self.estimate is None:
            return "cannot be told"
        low, high = self.estimate.interval(level)
        return "holds" if low > 0 else "fails" if high < 0 else "cannot be told"

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {**asdict(self), "verdict": self.verdict}


@dataclass(frozen=True)
class Ruling:
    """A claim with all its evidence."""

    claim: int
    evidence: tuple[Evidence, ...]

    @cached_property
    def by_aspect(self) -> Mapping[str, Verdict]:
        """An aspect holds where a source says so and none says that it fails; the other way round it fails.

        To fail is corrected for all contrasts of the claim (Bonferroni).
        """
        n_formed = sum(one.estimate is not None for one in self.evidence)
        found: dict[str, Verdict] = {}
        for aspect in ASPECTS[self.claim]:
            mine = [one for one in self.evidence if one.aspect == aspect]
            holds = any(one.verdict == "holds" for one in mine)
            fails = any(
                one.at_level(1 - (1 - LEVEL) / max(n_formed, 1)) == "fails" and not self._is_too_small(one)
                for one in mine
            )
            found[aspect] = "cannot be told" if holds == fails else "holds" if holds else "fails"
        return found

    def _is_too_small(self, one: Evidence) -> bool:
        return one.source.startswith("ours") and self.claim in OF_LARGE_MODELS

    @property
    def verdict(self) -> Verdict:
        """Holds where all aspects hold, fails where one fails."""
        told = set(self.by_aspect.values())
        if "fails" in told:
            return "fails"
        return "holds" if told == {"holds"} else "cannot be told"

    @property
    def deciding(self) -> list[Evidence]:
        """The evidence that says what the verdict says."""
        return [one for one in self.evidence if one.verdict == self.verdict != "cannot be told"]

    @property
    def conditional(self) -> bool:
        """Whether a contrast that decides has a cell of fewer than three seeds."""
        return any(one.estimate is not None and one.estimate.conditional for one in self.deciding)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {
            "claim": self.claim,
            "says": CLAIMS[self.claim],
            "verdict": self.verdict,
            "by_aspect": dict(self.by_aspect),
            "decided_by": sorted({one.source for one in self.deciding}),
            "conditional": self.conditional,
            "evidence": [one.to_json() for one in self.evidence],
        }


def rule(evidence: Sequence[Evidence]) -> list[Ruling]:
    """All ten claims, with what there is of each."""
    return [Ruling(claim, tuple(one for one in evidence if one.claim == claim)) for claim in CLAIMS]
