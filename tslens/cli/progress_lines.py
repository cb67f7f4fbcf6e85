"""Progress where there is no terminal: a line a minute, as in a log, instead of a bar."""

from __future__ import annotations

import time
from typing import Any

from rich.progress import Progress, TaskID

from tslens.cli.console import LINE_SECONDS, duration, say


class ProgressLines(Progress):
    """A bar that nobody sees; it says how the work stands when a minute is over since it said so last."""

    def __init__(self, *columns: Any, **options: Any) -> None:
        super().__init__(*columns, disable=True, **options)
        self._began = self._said = time.monotonic()

    def update(self, task_id: TaskID, **fields: Any) -> None:
        """Update the task, and say so if it is time."""
        super().update(task_id, **fields)
        self._tell(task_id)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """Advance the task, and say so if it is time."""
        super().advance(task_id, advance)
        self._tell(task_id)

    def _tell(self, task_id: TaskID) -> None:
        now = time.monotonic()
        if now - self._said < LINE_SECONDS:
            return
        self._said = now
        task = self._tasks[task_id]
        said = [str(note)] if (note := task.fields.get("note")) else []
        if task.total is None:
            head = f"{task.description}: {task.completed:,.0f}" if task.completed else task.description
        else:
            share = task.completed / task.total if task.total else 1.0
            head = f"{task.description} {share:.0%}"
            if 0 < share < 1:
                said.append(f"{duration((now - self._began) * (1 - share) / share)} left")
        say(f"{head}: {', '.join(said)}" if said else head)
