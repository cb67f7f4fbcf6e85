"""``tslens``: the commands together, and how they fail: two lines, an exit code, no traceback."""

from __future__ import annotations

import inspect
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TextIO

import typer

from tslens.cli import (
    ablate,
    audit,
    circuit,
    compare,
    data,
    demo,
    describe,
    emergence,
    export,
    generate,
    grade,
    heads,
    kinds,
    link,
    look,
    match,
    models,
    neurons,
    produces,
    programs,
    report,
    runs,
    scaling,
    train,
    verify,
    weights,
)
from tslens.cli.completion import join_bash_words
from tslens.cli.console import output_error, printable, set_quiet
from tslens.errors import TslensError

_INTERRUPTED = 130  # how typer ends after Ctrl-C

app = typer.Typer(
    name="tslens",
    help="A microscope for tiny language models. Start with: tslens demo",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    epilog="Any command takes --quiet (nothing on standard error but warnings and errors) and --debug (the traceback "
    "of an error). Exit codes: 0 done, 1 could not, 2 wrong usage, 3 partly done.",
)
PANELS: Mapping[str, tuple[Callable[..., None], ...]] = {
    "Begin": (demo.demo, look.look, models.models, runs.runs, report.report),
    "Stories, models, texts": (train.train, generate.generate, export.export),
    "What heads and neurons do": (
        heads.heads,
        neurons.neurons,
        describe.describe,
        produces.produces,
        kinds.kinds,
        programs.programs,
        match.match,
        weights.weights,
    ),
    "Grades, and what they depend on": (
        grade.grade,
        ablate.ablate,
        circuit.circuit,
        link.link,
        compare.compare,
    ),
    "Size and time": (scaling.scaling, emergence.emergence),
    "Trust": (verify.verify,),
}
"""Commands by what one wants, in the order of the help."""
for panel, commands in PANELS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
app.add_typer(data.app, name="data", rich_help_panel="Stories, models, texts")
app.add_typer(audit.app, name="audit", rich_help_panel="Trust")
for group in (app, data.app, audit.app):
    for registered in group.registered_commands:  # a terminal breaks lines at its own width
        text = inspect.getdoc(registered.callback) or ""
        registered.help = "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def _say_version(is_asked: bool) -> None:
    if is_asked:
        import tslens

        print(tslens.__version__)
        raise typer.Exit


@app.callback()
def _main(
    version: bool = typer.Option(
        False, "--version", help="Print the version and end.", is_eager=True, callback=_say_version
    ),
    quiet: bool = typer.Option(False, "--quiet", help="No progress and no explanations on standard error."),
) -> None:
    if quiet:
        set_quiet(True)


def run() -> None:
    """Run a command; the entry point of ``tslens``."""
    _open_closed()
    debug, quiet = _take("--debug"), _take("--quiet")
    set_quiet(quiet)
    join_bash_words(os.environ)
    if os.environ.get("NO_COLOR"):
        _draw_plainly()
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    try:
        try:
            app()
        except SystemExit:  # how typer ends, too
            sys.stdout.flush()
            raise
    except TslensError as error:
        if debug:
            raise
        _fail(error.message, error.hint, error.exit_code)
    except SystemExit as end:
        if end.code == _INTERRUPTED:
            _fail("Interrupted.", "Nothing half-written was left.", 1)
        raise
    except BrokenPipeError:
        _is_lost(sys.stdout)
        sys.exit(1)
    except MemoryError:
        _fail("The memory is not enough.", "Take fewer stories or a smaller model.", 1)
    except OSError as error:
        if debug:
            raise
        if _is_lost(sys.stdout):
            lost = output_error(error)
            _fail(lost.message, lost.hint, 1)
        _fail(f"The system refused: {error}.", "Check space and permissions; --debug shows where.", 1)
    finally:
        _is_lost(sys.stderr)


def _open_closed() -> None:
    """Put nothing in the place of a standard stream that was closed before we began, as by ``>&-``."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))


def _is_lost(stream: TextIO) -> bool:
    """Whether what was printed cannot be written; it is then given up, so that Python does not try again at its end."""
    try:
        stream.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        return True
    return False


def _take(flag: str) -> bool:
    """Whether a flag of any command stands in the command line, which is then without it; not behind ``--``."""
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    kept = [argument for argument in sys.argv[:end] if argument != flag]
    sys.argv = kept + sys.argv[end:]
    return len(kept) < end


def _draw_plainly() -> None:
    """Say that the terminal is a dumb one: without colour alone, help and tables would still be bold."""
    if sys.stdout.isatty():
        columns, lines = shutil.get_terminal_size()
        os.environ |= {"COLUMNS": str(columns), "LINES": str(lines)}  # of a dumb one rich takes 80 by 25
    os.environ["TERM"] = "dumb"


def _fail(message: str, hint: str, code: int) -> None:
    one_line = (printable(" ".join(part.split())) for part in (message, hint))
    rank = os.environ.get("RANK", "0")  # of several processes that torchrun started
    _is_lost(sys.stdout)
    with suppress(OSError):  # where errors cannot be written, the exit code tells
        print(
            "error: {}\n       {}".format(*one_line) + (f" [process {rank}]" if rank != "0" else ""),
            file=sys.stderr,
        )
    sys.exit(code)


def _show_warning(message: Warning | str, category: type[Warning], *_: object) -> None:
    if category is UserWarning and os.environ.get("RANK", "0") == "0":  # the others would say the same
        with suppress(OSError):
            print(f"warning: {printable(str(message))}", file=sys.stderr)
