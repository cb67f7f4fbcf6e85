"""Where there is no terminal, long work says how it stands, once a minute."""

import pytest

from tslens.cli import progress_lines
from tslens.cli.console import progress_bar


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    told = Clock()
    monkeypatch.setattr(progress_lines, "time", told)
    return told


def test_a_line_a_minute_with_share_note_and_time_left(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress_bar("writing", 200) as (bar, task):
        for n in range(1, 101):
            clock.now += 2
            bar.update(task, completed=n, note=f"story {n}")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "writing 15%: story 30, 5 min 40 s left",
        "writing 30%: story 60, 4 min 40 s left",
        "writing 45%: story 90, 3 min 40 s left",
    ]


def test_work_without_an_end_says_how_much_is_done(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("importing", None) as (bar, task):
        bar.advance(task, 1500)
        clock.now += 61
        bar.advance(task, 700)
    assert capsys.readouterr().err == "importing: 2,200\n"


def test_short_work_says_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("reading", 3) as (bar, task):
        for _ in range(3):
            clock.now += 19
            bar.advance(task)
    assert capsys.readouterr().err == ""
