"""Files and batches of a server, one thing at a time, each tried again until it is known to be done or not."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Literal, Self

from tslens.errors import RunError
from tslens.llm.connect import Failed, Server, read_json_body, stopped
from tslens.llm.pace import backoff

ENDPOINT: Literal["/v1/chat/completions"] = "/v1/chat/completions"
PART_FIELD = "tslens_part"  # in a batch's metadata: which part of which ledger it is
UPLOAD_S = 600.0

LISTED_S = 2.0  # after which a batch that was made is surely listed

_PAGE = 100


class BatchRoad:
    """Uploads, creations, looks and downloads. ``tries``: as for calls, twice as many may be lost."""

    def __init__(self, server: Server, tries: int) -> None:
        self.server = server
        self._connection = server.open()
        self._tries = tries

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def upload(self, requests: Iterable[dict[str, Any]], folder: Path) -> str:
        """Upload one file of requests, written beside the ledger for the time of it; the file's id."""
        with tempfile.TemporaryFile(dir=folder) as file:
            for request in requests:
                file.write(json.dumps(request, ensure_ascii=False).encode() + b"\n")

            def send() -> Any:
                file.seek(0)
                create = self._connection.files.with_raw_response.create
                timeout = max(self.server.timeout_s, UPLOAD_S)
                return create(file=("requests.jsonl", file), purpose="batch", timeout=timeout)

            return str(self._done(send)["id"])

    def create(self, file_id: str, part: str, job: str) -> str:
        """Create a batch; its id. One whose answer was lost is looked for before another is made: it may be there."""
        create = self._connection.batches.with_raw_response.create
        for n_lost in range(1, 2 * self._tries + 1):
            result = self._once(
                lambda: create(
                    input_file_id=file_id,
                    endpoint=ENDPOINT,
                    completion_window="24h",
                    metadata={PART_FIELD: part, "tslens_job": job},
                )
            )
            if not isinstance(result, Failed):
                return str(result["id"])
            self._check(result)
            time.sleep(backoff(n_lost, max(result.wait_s, 0.0 if result.is_free else LISTED_S)))
            if not result.is_free and (found := self.find(part)) is not None:
                return found
        raise stopped(self.server, f"no batch could be created: {result.detail}")

    def find(self, part: str) -> str | None:
        """The batch that was made for a part, None if there is none."""
        after: dict[str, Any] = {}

        def show() -> Any:
            return self._connection.batches.with_raw_response.list(limit=_PAGE, **after)

        while True:
            page = self._done(show)
            for batch in page["data"]:
                if (batch.get("metadata") or {}).get(PART_FIELD) == part:
                    return str(batch["id"])
            if not page.get("has_more") or not page["data"]:
                return None
            after = {"after": page["data"][-1]["id"]}

    def look(self, batch_id: str) -> dict[str, Any]:
        """The state of a batch, as the server shows it."""
        state: dict[str, Any] = self._done(
            lambda: self._connection.batches.with_raw_response.retrieve(batch_id)
        )
        return state

    def download(self, file_id: str, folder: Path) -> Iterator[dict[str, Any]]:
        """The rows of a file, which is first fetched whole, so that a break on the way leaves no half of it."""
        with tempfile.TemporaryFile(dir=folder) as file:
            self._fetch(file_id, file)
            file.seek(0)
            for number, line in enumerate(file, 1):
                try:
                    row: dict[str, Any] = json.loads(line)
                except ValueError as error:
                    raise RunError(
                        f"Line {number} of {file_id} of {self.server.name} is broken.",
                        "Run the command again.",
                    ) from error
                yield row

    def _fetch(self, file_id: str, file: IO[bytes]) -> None:
        """Fetch a file until its last line is whole: a body that is cut on the way need raise nothing."""
        for n_lost in range(1, 2 * self._tries + 1):
            file.seek(0)
            file.truncate()
            result = None
            try:
                with self._connection.files.with_streaming_response.content(file_id) as response:
                    for chunk in response.iter_bytes(1 << 20):
                        file.write(chunk)
            except Exception as error:
                result = self.server.explain(error)
                self._check(result)
            if result is None and _ends_whole(file):
                return
            time.sleep(backoff(n_lost, result.wait_s if result else 0.0))
        raise stopped(self.server, f"{file_id} could not be fetched whole")

    def _once(self, action: Callable[[], Any]) -> Any | Failed:
        try:
            raw = action()
        except Exception as error:
            return self.server.explain(error)
        value = read_json_body(raw.content, raw.headers.get("content-type", ""))
        if not isinstance(value, dict | Failed):
            return Failed("lost", "the answer is no JSON object", is_free=False)
        return value

    def _done(self, action: Callable[[], Any]) -> dict[str, Any]:
        """Try an action that may be done twice until it is done once."""
        n_lost = n_busy = 0
        while True:
            result = self._once(action)
            if not isinstance(result, Failed):
                return dict(result)
            self._check(result)
            n_busy += result.kind == "busy"
            n_lost += result.kind != "busy"
            if n_lost >= 2 * self._tries or n_busy >= 10 * self._tries:
                raise stopped(self.server, result.detail)
            time.sleep(backoff(n_lost + n_busy, result.wait_s))

    def _check(self, result: Failed) -> None:
        if result.kind in ("fatal", "rejected"):
            raise stopped(self.server, result.detail)


def _ends_whole(file: IO[bytes]) -> bool:
    """Whether the last line of a file is whole JSON."""
    file.seek(0)
    last = b"null"
    for line in file:
        last = line
    try:
        json.loads(last)
    except ValueError:
        return False
    return True
