"""Files and batches of a server, one thing at a time, each tried again until it is known to be done or not."""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Literal, Self

from tslens.errors import RunError
from tslens.llm.connect import Failed, Server, stopped
from tslens.llm.deadline import LoopThread
from tslens.llm.pace import Tries

ENDPOINT: Literal["/v1/chat/completions"] = "/v1/chat/completions"
PART_FIELD = "tslens_part"  # in a batch's metadata: which part of which ledger it is
UPLOAD_S = 600.0  # for an answer to an upload to begin
TRANSFER_S = 3600.0  # for a whole file, up or down
MOST_FILE_BYTES = 4_000_000_000  # 80 kB for each answer of the largest batch
MOST_LINE_BYTES = 4_000_000
MOST_PAGES = 1000

LISTED_S = 2.0  # after which a batch that was made is surely listed

_PAGE = 100
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_:=+~/.-]{0,199}")

Action = Callable[[], Awaitable[Any]]


class BatchRoad:
    """Uploads, creations, looks and downloads. ``tries``: as for calls, each step ends by ``pace.Tries``.

    A step is one call with a time limit over all of it, like those of ``sender``: a server that sends a byte now and
    then holds up nothing.
    """

    def __init__(self, server: Server, tries: int) -> None:
        self.server = server
        self._loop = LoopThread()
        self._connection = server.open_async()
        self._tries = tries

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.close(self._connection.close())

    def upload(self, requests: Iterable[dict[str, Any]], folder: Path) -> str:
        """Upload one file of requests, written beside the ledger for the time of it; the file's id."""
        with tempfile.TemporaryFile(dir=folder) as file:
            for request in requests:
                file.write(json.dumps(request, ensure_ascii=False).encode() + b"\n")

            async def send() -> Any:
                file.seek(0)
                create = self._connection.files.with_raw_response.create
                timeout = max(self.server.timeout_s, UPLOAD_S)
                sent = ("requests.jsonl", file)
                return self._read(await create(file=sent, purpose="batch", timeout=timeout), id=_is_id)

            return str(self._done(send, limit_s=TRANSFER_S)["id"])

    def create(self, file_id: str, part: str, job: str) -> str:
        """Create a batch; its id. One whose answer was lost is looked for before another is made: it may be there."""

        async def send() -> Any:
            create = self._connection.batches.with_raw_response.create
            metadata = {PART_FIELD: part, "tslens_job": job}
            window: Literal["24h"] = "24h"
            raw = await create(
                input_file_id=file_id, endpoint=ENDPOINT, completion_window=window, metadata=metadata
            )
            return self._read(raw, id=_is_id)

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
        """The batch that was made for a part, None if there is none. Raises RunError for a list without end."""
        after: dict[str, Any] = {}

        async def show() -> Any:
            return self._read(
                await self._connection.batches.with_raw_response.list(limit=_PAGE, **after), data=_is_list
            )

        for _ in range(MOST_PAGES):
            page = self._done(show)
            batches = [batch for batch in page["data"] if isinstance(batch, dict) and _is_id(batch.get("id"))]
            for batch in batches:
                metadata = batch.get("metadata")
                if isinstance(metadata, dict) and metadata.get(PART_FIELD) == part:
                    return str(batch["id"])
            if not page.get("has_more") or not batches:
                return None
            after = {"after": str(batches[-1]["id"])}
        raise stopped(self.server, f"its list of batches has no end in {MOST_PAGES} pages")

    def look(self, batch_id: str) -> dict[str, Any]:
        """The state of a batch, as the server shows it: ``status`` is text, its files have names or are None."""

        async def show() -> Any:
            raw = await self._connection.batches.with_raw_response.retrieve(batch_id)
            return self._read(raw, status=_is_id, output_file_id=_is_id_or_none, error_file_id=_is_id_or_none)

        return self._done(show)

    def download(self, file_id: str, folder: Path) -> Iterator[dict[str, Any]]:
        """The rows of a file, no key in them.

        It is first fetched whole, so that a break on the way leaves no half of it.
        """
        with tempfile.TemporaryFile(dir=folder) as file:
            self._done(lambda: self._fetch(file_id, file), limit_s=TRANSFER_S)
            for number, line in enumerate(_lines(file), 1):
                row = self.server.redact.json(_row(line))
                if row is None:
                    name = self.server.redact(file_id)
                    raise RunError(
                        f"Line {number} of {name} of {self.server.name} is broken.",
                        "Run the command again.",
                    )
                yield row

    async def _fetch(self, file_id: str, file: IO[bytes]) -> dict[str, Any] | Failed:
        """Fetch a file; lost if its last line is no whole result: a body that is cut on the way need raise nothing."""
        file.seek(0)
        file.truncate()
        n_bytes = 0
        async with self._connection.files.with_streaming_response.content(file_id) as response:
            async for chunk in response.iter_bytes(1 << 20):
                n_bytes += len(chunk)
                if n_bytes > MOST_FILE_BYTES:
                    why = f"{file_id} is longer than {MOST_FILE_BYTES:,} bytes"
                    return Failed("fatal", why, is_free=True)
                file.write(chunk)
        return {} if _ends_whole(file) else Failed("lost", f"{file_id} did not come whole", is_free=True)

    def _read(self, raw: Any, **needed: Callable[[Any], bool]) -> dict[str, Any] | Failed:
        """The JSON object of an answer; lost if it has not the fields that are ``needed``, each as its test wants it.

        A name that holds a key is no name: without the key it fails its test.
        """
        value = self.server.read(raw)
        if isinstance(value, Failed):
            return value
        if not isinstance(value, dict):
            return Failed("lost", "the answer is no JSON object", is_free=False)
        for name, is_right in needed.items():
            if not is_right(value.get(name)):
                return Failed("lost", f'the answer has no "{name}" that can be read', is_free=False)
        return value

    def _once(self, step: Callable[[], Any]) -> Any:
        try:
            return step()
        except Exception as error:
            return self.server.explain(error)

    def _done(
        self,
        action: Action,
        *,
        look_first: Callable[[], dict[str, Any] | None] | None = None,
        limit_s: float | None = None,
    ) -> dict[str, Any]:
        """Do an action once, trying again as calls do.

        ``look_first``: for an action that may not be done twice: finds what a try whose answer was lost has done.
        ``limit_s``: seconds for each try; else those of a call.
        """
        seconds = limit_s or self.server.timeout_s

        def step() -> Any:
            try:
                return self._loop.run(action(), seconds)
            except TimeoutError:
                return Failed("lost", f"no answer in {seconds:g} s", is_free=False, is_timeout=True)

        tries = Tries(self._tries)
        while isinstance(result := self._once(step), Failed):
            if result.kind in ("fatal", "rejected"):
                raise stopped(self.server, result.detail)
            wait_s = tries.count(is_busy=result.kind == "busy", asked_s=result.wait_s)
            if look_first is not None and not result.is_free and (found := look_first()) is not None:
                return found
            if tries.are_spent:
                raise stopped(self.server, f"no answer after {tries}, the last: {result.detail}")
            time.sleep(wait_s)
        return dict(result)


def _row(line: bytes) -> dict[str, Any] | None:
    """The JSON object of a line, None if it is none."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """The lines of a file from its start; one that is too long comes cut, so that it is no JSON."""
    file.seek(0)
    while line := file.readline(MOST_LINE_BYTES):
        yield line


def _ends_whole(file: IO[bytes]) -> bool:
    """Whether the last line of a file is a whole result; one of no lines is none."""
    last = b""
    for line in _lines(file):
        last = line
    row = _row(last)
    return row is not None and isinstance(row.get("custom_id"), str)


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_id(value: Any) -> bool:
    """Whether a value can stand in a path: a name that a server made up must not lead elsewhere."""
    return isinstance(value, str) and bool(_ID.fullmatch(value))


def _is_id_or_none(value: Any) -> bool:
    return value is None or value == "" or _is_id(value)
