"""``tslens look --labels``: a story with its labels in colour."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tslens.cli.console import say, show, show_json
from tslens.provenance import command_line

if TYPE_CHECKING:
    from tslens.types import Labels, Story

SCHEMA = "tslens.labels/1"
STYLES = {"subject": "bold blue", "action": "bold red", "object": "bold green"}
OTHER_STYLES = {"topic": "on yellow", "protagonist": "underline", "introduction": "reverse"}


def look_labels(text: str | None, stories: str | None, number: int, html: Path | None, as_json: bool) -> None:
    """Show the labels of a text, or of one story of a source; those that the story carries, else a parse's."""
    from tslens.corpus.labelled import read_labels, relation_pairs, unit_labels
    from tslens.corpus.words import find_units

    story, name = _find_story(text, stories, number)
    labels = read_labels(story)
    if labels is None:
        story, labels = _annotated(story)
    if html is not None:
        from tslens.viz.labels_page import write_labels_page

        command = command_line()
        header = {"story": name, "command": command}
        write_labels_page(html, text=story.text, labels=labels, title="A story and its labels", header=header)
    if as_json:
        units = [story.text[start:end] for start, end in find_units(story.text)]
        relations = {
            n: [[q, list(keys)] for q, keys in p] for n, p in relation_pairs(story.text, labels).items()
        }
        table = unit_labels(story.text, labels)
        show_json(
            {"schema": SCHEMA, "story": name, "text": story.text, "made_by": labels.made_by, "units": units}
            | {"labels": table, "relations": relations, "topics": list(labels.topics)}
        )
        return
    _show_story(story.text, labels)
    _show_corruption(story)
    if html is not None:
        show(f"wrote {html}")
    else:
        show("Every label and relation, word by word: add --html labels.html.")


def _find_story(text: str | None, stories: str | None, number: int) -> tuple[Story, str]:
    from tslens.corpus.stories import normalise, read_stories
    from tslens.errors import UsageError
    from tslens.types import Story

    if text is not None and not text.strip():
        raise UsageError("There is no word in this text.", "Give a sentence.")
    if (text is None) == (stories is None):
        raise UsageError(
            "There is no story to look at." if text is None else "There are two stories to look at.",
            'Give a text, as in tslens look "Tom ran." --labels, or --stories SOURCE and --number N.',
        )
    if text is not None:
        return Story(normalise(text)), "a text"
    story = next(islice(read_stories(str(stories)), number, None), None)
    if story is None:
        n_stories = sum(1 for _ in read_stories(str(stories), text_only=True))
        raise UsageError(
            f"There is no story number {number} in {stories}.", f"Numbers go from 0 to {n_stories - 1}."
        )
    return story, f"{stories}, number {number}"


def _annotated(story: Story) -> tuple[Story, Labels]:
    say("parsing")
    from tslens.corpus.annotate import annotate
    from tslens.corpus.labelled import read_labels
    from tslens.errors import DataError

    (annotated,) = annotate([story])
    labels = read_labels(annotated)
    if labels is None:
        raise DataError("The annotator gave no labels.", "Report this as a mistake of tslens.")
    return annotated, labels


def _show_story(text: str, labels: Labels) -> None:
    """The story in colour, and a legend; plain text where output is no terminal."""
    from rich.console import Console
    from rich.text import Text

    from tslens.corpus.labelled import unit_labels
    from tslens.corpus.words import find_units
    from tslens.viz.labels_page import summarise_labels

    table = unit_labels(text, labels)
    safe = "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)
    shown = Text(safe)
    for index, (start, end) in enumerate(find_units(text)):
        for name, style in (STYLES | OTHER_STYLES).items():
            if table[name][index]:
                shown.stylize(style, start, end)
    legend = Text("  ").join(Text(name, style) for name, style in (STYLES | OTHER_STYLES).items())
    console = Console()
    console.print(shown, soft_wrap=False)
    console.print()
    console.print(legend)
    console.print(Text(summarise_labels(safe, labels)))
    console.print(Text(f"Labels by: {labels.made_by}. Clauses (subject, action, object; - for none):"))
    for line in _clause_lines(text, labels):
        console.print(Text(line))


def _show_corruption(story: Story) -> None:
    """What was changed, where the story is a corrupted twin."""
    found = story.extra.get("corruption")
    if isinstance(found, dict) and isinstance(found.get("was"), list) and isinstance(found.get("now"), list):
        show(
            f"A corrupted twin, {found.get('kind')}:{found.get('strength')}; its labels are a parse of the twin."
        )
        for was, now in zip(found["was"], found["now"], strict=False):
            show(f"  {was or '(nothing)'} -> {now or '(nothing)'}")


def _clause_lines(text: str, labels: Labels) -> list[str]:
    """Each clause as subject, action, object."""
    from tslens.corpus.words import find_units

    units = find_units(text)

    def word(index: Any) -> str:
        return "-" if index is None else text[units[index][0] : units[index][1]]

    columns = [(word(c.subject), word(c.action), word(c.object)) for c in labels.clauses]
    width = max((len(subject) for subject, _, _ in columns), default=0)
    return [f"  {s:>{width}}  {a}{'' if o == '-' else '  ' + o}" for s, a, o in columns]
