"""A large model as a teacher: the calls that grade texts, and what is made of the replies.

Two rounds of calls in the protocol of two turns (the second holds the assessment of the first), one in the structured
mode. All calls of a round are answered first, in any order, and the ledger keeps each; then the grades are read from
it in the order of the texts. So a job that was stopped asks for what is missing, and equal ledgers give equal files. A
call that has no answer makes a :class:`GradeFailure`: it is counted, shown, and never a grade.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tslens.grading.rubric import Assessment, Points, Protocol, first_turn, one_call, second_turn
from tslens.llm.calls import Call, CallFailure, Reply
from tslens.types import Grade, Graded, GradeFailure

if TYPE_CHECKING:
    from tslens.llm.ledger import Ledger

MAX_TOKENS = {"assess": 400, "grade": 120, "one_call": 520}  # of a reply
_SEEDS = 2**63  # servers take no greater numbers


def server_seed(seed: int, number: int) -> int:
    """The seed of one of several requests that say the same: ``seed + number``."""
    return (seed + number) % _SEEDS


@dataclass(frozen=True)
class Teacher:
    """Who grades and how. ``model``: as the server knows it. ``server``: ``llm.connect.server_name``, "" is OpenAI.

    ``seed``: handed to the server, which promises nothing by it; a text that is given again is asked for with
    ``seed + repeat``, so that no server between takes it for the same request.
    """

    model: str
    protocol: Protocol = "two_turns"
    seed: int = 0
    server: str = ""
    temperature: float = 0.0

    def rounds(self, texts: Sequence[Graded], ledger: Ledger) -> Iterator[list[Call]]:
        """The calls of each round; those of the second are made when the first is answered."""
        if self.protocol == "one_call":
            yield [self.whole_call(one) for one in texts]
            return
        yield [self.assess_call(one) for one in texts]
        replies = [(one, ledger.find(self.assess_call(one))) for one in texts]
        yield [self.grade_call(one, found.text) for one, found in replies if isinstance(found, Reply)]

    def calls_at_most(self, texts: Iterable[Graded], ledger: Ledger) -> Iterator[Call]:
        """All calls, for an estimate; an assessment that is not known yet is as long as it may be."""
        for one in texts:
            if self.protocol == "one_call":
                yield self.whole_call(one)
                continue
            first = self.assess_call(one)
            yield first
            found = ledger.find(first)
            yield self.grade_call(
                one, found.text if isinstance(found, Reply) else "?" * 4 * MAX_TOKENS["assess"]
            )

    def assess_call(self, graded: Graded) -> Call:
        """The first turn."""
        return self._call(
            f"assess {graded.key}", (("user", first_turn(graded)),), "assess", None, graded.repeat
        )

    def grade_call(self, graded: Graded, assessment: str) -> Call:
        """The second turn."""
        messages = (
            ("user", first_turn(graded)),
            ("assistant", assessment),
            ("user", second_turn(graded)),
        )
        return self._call(f"grade {graded.key}", messages, "grade", Points, graded.repeat)

    def whole_call(self, graded: Graded) -> Call:
        """Both at once."""
        return self._call(
            f"grade {graded.key}", (("user", one_call(graded)),), "one_call", Assessment, graded.repeat
        )

    def _call(
        self,
        key: str,
        messages: tuple[tuple[str, str], ...],
        kind: str,
        answer: type[Points] | type[Assessment] | None,
        repeat: int,
    ) -> Call:
        return Call(
            key=key,
            messages=messages,
            model=self.model,
            temperature=self.temperature,
            max_tokens=MAX_TOKENS[kind],
            seed=server_seed(self.seed, repeat),
            answer=answer,
            sample=repeat,
            server=self.server,
        )

    def read(
        self, texts: Iterable[Graded], ledger: Ledger, unkept: Mapping[str, CallFailure]
    ) -> Iterator[Grade | GradeFailure]:
        """What came of each text, in order. ``unkept``: failures that the ledger does not keep, by key of the call."""
        for one in texts:
            if self.protocol == "one_call":
                found = ledger.outcome(self.whole_call(one), unkept)
                yield _grade(one, found, lambda text: Assessment.model_validate_json(text))
                continue
            first = ledger.outcome(self.assess_call(one), unkept)
            if isinstance(first, CallFailure):
                yield GradeFailure(one, first.reason, first.detail)
                continue
            found = ledger.outcome(self.grade_call(one, first.text), unkept)
            yield _grade(one, found, lambda text: Points.model_validate_json(text), first.text)


def _grade(
    graded: Graded,
    found: Reply | CallFailure,
    parse: Callable[[str], Points | Assessment],
    assessment: str | None = None,
) -> Grade | GradeFailure:
    if isinstance(found, CallFailure):
        return GradeFailure(graded, found.reason, found.detail)
    points = parse(found.text)
    return Grade(
        graded,
        grammar=points.grammar,
        creativity=points.creativity,
        consistency=points.consistency,
        plot=points.plot,
        age_group=points.age_group,
        assessment=points.assessment if isinstance(points, Assessment) else assessment,
    )
