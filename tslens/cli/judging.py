"""``--judge``: what is written after it, and the judge that it means, open for the time of a command."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tslens.cli.asking import Terms, answer_all, open_client

if TYPE_CHECKING:
    from tslens.grading.judge import AskedJudge, Judge
    from tslens.grading.rubric import Protocol
    from tslens.grading.teacher import Teacher
    from tslens.llm.calls import Call, CallFailure

LOCAL, _OPENAI = "local", "openai:"
NOT_GPT4 = "This judge is not GPT-4: its grades do not compare with GPT-4's."

JudgeName = Annotated[
    str,
    typer.Option(
        "--judge",
        help="local (in the package, no key, not GPT-4), or openai:MODEL, a large model of OpenAI or of --base-url.",
    ),
]


def parse_judge(text: str) -> str | None:
    """Name of the large model, None for the local judge. Raises UsageError for anything else."""
    from tslens.errors import UsageError

    if text == LOCAL:
        return None
    model = text.removeprefix(_OPENAI)
    if model == text or not model.strip():
        raise UsageError(
            f'There is no judge "{text}".',
            "Say local, or openai:MODEL as in openai:gpt-4o; --base-url names a server.",
        )
    return model


OF_ASKING = (
    "base_url",
    "budget",
    "price",
    "batch",
    "poll",
    "concurrency",
    "timeout",
    "ledger",
    "retry_failed",
)
"""Parameters of commands that say how a large model is asked."""


def refuse_for_local(context: typer.Context, names: Iterable[str]) -> None:
    """Raise UsageError for options that only a large model has, where they were given. ``names``: of parameters."""
    refuse_given(context, names, "is for a large model", f"Leave it out, or say --judge {_OPENAI}MODEL.")


def refuse_given(context: typer.Context, names: Iterable[str], why: str, hint: str) -> None:
    """Raise UsageError for the first of some parameters that was given, whatever its value: it would do nothing."""
    from tslens.errors import UsageError

    sources = ((name, context.get_parameter_source(name)) for name in names)
    given = [name for name, source in sources if source is not None and source.name == "COMMANDLINE"]
    if given:
        (option,) = (one for one in context.command.params if one.name == given[0])
        is_off = context.params[given[0]] is False
        said = option.secondary_opts if is_off and option.secondary_opts else option.opts
        raise UsageError(f"{said[0]} {why}.", hint)


def judge_name(model: str | None) -> str:
    """As the judge names itself."""
    return LOCAL if model is None else f"{_OPENAI}{model}"


@contextmanager
def open_judge(
    model: str | None, terms: Terms | None, out: Path, *, protocol: Protocol = "two_turns", seed: int = 0
) -> Iterator[Judge]:
    """The judge, its ledger open if it has one. ``model``: as :func:`parse_judge` gives it.

    ``terms``: of the large model. ``out``: the file that the command writes, by which its job is named.
    """
    if model is None:
        from tslens.grading.local.judge import LocalJudge

        yield LocalJudge()
        return
    assert terms is not None
    with open_asked(model, terms, out, protocol=protocol, seed=seed) as judge:
        yield judge


@contextmanager
def open_asked(
    model: str, terms: Terms, out: Path, *, protocol: Protocol, seed: int, read_only: bool = False
) -> Iterator[AskedJudge]:
    """A large model as a judge. ``read_only``: to look at what it would cost."""
    from tslens.grading.judge import AskedJudge

    with open_client(terms, out, read_only=read_only) as client:

        def answer(calls: list[Call]) -> list[CallFailure]:
            n_before = sum(client.counts.values())  # in earlier rounds: the bar goes on from there
            return answer_all(client, calls, terms, total=n_before + len(calls))

        yield AskedJudge(teacher_of(model, terms, protocol=protocol, seed=seed), client.ledger, answer)


def teacher_of(model: str, terms: Terms, *, protocol: Protocol, seed: int) -> Teacher:
    """Who is asked, and how."""
    from tslens.grading.teacher import Teacher
    from tslens.llm.connect import server_name

    return Teacher(model, protocol, seed, server_name(terms.base_url))
