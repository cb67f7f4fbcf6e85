"""Keys out of every text that is recorded or raised: servers echo them."""

from __future__ import annotations

import re
from urllib.parse import quote

from tslens.errors import UsageError

KEY_VARIABLE = "OPENAI_API_KEY"
NO_KEY = "no-key"  # what servers that need none are sent
_LIKE_A_KEY = re.compile(r"\b(?:sk|sess|org|proj)-[A-Za-z0-9_*.-]{6,}|\bBearer\s+\S+")


class Redactor:
    """Replaces a key, whole or as servers shorten it ("sk-ab***yz"), by [key]."""

    def __init__(self, key: str) -> None:
        self._forms = sorted({key, quote(key, safe="")} - {"", NO_KEY}, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """The text of an error, fit to be recorded and shown."""
        return _LIKE_A_KEY.sub("[key]", self.exact(text))

    def exact(self, text: str) -> str:
        """Replace the key itself only: for answers, of which nothing else may change."""
        for form in self._forms:
            text = text.replace(form, "[key]")
        return text


def check_key(key: str) -> str:
    """A key that can stand in a header. Raises UsageError without showing it."""
    if not key.isascii() or not key.isprintable() or " " in key:
        raise UsageError(
            f"{KEY_VARIABLE} holds blanks, line ends or letters that no key has.",
            "Set it again, the key alone.",
        )
    return key
