"""How a story is told, by rule from its characters: direct speech and the parts of the story.

Both rules are rough and say so. A stretch of speech is what stands between quotation marks. The parts follow cue
words ("One day", "Suddenly", "In the end", "learned that") and, where there is no cue, the place in the story.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence

from tslens.corpus.words import Sentence, Span

_CLOSERS = {'"': '"”', "“": '”"', "„": "“”", "«": "»"}
_SINGLE = re.compile(r"(?<![\w.,!?])(?:'(?=\w)[^\n\"“”]*?[.,!?…]'|‘(?=\w)[^\n\"“”]*?[.,!?…]’)(?!\w)")

_PROBLEM = re.compile(
    r"(?:\w+,? )?(?:but |then |so )?(?:one (?:\w+ ){0,2}(?:day|morning|afternoon|evening|night|time)\b|suddenly\b"
    r"|all of a sudden\b|the next (?:day|morning)|today\b|but then\b)",
    re.IGNORECASE,
)
_TURN = re.compile(
    r"\b(?:suddenly|just then|but then|then,|luckily|at last|finally|had an idea|got an idea|came up with|thought of"
    r"|helped|decided|soon|so,)\b|\bthen,|\bso,",
    re.IGNORECASE,
)
_ENDING = re.compile(
    r"[\"“]?(?:in the end|at the end|from (?:that|then)|since that|after that day|finally|at last|the end\b|ever since"
    r"|and (?:so|they|from)|they (?:all|both)\b|(?:\w+ )(?:was|were) (?:so |very )?(?:happy|glad|proud))",
    re.IGNORECASE,
)
_THE_END = re.compile(r"\W*the end\W*", re.IGNORECASE)
_MORAL = re.compile(
    r"\b(?:moral|lesson|learn(?:ed|t|s)? (?:that|to|how|a|the|not)|always remember|never forg[eo]t|teaches"
    r"|taught (?:him|her|them))\b|\bknew that it (?:is|was) (?:important|good|better)\b",
    re.IGNORECASE,
)


def find_quotes(text: str, units: Sequence[Span]) -> tuple[int, ...]:
    """Stretch of direct speech of each unit, its marks included; -1 outside.

    Straight, curly and angle marks; single ones only where a mark of punctuation stands before the closing one and
    no letter touches them outside, so that apostrophes are none. A stretch ends at its closing mark, before a mark
    that must open another, or with its paragraph. Marks inside a stretch do not part it.
    """
    spans = _quote_spans(text)
    starts = [start for start, _ in spans]
    found = []
    for start, _ in units:
        index = bisect_right(starts, start) - 1
        found.append(index if index >= 0 and start < spans[index][1] else -1)
    kept = {old: new for new, old in enumerate(sorted({index for index in found if index >= 0}))}
    return tuple(kept.get(index, -1) for index in found)


def _quote_spans(text: str) -> list[Span]:
    spans: list[Span] = []
    for paragraph in re.finditer(r"[^\n]+", text):
        end_of_paragraph = paragraph.end()
        single = {
            found.start(): found.end()
            for found in _SINGLE.finditer(text, paragraph.start(), end_of_paragraph)
        }
        begin, mark, depth = -1, "", 0
        index = paragraph.start()
        while index < end_of_paragraph:
            character = text[index]
            if begin < 0:
                if index in single:
                    spans.append((index, single[index]))
                    index = single[index]
                    continue
                if character in '"“„«' and text[index + 1 : index + 2].strip():
                    begin, mark, depth = index, character, 0
            elif character == mark == '"' and _must_open(text, index):
                spans.append((begin, index))
                begin = index
            elif character in "“„" and mark != "„":
                depth += 1
            elif depth and character == "”":
                depth -= 1
            elif character in _CLOSERS[mark]:
                spans.append((begin, index + 1))
                begin = -1
            index += 1
        if begin >= 0:
            spans.append((begin, end_of_paragraph))
    return spans


def _must_open(text: str, index: int) -> bool:
    """Whether a straight mark has a blank before it and a word right after: it cannot close anything."""
    return text[index - 1].isspace() and text[index + 1 : index + 2].isalnum()


def find_story_parts(text: str, units: Sequence[Span], sentences: Sequence[Sentence]) -> tuple[str, ...]:
    """Part of the story of each unit: opening, problem, turn, ending or moral.

    1. Moral: the last sentences, up to three, from the first of them with a cue ("learned that", "moral").
    2. Problem: from the first sentence (never the very first) that begins with a cue such as "One day", in the first
       60% of the story; without one, from 25% on. What is before it is the opening.
    3. Ending: from the first sentence after 65% of what is left that begins with a cue ("In the end", "They all"; a
       last "The end." is none), or the last 15%, at least one sentence.
    4. Turn: between them, from the first sentence after the middle of the problem with a cue ("Then,", "had an idea"),
       else from that middle on.
    A part may be missing from a short story.
    """
    spoken = [text[sentence.start : sentence.end] for sentence in sentences]
    n_all = len(spoken)
    moral = next((i for i in range(max(1, n_all - 3), n_all) if _MORAL.search(spoken[i])), n_all)
    n = moral
    problem = next((i for i in range(1, n) if i <= 0.6 * n and _PROBLEM.match(spoken[i])), -1)
    if problem < 0:
        problem = max(1, round(0.25 * n))
    last = n - bool(n and _THE_END.fullmatch(spoken[n - 1]))
    cues = [i for i in range(problem + 2, last) if i >= 0.65 * n and _ENDING.match(spoken[i])]
    ending = cues[0] if cues else n - max(1, round(0.15 * n))
    ending = max(ending, problem + 1)
    middle = (problem + ending + 1) // 2
    turn = next((i for i in range(middle, ending) if _TURN.search(spoken[i])), middle)
    bounds = (problem, max(turn, problem), ending, moral)
    starts = [sentence.start for sentence in sentences]
    parts = []
    for start, _ in units:
        sentence = bisect_right(starts, start) - 1
        parts.append(
            ("opening", "problem", "turn", "ending", "moral")[sum(sentence >= bound for bound in bounds)]
        )
    return tuple(parts)
