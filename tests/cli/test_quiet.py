"""What a terminal is told: nothing needless with --quiet, no escape codes where none are wanted, lines that fit."""

import json
import os
import re
import sys

import pytest

from tslens.cli.console import say, set_quiet, show_table
from tslens.cli.table_widths import broken, parts_that_fit

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def at_terminal(tmp_path):
    """Runs a command line in a pseudo-terminal of 80 columns; all that it writes there, and its exit code."""
    pty = pytest.importorskip("pty", reason="no pseudo-terminals on this system")
    import fcntl
    import struct
    import termios

    def run(*arguments, **changes):
        child, screen = pty.fork()
        if child == 0:
            os.chdir(tmp_path)
            kept = {k: v for k, v in os.environ.items() if k not in {"COLUMNS", "NO_COLOR", "FORCE_COLOR"}}
            environ = {**kept, "TERM": "xterm-256color", **changes}
            os.execve(sys.executable, [sys.executable, "-m", "tslens", *map(str, arguments)], environ)
        fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        shown = b""
        while True:
            try:
                part = os.read(screen, 65_536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            shown += part
        os.close(screen)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return code, shown.decode("utf-8").replace("\r\n", "\n")

    return run


@pytest.mark.parametrize("place", ["before the command", "behind it"])
def test_quiet_leaves_results_and_nothing_else(tslens, project, place):
    line = ["look", "Tom had a cat.", "--model", "l2_h32"]
    loud = tslens(*line)
    quiet = tslens("--quiet", *line) if place == "before the command" else tslens(*line, "--quiet")
    assert loud.err.startswith("tslens look: loading")
    assert quiet.err == ""
    assert quiet.out == loud.out != ""
    assert tslens(*line).err == loud.err  # of one command only


def test_quiet_keeps_warnings_and_errors(tslens, project, tmp_path):
    long = "One day, Tom had a cat. " * 200
    quiet = tslens("look", long, "--model", "l2_h32", "--head", "L0H0", "--quiet")
    assert quiet.code == 0
    assert quiet.err.startswith("warning: the text is cut at 512 tokens")
    assert len(quiet.err.splitlines()) == 1
    wrong = tslens("look", "Tom ran.", "--model", "l2_h33", "--quiet")
    assert wrong.code == 1
    assert wrong.err.startswith("error: No trained model")


def test_behind_two_dashes_the_flag_is_text(tslens, project):
    shown = tslens("look", "--model", "l2_h32", "--json", "--", "--quiet")
    assert "loading l2_h32" in shown.err
    assert "qu" in "".join(json.loads(shown.out)["tokens"])


def test_the_newest_run_is_not_said_with_quiet(tslens, project):
    told = tslens("look", "Tom had a cat.", "--quiet").err
    assert "newest run" not in told
    assert all(line.startswith("warning: ") for line in told.splitlines())  # it has learned little


def test_quiet_ends_a_log_of_progress_too(capfd, monkeypatch):
    from tslens.cli import console, progress_lines

    monkeypatch.setattr(progress_lines, "LINE_SECONDS", 0.0)
    for quiet, said in ((False, True), (True, False)):
        set_quiet(quiet)
        with console.progress_bar("reading", 4) as (bar, task):
            bar.update(task, completed=2)
        assert bool(capfd.readouterr().err) == said
    say("warning: still said")
    set_quiet(False)
    assert capfd.readouterr().err == "warning: still said\n"


@pytest.mark.parametrize(
    "arguments", [["runs", "--help"], ["models"], ["heads", "--nonsense"]], ids=["help", "table", "error"]
)
def test_no_escape_codes_where_none_are_wanted(at_terminal, arguments):
    assert "\x1b" in at_terminal(*arguments)[1]  # it is a terminal that would show them
    for wanted in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert "\x1b" not in at_terminal(*arguments, **wanted)[1], wanted


def test_no_bar_moves_without_escape_codes(monkeypatch):
    from tslens.cli.console import moving_console

    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert moving_console() is not None
    set_quiet(True)
    assert moving_console() is None
    set_quiet(False)
    monkeypatch.setenv("TERM", "dumb")
    assert moving_console() is None


def test_lines_at_a_terminal_fit_it(at_terminal):
    for arguments in (["models"], ["runs"], ["--help"]):
        code, shown = at_terminal(*arguments)
        assert code == 0
        assert max(len(line) for line in ESCAPE.sub("", shown).splitlines()) <= 80, arguments


# Widths of tables -----------------------------------------------------------------------------------------------


HEADS = ["<head>", "<probe>", "<at>", "value", "null", "<largest>", "low", "<basis>", "edge", "<status>"]
ROW = [
    "L0H3",
    "distance_17_32",
    "before",
    "0.206",
    "0.154",
    "frequency",
    "+0.039",
    "positional",
    "-0.005",
    "candidate",
]


@pytest.mark.parametrize("width", [40, 60, 80, 85, 100, 200])
def test_a_table_shows_every_column_and_cuts_no_figure(width):
    parts = parts_that_fit(HEADS, [ROW], width)
    assert {i for chosen, _ in parts for i in chosen} == set(range(len(HEADS)))
    assert all(chosen[0] == 0 for chosen, _ in parts)
    for chosen, widths in parts:
        assert sum(widths) + len(widths) - 1 <= width
        for i, one in zip(chosen, widths, strict=True):
            assert HEADS[i].startswith("<") or one >= len(ROW[i])
    assert len(parts) == (1 if width >= 80 else 2 if width == 60 else 3 if width == 40 else 1)


def test_a_word_is_broken_behind_its_marks_only():
    assert broken("distance_17_32", 11) == "distance_\n17_32"
    assert broken("at runs/l1/seed0 now", 8) == "at runs/l1/\nseed0 now"
    assert broken("distance_17_32", 14) == "distance_17_32"
    assert broken("unbreakable", 4) == "unbreakable"


def test_a_table_that_is_wide_enough_is_as_it_was(capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    show_table(["<a>", "b"], [["one", "1.5"], ["two words", "-22.25"]])
    assert [line.rstrip() for line in capfd.readouterr().out.splitlines()] == [
        "a              b",
        "one          1.5",
        "two words -22.25",
    ]
