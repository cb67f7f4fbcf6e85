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
from tslens.llm.pace import Tries

ENDPOINT: Literal["/v1/chat/completions"] = "/v1/chat/completions"
PART_FIELD = "tslens_part"  # in a batch's metadata: which part of which ledger it is
UPLOAD_S = 600.0

LISTED_S = 2.0  # after which a batch that was made is surely listed

_PAGE = 100


class BatchRoad:
    """Uploads, creations, looks and downloads. ``tries``: as for calls, each step ends by ``pace.Tries``."""

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
                return _read(create(file=("requests.jsonl", file), purpose="batch", timeout=timeout))

            return str(self._done(send)["id"])

    def create(self, file_id: str, part: str, job: str) -> str:
        """Create a batch; its id. One whose answer was lost is looked for before another is made: it may be there."""

        def send() -> Any:
            create = self._connection.batches.with_raw_response.create
            metadata = {PART_FIELD: part, "tslens_job": job}
            return _read(
                create(input_file_id=file_id, endpoint=ENDPOINT, completion_window="24h", metadata=metadata)
            )

        def look_first() -> dict[str, Any] | None:
            found = self.find_surely(part)
            return None if found is None else {"id": found}

        return str(self._done(send, look_first=look_first)["id"])

    def find_surely(self, part: str) -> str | None:
        """The batch that was made for a part, also if it was made a moment ago."""
        found = self.find(part)
        if found is None:
            time.sleep(LISTED_S)
            found = self.find(part)
        return found

    def find(self, part: str) -> str | None:
        """The batch that was made for a part, None if there is none."""
        after: dict[str, Any] = {}

        def show() -> Any:
            return _read(self._connection.batches.with_raw_response.list(limit=_PAGE, **after))

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
        return self._done(lambda: _read(self._connection.batches.with_raw_response.retrieve(batch_id)))

    def download(self, file_id: str, folder: Path) -> Iterator[dict[str, Any]]:
        """The rows of a file, which is first fetched whole, so that a break on the way leaves no half of it."""
        with tempfile.TemporaryFile(dir=folder) as file:
            self._done(lambda: self._fetch(file_id, file))
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

    def _fetch(self, file_id: str, file: IO[bytes]) -> dict[str, Any] | Failed:
        """Fetch a file; lost if its last line is not whole: a body that is cut on the way need raise nothing."""
        file.seek(0)
        file.truncate()
        with self._connection.files.with_streaming_response.content(file_id) as response:
            for chunk in response.iter_bytes(1 << 20):
                file.write(chunk)
        return {} if _ends_whole(file) else Failed("lost", f"{file_id} did not come whole", is_free=True)

    def _once(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except Exception as error:
            return self.server.explain(error)

    def _done(
        self, action: Callable[[], Any], *, look_first: Callable[[], dict[str, Any] | None] | None = None
    ) -> dict[str, Any]:
        """Do an action once, trying again as calls do.

        ``look_first``: for an action that may not be done twice: finds what a try whose answer was lost has done.
        """
        tries = Tries(self._tries)
        while isinstance(result := self._once(action), Failed):
            if result.kind in ("fatal", "rejected"):
                raise stopped(self.server, result.detail)
            wait_s = tries.count(is_busy=result.kind == "busy", asked_s=result.wait_s)
            if look_first is not None and not result.is_free and (found := look_first()) is not None:
                return found
            if tries.are_spent:
                raise stopped(self.server, f"no answer after {tries}, the last: {result.detail}")
            time.sleep(wait_s)
        return dict(result)


def _read(raw: Any) -> dict[str, Any] | Failed:
    """The JSON object of an answer."""
    value = read_json_body(raw.content, raw.headers.get("content-type", ""))
    if not isinstance(value, dict | Failed):
        return Failed("lost", "the answer is no JSON object", is_free=False)
    return value


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
