"""From what chosen paths do in each story to statuses, and what that says of pairs of roles.

Axes: story, path, control, variant (the sender, then its controls).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from tslens.link.clustered import ClusteredMeans
from tslens.link.composition.asked import Path, Receiver, Sender
from tslens.link.composition.choice import (
    FLOORS,
    LEAST_STORIES,
    PairName,
    asked_pairs,
    kind_of,
    may_be_chosen,
)
from tslens.link.composition.effects import MeanEffect, PathEffects
from tslens.link.composition.paths import Controls
from tslens.link.composition.report import RANK, Found, PathScore, RolePair
from tslens.probes.programs.report import Estimate
from tslens.stats import ends_together, poisson_weights


@dataclass(frozen=True)
class LossSize:
    """Loss of a cut path, and beyond that of its controls."""

    loss: Estimate
    beyond: Estimate

    @property
    def holds(self) -> bool:
        """Both are above zero."""
        return self.loss.low > 0 and self.beyond.low > 0


class Judge:
    """From what chosen paths do in each story to their scores."""

    def __init__(self, effects: Mapping[Path, PathEffects], clusters: Sequence[int], seed: int) -> None:
        self._effects = {
            path: one for path, one in effects.items() if np.isfinite(one.sender).sum() >= LEAST_STORIES
        }
        if not self._effects:
            return
        own = np.stack([one.sender for one in self._effects.values()], 1)
        beyond = np.stack([one.sender - one.controls.mean(0) for one in self._effects.values()], 1)
        self._own, self._beyond = (_means_of(values, clusters, seed) for values in (own, beyond))
        self._lows, self._highs = ends_together(self._beyond.mean, self._beyond.se, self._beyond.n_clusters)

    def candidates(self) -> list[Path]:
        """Paths whose effect on the head reaches the floor, beyond every control."""
        return [path for i, path in enumerate(self._effects) if self._reaches(i, path)]

    def _reaches(self, i: int, path: Path) -> bool:
        return bool(self._lows[i] >= FLOORS[path.input]) and self._n_above(path) == 0

    def _n_above(self, path: Path) -> int:
        one = self._effects[path]
        return int((np.nanmean(one.controls, 1) >= np.nanmean(one.sender)).sum())

    def scores(
        self,
        everything: Mapping[Path, MeanEffect],
        controls: Mapping[Path, Controls],
        losses: Mapping[Path, LossSize],
    ) -> list[PathScore]:
        """One for each path that was tested, in stories enough."""
        found = []
        for i, (path, one) in enumerate(self._effects.items()):
            size = losses.get(path)
            status: Found = "no"
            if self._reaches(i, path):
                status = "found" if size is not None and size.holds else "candidate"
            found.append(
                PathScore(
                    senders=path.sender.units,
                    sender_role=str(path.sender.role),
                    receiver=path.receiver.head,
                    receiver_role=str(path.receiver.role),
                    input=path.input,
                    asked=PairName.of(path.sender, path.receiver).is_asked,
                    status=status,
                    chosen=everything[path].effect,
                    clean=float(np.nanmean(one.clean)),
                    effect=_estimate(self._own, i),
                    controls=float(np.nanmean(one.controls)),
                    control_kind=controls[path].kind,
                    n_controls=len(one.controls),
                    n_above=self._n_above(path),
                    beyond=_estimate(self._beyond, i),
                    beyond_low=float(self._lows[i]),
                    beyond_high=float(self._highs[i]),
                    floor=FLOORS[path.input],
                    loss=None if size is None else size.loss,
                    loss_beyond=None if size is None else size.beyond,
                    n_stories=int(np.isfinite(one.sender).sum()),
                )
            )
        return found


def _means_of(values: Float[np.ndarray, "story path"], clusters: Sequence[int], seed: int) -> ClusteredMeans:
    """Means over the stories that have a value."""
    there = np.isfinite(values)
    weights = poisson_weights(seed, clusters)
    return ClusteredMeans.of(weights, np.where(there, values, 0.0), there.astype(float))


def _estimate(means: ClusteredMeans, column: int) -> Estimate:
    ends = means.interval(column)
    return Estimate(float(means.mean[0, column]), ends.low, ends.high)


def loss_sizes(
    losses: Mapping[Path, Float[np.ndarray, "variant story"]], clusters: Sequence[int], seed: int
) -> dict[Path, LossSize]:
    """Of each path whose role serves a prediction in two stories at least."""
    enough = {path: lost for path, lost in losses.items() if np.isfinite(lost[0]).sum() > 1}
    if not enough:
        return {}
    own = _means_of(np.stack([lost[0] for lost in enough.values()], 1), clusters, seed)
    beyond = _means_of(np.stack([lost[0] - lost[1:].mean(0) for lost in enough.values()], 1), clusters, seed)
    return {path: LossSize(_estimate(own, i), _estimate(beyond, i)) for i, path in enumerate(enough)}


# Pairs of roles -------------------------------------------------------------------------------------------


def role_pairs_of(
    senders: Sequence[Sender],
    receivers: Sequence[Receiver],
    everything: Mapping[Path, MeanEffect],
    scores: Sequence[PathScore],
) -> list[RolePair]:
    """Every pair of roles with a path, and those of the authors' guess without one."""
    paths: dict[PairName, list[Path]] = {pair: [] for pair in asked_pairs()}
    for path in (path for path, one in everything.items() if one.n_stories >= LEAST_STORIES):
        paths.setdefault(PairName.of(path.sender, path.receiver), []).append(path)
    tested: dict[PairName, list[PathScore]] = defaultdict(list)
    for score in scores:
        probe = score.receiver_role.removesuffix(" before")
        tested[PairName(kind_of(score.senders[0]), score.sender_role, probe)].append(score)
    found = []
    for pair, mine in paths.items():
        n_senders = sum((kind_of(s.units[0]), str(s.role)) == pair[:2] for s in senders if s.before is None)
        n_receivers = len({r.head for r in receivers if r.role.probe == pair.receiver})
        status: Found = max((one.status for one in tested[pair]), key=RANK.__getitem__, default="no")
        found.append(
            RolePair(
                *pair,
                asked=pair.is_asked,
                n_senders=n_senders,
                n_receivers=n_receivers,
                n_paths=len(mine),
                largest=max((everything[path].effect for path in mine if path.input != "v"), default=None),
                n_tested=len(tested[pair]),
                status=status,
                why_none="" if tested[pair] else _why_none(pair, n_senders, n_receivers, mine, everything),
            )
        )
    return sorted(
        found, key=lambda pair: (not pair.asked, -RANK[pair.status], pair.sender_kind, pair.sender_role)
    )


def _why_none(
    pair: PairName,
    n_senders: int,
    n_receivers: int,
    paths: Sequence[Path],
    everything: Mapping[Path, MeanEffect],
) -> str:
    """Why no path of a pair was tested."""
    if not n_senders:
        return f"no {pair.kind} has the first role"
    if not n_receivers:
        return "no head has the second role"
    if not paths:
        return (
            "no such head lies in a layer after such a component, or too few stories have pairs at its tokens"
        )
    if any(may_be_chosen(path, everything[path]) for path in paths):
        return "too few stories of the second half have pairs at the sender's tokens"
    if pair.is_asked:
        return "no path has an effect above zero where paths are chosen"
    return "no path reaches the floor where paths are chosen"


def one_layer_pairs() -> list[RolePair]:
    """Of a model in which no head comes after a neuron or another head."""
    why = "the model has one layer, so no head reads what a neuron or another head writes"
    return [RolePair(*pair, True, 0, 0, 0, None, 0, "no", why) for pair in asked_pairs()]
