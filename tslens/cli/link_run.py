"""What ``tslens link`` makes of readouts; what it grades is in ``link_plan``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tslens.cli.console import progress_bar, say
from tslens.cli.grade_texts import weights_sha256
from tslens.cli.link_groups import map_groups
from tslens.cli.opening import Opened
from tslens.corpus.text_tokenizer import TextTokenizer
from tslens.errors import DataError, ModelError
from tslens.grading.completions import Drawing
from tslens.link.capability_map import map_readouts
from tslens.link.groups import Group
from tslens.link.map_report import VERSION, MapReport, load_map, save_map
from tslens.link.map_status import FLOOR
from tslens.link.ngram_null import NgramNull, best_ngram, ngram_row, stories_like
from tslens.link.random_sets import N_DRAWS, SHARES
from tslens.link.readouts import make_readouts
from tslens.link.story_costs import CostStories
from tslens.probes.held_out import loss_on
from tslens.types import Provenance

TEMPERATURE = 1.0


@dataclass(frozen=True)
class Wanted:
    """What the options ask for."""

    n_pairs: int
    roles: tuple[Path, ...]
    most_graded: int
    prompts: str | None
    samples: int
    max_tokens: int
    seed: int

    @property
    def drawing(self) -> Drawing:
        """How texts are drawn."""
        return Drawing(self.samples, self.max_tokens, TEMPERATURE, self.seed)


@dataclass(frozen=True, eq=False)
class Made:
    """The map by readouts, and what it was made of."""

    report: MapReport
    stories: CostStories
    groups: Sequence[Group]


def map_of_readouts(opened: Opened, wanted: Wanted, path: Path, record: Callable[[], Provenance]) -> Made:
    """The map by readouts: made and saved, or read where an equal one was made before."""
    model, tokenizer = opened.model, opened.model.tokenizer
    if tokenizer is None:
        raise ModelError(
            "This model has no tokenizer, so it cannot read stories.", "Give one with a tokenizer.json."
        )
    groups, members = map_groups(model, opened.source, wanted.roles, seed=wanted.seed)
    costs = CostStories(model, opened.held_out)
    header: dict[str, Any] = {
        "model": opened.source.label,
        "checkpoint": opened.source.path.name,
        "weights_sha256": weights_sha256(opened.source.path),
        "stories": opened.held_out.source,
        "data_sha256": opened.held_out.sha256,
        "n_stories": costs.n_stories,
        "n_pairs": wanted.n_pairs,
        "seed": wanted.seed,
        "floor": FLOOR,
        "version": VERSION,
        "random_sets": {"draws": N_DRAWS, "shares": list(SHARES)},
    }
    kept = _kept(path, header, members)
    if kept is not None:
        say(f"readouts: kept in {path}")
        return Made(kept, costs, groups)
    say("making minimal pairs")
    is_instruct = opened.source.label.partition("@")[0].endswith("-instruct")
    readouts = make_readouts(
        tokenizer, n_ctx=model.cfg.n_ctx, instruct=is_instruct, seed=wanted.seed, n_pairs=wanted.n_pairs
    )
    say(
        f"{sum(len(one.pairs) for one in readouts):,} pairs in {len(readouts)} readouts; {len(groups)} components"
    )
    with progress_bar("ablating", 1) as (bar, task):
        found = map_readouts(
            model,
            readouts,
            costs,
            groups,
            seed=wanted.seed,
            progress=lambda step, n, total: bar.update(task, completed=n, total=total, note=step),
        )
    say("counting n-grams of the same data")
    read = list(opened.held_out)
    loss = loss_on(model, read)
    ngram = ngram_row(
        ngram_of(opened, tokenizer),
        read,
        readouts,
        tokenizer=tokenizer,
        n_ctx=model.cfg.n_ctx,
        seed=wanted.seed,
    )
    report = MapReport(
        found.rows,
        [score.to_json() for score in found.scores],
        members,
        {
            **header,
            "loss_nats": loss.loss_nats,
            "bits_per_byte": loss.bits_per_byte,
            "agreement": [asdict(one) for one in found.agreement],
            "random": asdict(found.random),
            "ngram": ngram.to_json(),
        },
    )
    save_map(report, path, record())
    return Made(report, costs, groups)


def ngram_of(opened: Opened, tokenizer: TextTokenizer) -> NgramNull:
    """The best n-gram of what the model was trained on."""
    return best_ngram(stories_like(opened.model, tokenizer, opened.source), vocab_size=tokenizer.vocab_size)


def _kept(path: Path, header: dict[str, Any], members: dict[str, list[str]]) -> MapReport | None:
    """The map of a file that was made of the same things, None where there is none."""
    if not path.exists():
        return None
    try:
        found = load_map(path)
    except DataError:
        return None
    is_same = all(found.header.get(name) == value for name, value in header.items())
    return found if is_same and dict(found.members) == members else None
