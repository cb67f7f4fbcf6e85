"""Texts by a large model on the prompts of the others: the row "teacher" of a table of grades.

They are asked for like grades: through the ledger, in versioned words, at temperature 1, as the others are drawn. One
that did not come is a :class:`GradeFailure`, so that it is counted. Nobody asks a model to see its own work here: the
judge is given these texts as it is given those of any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tslens.corpus.instructions.form import write_prompt
from tslens.grading.completions import Prompt, graded_text, text_of
from tslens.grading.prompts import InstructionSet, ShortPrompt
from tslens.grading.teacher import server_seed
from tslens.llm.calls import Call, CallFailure
from tslens.types import Graded, GradeFailure

if TYPE_CHECKING:
    from tslens.llm.ledger import Ledger

VERSION = 1  # of the words below
TEMPERATURE = 1.0

_GO_ON = """\
Below, between the lines BEGIN and END, stands the beginning of a story for small children. It may stop in the middle \
of a sentence. Go on with it from exactly where it stops, to the end of the story, in simple words that a child of \
four knows. Write only what comes next: do not repeat the beginning, and say nothing about it.

BEGIN
{text}
END"""

_END_SENTENCE = """\
Below, between the lines BEGIN and END, stands a text for small children that stops in the middle of a sentence. Go on \
from exactly where it stops to the end of that sentence. Write only what comes next: do not repeat what stands there.

BEGIN
{text}
END"""

_WRITE = """\
Write a story for small children, in simple words that a child of four knows. It has to do all that is asked here:

{instruction}

Write only the story."""


@dataclass(frozen=True)
class TeacherWriter:
    """Who writes. ``model``, ``server``: as for ``grading.teacher.Teacher``.

    ``samples``: texts of each prompt. ``max_tokens``: of one text, as its server counts them. ``seed``: of the first
    sample of each prompt; the others have ``seed + sample``, as a server that heeds seeds would else write one text
    over and over.
    """

    model: str
    samples: int
    max_tokens: int
    seed: int = 0
    server: str = ""

    def calls(self, prompts: Iterable[Prompt]) -> Iterator[Call]:
        """One call a text."""
        for prompt in prompts:
            for sample in range(self.samples):
                yield self._call(prompt, sample)

    def read(
        self, prompts: Iterable[Prompt], ledger: Ledger, unkept: Mapping[str, CallFailure]
    ) -> list[Graded | GradeFailure]:
        """The texts in order, or why they did not come. ``unkept``: as for ``Teacher.read``."""
        found: list[Graded | GradeFailure] = []
        for prompt in prompts:
            for sample in range(self.samples):
                reply = ledger.outcome(self._call(prompt, sample), unkept)
                if isinstance(reply, CallFailure):
                    text = graded_text(prompt, "", sample, self._seed(sample), None)
                    found.append(GradeFailure(text, reply.reason, f"not written: {reply.detail}"))
                    continue
                ended = reply.finish_reason == "stop"
                completion = follow_on(text_of(prompt), reply.text)
                found.append(graded_text(prompt, completion, sample, self._seed(sample), ended))
        return found

    def _seed(self, sample: int) -> int:
        return server_seed(self.seed, sample)

    def _call(self, prompt: Prompt, sample: int) -> Call:
        return Call(
            key=f"write {prompt.id}/{sample}",
            messages=(("user", _asked(prompt)),),
            model=self.model,
            temperature=TEMPERATURE,
            max_tokens=self.max_tokens,
            seed=self._seed(sample),
            sample=sample,
            server=self.server,
        )


def _asked(prompt: Prompt) -> str:
    if isinstance(prompt, InstructionSet):
        lines = write_prompt(prompt.instruction).splitlines()[:-1]  # without the line "Story:"
        return _WRITE.format(instruction="\n".join(lines))
    words = _END_SENTENCE if isinstance(prompt, ShortPrompt) else _GO_ON
    return words.format(text=prompt.text)


def follow_on(prompt: str, reply: str) -> str:
    """A reply as it follows its prompt: without a repeated beginning, with the blank that models leave out."""
    text = reply.strip().removeprefix(prompt.strip())
    is_word = text[:1].isalnum() or text[:1] in ('"', "\u201c")
    in_speech = prompt.endswith(('"', "\u201c")) and prompt.rpartition("\n")[2].count('"') % 2 == 1
    return f" {text}" if is_word and not prompt[-1:].isspace() and not in_speech else text
