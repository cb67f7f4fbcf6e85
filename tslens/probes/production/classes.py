"""Classes of next tokens that a head may produce: parts of speech, and frequent words by themselves.

A class is known from text alone: the next tokens that were counted in it, each as often as it came. What a head does
for a class is the mean over these, beside the mean over all next tokens.

Axes: place, vocab, class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from tslens.corpus.text_tokenizer import TextTokenizer
from tslens.errors import ProbeInputError
from tslens.labels import PARTS_OF_SPEECH
from tslens.probes.production.places import N_ALIKE, Places, joined
from tslens.probes.units import KIND

ClassKind = Literal["part", "word", "copying"]
CLOSING = "closing"
COPYING = "attended tokens"
"""What a head that copies produces: no class of its own, but the last column of all that is read."""
N_WORDS = 24


@dataclass(frozen=True)
class NextClass:
    """One class of next tokens.

    ``name``: a part of speech, ``closing`` (marks that close sentences, PUNCT too), or the token itself. ``members``:
    of a part, numbers of ``units.KINDS``; of a word, its id. ``n_places``: that have it.
    """

    kind: ClassKind
    name: str
    members: tuple[int, ...]
    n_places: int

    def holds(self, places: Places) -> Bool[np.ndarray, " place"]:
        """Places whose next token is of the class."""
        found: np.ndarray = np.isin(places.kind if self.kind == "part" else places.token, self.members)
        return found

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {"kind": self.kind, "class": self.name, "n_places": self.n_places}


@dataclass(frozen=True)
class Classes:
    """The classes of some stories.

    ``all``: in order. ``profile``: how much more often each token is the next one within the class than at all, as
    shares; columns sum to zero. ``share``: of each token among all next ones.
    """

    all: tuple[NextClass, ...]
    profile: Float[np.ndarray, "vocab class"]
    share: Float[np.ndarray, " vocab"]

    @classmethod
    def count(
        cls, places: Sequence[Places], n_rows: Sequence[int], tokenizer: TextTokenizer, d_vocab: int
    ) -> Classes:
        """Classes of the stories of some batches: parts of speech, and the words that come most often.

        ``n_rows``: stories of each batch. Raises ProbeInputError if no place is there.
        """
        every = joined(places, n_rows)
        if not len(every):
            raise ProbeInputError("No story has a second word or mark.", "Give longer stories.")
        frequent = np.argsort(-np.bincount(every.token, minlength=d_vocab), kind="stable")[:N_WORDS].tolist()
        wanted: list[tuple[ClassKind, str, tuple[int, ...]]] = [
            ("part", part, (KIND[part], KIND[CLOSING]) if part == "PUNCT" else (KIND[part],))
            for part in PARTS_OF_SPEECH
        ]
        wanted.append(("part", CLOSING, (KIND[CLOSING],)))
        names = tokenizer.token_strings(frequent)
        wanted += [("word", name, (token,)) for name, token in zip(names, frequent, strict=True)]
        share = np.bincount(every.token, minlength=d_vocab) / len(every)
        kept, profile = [], []
        for kind, name, members in wanted:
            one = NextClass(kind, name, members, 0)
            tokens = every.token[one.holds(every)]
            if len(tokens):
                kept.append(replace(one, n_places=len(tokens)))
                profile.append(np.bincount(tokens, minlength=d_vocab) / len(tokens) - share)
        return cls(tuple(kept), np.stack(profile, 1), share)

    def only(self, chosen: Bool[np.ndarray, " class"]) -> Classes:
        """Some of the classes."""
        kept = tuple(one for one, keep in zip(self.all, chosen.tolist(), strict=True) if keep)
        return Classes(kept, self.profile[:, chosen], self.share)

    def __len__(self) -> int:
        return len(self.all)

    def holds(self, places: Places) -> Bool[np.ndarray, "place class"]:
        """Which class the next token of each place is in."""
        return np.stack([one.holds(places) for one in self.all], 1)

    def strata(self, places: Places) -> Int[np.ndarray, "place class"]:
        """Which places are alike, by class: of a word, the part of speech of the next unit counts too."""
        by_kind = (places.kind + 1) * N_ALIKE + places.alike
        return np.stack([by_kind if one.kind == "word" else places.alike for one in self.all], 1)
