"""Keys out of every text that is recorded or raised: servers echo them.

1. What a server answers is cleaned as soon as it is parsed (:meth:`Redactor.json`), names and values, before anything
   of it is looked at or cut: half a key would not be found any more.
2. What is said in errors is cleaned whole (:class:`Redactor` called), and cut after that.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple
from urllib.parse import quote

from tslens.errors import UsageError

KEY_VARIABLE = "OPENAI_API_KEY"
NO_KEY = "no-key"  # what servers that need none are sent
SHORTEST_SURE = 16  # characters of a key that can be no word of a story

_SHOWN = "[key]"
_LIKE_A_KEY = re.compile(r"\b(?:sk|sess|org|proj)-[A-Za-z0-9_*.-]{6,}|\bBearer\s+\S+")
_CODE = re.compile(r"\\{1,8}u([0-9a-fA-F]{4})|%([0-9a-fA-F]{2})")


class _Form(NamedTuple):
    """One way to write a secret: as it is, without its escapes, and what finds it whatever is escaped."""

    plain: str
    bare: str
    pattern: re.Pattern[str]


class Redactor:
    """Replaces a key, whole or as servers shorten it ("sk-ab***yz"), by [key].

    Also where characters of it are escaped: ``\\/``, ``\\u002b``, ``%2B``. A key of less than 16 characters may be a
    word: it is replaced in errors, where it stands as a word, and not in answers. ``more``: further secrets (a password
    in an address), treated the same way.
    """

    def __init__(self, key: str, *more: str) -> None:
        secrets = {key, *more} - {"", NO_KEY}
        forms = {form: secret for secret in secrets for form in (secret, quote(secret, safe=""))}
        longest_first = sorted(forms, key=len, reverse=True)
        sure = [form for form in longest_first if len(forms[form]) >= SHORTEST_SURE]
        self._sure = [_Form(form, _unescaped(form), re.compile(_pattern(form))) for form in sure]
        self._words = [
            _Form(form, _unescaped(form), re.compile(rf"(?<!\w){_pattern(form)}(?!\w)"))
            for form in longest_first
        ]

    def __call__(self, text: str) -> str:
        """The text of an error, fit to be recorded and shown: no key, and no character that a file cannot hold."""
        text = _without(self._words, self.exact(text))
        return _LIKE_A_KEY.sub(_SHOWN, text).encode("utf-8", "replace").decode()

    def json(self, value: Any) -> Any:
        """Parsed JSON without a key that can be no word, in its names as in its values; changed where it stands."""
        whole = [value]
        todo: list[Any] = [whole] if self._sure else []
        while todo:
            parent = todo.pop()
            if isinstance(parent, dict):
                names = [self.exact(name) for name in parent]
                if any(new is not old for new, old in zip(names, parent, strict=True)):
                    children = list(parent.values())
                    parent.clear()
                    parent |= zip(names, children, strict=True)
            for place, child in parent.items() if isinstance(parent, dict) else enumerate(parent):
                if isinstance(child, str):
                    if (clean := self.exact(child)) is not child:
                        parent[place] = clean
                elif isinstance(child, dict | list):
                    todo.append(child)
        return whole[0]

    def exact(self, text: str) -> str:
        """Replace a key that can be no word, and nothing else: for answers. The same object where there is none."""
        return _without(self._sure, text)


def check_key(key: str) -> str:
    """A key that can stand in a header. Raises UsageError without showing it."""
    if not key.isascii() or not key.isprintable() or " " in key:
        raise UsageError(
            f"{KEY_VARIABLE} holds blanks, line ends or letters that no key has.",
            "Set it again, the key alone.",
        )
    return key


def _without(forms: list[_Form], text: str) -> str:
    """A text without secrets: no more than a look for each, where there is none."""
    bare = _unescaped(text)
    for form in forms:
        if form.plain in text or form.bare in bare:
            text = form.pattern.sub(_SHOWN, text)
    return text


def _pattern(secret: str) -> str:
    """A secret, each of its characters as it is, behind backslashes, or by its code."""
    return "".join(
        rf"(?:\\{{1,8}}u(?i:{ord(c):04x})|%(?i:{ord(c):02x})|\\{{0,8}}{re.escape(c)})" for c in secret
    )


def _unescaped(text: str) -> str:
    """A text without backslashes, its codes as the characters that they stand for."""
    if "\\u" in text or "%" in text:
        text = _CODE.sub(lambda code: chr(int(code[1] or code[2], 16)), text)
    return text.replace("\\", "")
