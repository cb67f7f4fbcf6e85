"""What the tests of strangers' files share: ways to spoil a file, and a guard that sees what reading it does.

A case is a sound file spoiled by a few edits that hypothesis draws. While it is read, an audit hook of Python stops
any write outside the test's folder, any process, connection and unpickling; and the memory that can be taken is
limited, so that a size that a file only claims cannot be had.
"""

import json
import resource
import sys
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

MOST_BYTES = 3 << 30  # of address space that reading may take
WRITES = {
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.mkdir",
    "os.symlink",
    "os.link",
    "os.truncate",
    "os.chmod",
}
RUNS_CODE = {
    *("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.startfile", "pty.spawn"),
    *("pickle.find_class", "socket.connect", "socket.getaddrinfo"),
}
_FLAGS = sum({0x1, 0x2, 0x40, 0x200, 0x400})  # O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, O_APPEND
_watched = []


class ForbiddenError(BaseException):
    """Reading did what it must not; no ``except Exception`` of a library hides it."""


def _hook(event, arguments):
    if not _watched:
        return
    root = _watched[-1]
    if event in RUNS_CODE:
        _stop(root, event, arguments)
    elif event == "open":
        path, _, flags = arguments
        if isinstance(path, str | bytes) and isinstance(flags, int) and flags & _FLAGS:
            _check(root, event, path)
    elif event in WRITES:
        for path in arguments[: 2 if event in ("os.rename", "os.link", "os.symlink") else 1]:
            if isinstance(path, str | bytes):
                _check(root, event, path)


def _check(root, event, path):
    place = Path(path.decode() if isinstance(path, bytes) else path)
    if (
        str(place) in ("/dev/null", "/dev/tty")
        or "__pycache__" in place.parts
        or "torchinductor" in str(place)
    ):
        return  # what importing does
    real = place.parent.resolve() / place.name
    if not real.is_relative_to(root):
        _stop(root, event, path)


def _stop(root, event, what):
    raise ForbiddenError(f"{event}: {what!r}; only below {root} may be written")


sys.addaudithook(_hook)


@contextmanager
def watched(root):
    """Only files below ``root`` may be written, no code of a file may run, and memory is limited."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MOST_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    _watched.append(Path(root).resolve())
    try:
        yield
    finally:
        _watched.pop()
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextmanager
def little_memory(most):
    """Resident memory may grow by ``most`` bytes at its highest."""
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    yield
    grown = _status("VmHWM") - before
    assert grown <= most, f"{grown:,} bytes were taken, more than {most:,}"


def _status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024


def tries(n):
    """Settings of hypothesis: ``n`` cases."""
    return settings(
        max_examples=n,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
    )


def survives(read, root):
    """Whether a reader read a file. It may refuse it with a TslensError that says what was found and what to do.

    Nothing else may come of it; ``root``: the only folder that may be written.
    """
    from tslens.errors import TslensError

    try:
        with watched(root):
            read()
    except TslensError as error:
        assert error.message.strip() and error.hint.strip(), error
        return False
    return True


# Bytes ----------------------------------------------------------------------------------------------------------

_ODD = [
    b"\0",
    b"\xff",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\0\0\0\x80",
    b"\xef\xbb\xbf",
    b"\xed\xa0\x80",
]
_ODD += [b"\n", b'"', b"{", b"[", b"]", b"\\", b"NaN", b"1e400", b"-1", b"<|endoftext|>", b"\x80\x04"]
_EDIT = st.tuples(
    st.sampled_from(["flip", "cut", "drop", "twice", "put", "over", "zero"]),
    st.floats(0, 1),
    st.integers(1, 64),
    st.sampled_from(_ODD) | st.binary(min_size=1, max_size=8),
)
byte_edits = st.lists(_EDIT, min_size=1, max_size=5)


def spoil(data, edits):
    """Bytes after edits: flipped, cut, left out, doubled, put between, written over."""
    for kind, share, length, extra in edits:
        at = min(int(share * len(data)), max(len(data) - 1, 0))
        if kind == "flip" and data:
            data = data[:at] + bytes([data[at] ^ (1 << (length % 8))]) + data[at + 1 :]
        elif kind == "cut":
            data = data[:at]
        elif kind == "drop":
            data = data[:at] + data[at + length :]
        elif kind == "twice":
            data = data[: at + length] + data[at:]
        elif kind == "put":
            data = data[:at] + extra + data[at:]
        elif kind == "over":
            data = data[:at] + extra + data[at + len(extra) :]
        else:
            data = data[:at] + bytes(min(length, len(data) - at)) + data[at + length :]
    return data


# JSON -----------------------------------------------------------------------------------------------------------

_RAW = {
    "@deep@": "[" * 100_000 + "]" * 100_000,
    "@deep object@": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "@digits@": "9" * 10_000,
    "@many@": "9" * 300,
    "@inf@": "1e400",
    "@nan@": "NaN",
    "@half@": '"\\ud800"',
    "@nul@": '"a\\u0000b"',
}
_VALUES = [*_RAW, None, True, False, -1, 0, 1, 7, 0.5, -(2**63), 2**64, 1e308, "", " ", "x", "L0H0", "L99H99"]
_VALUES += ["../../../x", "/etc/passwd", "a" * 5000, "\x1b[2J", [], {}, [[]], [None], [1, 2, 3], {"a": {}}]
_CHANGE = st.tuples(
    st.sampled_from(["value", "value", "remove", "rename", "again", "wrap"]),
    st.integers(0, 10_000),
    st.integers(0, len(_VALUES) - 1),
)
json_edits = st.lists(_CHANGE, min_size=1, max_size=3)


def spoil_json(value, edits):
    """JSON text of a value after edits of its structure: other values, keys gone or renamed, items twice."""
    value = {"": json.loads(json.dumps(value))}
    for kind, number, which in edits:
        places = list(places_in(value))
        holder, key = places[number % len(places)]
        if kind == "value":
            holder[key] = deepcopy(_VALUES[which])
        elif kind == "wrap":
            holder[key] = [holder[key]]
        elif holder is value:
            continue
        elif kind == "remove":
            del holder[key]
        elif kind == "again" and isinstance(holder, list):
            holder.insert(key, deepcopy(holder[key]))
        elif isinstance(holder, dict):
            holder[f"{key}_"] = deepcopy(holder[key]) if kind == "again" else holder.pop(key)
    text = json.dumps(value.get(""), ensure_ascii=False)
    for name, raw in _RAW.items():
        text = text.replace(json.dumps(name), raw)
    return text


def places_in(value):
    """Every place in a value that holds something: its holder and its key."""
    items = list(value.items() if isinstance(value, dict) else enumerate(value))
    for key, inner in items:
        yield value, key
        if isinstance(inner, dict | list):
            yield from places_in(inner)


def spoil_rows(rows, edits):
    """The text of JSONL rows after edits of one or more of them, each on its own line."""
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    for edit in edits:
        at = edit[1] % len(rows)
        lines[at] = spoil_json(rows[at], [edit])
    return "\n".join(lines) + "\n"
