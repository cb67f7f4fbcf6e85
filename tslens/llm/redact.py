"""Keys out of every text that is recorded or raised: servers echo them."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from tslens.errors import UsageError

KEY_VARIABLE = "OPENAI_API_KEY"
NO_KEY = "no-key"  # what servers that need none are sent
SHORTEST_SURE = 16  # characters of a key that can be no word of a story
_LIKE_A_KEY = re.compile(r"\b(?:sk|sess|org|proj)-[A-Za-z0-9_*.-]{6,}|\bBearer\s+\S+")


class Redactor:
    """Replaces a key, whole or as servers shorten it ("sk-ab***yz"), by [key].

    A key of less than 16 characters may be a word: it is replaced in errors, where it stands as a word, and not in
    answers. ``more``: further secrets (a password in an address), treated the same way.
    """

    def __init__(self, key: str, *more: str) -> None:
        secrets = {key, *more} - {"", NO_KEY}
        forms = sorted(
            {f for secret in secrets for f in (secret, quote(secret, safe=""))}, key=len, reverse=True
        )
        self._words = [re.compile(rf"(?<!\w){re.escape(form)}(?!\w)") for form in forms]
        sure = {secret for secret in secrets if len(secret) >= SHORTEST_SURE}
        self._sure = [form for form in forms if form in sure or unquote(form) in sure]

    def __call__(self, text: str) -> str:
        """The text of an error, fit to be recorded and shown: no key, and no character that a file cannot hold."""
        text = self.exact(text)
        for word in self._words:
            text = word.sub("[key]", text)
        return _LIKE_A_KEY.sub("[key]", text).encode("utf-8", "replace").decode()

    def exact(self, text: str) -> str:
        """Replace a key that can be no word, and nothing else: for answers."""
        for form in self._sure:
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
