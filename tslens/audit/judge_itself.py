"""A judge and itself: the same texts given again, clean ones and twins in turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tslens.audit.judge_planted import texts_of
from tslens.audit.judge_report import AuditText, Measure, Outcomes
from tslens.grading.agreement import Estimate, self_agreement
from tslens.grading.planted import PlantedPair


@dataclass(frozen=True)
class Itself:
    """The part of agreement with itself. ``pairs``: of which every other clean text and every other twin is repeated.

    ``is_exact``: the judge says that it always gives the same; then it is asked to.
    """

    pairs: Sequence[PlantedPair]
    is_exact: bool

    @property
    def texts(self) -> Iterator[AuditText]:
        """Each text, and the same again."""
        for text in self._chosen():
            yield text
            yield replace(text, graded=replace(text.graded, repeat=1))

    def _chosen(self) -> list[AuditText]:
        """A clean story of one pair, the twin of the next."""
        return [texts_of(pair)[number % 2] for number, pair in enumerate(self.pairs)]

    def read(self, outcomes: Outcomes) -> Iterator[Measure]:
        """Krippendorff's alpha, Gwet's AC2 and the mean absolute difference, by criterion."""
        places = {(text.graded.prompt_id, text.graded.sample) for text in self._chosen()}
        mine = [
            one for one in outcomes.values() if (one.graded.prompt_id, one.graded.sample) in places
        ]  # with their repeats
        for name, found in self_agreement(mine).items():
            note = f"{found.n_missed} texts have no second grade" if found.n_missed else ""

            def figure(
                label: str,
                value: Estimate,
                unit: str,
                asked: float | None = None,
                *,
                name: str = name,
                n: int = found.n_prompts,
                note: str = note,
            ) -> Measure:
                ends = (value.value, value.low, value.high)
                return Measure("itself", "itself", label, "all", name, *ends, n, unit, asked, "at most", note)

            exact = 0.0 if self.is_exact else None
            yield figure("difference of two grades", found.difference, "points", exact)
            yield figure("Krippendorff's alpha, ordinal", found.alpha_ordinal, "alpha")
            yield figure("Krippendorff's alpha, interval", found.alpha_interval, "alpha")
            yield figure("Gwet's AC2", found.ac2, "AC2")
