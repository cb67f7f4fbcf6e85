"""Of candidates: is it there already given the current token, and does the model use it?

Lower ends are corrected for all candidates, by the largest deviation over them (as in ``verdict``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from tslens.model.story_model import StoryModel
from tslens.probes.batch import TokenBatch
from tslens.probes.production.cause import causes, costs_of_ablation, said_at, shares_said
from tslens.probes.production.classes import Classes
from tslens.probes.production.current_token import bases
from tslens.probes.production.direct import DirectReader
from tslens.probes.production.places import Places
from tslens.probes.production.report import Produced
from tslens.probes.production.seen import look


def explain(
    model: StoryModel,
    reader: DirectReader,
    classes: Classes,
    batches: Sequence[TokenBatch],
    places: Sequence[Places],
    rows: Sequence[Produced],
    *,
    seed: int,
    progress: Callable[[int], None] = lambda n_stories: None,
) -> list[Produced]:
    """The rows, candidates with basis, cause, and as roles where it holds.

    ``batches``, ``places``: of the first stories. Three passes over them; ``progress`` is called in the last.
    """
    asked = [row for row in rows if row.status == "candidate"]
    if not asked or not batches:
        return list(rows)
    seen = look(model, reader, classes, batches, places, asked, seed)
    by_token = bases(seen, seed)
    said = said_at(seen)
    costs = costs_of_ablation(model, batches, places, asked, progress)
    found = causes(seen, said, costs, seed)
    explained = {
        (row.head, row.name, row.kind): replace(
            row,
            status="role" if cause is not None and cause["holds"] else row.status,
            basis=basis.basis if basis else None,
            lexical=basis.lexical if basis else None,
            says=share,
            cause=None if cause is None else {n: v for n, v in cause.items() if n != "holds"},
        )
        for row, basis, share, cause in zip(asked, by_token, shares_said(seen, said), found, strict=True)
    }
    return [explained.get((row.head, row.name, row.kind), row) for row in rows]
