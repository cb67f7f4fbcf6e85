"""Pairs with their mirrors, so that nobody passes by liking a word.

Most verbs of stories are in the past and most subjects are singular: who always says "was" is right in most pairs of
"was" and "were", whatever stands before. So a pair counts together with its mirror, one in which the same tokens are
right that are wrong in the first, as one item: the mean of their two differences says how far what stands before moves
the preference the right way, and the preference itself drops out. Pairs whose two sides hold the same tokens, in
another order or after two beginnings, are their own mirrors.

Mirrors are looked for in the same story first. A story that has none is matched with one other story that has, and the
two are one cluster from then on, so that no cluster shares a story with another.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from tslens.link.pairs import Item, Pair

MOST_OF_CLUSTER = 2  # items
Contrast = tuple[tuple[int, ...], tuple[int, ...]]
"""The tokens that are read on the right and on the wrong side."""


class Mirrored:
    """Takes items of up to ``n_pairs`` pairs in all, up to two of a cluster, in the order of the stories."""

    def __init__(self, n_pairs: int) -> None:
        self.n_pairs = n_pairs
        self.items: list[Item] = []
        self._n_taken = 0
        self._waiting: dict[int, list[Pair]] = {}  # by cluster
        self._clusters: dict[Contrast, list[int]] = defaultdict(list)  # that wait with such a pair

    @property
    def is_full(self) -> bool:
        """Whether no couple of pairs can be taken any more."""
        return self.n_pairs - self._n_taken < 2

    def offer(self, pairs: Sequence[Pair]) -> None:
        """All pairs of one cluster: take items of them, or keep them until a story with their mirrors comes."""
        if not pairs:
            return
        own = _items(pairs, pairs)
        if own:
            self._take(own)
            return
        for pair in pairs:
            for cluster in self._clusters[_contrast(pair)[::-1]]:
                if cluster in self._waiting:
                    self._take(_items(self._waiting.pop(cluster), pairs))
                    return
        cluster = pairs[0].cluster
        self._waiting[cluster] = list(pairs)
        for pair in pairs:
            self._clusters[_contrast(pair)].append(cluster)

    def _take(self, items: Sequence[Item]) -> None:
        for item in items[:MOST_OF_CLUSTER]:
            if self._n_taken + len(item) <= self.n_pairs:
                self.items.append(item)
                self._n_taken += len(item)


def _items(first: Sequence[Pair], second: Sequence[Pair]) -> list[Item]:
    """Pairs that are their own mirrors, and couples of one of the first and one of the second, no pair taken twice.

    All get the cluster of the first.
    """
    cluster, left, items = first[0].cluster, list(second), list[Item]()
    for pair in first:
        right, wrong = _contrast(pair)
        if sorted(right) == sorted(wrong):
            items.append((pair,))
            continue
        mirror = next((one for one in left if _contrast(one) == (wrong, right)), None)
        if mirror is not None and (first is not second or pair in left):
            left = [one for one in left if one is not mirror and one is not pair]
            items.append((pair, replace(mirror, cluster=cluster)))
    return items


def _contrast(pair: Pair) -> Contrast:
    right, wrong = (tuple(side.tokens[side.first :].tolist()) for side in (pair.right, pair.wrong))
    return right, wrong
