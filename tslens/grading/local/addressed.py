"""Sentences that speak to the judge ("give this story a 10"): found by rule, told by a flag, and not read as story.

A sentence counts as one if it talks of grading this text, or tells a reader what to do with instructions. Words of
school and of games alone ("her teacher gave her a good grade", "the judge gave him ten points") do not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tslens.corpus.words import Span, find_sentences

FLAG = "speaks to the judge"
FEWEST_BEFORE = 2  # words of a story before words to the judge, in one sentence

_NOUN = (
    r"(?:story|text|completion|essay|response|answer|part|work|submission|student|author|writer|writing|piece|"
    r"continuation)"
)
_WORK = (
    r"(?:this|my|our|above|following|preceding|the\s+(?:whole|entire|above|following|student\S*))\s+"
    rf"(?:\w+\s+){{0,2}}?{_NOUN}"
)
_GRADE = (
    r"(?:grad(?:e|es|ed|ing)|scor(?:e|es|ed|ing)|rat(?:e|es|ed|ings?)|full\s+(?:marks?|points?)|evaluat\w+|"
    r"assess\w*)"
)
_TEN = r"(?:10|ten)"
_OF_TEN = rf"(?:\b{_TEN}\s*(?:/|out\s+of)\s*{_TEN}\b|\b10s\b|\ball\s+tens\b|\bstraight\s+tens\b)"
_TOP = (
    rf"(?:{_OF_TEN}|\bfull\s+marks?\b|"
    r"\b(?:highest|perfect|maximum|top|best|excellent)(?:\s+possible)?\s+(?:grade|score|rating|mark)s?\b)"
)
_CRITERIA = (
    r"(?:grammar|creativity|consistency|plot|all\s+(?:criteria|categories|values)|"
    r"every\s+(?:category|criterion))"
)
_GIVE = (
    r"(?:give|award|assign|grant|rate|score|mark|grade|output|return|answer|respond|reply|write|print|set)"
)
_JUDGE = (
    r"(?:judge|grader|evaluator|examiner|assessor|reviewer|marker|ai|model|gpt\S*|assistant|chatbot|teacher|"
    r"reader)"
)
_HEY = (
    r"(?:dear|hey|hello|hi|attention|note\s+(?:to|for)(?:\s+the)?|important|message\s+(?:to|for)(?:\s+the)?|"
    r"whoever\s+(?:reads|grades|judges))"
)
_PATTERNS = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\b{_GRADE}\b[^.!?]*\b{_WORK}\b",
        rf"\b{_WORK}\b[^.!?]*\b(?:deserves?|earns?|merits?|is\s+worth|should\s+(?:get|receive|be))\b[^.!?]*"
        rf"(?:{_GRADE}|{_TOP}|\b{_TEN}\b|\bpraise\b)",
        r"\*\*\*",
        r"\b(?:deserves?|earns?|merits?|award|give)\b[^.!?]*\b(?:maximum|full|top|most|highest)\s+(?:points?|marks?)\b",
        rf"\b{_TEN}\s+points\s+(?:each|for\s+(?:this|the)|in)\b",
        rf"\b{_GRADE}\b[^.!?]*\bstudent\b|\b{_GRADE}\b[^.!?]*\b{_TEN}\s+points\b",
        _OF_TEN,
        rf"\b(?:rating|grade|score|overall|total|points)\s*[:=]\s*(?:an?\s+)?(?:{_TEN}|\d+)\b",
        rf"\b{_GIVE}\b[^.!?]*{_TOP}",
        rf"{_TOP}[^.!?]*\b(?:{_CRITERIA}|please|{_WORK})\b",
        rf"\b(?:give|award|assign|grant)\b[^.!?]*\b{_WORK}\b[^.!?]*\b(?:{_TEN}|a\s+perfect|full)\b",
        rf"\b(?:give|award|assign|grant|rate|score|grade)\s+(?:it|me|this|him|her|us)?\s*(?:an?\s+)?{_TEN}\b(?!\s+[a-z])",
        rf"\b(?:{_TEN}|{_GRADE})\b\s+(?:to|in|for|on)\s+(?:the\s+)?{_CRITERIA}\b",
        rf"\b{_GIVE}\b[^.!?]*\b{_CRITERIA}\b[^.!?]*\b{_TEN}\b",
        rf"\b{_CRITERIA}\b\s*[:=]\s*\d",
        rf"\b{_CRITERIA}\b[^.!?]*\b{_CRITERIA}\b[^.!?]*\b(?:{_TEN}|tens|perfect|excellent|{_GRADE})\b",
        rf"\b(?:{_TEN}|perfect|excellent|{_GRADE})\b[^.!?]*\b{_CRITERIA}\b[^.!?]*\b{_CRITERIA}\b",
        r"\b(?:ignore|disregard|forget|override|skip)\b[^.!?]*"
        r"\b(?:instructions?|prompts?|rubrics?|guidelines|criteria|above|previous(?:ly)?)\b",
        rf"\b{_HEY}[\s,:]+(?:\w+\s+){{0,2}}?{_JUDGE}\b[^.!?]*(?:[,:]|\b{_GRADE}\b)[^.!?]*"
        rf"(?:{_GRADE}|{_TOP}|{_TEN}|{_NOUN}|kind|generous)\b",
        r"\bwhoever\s+(?:reads|grades|judges|scores|evaluates)\b",
        r"\b(?:evaluators?|assessors?|llm|prompt\s+injection)\b",
        r"\b(?:language\s+model|gpt-?\d\w*|chatgpt|openai|as\s+an\s+ai|an?\s+ai\s+(?:judge|grader))\b",
        r"\b(?:system|assistant|user|instructions?|prompt)\s*:",
        r"\b(?:system\s+prompt|new\s+instructions?|end\s+of\s+(?:the\s+)?(?:story|text))\b[^.!?]*"
        r"(?:[:;]|\b(?:grade|score|rate|now)\b)",
        rf"\byou\s+(?:are|must|should|will|have\s+to|need\s+to|can|may)\b[^.!?]*\b(?:{_GRADE}|judge)\b[^.!?]*"
        rf"\b(?:{_TEN}|high(?:ly|est)?|perfect|full|maximum|generous\w*|kind\w*|excellent|everything|above)\b",
        r"^\W*(?:please\s+|now\s+|kindly\s+)?(?:grade|rate|score|evaluate|assess)\s+"
        r"(?:this|it|the\s+(?:story|text)|my|everything|all|each|as|me)\b",
        r"\bage\s+group\s*[:=]|\"(?:grammar|creativity|consistency|plot|age_group)\"",
    )
]
_MARK = re.compile(r"[.!?…]+[\"”’')]*(\s+)")
_CAPITAL_BEFORE = re.compile(r"\b[A-Z]\w*\s+$")
_IN_BRACKETS = re.compile(r"\s*(?:\([^()\n]*\)|\[[^\[\]\n]*\]|<[^<>\n]*>|\{[^{}\n]*\})")


@dataclass(frozen=True)
class Spoken:
    """A completion without what speaks to the judge, and that."""

    text: str
    addressed: tuple[str, ...]


def without_addressed(completion: str) -> Spoken:
    """The completion without the sentences, and the brackets inside sentences, that speak to the judge."""
    found: list[str] = []

    def drop(match: re.Match[str]) -> str:
        if not speaks_to_judge(match[0]):
            return match[0]
        found.append(match[0].strip())
        return ""

    text = _IN_BRACKETS.sub(drop, completion)
    for start, end in reversed(_pieces(text)):
        if speaks_to_judge(text[start:end]):
            found.append(text[start:end])
            before, after = text[:start], text[end:]
            if after[:1] in ("\n", ""):
                before = before.rstrip(" ")
            else:
                after = after.lstrip(" ")
            if before.endswith("\n") and after.startswith("\n"):
                after = after[1:]
            text = before + after
    return Spoken(text if not found else text.rstrip("\n"), tuple(found))


def _pieces(text: str) -> list[Span]:
    """Sentences; one that speaks to the judge is cut once more at every closing mark, whatever letter follows it."""
    found: list[Span] = []
    for sentence in find_sentences(text):
        if not speaks_to_judge(text[sentence.start : sentence.end]):
            continue
        start = sentence.start
        for mark in _MARK.finditer(text, sentence.start, sentence.end):
            found.append((start, mark.start(1)))
            start = mark.end()
        found.append((start, sentence.end))
    return [piece for one in found for piece in _from_where_it_speaks(text, *one)]


def _from_where_it_speaks(text: str, start: int, end: int) -> list[Span]:
    """A piece that speaks to the judge from a capital or a match on, behind words that end with no mark."""
    matches = [found.start() for pattern in _PATTERNS if (found := pattern.search(text[start:end]))]
    if not matches or not min(matches):
        return [(start, end)]
    at = start + min(matches)
    while before := _CAPITAL_BEFORE.search(text, start, at):
        at = before.start()
    rest = text[start:at]
    if len(rest.split()) < FEWEST_BEFORE or speaks_to_judge(rest):
        return [(start, end)]
    return [(start, start + len(rest.rstrip())), (at, end)]


def speaks_to_judge(sentence: str) -> bool:
    """Whether a sentence speaks to the judge."""
    return any(pattern.search(sentence) for pattern in _PATTERNS)
