"""Features of a story, found by cues in the text alone, and the use of a requested word.

A check says that the story shows the cues of a feature, no more. Dialogue, endings and quarrels show
well; foreshadowing shows badly: half of what is found is none, and much is told without these cues.

* dialogue: balanced quotes, and at least one stretch of two words or more that is spoken, not only thought.
* happy_ending, bad_ending: cues of the last third, the latest counting most, with negation; at most one
  is true.
* moral_value: a moral named, a lesson learned, a promise or a general truth in the last third.
* twist: a word of surprise or discovery after the first third.
* foreshadowing: a hint in the first 60% of the story, and a noun of its sentence or of a neighbour that comes back
  beyond the middle; after a mere warning ("be careful") the sentence where it comes back tells of a mishap.
* conflict: words of quarrel, at least two of weight, or a quarrel by name, and two characters at least.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from tslens.corpus.vocabulary import analyses
from tslens.corpus.words import find_sentences, find_units
from tslens.types import Labels

_SPEECH = re.compile(r'["“]([^"“”\n]*)["”]|«([^»\n]*)»')
_THOUGHT = re.compile(
    r"\b(?:thought|thinks|wondered|felt|wrote|read|says? on it|named|called)\b[^.!?]{0,25}$"
)
_TWO_WORDS = re.compile(r"[^\W_]+[^\w\"]+[^\W_]+")


def _cues(words: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{words})\b", re.IGNORECASE)


_GLAD = _cues(
    r"happy|happily|happier|happiest|glad|smil(?:e[sd]?|ing)|laugh(?:s|ed|ing)?|giggl(?:e[sd]?|ing)|"
    r"hug(?:s|ged|ging)?|fun|proud|proudly|joy|cheer(?:s|ed|ing)|lov(?:e[sd]?|ely)|best (?:friends?|"
    r"day)|good friends?|friends|thank(?:s|ed|ful)?|felt (?:much )?better|safe|warm|cozy|excited|"
    r"enjoy(?:s|ed|ing)?|beautiful|delicious|saved|wonderful|danced|sang|played|clapped|praised|"
    r"celebrate[d]?|brave|forgave|amaz(?:ed|ing)|delight(?:ed)?|special|pleased|dream(?:s|ing)"
)
_SAD = _cues(
    r"sad|sadly|unhappy|cr(?:y|ies|ied|ying)|tears?|wept|sorry|alone|lonely|hurts?|pain|died?|dead|"
    r"death|gone|lost|never (?:saw|came|found|seen|see|got|played|heard)|angry|scared|afraid|too late|"
    r"regret(?:s|ted)?|sick|broken|broke|disappeared|ruined|trapped|ran away|punished|trouble|"
    r"hospital|nothing left|wish(?:es|ed)? (?:\w+ )?(?:had|they had)|missed|burn(?:ed|t)|fell|stuck|"
    r"upset|mad|ate (?:him|her|it|them)"
)
_GENERAL = re.compile(
    r"\bmoral\b|\b(?:you|your|yourself)\b(?![^\"”]*[\"”])", re.IGNORECASE
)  # says nothing of how it ended
_MIN_GLAD, _MIN_SAD = 0.25, 0.5
_NEGATION = re.compile(
    r"(?:\b(?:not|no|never|without|nor|no longer)|n['’]t)(?:\W+\w+){0,2}\W*$", re.IGNORECASE
)
_NO_MORE = re.compile(r"\W+(?:\w+\W+){0,2}?(?:any ?more|any longer|no more)\b", re.IGNORECASE)

_MORAL = _cues(
    r"moral|lessons?|learn(?:s|ed|t)? (?:that|to|about|how important|not|a|his|her|their|its|from|"
    r"something|always|never)|learning that|knew now|knows now|now (?:he|she|they) knew|now knew|"
    r"(?:it (?:is|was|['’]s)|it's) (?:very |so |always )?(?:important|better|best|good|not nice|nice|"
    r"okay|ok|wrong|right|wise) (?:to|not to|that)|(?:always|never) remember(?:s|ed)?|remember(?:s|"
    r"ed)? (?:to|that|always)|understood (?:that|now|how)|realized (?:that|how)|reali[sz]e that|"
    r"promised (?:to|never|not|that)|from (?:then|that day) on,? (?:\w+ ){1,3}(?:always|never)|"
    r"next time,? (?:i|he|she|they|we)|"
    r"should (?:always|never|not)|must (?:always|never)|had to be careful|even (?:if|when|though) you|"
    r"if you|when you|true friends?|friends do|matters|is better than|are better than|was better than|"
    r"knew (?:that )?(?:sharing|being|helping|working|telling|lying)|taught (?:\w+ )?(?:that|to)"
)

_TWIST = _cues(
    r"surprise[sd]?|surprising(?:ly)?|unexpected(?:ly)?|all along|turned out|turns out|turned into|"
    r"turns into|became a|guess (?:who|what)|nobody had guessed|no one had guessed|(?:could|"
    r"can) ?(?:not|n['’]t) believe|(?:did|do) ?(?:not|n['’]t) expect|never expected|not just (?:any|"
    r"a)|was(?: not|n['’]t) (?:\w+ ){1,4}(?:after all|at all|but)|after all|plot twist|by (?:itself|"
    r"himself|herself)|on its own|start(?:ed|s) to (?:move|talk|glow|speak|dance|fly|shake|grow|"
    r"float)|came (?:alive|to life)|(?:strange|funny|odd|magical|weird|amazing) (?:thing )?happened|"
    r"something (?:strange|funny|odd|weird|magical|amazing)|secretly|shocked|fooled|"
    r"something different|not like any other|could talk|in disguise|a trick|tricked|really (?:a|an|"
    r"the)|it was (?:magic|only|just)|to (?:\w+ )?(?:surprise|amazement|shock)|instead of"
)
_STRONG_TWIST = _cues(
    r"unexpected(?:ly)?|all along|turned out|turns out|turned into|turns into|guess who|guess what|"
    r"guessed|plot twist|(?:could|can) ?(?:not|n['’]t) believe|(?:did|do) ?(?:not|n['’]t) expect|"
    r"never expected|not just (?:any|a)|came (?:alive|to life)|by itself|on its own|in disguise|"
    r"to (?:\w+ )?(?:surprise|amazement|shock)"
)

_HINT = _cues(
    r"(?:did|do|does) ?(?:not|n['’]t) (?:notice|see (?:the|a|that|how|it)|know yet|hear|realize|look)|"
    r"did not yet know|(?:nobody|no one) (?:saw|noticed|heard)|never (?:knew|noticed)|little did|"
    r"would soon|soon find out|(?:strange|funny|odd|bad) (?:feeling|noise|sound|smell)|secrets?|"
    r"if only|(?:maybe )?one day,? (?:i|you|we) (?:will|would)|looked (?:\w+ )?(?:strange|loose|thin|"
    r"dark|odd|tired|worried|weak|old)|maybe one day|wondered what (?:\w+ ){1,3}meant|"
    r"you will see|mysterious|(?:was|were|is|are) loose|wobbl(?:e[sd]?|y|ing)|"
    r"a (?:small|little|tiny) (?:crack|hole|tear)"
)

_WARNING = _cues(
    r"(?:be|been|very) careful|watch out|warned|warns|might (?:be|get|fall|break|hurt) \w+|may not be|"
    r"could be dangerous"
)
_MISHAP = _cues(
    r"fell|falls|hurts?|broke|breaks|stuck|lost|gone|spilled|sick|trembled?|cried|wet|burn(?:ed|t)|"
    r"too late|oh no|trouble"
)

_QUARREL = _cues(
    r"fight(?:s|ing)?|fought|argu(?:e[sd]?|ing|ment)|quarrel(?:s|l?ed|l?ing)?|shout(?:s|ed|ing)? at|"
    r"yell(?:s|ed|ing)? at|mine|(?:not|n['’]t) fair|(?:push|hit|grab|pull)(?:e?s|ed|bed)? (?:him|her|"
    r"them|each|back|away)|snatch(?:es|ed)?|tugg(?:ed|ing)|kick(?:s|ed) (?:him|her|them)|"
    r"teas(?:e[sd]?|ing)|bull(?:y|ies|ied)|disagree[sd]?|refus(?:e[sd]?|ing)"
)
_TENSION = _cues(
    r"angry|angrily|mad|furious|shout(?:s|ed)|yell(?:s|ed)|scream(?:s|ed)|mean|jealous|selfish|rude|"
    r"naughty|bad|scold(?:s|ed)|stole|steal(?:s|ing)?|took (?:\w+ )?(?:away|toy|toys)|(?:did|do|does|"
    r"would) ?(?:not|n['’]t) (?:listen|want to share|share|let)|unfair|stop it|go away|give (?:it|me|"
    r"that)|enem(?:y|ies)|thief|thieves|attack(?:s|ed)?|chas(?:e[sd]?|ing)|ignore[sd]?|threat\w*|"
    r"stubborn"
)
_REFUSAL = re.compile(r"[\"“]No[,!.]", re.IGNORECASE)


def has_feature(name: str, text: str) -> bool:
    """Whether a story shows a feature of ``labels.FEATURES`` by its cues. Raises KeyError for another name."""
    return _CHECKS[name](text)


def has_word(word: str, pos: str, text_or_labels: str | Labels) -> bool:
    """Whether a story uses a word, in any inflection, as the part of speech that was asked for.

    ``pos``: universal tag (NOUN, VERB, ADJ ...). With labels it is decided by them; from a text alone by the
    vocabulary, where a form of several parts of speech counts for each of them.
    """
    wanted = word.lower()
    if isinstance(text_or_labels, Labels):
        pairs = zip(text_or_labels.lemma, text_or_labels.pos, strict=True)
        return any(lemma == wanted and tag == pos for lemma, tag in pairs)
    words = {text_or_labels[start:end].lower() for start, end in find_units(text_or_labels)}
    return any(lemma == wanted and tag == pos for form in words for lemma, tag, _ in analyses(form))


def _dialogue(text: str) -> bool:
    is_balanced = all(len(re.findall('["“”]', line)) % 2 == 0 for line in text.split("\n"))
    spoken = [
        found
        for found in _SPEECH.finditer(text)
        if _TWO_WORDS.search(found[0])
        and not _THOUGHT.search(text, max(0, found.start() - 40), found.start())
    ]
    return bool(spoken) and is_balanced


def _mood(text: str) -> float:
    """Above zero for a glad ending, below for a sad one: cues of the last third, each later sentence of more weight."""
    sentences = [text[s.start : s.end] for s in find_sentences(text)]
    tail = sentences[-max(3, len(sentences) // 3) :]
    mood = 0.0
    for index, sentence in enumerate(tail, start=1):
        weight = 0.0 if _GENERAL.search(sentence) else (index / len(tail)) ** 2
        for cues, sign in ((_GLAD, 1.0), (_SAD, -1.0)):
            for found in cues.finditer(sentence):
                denied = _NEGATION.search(sentence, 0, found.start()) or _NO_MORE.match(sentence, found.end())
                mood += weight * (-0.7 * sign if denied else sign)
    return mood


def _conflict(text: str) -> bool:
    quarrels, tension = len(_QUARREL.findall(text)), len(_TENSION.findall(text)) + len(_REFUSAL.findall(text))
    people = set(re.findall(r"(?<=[a-z,] )[A-Z][a-z]+", text)) | set(
        _cues("mom|dad|brother|sister|friend|he|she|they").findall(text)
    )
    return len(people) >= 2 and 2 * quarrels + tension >= 3


def _twist(text: str) -> bool:
    later = text[len(text) // 3 :]
    return bool(_STRONG_TWIST.search(later)) or len(_TWIST.findall(later)) >= 2


def _foreshadowing(text: str) -> bool:
    sentences = [text[s.start : s.end] for s in find_sentences(text)]
    nouns = [_nouns(sentence) for sentence in sentences]
    for index in range(int(len(sentences) * 0.6)):
        is_hint, is_warning = _HINT.search(sentences[index]), _WARNING.search(sentences[index])
        if is_hint or is_warning:
            near = set().union(*nouns[max(0, index - 1) : index + 2])
            later = range(max(index + 2, len(sentences) // 2), len(sentences))
            back = [other for other in later if near & nouns[other]]
            if back and (is_hint or any(_MISHAP.search(sentences[other]) for other in back)):
                return True
    return False


def _nouns(sentence: str) -> set[str]:
    found = set()
    for start, end in find_units(sentence):
        first = next(iter(analyses(sentence[start:end].lower())), None)
        if first and first[1] == "NOUN":
            found.add(first[0])
    return found


def _moral(text: str) -> bool:
    return bool(_MORAL.search(text, 2 * len(text) // 3))


_CHECKS: dict[str, Callable[[str], bool]] = {
    "dialogue": _dialogue,
    "bad_ending": lambda text: _mood(text) < -_MIN_SAD,
    "happy_ending": lambda text: _mood(text) > _MIN_GLAD,
    "moral_value": _moral,
    "twist": _twist,
    "foreshadowing": _foreshadowing,
    "conflict": _conflict,
}
