"""What a search for the circuit of one prediction found, as records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tslens.causal.path_graph import Receiver, Sender
from tslens.corpus.tokenizer import END
from tslens.types import HeadId


@dataclass(frozen=True)
class CircuitEdge:
    """An edge of a circuit.

    ``effect``: nats of the difference that go when it alone is cut from the whole model; ``effect_inside``: when it
    alone is cut from the circuit. Above zero it speaks for the right token, below for the wrong one.
    """

    sender: Sender
    receiver: Receiver
    effect: float
    effect_inside: float

    def to_json(self) -> dict[str, Any]:
        """The edge as plain JSON types."""
        return {
            "from": str(self.sender),
            "to": str(self.receiver),
            "effect": self.effect,
            "effect_inside": self.effect_inside,
        }


@dataclass(frozen=True)
class RandomPaths:
    """What random sets of as many edges keep, each edge on a path within its set (``PathGraph.draw``).

    ``low``, ``median``, ``high``: 5th, 50th and 95th percentile of the share that ``n_draws`` sets keep. ``p``: share
    of the sets that come as near to the whole as the circuit does, one added above and below.
    """

    n_draws: int
    low: float
    median: float
    high: float
    p: float


@dataclass(frozen=True)
class Circuit:
    """The edges that one prediction needs, and how far.

    ``tokens``: the prompt. ``right``, ``wrong``: the two next tokens. ``keep``: share that was wanted. Differences of
    logits of the right token and the wrong one, which are those of their log-probabilities, in nats: ``whole`` with all
    ``n_edges_whole`` edges, ``none`` with all cut, ``inside`` with those of the circuit alone, ``outside`` with all
    others. ``divergence``, ``divergence_none``: Kullback-Leibler divergence in nats of the next token's distribution,
    by the circuit alone and by no edges, from the whole's. ``edges``: largest effect inside first. ``other_stories``:
    share that the circuit keeps where cut edges carry what another story gives, over ``n_other_stories`` of them; None
    where that was not asked or no such share can be told.
    """

    tokens: tuple[str, ...]
    right: str
    wrong: str
    keep: float
    whole: float
    none: float
    inside: float
    outside: float
    divergence: float
    divergence_none: float
    n_edges_whole: int
    edges: tuple[CircuitEdge, ...]
    random: RandomPaths
    other_stories: float | None
    n_other_stories: int

    @property
    def share(self) -> float:
        """Of the whole's difference beyond that of no edges, how much the circuit alone keeps; may be above 1."""
        return share_kept(self.inside, self.whole, self.none)

    @property
    def share_outside(self) -> float:
        """How much of it all other edges keep without the circuit."""
        return share_kept(self.outside, self.whole, self.none)

    @property
    def heads(self) -> tuple[HeadId, ...]:
        """The heads of the circuit, first layer first."""
        return tuple(sorted({edge.receiver for edge in self.edges if isinstance(edge.receiver, HeadId)}))

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON types."""
        return {
            "tokens": list(self.tokens),
            "right": self.right,
            "wrong": self.wrong,
            "keep": self.keep,
            "logit_difference": {
                "whole": self.whole,
                "none": self.none,
                "inside": self.inside,
                "outside": self.outside,
            },
            "divergence": {"inside": self.divergence, "none": self.divergence_none},
            "share": self.share,
            "share_outside": self.share_outside,
            "share_other_stories": self.other_stories,
            "n_other_stories": self.n_other_stories,
            "n_edges_whole": self.n_edges_whole,
            "n_edges": len(self.edges),
            "random": asdict(self.random),
            "edges": [edge.to_json() for edge in self.edges],
        }


def share_kept(difference: float, whole: float, none: float) -> float:
    """Where a difference lies between that of no edges (0) and that of all (1)."""
    return (difference - none) / (whole - none)


def shown(token: str, *, is_next: bool = False) -> str:
    """A token as readers see it, without the blank before a word.

    ``<|endoftext|>`` is the start of a prompt, and the end where it ``is_next``.
    """
    if token == END:
        return "end" if is_next else "start"
    return token.strip(" ") or "\N{OPEN BOX}"


@dataclass(frozen=True)
class Attended:
    """A token that a head looks at: its position, and how much of the attention it gets, 0 to 1."""

    pos: int
    share: float


def most_attended(row: Sequence[float], n_most: int) -> list[Attended]:
    """The tokens that get most of one query's attention; the first of equals."""
    order = sorted(range(len(row)), key=lambda pos: -row[pos])
    return [Attended(pos, float(row[pos])) for pos in order[:n_most]]
