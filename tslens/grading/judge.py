"""Who grades: any object that gives each text a grade, or says why there is none.

Two are in the package. :class:`AskedJudge` asks a large model (``grading.teacher``); the local judge
(``grading.local.judge``) needs no server. Tables, files and audits know neither, only :class:`Judge`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from tslens.grading.rubric import VERSION
from tslens.grading.teacher import Teacher
from tslens.llm.calls import Call, CallFailure, Reply
from tslens.llm.ledger import Ledger
from tslens.types import Grade, Graded, GradeFailure

Outcome = Grade | GradeFailure


class Judge(Protocol):
    """What grades texts.

    ``name``: as after ``--judge``; grades of two names or two versions do not compare. ``version``: of its words or
    tables, and what it is not. Both stand wherever its grades do.
    """

    @property
    def name(self) -> str:
        """As in ``local`` or ``openai:gpt-4o``."""

    @property
    def version(self) -> str:
        """As in ``rubric 1, two_turns``."""

    def grade(
        self, texts: Sequence[Graded], progress: Callable[[int], None] = lambda n_done: None
    ) -> list[Outcome]:
        """One outcome for each text, in their order. ``progress`` gets the number of texts that are done."""


@dataclass(frozen=True)
class AskedJudge:
    """A large model behind an OpenAI-compatible server.

    ``answer``: has calls answered, so that their replies are in ``ledger``, and gives the failures back.
    """

    teacher: Teacher
    ledger: Ledger
    answer: Callable[[list[Call]], Iterable[CallFailure]]

    @property
    def name(self) -> str:
        """The model as its server knows it."""
        return f"openai:{self.teacher.model}"

    @property
    def version(self) -> str:
        """Version of the words, protocol, and the server where that is not OpenAI."""
        server = f", at {self.teacher.server}" if self.teacher.server else ""
        return f"rubric {VERSION}, {self.teacher.protocol}{server}"

    def grade(
        self, texts: Sequence[Graded], progress: Callable[[int], None] = lambda n_done: None
    ) -> list[Outcome]:
        """Rounds of calls, each answered whole, then grades read from the ledger. Texts may have equal names."""
        numbered = _numbered(texts)
        unkept: dict[str, CallFailure] = {}
        for calls in self.teacher.rounds(numbered, self.ledger):
            unkept.update({failure.key: failure for failure in self.answer(calls)})
        read = self.teacher.read(numbered, self.ledger, unkept)
        found = [replace(outcome, graded=text) for outcome, text in zip(read, texts, strict=True)]
        progress(len(found))
        return found

    def answered_by(self, texts: Sequence[Graded]) -> list[str]:
        """Names under which the server answered for these texts, each once."""
        calls = self.teacher.calls_at_most(texts, self.ledger)
        replies = (self.ledger.find(call) for call in calls)
        return sorted({reply.model for reply in replies if isinstance(reply, Reply)})


def _numbered(texts: Sequence[Graded]) -> list[Graded]:
    """The texts under names that are all different: a failure is known by the key of its call."""
    return [replace(text, prompt_id=f"{number} {text.prompt_id}") for number, text in enumerate(texts)]


def folder_of(judge: str) -> str:
    """Name of the folder of a judge's grades, as in ``openai_gpt-4o``."""
    return re.sub(r"[^\w.@-]", "_", judge)
