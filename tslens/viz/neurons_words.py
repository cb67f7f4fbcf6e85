"""What was found of a neuron, in sentences for its card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tslens.types import NeuronRole, Status
from tslens.viz.page import number, signed

STATUSES: Mapping[Status, tuple[str, str]] = {
    "role": (
        "◆",
        "All of a candidate, and a cause: with its mean in place of its activation, the next token costs more at the "
        "tokens of its label than at like tokens; above zero after correction, in sign also with zero or another "
        "token's activation in its place.",
    ),
    "candidate": (
        "●",
        "The corrected lower end of the area reaches the floor, on the half of the stories where the label was chosen "
        "the area does too; but no cause was found, or none was tested.",
    ),
    "unclear": ("○", "Beyond its nulls, but below the floor."),
    "no": ("", "Not beyond its nulls, corrected for the number of neurons."),
}

_KINDS = {
    "dead": "It was never above zero.",
    "positional": "Its mean at each position explains {position} of its variance: it follows the position.",
    "token": "Its mean for each word explains {token} of its variance: it follows the word.",
    "n-gram": "Its mean for each pair of words explains {bigram} of its variance: it follows the pair.",
    "suppressing": "It follows the word or the pair of words ({bigram} of its variance), and lowers the words at "
    "which it fires.",
    "mixed": "Of its variance its mean for each word explains {token}, for each pair of words {bigram}, at each "
    "position {position}.",
}
_WRITES = {
    "prediction": "Few tokens stand out among what it raises: a prediction neuron.",
    "suppression": "Few tokens stand out among what it lowers: a suppression neuron.",
    "partition": "It raises one part of the vocabulary against another: a partition neuron.",
    "entropy": "It moves hardly any logit: it writes where the unembedding does not look (entropy neuron).",
    "none": "No token and no part of the vocabulary stands out more than for random directions.",
}
_PARTS = {
    "pos_adj": "adjective",
    "pos_adp": "preposition",
    "pos_adv": "adverb",
    "pos_aux": "auxiliary verb",
    "pos_cconj": "coordinating conjunction",
    "pos_det": "determiner",
    "pos_intj": "interjection",
    "pos_noun": "noun",
    "pos_num": "number",
    "pos_part": "particle",
    "pos_pron": "pronoun",
    "pos_propn": "proper name",
    "pos_punct": "punctuation",
    "pos_sconj": "subordinating conjunction",
    "pos_sym": "symbol",
    "pos_verb": "verb",
    "pos_x": "unknown part of speech",
}
_BASIS = {
    "lexical": "The words explain it: beyond them the label adds little where the word leaves it open.",
    "contextual": "It goes beyond words: where the word leaves the label open, the label explains it better than the "
    "word, the pair of words and the position.",
    "positional": "The position explains it better than the word.",
}


def words(name: str) -> str:
    """A label's name as words."""
    return _PARTS.get(name, name.replace("_", " "))


def sentences(role: NeuronRole, descriptions: Mapping[str, str]) -> Iterator[str]:
    """What the card says, best first."""
    if role.role is not None:
        what = descriptions.get(role.role, f'tokens of your label "{role.role}"')
        yield (
            f"It fires at {what}: of a token with the label and one without, the former has the higher activation in "
            f"{100 * role.auroc:.0f} of 100 cases."
        )
    if role.basis is not None:
        within = ""
        if role.within_word is not None:
            within = f" Among tokens of one and the same word the area is {number(role.within_word)}."
        yield _BASIS[role.basis] + within
    explained = {name: f"{100 * share:.0f}%" for name, share in (role.explained or {}).items()}
    yield _KINDS[role.kind].format(**{"token": "–", "bigram": "–", "position": "–", **explained})
    yield from _written(role)
    if role.cause is not None:
        yield (
            f"With its mean in place of its activation the next token costs {signed(role.cause['mean'], 3)} nats at "
            f"these tokens, {signed(role.cause['mean_beyond'], 3)} beyond like tokens (corrected lower end "
            f"{signed(role.cause['low'], 3)})."
        )


def _written(role: NeuronRole) -> Iterator[str]:
    writes = role.writes or {}
    if not writes:
        return
    part = f" Most of all it raises words of the part of speech {writes['part']}." if writes["part"] else ""
    fires = writes["fires_where"]
    where = ""
    if fires is not None:
        where = f" It is higher before a token that it raises than before another in {100 * fires:.0f} of 100 cases."
    yield _WRITES[writes["kind"]] + part + where
