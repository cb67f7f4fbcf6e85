"""Grades in one call, for scripts: what a model writes, or texts of one's own, given to a judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tslens.grading.completions import Prompt, name_of, prompts_of, write_completions
from tslens.grading.judge import Judge
from tslens.grading.prompts import load_beginnings, load_instruction_sets
from tslens.grading.results import GradedModel
from tslens.types import Graded

if TYPE_CHECKING:
    from tslens.model.story_model import StoryModel


def grade(
    model: StoryModel | Sequence[Graded],
    *,
    seed: int,
    judge: Judge | None = None,
    prompts: Sequence[Prompt] | None = None,
    samples: int = 10,
    max_tokens: int = 300,
    temperature: float = 1.0,
    progress: Callable[[int], None] = lambda n_done: None,
) -> GradedModel:
    """Grammar, creativity, consistency and plot (0 to 10) of what a model writes, and the age of who would write so.

    ``model``: of ``load_model``; or texts, each a :class:`Graded`: then what says how to write is not looked at.
    ``judge``: any object with ``name``, ``version`` and ``grade`` (``grading.judge.Judge``); None is the local judge,
    which needs no server and is not GPT-4. ``prompts``: None is the package's: sets of instructions for a model that
    was trained on them, else beginnings. ``samples``: completions of each. ``progress`` gets the number of texts that
    were graded. The result has ``outcomes`` in the order of the texts, a grade or the reason why there is none, and
    ``summary``: means with 95% intervals over prompts. Raises what writing raises (``model.generate``).
    """
    if judge is None:
        from tslens.grading.local.judge import LocalJudge

        judge = LocalJudge()
    if isinstance(model, Sequence):
        label, texts = "texts", list(model)
        prompts = prompts_of(texts)
    else:
        spec = getattr(model, "spec", None)  # models of others have none
        label = spec.name if spec else "model"
        if prompts is None:
            prompts = load_instruction_sets() if spec and spec.instruct else load_beginnings()
        texts = write_completions(
            model, prompts, samples=samples, max_tokens=max_tokens, temperature=temperature, seed=seed
        )
    name, sha256 = name_of(prompts, "of the script")
    header = {
        "model": label,
        "judge": judge.name,
        "judge_version": judge.version,
        "prompts": name,
        "prompts_sha256": sha256,
        "seed": seed,
    }
    return GradedModel(label, header, judge.grade(texts, progress))
