"""Ways in which a server goes wrong: what ``bad_server`` sends in place of an answer.

A way is a function of the handler, the good answer in bytes, and a seeded generator; it writes to the socket as it
likes. ``WAYS``: name to function. ``FREE``: ways for which no server charges: errors, pages. ``KEEPS_WORDS``: ways
whose answers are whole, but not the words around them.
"""

import gzip
import json
import socket
import struct
import time
import zlib

KB, MB = 1 << 10, 1 << 20
WAYS = {}
FREE = set()
KEEPS_WORDS = {"names_itself_oddly", "counts_tokens_oddly", "answers_with_one_thing_odd"}


def way(function):
    WAYS[function.__name__] = function
    return function


def free(function):
    FREE.add(function.__name__)
    return way(function)


def put(handler, *parts, every_s=0.0):
    """Write until all is written, the client has gone, or the server stops; True if all was written."""
    for part in parts:
        if handler.loopback.stopping.is_set():
            return False
        handler.wfile.write(part)
        if every_s:
            handler.loopback.stopping.wait(every_s)
    return True


def head(status=200, **fields):
    lines = [f"HTTP/1.1 {status} Said"]
    fields = {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in fields.items()}}
    return "\r\n".join([*lines, *(f"{k}: {v}" for k, v in fields.items()), "", ""]).encode("latin-1")


def whole(handler, body, status=200, **fields):
    fields = {"Connection": "close", **fields}  # as it does, so that nobody asks again on the same one
    put(handler, head(status, Content_Length=len(body), **fields), body)


def forever(part, most_mb=200):
    n = 0
    while n < most_mb * MB:
        n += len(part)
        yield part


def reset(handler):
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def cut(rng, content):
    return content[: rng.randrange(1, len(content))]


def hold(handler):
    handler.loopback.stopping.wait(handler.loopback.silence_s)


@way
def never_answers(handler, answer, rng):
    hold(handler)


@way
def stalls_in_headers(handler, answer, rng):
    put(handler, cut(rng, head()[:-2]))
    hold(handler)


@way
def stalls_in_body(handler, answer, rng):
    put(handler, head(Content_Length=len(answer)), cut(rng, answer))
    hold(handler)


@way
def drips_headers(handler, answer, rng):
    lines = b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(999))
    put(handler, *(lines[i : i + 1] for i in range(len(lines))), every_s=rng.uniform(0.01, 0.1))


@way
def drips_body(handler, answer, rng):
    put(handler, head(Content_Length=9999), *[b" "] * 9999, every_s=rng.uniform(0.01, 0.1))


@way
def drips_interim_answers(handler, answer, rng):
    put(handler, *[b"HTTP/1.1 102 Processing\r\n\r\n"] * 9999, every_s=rng.uniform(0.001, 0.1))


@way
def floods_headers(handler, answer, rng):
    put(handler, b"HTTP/1.1 200 OK\r\n", *forever(b"X-%d: yyyyyyyy\r\n" % rng.randrange(999) * 999))


@way
def floods_one_header(handler, answer, rng):
    put(handler, b"HTTP/1.1 200 OK\r\nX: ", *forever(b"y" * 64 * KB))


@way
def floods_interim_answers(handler, answer, rng):
    put(handler, *forever(b"HTTP/1.1 103 Early\r\n\r\n" * 999))


@way
def floods_body(handler, answer, rng):
    put(handler, head(), *forever(rng.choice([b" ", b"[", b"{", b"x"]) * 64 * KB))


@way
def floods_long_body(handler, answer, rng):
    put(handler, head(Content_Length=200 * MB), answer[:-1], *forever(b" " * 64 * KB))


@way
def floods_chunks(handler, answer, rng):
    size = rng.choice([1, 100, 64 * KB])
    chunks = (b"%x\r\n" % size + b" " * size + b"\r\n") * (64 * KB // size)
    put(handler, head(Transfer_Encoding="chunked"), *forever(chunks))


@way
def floods_chunk_line(handler, answer, rng):
    put(handler, head(Transfer_Encoding="chunked"), b"1;", *forever(b"x" * 64 * KB))


@free
def floods_an_error(handler, answer, rng):
    put(handler, head(rng.choice([400, 401, 404, 429, 500, 503])), *forever(b"x" * 64 * KB))


def bomb(format_bits, n_mb=200):
    squeezer = zlib.compressobj(9, zlib.DEFLATED, format_bits)
    return b"".join([*(squeezer.compress(b" " * MB) for _ in range(n_mb)), squeezer.flush()])


GZIP = bomb(31)
DEFLATE = bomb(15)


@way
def bombs_gzip(handler, answer, rng):
    whole(handler, GZIP, Content_Encoding="gzip")


@way
def bombs_deflate(handler, answer, rng):
    whole(handler, DEFLATE, Content_Encoding="deflate")


@way
def bombs_gzip_twice(handler, answer, rng):
    whole(handler, gzip.compress(GZIP), Content_Encoding="gzip, gzip")


@free
def bombs_an_error(handler, answer, rng):
    whole(handler, GZIP, rng.choice([400, 429, 500]), Content_Encoding="gzip")


@way
def bombs_unknown_coding(handler, answer, rng):
    whole(handler, GZIP, Content_Encoding=rng.choice(["br", "zstd", "x", "gzip, br"]))


@way
def breaks_gzip(handler, answer, rng):
    whole(handler, cut(rng, gzip.compress(answer)), Content_Encoding="gzip")


@way
def lies_about_gzip(handler, answer, rng):
    whole(handler, answer, Content_Encoding="gzip")


@way
def closes_before_answering(handler, answer, rng):
    pass


@way
def closes_in_headers(handler, answer, rng):
    put(handler, cut(rng, head(Content_Length=len(answer))))


@way
def closes_in_body(handler, answer, rng):
    put(handler, head(Content_Length=len(answer)), cut(rng, answer))


@way
def closes_in_chunk(handler, answer, rng):
    put(handler, head(Transfer_Encoding="chunked"), b"%x\r\n" % len(answer), cut(rng, answer))


@way
def closes_without_length(handler, answer, rng):
    put(handler, head(), cut(rng, answer))


@way
def resets_before_answering(handler, answer, rng):
    reset(handler)


@way
def resets_in_headers(handler, answer, rng):
    put(handler, cut(rng, head(Content_Length=len(answer))))
    reset(handler)


@way
def resets_in_body(handler, answer, rng):
    put(handler, head(Content_Length=len(answer)), cut(rng, answer))
    time.sleep(0.01)
    reset(handler)


@way
def closes_a_kept_connection(handler, answer, rng):
    whole(handler, answer)  # without Connection: close


@way
def says_too_short_a_length(handler, answer, rng):
    put(handler, head(Content_Length=rng.randrange(len(answer))), answer)
    handler.close_connection = False


@way
def says_too_long_a_length(handler, answer, rng):
    put(handler, head(Content_Length=len(answer) + rng.randrange(1, 999)), answer)


@way
def says_two_lengths(handler, answer, rng):
    put(handler, head(Content_Length=len(answer))[:-2], b"Content-Length: 7\r\n\r\n", answer)


@way
def says_no_length(handler, answer, rng):
    put(handler, head(Content_Length=rng.choice(["-1", "x", "1e3", "9" * 5000])), answer)


@way
def is_no_http(handler, answer, rng):
    put(
        handler,
        rng.choice([b"SSH-2.0-x\r\n", b"\x00" * 99, b"\x16\x03\x01", b"HTTP/9.9 x\r\n\r\n", b"220 hi\r\n"]),
    )


@free
def answers_html(handler, answer, rng):
    kind = rng.choice(["text/html", "text/html; charset=x", "application/json", "TEXT/HTML"])
    page = b"<!doctype html><html><script>alert(1)</script></html>"
    put(
        handler,
        f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(page)}\r\n\r\n".encode(),
        page,
    )


@free
def answers_nothing(handler, answer, rng):
    whole(handler, b"", rng.choice([200, 201, 204, 205, 206, 304]))


@free
def answers_an_odd_status(handler, answer, rng):
    whole(handler, answer, rng.choice([0, 7, 99, 100, 150, 300, 399, 418, 451, 599, 600, 999, 1000]))


@free
def answers_other_json(handler, answer, rng):
    others = [
        b"null",
        b"[]",
        b"3",
        b'"x"',
        b"{}",
        b"[[",
        b'{"choices": 7}',
        b'{"choices": []}',
        b"\xff\xfe",
        b"NaN",
    ]
    others += [b'{"choices": [{"message": null}]}', b"\xef\xbb\xbf{}", b'{"error": "no"}', b'{"error": []}']
    whole(handler, rng.choice(others), rng.choice([200, 200, 200, 400, 429, 500]))


@free
def answers_much_json(handler, answer, rng):
    part = rng.choice([b"[],", b'{"a":1},', b'"x",', b"1,"])
    whole(handler, b"[" + part * (rng.choice([3_900_000, 4_100_000]) // len(part)) + b"1]")


@free
def answers_deep_json(handler, answer, rng):
    depth = rng.choice([300, 600, 800, 900, 950, 980, 995, 5000, 100_000])
    opening, closing = rng.choice([(b"[", b"]"), (b'{"choices":', b"}")])
    whole(handler, opening * depth + b"0" + closing * depth, rng.choice([200, 200, 400, 500]))


def altered(answer, **fields):
    return json.dumps({**json.loads(answer), **fields}).encode()


@way
def answers_odd_text(handler, answer, rng):
    value = json.loads(answer)
    texts = [
        "a\0b",
        "a \ud83d",
        "\udfff",
        "",
        " ",
        None,
        7,
        ["x"],
        {"type": "text", "text": "x"},
        "\0" * 9999,
    ]
    value["choices"][0]["message"]["content"] = rng.choice(texts)
    whole(handler, json.dumps(value).encode())


@way
def refuses_in_odd_words(handler, answer, rng):
    value = json.loads(answer)
    value["choices"][0]["message"] = {
        "content": None,
        "refusal": rng.choice(["no\ud800", ["no"], 7, "\x1b[2J" * 999]),
    }
    value["choices"][0]["finish_reason"] = rng.choice([None, 7, ["stop"], "\ud800", "length"])
    whole(handler, json.dumps(value).encode())


@way
def names_itself_oddly(handler, answer, rng):
    names = ["x" * MB, {"a": 1}, ["b"], 7, "\x1b[31mred", "a \ud83d", "\0", "fp\nwarning: all is well", None]
    whole(handler, altered(answer, **{rng.choice(["system_fingerprint", "model", "id"]): rng.choice(names)}))


@way
def counts_tokens_oddly(handler, answer, rng):
    counts = [-1, 10**400, 10**15, 1.5, True, None, "7", float("nan"), float("inf"), {}, 10**4299]
    usage = {"prompt_tokens": rng.choice(counts), "completion_tokens": rng.choice([*counts, 7])}
    whole(handler, altered(answer, usage=rng.choice([usage, usage, usage, [], 7, "x", None])))


@free
def asks_for_an_odd_wait(handler, answer, rng):
    waits = ["315360000", "-5", "soon", "inf", "nan", "1e400", "", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"]
    waits += [
        "Mon, 01 Jan 0001 00:00:00 GMT",
        "Mon, 01 Jan 0001 00:00:00 -0000",
        "Fri, 31 Dec 9999 23:59:59 -2359",
    ]
    waits += ["Mon, 01 Jan 2024 00:00:00 +99999999", "901", "\xb2"]
    name = rng.choice(["Retry_After", "Retry_After", "Retry_After", "retry_after_ms"])
    whole(
        handler, b'{"error": {"message": "slow down"}}', rng.choice([429, 503]), **{name: rng.choice(waits)}
    )
