"""Stories and summaries asked of a large model: the calls, and what is made of the replies.

1. A call is a function of its plan (or its story) and the settings, so that a job that was stopped asks only what the
   ledger does not hold.
2. All calls are answered first, in any order; the ledger keeps each reply as it comes.
3. Then the replies are read from the ledger in the order of the plans. So a file depends on the replies alone, and a
   job that was killed ten times writes the same bytes as one that was not.

Whoever calls chooses how calls are answered: one by one (``llm.client``) or in batches (``llm.batch``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from tslens.corpus.requests.plans import StoryPlan, draw_plan, story_prompt, wording
from tslens.corpus.stories import normalise
from tslens.llm.calls import Call, CallFailure, Reply
from tslens.llm.ledger import Ledger
from tslens.types import Story

_WORDS_OF_SUMMARY = range(4, 61)


@dataclass(frozen=True, slots=True)
class Asking:
    """How a model is asked. ``model``: as the server knows it. ``max_tokens``: of a reply. ``template``: of requests
    for stories, None for the wording of TinyStories. ``seed``: of the plans, and handed to the server. ``server``: who
    is asked (``llm.connect.server_name``), "" is OpenAI itself.
    """

    model: str
    seed: int
    server: str = ""
    temperature: float = 1.0
    max_tokens: int = 1000
    template: str | None = None


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A story or a summary that did not come. ``index``: of the plan or the story. ``asked``: what for."""

    index: int
    reason: str
    detail: str
    asked: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON types."""
        return asdict(self)


def story_call(plan: StoryPlan, asking: Asking) -> Call:
    """The request for the story of a plan."""
    return Call(
        key=f"story-{plan.index:07d}",
        messages=(("user", story_prompt(plan, asking.template)),),
        model=asking.model,
        temperature=asking.temperature,
        max_tokens=asking.max_tokens,
        seed=asking.seed,
        sample=plan.index,
        server=asking.server,
    )


def story_calls(n_stories: int, asking: Asking) -> Iterator[Call]:
    """The requests for stories 0 to ``n_stories - 1``."""
    return (story_call(draw_plan(index, seed=asking.seed), asking) for index in range(n_stories))


def summary_call(index: int, story: Story, asking: Asking) -> Call:
    """The request for the summary of a story."""
    return Call(
        key=f"summary-{index:07d}",
        messages=(("user", wording()["summary"].replace("{story}", story.text)),),
        model=asking.model,
        temperature=asking.temperature,
        max_tokens=asking.max_tokens,
        seed=asking.seed,
        server=asking.server,
    )


def needs_summary(story: Story) -> bool:
    """Whether a story has no summary yet."""
    return not isinstance(story.extra.get("summary"), str)


def read_story_replies(
    n_stories: int, asking: Asking, ledger: Ledger, failures: Iterable[CallFailure]
) -> Iterator[Story | Unanswered]:
    """What came of each plan, in order: a story with its plan, model and usage, or why there is none.

    ``failures``: of calls that the ledger does not keep (budget, no connection).
    """
    unkept = {failure.key: failure for failure in failures}
    for index in range(n_stories):
        plan = draw_plan(index, seed=asking.seed)
        call = story_call(plan, asking)
        found = ledger.outcome(call, unkept)
        words = {
            "words": [plan.verb, plan.noun, plan.adjective],
            "words_pos": ["VERB", "NOUN", "ADJ"],
            "features": list(plan.features),
        }
        if isinstance(found, CallFailure):
            yield Unanswered(index, found.reason, found.detail, words)
            continue
        extra = {
            "source": f"request:{asking.model}",
            "index": index,
            "seed": asking.seed,
            **words,
            "prompt": call.messages[-1][1],
            "reply": _usage(found, asking),
        }
        yield Story(normalise(found.text), extra)


def read_summary_replies(
    stories: Iterable[Story], asking: Asking, ledger: Ledger, failures: Iterable[CallFailure]
) -> Iterator[tuple[Story, Unanswered | None]]:
    """Each story with the summary that was asked for in ``extra["summary"]``, or as it was and why.

    A summary that the story has already is kept: it was not asked for (``needs_summary``).

    ``extra["summary_reply"]`` has model, usage and ``marked``: "cut" by the limit of tokens, "length" where it has not
    4 to 60 words.
    """
    unkept = {failure.key: failure for failure in failures}
    for index, story in enumerate(stories):
        if not needs_summary(story):
            yield story, None
            continue
        found = ledger.outcome(summary_call(index, story, asking), unkept)
        if isinstance(found, CallFailure):
            yield story, Unanswered(index, found.reason, found.detail, {"summary": True})
            continue
        summary = " ".join(found.text.split())
        marked = ["cut"] * (found.finish_reason == "length")
        marked += ["length"] * (len(summary.split()) not in _WORDS_OF_SUMMARY)
        reply = {**_usage(found, asking), "marked": marked}
        yield replace(story, extra={**story.extra, "summary": summary, "summary_reply": reply}), None


def _usage(reply: Reply, asking: Asking) -> dict[str, Any]:
    return {
        "model": reply.model,
        "fingerprint": reply.fingerprint,
        "temperature": asking.temperature,
        "max_tokens": asking.max_tokens,
        "finish_reason": reply.finish_reason,
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
    }
