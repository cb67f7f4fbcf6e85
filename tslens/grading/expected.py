"""Which criterion each kind of fault should hit, and how surely: written down before any judge was run.

A fault has one criterion, by which its sensitivity is measured, and may touch others without that being held against a
judge (``also``). Every other drop is cross-talk.

"ignored_instruction" is not here: a story that was asked for nothing ignores nothing. Whether instructions are heeded
is decided by rule (``corpus.instructions.compliance``), not by a judge of texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tslens.grading.rubric import Criterion


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a kind of fault should do to grades. ``medium``, ``high``: the area under the curve that is asked, or None.

    ``also``: criteria that it may lower too. ``reason``: why, in words.
    """

    criterion: Criterion
    reason: str
    also: tuple[Criterion, ...] = ()
    medium: float | None = None
    high: float | None = None

    def asked(self, strength: str) -> float | None:
        """The area under the curve that is asked at a strength, None where none is."""
        return {"medium": self.medium, "high": self.high}.get(strength)


EXPECTED: Mapping[str, Expectation] = MappingProxyType(
    {
        "word_order": Expectation(
            "grammar",
            "no rule of English puts words so; what cannot be read tells no plot and fits nothing either",
            also=("plot", "consistency"),
            medium=0.95,
            high=0.95,
        ),
        "agreement": Expectation(
            "grammar",
            "subject and verb must agree in number; the story is told all the same",
            medium=0.90,
            high=0.95,
        ),
        "tense": Expectation(
            "grammar",
            "a narration stays in its tense; when things happen may become unclear, so the plot may suffer",
            also=("plot",),
            medium=0.90,
            high=0.95,
        ),
        "swapped_names": Expectation(
            "consistency",
            "each sentence is good English, but who did what changes; a deed by the wrong one spoils the plot",
            also=("plot",),
            medium=0.85,
            high=0.95,
        ),
        "changed_pronoun": Expectation(
            "consistency",
            "Tom is not she: who is meant is lost; a reader may call the wrong pronoun bad grammar",
            also=("grammar",),
        ),
        "object_back": Expectation(
            "consistency",
            "what is lost, broken or given away cannot be used; its loss may be what the plot is about",
            also=("plot",),
        ),
        "repeated_sentence": Expectation(
            "plot",
            "what is told twice does not happen twice, so the story stands still; and it has no idea of its own",
            also=("creativity",),
            medium=0.95,
            high=0.95,
        ),
        "sentence_order": Expectation(
            "plot",
            "each sentence is good, but one thing no longer leads to the next; somebody may act before he is there",
            also=("consistency",),
            medium=0.80,
            high=0.95,
        ),
        "missing_ending": Expectation(
            "plot",
            "a story that stops is no whole plot; half a sentence at its end is bad grammar too",
            also=("grammar",),
            medium=0.95,
            high=0.95,
        ),
    }
)
"""By kind of ``grading.planted.KINDS``."""
