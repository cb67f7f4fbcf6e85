"""The ten claims of the paper about width, depth, loss and heads, each as contrasts with a verdict.

The claims are those of Eldan and Li 2023 (arXiv:2305.07759, sections 3 to 5). Each is one or more *parts*, a part is a
contrast (``contrasts``) that is above zero where the claim is right, and it is asked of every source that has the
models: ours by a judge, ours by readouts, other people's by GPT-4o and by a person. What each contrast is, and what
decides, was written down before it was computed (``docs/methods.md``, The paper's claims).

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


@dataclass(frozen=True)
class Evidence:
    """A part of a claim by one source. ``estimate``: above zero where the claim is right; None with a reason."""

    claim: int
    part: str
    source: str
    estimate: Estimate | None
    why_not: str = ""

    @property
    def verdict(self) -> Verdict:
        """By the 95% interval."""
        if self.estimate is None or self.estimate.low <= 0 <= self.estimate.high:
            return "cannot be told"
        return "holds" if self.estimate.low > 0 else "fails"

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {**asdict(self), "verdict": self.verdict}


@dataclass(frozen=True)
class Ruling:
    """A claim with all its evidence. ``by_source``: the verdict of each source that has evidence."""

    claim: int
    evidence: tuple[Evidence, ...]

    @cached_property
    def by_source(self) -> Mapping[str, Verdict]:
        """Holds where all parts hold; fails where one does, corrected for their number; else cannot be told."""
        found: dict[str, Verdict] = {}
        for source in dict.fromkeys(one.source for one in self.evidence):
            told = [one for one in self.evidence if one.source == source]
            if all(one.verdict == "holds" for one in told):
                found[source] = "holds"
            else:
                level = 1 - (1 - LEVEL) / len(told)
                wrong = [
                    one for one in told if one.estimate is not None and one.estimate.interval(level)[1] < 0
                ]
                is_ours = source.startswith("ours") and self.claim in OF_LARGE_MODELS
                found[source] = "fails" if wrong and not is_ours else "cannot be told"
        return found

    @property
    def verdict(self) -> Verdict:
        """Of all sources: that of those that tell, if they agree."""
        told = {one for one in self.by_source.values() if one != "cannot be told"}
        return told.pop() if len(told) == 1 else "cannot be told"

    @property
    def conditional(self) -> bool:
        """Whether a contrast that counts has a cell of fewer than three seeds."""
        return any(one.estimate is not None and one.estimate.conditional for one in self.evidence)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {
            "claim": self.claim,
            "says": CLAIMS[self.claim],
            "verdict": self.verdict,
            "by_source": dict(self.by_source),
            "conditional": self.conditional,
            "evidence": [one.to_json() for one in self.evidence],
        }


def rule(evidence: Sequence[Evidence]) -> list[Ruling]:
    """All ten claims, with what there is of each."""
    return [Ruling(claim, tuple(one for one in evidence if one.claim == claim)) for claim in CLAIMS]
