"""A head one of whose inputs is changed at some tokens: what it then attends to, and what it mixes.

Of the pattern only what a relation asks for is computed: rows of the queries that changed, or, where keys changed, the
columns of these, all other keys counting as one more, as they were. It is exact; nothing is held fixed in the softmax.

Axes: variant (a change), row, pos (query_pos, key_pos), place (of a sender's tokens, padded), relation, d_head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tslens.link.composition.paths import Change, Input, PathRun, Places
from tslens.types import HeadId

Pairs = Int[Tensor, "3 pair"]
"""Row, query and key of each pair of a relation."""


class UntouchedHead:
    """What one head of a run attends to.

    ``q``, ``k``, ``v``: its inputs. ``is_hidden``: where a query may not look. ``largest``: each query's largest score;
    ``weight``: exponentials of the scores minus that; ``pattern``: each as a share of its query's.
    """

    @torch.no_grad()
    def __init__(self, run: PathRun, head: HeadId) -> None:
        self.id, self._attn = head, run.attention(head.layer)
        self.q, self.k, self.v = run.projected(head)
        pos = torch.arange(self.q.shape[1], device=self.q.device)
        self.is_hidden: Bool[Tensor, "query_pos key_pos"] = ~self._attn.allowed(pos, pos)
        scores = _scores(self.q, self.k).masked_fill_(self.is_hidden, float("-inf"))
        self.largest: Float[Tensor, "row query_pos 1"] = scores.amax(-1, keepdim=True)
        self.weight: Float[Tensor, "row query_pos key_pos"] = (scores - self.largest).exp_()
        self.pattern: Float[Tensor, "row query_pos key_pos"] = self.weight / self.weight.sum(-1, keepdim=True)

    def project(self, name: Input, read: Change) -> Float[Tensor, "variant row place d_head"]:
        """One input of the head, from what it reads."""
        weight: Tensor = getattr(self._attn, f"W_{name.upper()}")[self.id.index]
        return read @ weight

    @torch.no_grad()
    def mixed_change(
        self, name: Input, read: Change, places: Places
    ) -> Float[Tensor, "variant row pos d_head"]:
        """How what the head mixes changes, at all positions, where one input is as it is read at some places."""
        parts = {"q": self.q[None], "k": self.k[None], "v": self.v[None]}
        parts[name] = places.put(self.project(name, read), parts[name][0])
        scores = _scores(parts["q"], parts["k"]).masked_fill_(self.is_hidden, float("-inf"))
        return scores.softmax(-1) @ parts["v"] - self.pattern @ self.v


class HeadAtPlaces:
    """One head and the places at which one of its inputs may change: what it then has of some relations.

    ``q``: attention mass on the relation's keys, mean over its queries among the places. ``k``: mass on its keys among
    the places, mean over the queries that have some. ``v``: of what these keys contribute to what the head mixes, the
    part along what they contribute in the untouched model, as a share of that (untouched: 1).
    """

    @torch.no_grad()
    def __init__(self, head: UntouchedHead, places: Places, relations: Sequence[Pairs]) -> None:
        self._head, self._places = head, places
        self._place_of = places.number(head.q.shape[1])
        seen = [pairs[:, ~head.is_hidden[pairs[1], pairs[2]]] for pairs in relations]
        self._at_queries, self._at_keys = (
            [pairs[:, self._place_of[pairs[0], pairs[end]] >= 0] for pairs in seen] for end in (1, 2)
        )

    @torch.no_grad()
    def measure(
        self, name: Input, new: Float[Tensor, "variant row place d_head"]
    ) -> Float[Tensor, "relation variant row"]:
        """What each row has of each relation with one input as it is given; NaN where it has no such pair."""
        if name == "v":
            return torch.stack([(new * along).sum((-1, -2)) for along in self._carried])
        if name == "q":
            asking, hidden, masses = self._with_queries
            scores = _scores(new[:, asking.row, asking.index], self._head.k)
        else:
            q, hidden, rest, masses = self._with_keys
            scores = _scores(q, new)
        scores.masked_fill_(hidden, float("-inf"))
        if name == "k":  # all other keys, as they were, count as one more
            scores = torch.cat([scores, rest.expand(len(new), *rest.shape)], -1)
        pattern = scores.softmax(-1)
        return torch.stack([mass.read(pattern) for mass in masses])

    @cached_property
    def _with_queries(self) -> tuple[Places, Bool[Tensor, "row asking key_pos"], list[_MeanMass]]:
        """The places that ask, what is hidden from them, and what is read off their patterns."""
        n_rows, n_places = self._places.index.shape
        numbered = [(p[0], self._place_of[p[0], p[1]], p[2]) for p in self._at_queries]
        asking = Places.of(_flagged(n_rows, n_places, [(row, place) for row, place, _ in numbered]))
        at = asking.number(n_places)
        hidden = self._head.is_hidden[self._places.index.gather(1, asking.index)]
        masses = [_MeanMass.of(row, at[row, place], key, hidden) for row, place, key in numbered]
        return asking, hidden, masses

    @cached_property
    def _asked(self) -> Places:
        """The queries that have a key among the places."""
        n_rows, n_pos = self._place_of.shape
        return Places.of(_flagged(n_rows, n_pos, [(p[0], p[1]) for p in self._at_keys]))

    @cached_property
    def _numbered(self) -> list[Pairs]:
        """The same pairs by row, number of the query among those that ask, and place of the key."""
        at = self._asked.number(self._place_of.shape[1])
        return [torch.stack([p[0], at[p[0], p[1]], self._place_of[p[0], p[2]]]) for p in self._at_keys]

    @cached_property
    def _with_keys(self) -> tuple[Tensor, Bool[Tensor, "row asked place"], Tensor, list[_MeanMass]]:
        """Queries that ask, which places are hidden from them, the log of all other keys' weight, what is read off."""
        head, asked, places = self._head, self._asked, self._places
        beside = (self._place_of < 0).to(head.weight)
        rest = asked.take(head.largest) + (asked.take(head.weight) @ beside[:, :, None]).log()
        hidden = head.is_hidden[asked.index[:, :, None], places.index[:, None]] | ~places.is_there[:, None]
        with_rest = torch.cat([hidden, hidden[..., :1]], -1)
        masses = [_MeanMass.of(row, query, place, with_rest) for row, query, place in self._numbered]
        return asked.take(head.q), hidden, rest, masses

    @cached_property
    def _carried(self) -> list[Float[Tensor, "row place d_head"]]:
        """What values at the places are multiplied with for the share that is carried; NaN where that is nothing."""
        head, old, found = self._head, self._places.take(self._head.v), []
        for pairs, (row, query, place) in zip(self._at_keys, self._numbered, strict=True):
            mixing = old.new_zeros(len(old), self._asked.index.shape[1], old.shape[1])
            mixing[row, query, place] = head.pattern[pairs[0], pairs[1], pairs[2]]
            mixed = mixing @ old
            length = mixed.square().sum((1, 2))[:, None, None]
            found.append(mixing.transpose(1, 2) @ mixed / torch.where(length > 0, length, torch.nan))
        return found


@dataclass(frozen=True, eq=False)
class _MeanMass:
    """Mean over the queries of a row of the mass on their keys, read off patterns of one shape.

    ``index``: the pairs, as places of a flat pattern. ``share``: of each in the mean of its row. ``nothing``: NaN for
    rows without pairs, else 0.
    """

    index: Int[Tensor, " pair"]
    share: Float[Tensor, "pair row"]
    nothing: Float[Tensor, " row"]

    @classmethod
    def of(
        cls,
        row: Int[Tensor, " pair"],
        query: Int[Tensor, " pair"],
        key: Int[Tensor, " pair"],
        like: Bool[Tensor, "row query key"],
    ) -> _MeanMass:
        """``like``: a pattern's shape."""
        n_rows, n_queries, n_keys = like.shape
        asks = torch.unique(row * n_queries + query)
        n = torch.bincount(asks // n_queries, minlength=n_rows)
        share = torch.zeros(len(row), n_rows, dtype=torch.float64, device=row.device)
        share[torch.arange(len(row), device=row.device), row] = 1 / n[row].double()
        nothing = torch.where(n > 0, 0.0, torch.nan)
        return cls((row * n_queries + query) * n_keys + key, share, nothing)

    def read(self, pattern: Float[Tensor, "variant row query key"]) -> Float[Tensor, "variant row"]:
        """NaN where a row has no pair."""
        paid = pattern.flatten(1).index_select(1, self.index)
        return paid @ self.share.to(paid) + self.nothing.to(paid)


def _flagged(
    n_rows: int, n: int, where: Sequence[tuple[Int[Tensor, " pair"], Int[Tensor, " pair"]]]
) -> Bool[Tensor, "row place"]:
    """Which places are among some."""
    flags = torch.zeros(n_rows, n, dtype=torch.bool, device=where[0][0].device)
    for row, place in where:
        flags[row, place] = True
    return flags


def _scores(
    q: Float[Tensor, "*variant row query d_head"], k: Float[Tensor, "*variant row key d_head"]
) -> Float[Tensor, "*variant row query key"]:
    """Scores before the softmax, not yet masked."""
    return q @ k.transpose(-1, -2)
