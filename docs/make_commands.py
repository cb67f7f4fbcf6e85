"""Writes ``docs/commands``: a page for each command of tslens, and the list of them, from what they say of themselves.

``python docs/make_commands.py [FOLDER]``. The same commands give the same bytes. mkdocs takes this file as a hook too:
the list of command pages in the navigation is made here, so that a new command has its place at once.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import typer
from typer.main import get_command

from tslens.cli.main import app

FOLDER = Path(__file__).parent / "commands"
NAME = "tslens"
MAIN_PANEL = "Options"
WIDTH = 1000  # of a usage line, whatever the terminal
MADE = "<!-- Written by docs/make_commands.py: change the command's help, not this page. -->"
TYPES = {
    "str": "text",
    "int": "whole number",
    "int range": "whole number",
    "float": "number",
    "float range": "number",
    "path": "path",
    "Path": "path",
    "bool": "flag",
}
ROWS_OF_OPTIONS = "| option | takes | default | what it does |\n|---|---|---|---|\n"
ROWS_OF_ARGUMENTS = "| argument | takes | what it is |\n|---|---|---|\n"
ROWS_OF_COMMANDS = "| command | what it does |\n|---|---|\n"
AFTER = (
    "An option without a default is left out unless it is given. "
    "`tslens {name} --help` shows the same in the terminal."
)


def main(folder: Path = FOLDER) -> None:
    """Write all pages to a folder; pages of commands that are no more are removed."""
    pages = command_pages()
    folder.mkdir(parents=True, exist_ok=True)
    for page in folder.glob("*.md"):
        if page.name not in pages:
            page.unlink()
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


def command_pages() -> dict[str, str]:
    """Every page by its file name."""
    root = _root()
    pages = {"index.md": _index(root)}
    for context in _walk(root):
        pages[_file(context)] = _page(context)
    return pages


def on_config(config: MutableMapping[str, Any]) -> None:
    """Hook of mkdocs: the entry ``Commands`` of the navigation gets the pages of all commands, by panel."""
    listed: list[Any] = ["commands/index.md"]
    for panel, contexts in _by_panel(_root()).items():
        entries: list[Any] = []
        for context in contexts:
            pages = [context, *_walk(context)]
            links = [{_title(page): f"commands/{_file(page)}"} for page in pages]
            entries += links if len(links) == 1 else [{_title(context): links}]
        listed.append({panel: entries})
    config["nav"] = [{"Commands": listed} if "Commands" in entry else entry for entry in config["nav"]]


# The commands ---------------------------------------------------------------------------------------------------


def _root() -> typer.Context:
    return typer.Context(get_command(app), info_name=NAME, terminal_width=WIDTH, max_content_width=WIDTH)


def _children(context: typer.Context) -> list[typer.Context]:
    commands = getattr(context.command, "commands", {})
    return [
        typer.Context(command, info_name=name, parent=context)
        for name, command in commands.items()
        if not command.hidden
    ]


def _walk(context: typer.Context) -> Iterator[typer.Context]:
    for child in _children(context):
        yield child
        yield from _walk(child)


def _by_panel(context: typer.Context) -> dict[str, list[typer.Context]]:
    panels: dict[str, list[typer.Context]] = {}
    for child in _children(context):
        panels.setdefault(getattr(child.command, "rich_help_panel", None) or "Commands", []).append(child)
    return panels


def _title(context: typer.Context) -> str:
    return context.command_path.removeprefix(f"{NAME} ")


def _file(context: typer.Context) -> str:
    return _title(context).replace(" ", "-") + ".md"


# A page ---------------------------------------------------------------------------------------------------------


def _index(root: typer.Context) -> str:
    parts = ["# Commands", MADE, _escape(root.command.help), _code(_usage(root))]
    for panel, contexts in _by_panel(root).items():
        parts += [f"## {_escape(panel)}", _list(contexts)]
    parts += [f"## {MAIN_PANEL}", _options(root)[MAIN_PANEL], _escape(root.command.epilog)]
    return "\n\n".join(parts) + "\n"


def _page(context: typer.Context) -> str:
    said, examples = _help(context.command.help or "")
    parts = [f"# {NAME} {_title(context)}", MADE, said[0], _code(_usage(context)), *said[1:]]
    if examples:
        parts += ["## Example" + "s" * (len(examples) > 1), *(_code(example) for example in examples)]
    if _children(context):
        parts += ["## Commands", _list(_children(context))]
    arguments = "".join(
        _row(f"`{parameter.name}`", _takes(parameter, context), _escape(parameter.help))
        for parameter in context.command.params
        if parameter.param_type_name == "argument" and not parameter.hidden
    )
    if arguments:
        parts += ["## Arguments", ROWS_OF_ARGUMENTS + arguments.rstrip("\n")]
    for panel, table in _options(context).items():
        parts += [f"## {_escape(panel)}", table]
    if not _children(context):
        parts.append(AFTER.format(name=_title(context)))
    return "\n\n".join(parts) + "\n"


def _help(text: str) -> tuple[list[str], list[str]]:
    """What a command says of itself, a paragraph each, and its examples, a line each."""
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
    examples = [
        paragraph.removeprefix("Example: ") for paragraph in paragraphs if paragraph.startswith("Example: ")
    ]
    return [_escape(paragraph) for paragraph in paragraphs if not paragraph.startswith("Example: ")], examples


def _options(context: typer.Context) -> dict[str, str]:
    """A table of options for each panel, the main one first."""
    panels: dict[str, str] = {MAIN_PANEL: ROWS_OF_OPTIONS}
    for parameter in context.command.params:
        if parameter.param_type_name != "option" or parameter.hidden:
            continue
        panel = parameter.rich_help_panel or MAIN_PANEL
        names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
        row = _row(names, _takes(parameter, context), _default(parameter), _escape(parameter.help))
        panels[panel] = panels.get(panel, ROWS_OF_OPTIONS) + row
    return {panel: rows.rstrip("\n") for panel, rows in panels.items() if rows != ROWS_OF_OPTIONS}


def _list(contexts: list[typer.Context]) -> str:
    rows = ""
    for context in contexts:
        rows += _row(
            f"[`{NAME} {_title(context)}`]({_file(context)})", _help(context.command.help or "")[0][0]
        )
        for child in _children(context):
            rows += _row(f"[`{NAME} {_title(child)}`]({_file(child)})", _help(child.command.help or "")[0][0])
    return ROWS_OF_COMMANDS + rows.rstrip("\n")


def _usage(context: typer.Context) -> str:
    return context.command.get_usage(context).removeprefix("Usage: ").strip()


def _takes(parameter: Any, context: typer.Context) -> str:
    """What an option or argument takes, in words: type, range, how many, whether it has to be there."""
    kind = (parameter.display_type_rich(context) or "").strip("<>")
    repeated = kind.startswith("list[")
    kind = kind.removeprefix("list[").removesuffix("]") if repeated else kind
    words = (
        ["one of " + ", ".join(f"`{name}`" for name in kind.split("|"))]
        if "|" in kind
        else [TYPES.get(kind, _escape(kind))]
    )
    low, high = parameter.min, parameter.max
    if high is not None and high == 2**63 - 1:
        high = None  # as good as none
    if low is not None and high is not None:
        words.append(f"{low} to {high}")
    elif low is not None or high is not None:
        words.append(f"{low} or more" if low is not None else f"{high} or less")
    if parameter.nargs == -1:
        words.append("one or more" if parameter.required else "none or more")
    elif repeated:
        words.append("may be repeated")
    elif parameter.required:
        words.append("required")
    elif parameter.param_type_name == "argument":
        words.append("may be left out")
    if repeated and parameter.required and parameter.nargs != -1:
        words.append("required")
    return ", ".join(words)


def _default(parameter: Any) -> str:
    """What stands in where the option is not given; nothing for a flag that is off."""
    value = parameter.default
    if parameter.is_flag:
        chosen = parameter.opts if value else parameter.secondary_opts
        return f"`{chosen[0]}`" if chosen and value is not None else ""
    if value is None or parameter.required or value in ("", (), []):
        return ""
    values = value if isinstance(value, (list, tuple)) else [value]
    shown = (
        item.as_posix() if isinstance(item, Path) else str(getattr(item, "value", item)) for item in values
    )
    return ", ".join(f"`{item}`" for item in shown)


# Markdown -------------------------------------------------------------------------------------------------------


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |\n"


def _code(line: str) -> str:
    return f"```sh\n{line}\n```"


def _escape(text: str | None) -> str:
    """Text that Markdown and HTML show as it is, on one line, in a table as outside of one."""
    line = " ".join((text or "").split()).replace("&", "&amp;")
    for mark in "\\`*_[]|":
        line = line.replace(mark, "\\" + mark)
    return line.replace("<", "&lt;").replace(">", "&gt;")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
