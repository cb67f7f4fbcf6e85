"""Names that a shell completes after ``--model``; nothing heavy is imported for it.

Bash takes ``@`` and ``:`` for the ends of words: of ``l1_h256@se`` it hands over three words and wants back what
follows ``@``. So words are joined again before typer reads them, and the head of the one at the cursor is kept here.
"""

from __future__ import annotations

from collections.abc import MutableMapping

_BREAKS = set("@:")
_cursor = {"head": ""}


def complete_model(incomplete: str) -> list[str]:
    """Names of runs and of models that come with tslens, as far as they begin with what is typed.

    With seeds where a name has several or ``@`` is typed, with ``shipped:`` where that is begun.
    """
    from tslens.model.run_list import run_names
    from tslens.model.shipped import MODELS

    head = _cursor["head"]
    typed = head + incomplete
    folders = [file.parent for file in MODELS.glob("*/seed*/model.json")]  # by name: none of them is read
    shipped = [f"{folder.parent.name}@{folder.name}" for folder in folders]
    labels = [*shipped, *run_names()]
    names = {label.partition("@")[0] for label in labels}
    several = {name for name in names if sum(label.startswith(f"{name}@") for label in set(labels)) > 1}
    names |= {label for label in labels if "@" in typed or label.partition("@")[0] in several}
    if typed.startswith("shi"):
        names |= {f"shipped:{label}" for label in shipped}
    return [name.removeprefix(head) for name in sorted(names) if name.startswith(typed)]


def join_bash_words(environ: MutableMapping[str, str]) -> None:
    """Undo, in what bash hands over, the breaks at ``@`` and ``:``; of the word at the cursor its tail stays."""
    _cursor["head"] = ""
    if environ.get("_TSLENS_COMPLETE") != "complete_bash" or "\n" not in environ.get("COMP_WORDS", ""):
        return
    at = int(environ["COMP_CWORD"])
    words: list[list[str]] = []
    for number, part in enumerate(environ["COMP_WORDS"].split("\n")[: at + 1]):
        is_break = bool(part) and set(part) <= _BREAKS
        if number and words and (is_break or set(words[-1][-1][-1:]) & _BREAKS):
            words[-1].append(part)
        else:
            words.append([part])
    typed = words[-1]
    tail = "" if set(typed[-1]) & _BREAKS else typed[-1]
    _cursor["head"] = "".join(typed).removesuffix(tail)
    environ["COMP_WORDS"] = "\n".join([*("".join(parts) for parts in words[:-1]), tail])
    environ["COMP_CWORD"] = str(len(words) - 1)
