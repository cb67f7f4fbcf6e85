"""A row of a head scan in words: what the head looks at, why the row has its status, its basis and its cause."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tslens.types import HeadId, HeadScore, Status
from tslens.viz.page import number, signed

STATUSES: Mapping[Status, tuple[str, str]] = {
    "role": (
        "◆",
        "All of a candidate, and a cause: taking this attention away costs more loss, where the role should help, than "
        "taking away as much from like words, or what these get. Above zero after correction, on either half of the "
        "stories, and where both are equal.",
    ),
    "candidate": (
        "●",
        "The corrected lower end of the excess reaches the floor, and either half of the stories confirms it; but no "
        "cause was found, or none was tested.",
    ),
    "unclear": ("○", "Above every null, but below the floor or not confirmed on either half."),
    "no": ("", "The corrected interval of the excess includes zero."),
}
MOSTLY_EQUAL = 0.5
MOSTLY_NEAREST = 0.7  # share of queries from which on it is said that "the nearest noun" would do as well
RANK = {status: rank for rank, status in enumerate(STATUSES)}

# From where, and at what.
_LOOKS = {
    "action": ("an object", "the verb of its clause"),
    "antecedent": ("a pronoun", "what it stands for"),
    "duplicate_token": ("", "earlier copies of the same token"),
    "first_token": ("", "the first position, where attention rests"),
    "induction": ("", "the token after an earlier copy of this one (random tokens, repeated)"),
    "name": ("a word", "the last name before it"),
    "object": ("the rest of a clause", "its object"),
    "previous_token": ("", "the token just before"),
    "previous_word": ("", "the word before, all its pieces together"),
    "protagonist": ("a word", "earlier mentions of the protagonist"),
    "punctuation": ("", "punctuation marks"),
    "quote": ("a word in direct speech", "the mark that opened it"),
    "rare_word": ("", "the rarest words"),
    "sentence_end": ("a word", "the mark that closed the sentence before"),
    "sentence_start": ("", "the first word of the sentence"),
    "subject": ("a verb", "the subject of its clause"),
    "topic": ("a word", "earlier nouns that the story is about"),
    "topic_determiner": ("“the” or “a”", "earlier nouns that the story is about"),
}


@dataclass(frozen=True)
class ScanFacts:
    """What holds for all rows of a scan.

    ``floor``: least excess of a role. ``served``: of each probe, the predictions that its role would help, in words.
    ``n_explained``: stories on which basis and cause of candidates were measured, 0 for none. ``n_counted``: those that
    the 4-gram was counted on.
    """

    floor: float
    served: Mapping[str, str]
    n_explained: int
    n_counted: int = 0


def by_strength(row: HeadScore) -> tuple[int, float, HeadId, str, str]:
    """Sort key: best status first, then largest excess."""
    return RANK[row.status], -row.excess, row.head, row.probe, row.position


def words(name: str) -> str:
    """A probe's or a null's name as words."""
    if name.startswith("distance_"):
        return f"distance {'–'.join(name.split('_')[1:])}"
    return name.replace("_", " ")


def place(row: HeadScore) -> str:
    """The probe as words, with its position where that is not the word itself."""
    return words(row.probe) + (" (before)" if row.position == "before" else "")


def largest_null(row: HeadScore) -> tuple[str, float]:
    """Name and value of the largest null."""
    return max(row.nulls.items(), key=lambda item: item[1], default=("none", 0.0))


def found(row: HeadScore) -> str:
    """How much the head looks at what the probe asks for, against the largest null."""
    null_name, null = largest_null(row)
    return (
        f"{looks(row)}: {number(row.value)} [{number(row.low)}, {number(row.high)}] of its attention; "
        f"the largest null ({words(null_name)}) gives {number(null)}."
    )


def looks(row: HeadScore) -> str:
    """From where the head looks at what, as the beginning of a sentence."""
    source, target = _LOOKS.get(row.probe, ("", ""))
    if row.probe.startswith("distance_"):
        target = f"the tokens {'–'.join(row.probe.split('_')[1:])} back"
    elif row.probe.startswith("label_"):
        source, target = "a word", f"earlier words with the label {words(row.probe.removeprefix('label_'))}"
    target = target or f"the {words(row.probe)}"
    if row.position == "before":
        return f"From the token before {source or 'the word'}, at {target}"
    return f"From {source}, at {target}" if source else f"At {target}"


def reason(row: HeadScore, facts: ScanFacts) -> str:
    """Why the row has its status and no better one."""
    if row.status == "unclear":
        if row.excess_low < facts.floor:
            low = signed(row.excess_low, 3)
            return f"No candidate: its corrected lower end of excess, {low}, is below the floor of {facts.floor:g}."
        first, second = ("not known" if value is None else signed(value) for value in row.excess_halves)
        return f"No candidate: not confirmed, as the excess is {first} and {second} on the two halves of the stories."
    if row.status == "no":
        return ""
    cause, served = row.cause or {}, facts.served.get(row.probe, "")
    where = f" ({served})" if served else ""
    if row.status == "role":
        like = "what little like words get" if _is_unequal(cause) else "as much attention from like words"
        return (
            f"A role: taking this attention away costs {signed(cause['edge'], 3)} nats a token more than taking {like} "
            f"(corrected lower end {signed(cause['edge_low'], 3)}), where it should help{where}."
        )
    if not facts.n_explained:
        return "No role: whether the model uses it was not tested."
    if served.startswith("none"):
        return f"No role: it serves no prediction ({served.removeprefix('none').lstrip(': ') or 'none'})."
    if "edge" not in cause:
        return (
            f"No role: in the {facts.n_explained} stories of the test there was no served prediction{where} with like "
            "attention to compare."
        )
    changed = f"taking this attention away changes the loss by {signed(cause['edge'], 3)} nats a token"
    if cause.get("edge_low", 0.0) > 0 and cause.get("edge_per_mass", 1.0) <= 0:
        return (
            f"No role: {changed} beyond what little like words get, where it should help{where}; but where these get "
            "as much, taking as much from either makes no such difference."
        )
    if cause.get("edge_low", 0.0) > 0:
        return (
            f"No role: {changed} beyond like attention, where it should help{where}. That is above zero on all "
            "stories, but not on either half of them."
        )
    low = f" (corrected lower end {signed(cause['edge_low'], 3)})" if "edge_low" in cause else ""
    return f"No role: {changed} beyond like attention{low}, where it should help{where}. That may be nothing."


def basis(row: HeadScore) -> str:
    """What explains the attention; empty where that was not asked."""
    nearest = (row.beside or {}).get("nearest", 0.0)
    if nearest < MOSTLY_NEAREST or not (said := _basis(row)):
        return _basis(row)
    return f"{said} On {nearest:.0%} of these queries the target is also the nearest such word."


def next_noun(row: HeadScore) -> str:
    """The paper's question of determiners: is the noun that is looked at the next word? Empty for other rows."""
    scores = row.beside or {}
    if "next_noun" not in scores:
        return ""
    return (
        f"Where the next word is one of several such nouns, {scores['next_noun']:.0%} of this attention is on that "
        f"very noun; if every mention got as much, it would be {scores['next_noun_even']:.0%}."
    )


def _basis(row: HeadScore) -> str:
    if row.basis is None:
        return ""
    if row.basis == "positional":
        return "Basis positional: distance explains it."
    if row.lexical is None:
        return f"Basis {row.basis}."
    if row.basis == "lexical" and row.head.layer == 0:
        return "Basis lexical: in layer 0 the two tokens and their positions decide all of it."
    alone = f"token identities and distance alone would give {number(row.lexical)} of the {number(row.value)}"
    if row.lexical_limit is not None:
        alone += f", and fitted on endless stories perhaps {number(row.lexical_limit)}"
    if row.basis == "lexical":
        return f"Basis lexical: {alone}; what is beyond is not surely above the floor."
    return f"Basis contextual: {alone}."


def _is_unequal(effects: Mapping[str, float]) -> bool:
    """Whether at most queries like words get too little for the two arms to move the same."""
    return effects.get("equal", 1.0) < MOSTLY_EQUAL


def cause(row: HeadScore, facts: ScanFacts) -> str:
    """Attention moved and its price by unit; empty where nothing was tested."""
    effects = row.cause or {}
    parts = []
    if "mass" in effects:
        parts.append(f"There the head pays {number(effects['mass'])} of its attention to this")
    if "edge_per_mass" in effects:
        parts.append(f"a whole unit of it is worth {signed(effects['edge_per_mass'], 3)} nats")
    if _is_unequal(effects):
        parts.append(
            f"only at {effects['equal']:.0%} of these predictions do like tokens get enough for equal amounts"
        )
    if "ngram" in effects:
        parts.append(
            f"the model pays {number(effects['loss'])} nats there, a 4-gram counted on {facts.n_counted:,} stories "
            f"{number(effects['ngram'])}"
        )
    return f"{'; '.join(parts)}." if parts else ""
