"""Servers that echo the key or a password, anywhere: it stands in no ledger, result, page or error, nor does a part."""

import ast
import base64
import itertools
import json
import random
import shlex
from pathlib import Path
from urllib.parse import quote

import bad_server as BAD
import bad_ways
import loopback
import pytest

import tslens as package
from tslens.llm.calls import Reply
from tslens.provenance import command_line

KEY = "Zq7pLw93kXv0TtB2mN5sHd8R"  # one that nothing tells but its own letters
SHORT = "vRt5-9xQ_2b"  # one that could be a word
PASSWORD = "hunter2/very+secret%pw"
BASIC = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
SECRETS = [KEY, PASSWORD, BASIC]
PART = 12  # letters of a secret that are too many
PARTS = {
    secret[i : i + PART]
    for secret in (*SECRETS, quote(PASSWORD, safe=""))
    for i in range(len(secret) - PART + 1)
}
OFFSETS = range(len("".join(SECRETS)))


@pytest.fixture(autouse=True)
def at_home(monkeypatch):
    BAD.go_home(monkeypatch)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr("tslens.llm.pace.MAX_BACKOFF_S", 0.01)


def echo(offset):
    """A text full of secrets: wherever one cuts it, some offset has a secret there."""
    return "m" * offset + "".join(SECRETS * 40)


def echo_short(offset):
    """The same of the short key, which is taken out where it stands as a word."""
    return "m" * offset + f" {SHORT}" * 300


def with_password(server):
    """The address of a server that takes a password, which it is told."""
    server.basic = f"Basic {BASIC}"
    return server.url.replace("://", f"://me:{quote(PASSWORD, safe='')}@")


def held(secrets, outcomes, error, folder):
    """Assert that nothing that came of a job has one of the secrets."""
    files = [path.read_text("utf-8", "replace") for path in folder.rglob("*") if path.is_file()]
    told = "\n".join([repr(outcomes), str(error), str(getattr(error, "hint", "")), *files])
    assert files
    assert [secret for secret in secrets if secret in told] == []


def escaped(text):
    """A text as JSON may write it: every letter by its code."""
    return "".join(f"\\u{ord(letter):04x}" for letter in text)


# Answers ------------------------------------------------------------------------------------------------------


def places(value):
    """All places of JSON: what they are in, and their names."""
    for name in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, name
        if isinstance(value[name], dict | list):
            yield from places(value[name])


def everywhere(answer, offset, *, refuses):
    """An answer with the secrets in all that is recorded of it."""
    text = echo(offset)
    message = {"content": text, "refusal": text if refuses else None}
    usage = {**answer["usage"], text: 7, KEY: 8, "details": {text: 1, PASSWORD: 2}}
    choice = {"message": message, "finish_reason": text}
    return (
        answer
        | dict.fromkeys(("id", "model", "system_fingerprint"), text)
        | {
            "usage": usage,
            "choices": [choice],
        }
    )


def somewhere(answer, offset, *, number, is_name):
    """An answer with the secrets at one place, or as a name beside it."""
    found = list(places(answer))
    parent, name = found[number % len(found)]
    if is_name and isinstance(parent, dict):
        parent[echo(offset)] = parent[name]
    else:
        parent[name] = random.Random(offset).choice(
            [echo(offset), KEY, {KEY: KEY}, [PASSWORD, {"x": [BASIC]}]]
        )
    return answer


def encoded(answer, offset):
    """An answer whose text is JSON in which a secret is all codes, and another has its slash escaped."""
    answer["choices"][0]["message"]["content"] = (
        f'{{"x": "{escaped(KEY)} {PASSWORD.replace("/", chr(92) + "/")}"}}'
    )
    return answer


@pytest.mark.timeout(900)
@pytest.mark.parametrize("is_batch", [False, True])
def test_no_part_of_an_answer_keeps_a_key(how_many, tmp_path, is_batch):
    few, many = (2, 12) if is_batch else (6, 60)
    rng = random.Random(2)
    changes = [(everywhere, {"refuses": refuses}) for refuses in (False, True)] * how_many(few, many)
    changes += [
        (somewhere, {"number": rng.randrange(1000), "is_name": n % 2 == 0})
        for n in range(how_many(few, many))
    ]
    changes.append((encoded, {}))
    with BAD.BadServer("drips_body", lambda n: False, None, key=KEY) as server:
        serve, url = server.serve_completion, with_password(server)
        for number, (change, options) in enumerate(changes):
            offset = rng.choice(OFFSETS)

            def echoing(body, faults, batch=None, change=change, options=options, offset=offset):
                fault, answer = serve(body, faults, batch=batch)
                return fault, change(answer, offset, **options)

            server.serve_completion = echoing
            folder = tmp_path / str(number)
            outcomes, error, _ = BAD.ask(url, folder, 1, is_batch=is_batch, tries=1)
            assert outcomes or error
            held(PARTS, outcomes, error, folder)
            if change is everywhere and not options["refuses"]:
                (reply,) = outcomes
                assert isinstance(reply, Reply) and "[key][key][key]" in reply.text


# Errors -------------------------------------------------------------------------------------------------------


def error_bodies(text):
    """Bodies of errors: as OpenAI has them, with codes for letters, not as an object, and no JSON."""
    written = json.dumps(text)
    yield json.dumps({"error": {"message": text, "code": text, "param": text, "type": text}})
    yield f'{{"error": {{"message": "{escaped(text)}", "{escaped(KEY)}": {written}}}}}'
    yield f"[{written}, {{{written}: {written}}}]"
    yield written
    yield f"<p>{text}</p>"
    yield f'{{"error": "{escaped(text)}'  # it breaks off


STATUSES = [200, 307, 400, 401, 404, 413, 418, 429, 500, 503, None]  # None: what comes is no HTTP
CASES = list(itertools.product(STATUSES, range(6), OFFSETS))
OTHER_JSON = [(200, form, offset) for form in (2, 3) for offset in range(12)]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("key", [KEY, SHORT], ids=["long", "short"])
def test_no_error_names_a_key(how_many, tmp_path, monkeypatch, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    cases = random.Random(3).sample(CASES, how_many(15, 600)) + OTHER_JSON
    with BAD.BadServer("drips_body", lambda n: True, None, key=key) as server:
        url = with_password(server)
        for number, case in enumerate(cases):
            status, form, offset = case
            text = echo(offset) if key == KEY else echo_short(offset)

            def fail(handler, answer, rng, status=status, form=form, text=text):
                body = list(error_bodies(text))[form].encode()
                if status is None:
                    bad_ways.put(handler, f"HTTP/1.1 {text}\r\n\r\n".encode())
                else:
                    bad_ways.whole(handler, body, status, Location=f"/elsewhere?{text}")

            server.way = fail
            folder = tmp_path / str(number)
            outcomes, error, _ = BAD.ask(url, folder, 1, tries=1)
            assert outcomes or error, case
            held(PARTS if key == KEY else [SHORT[:8]], outcomes, error, folder)


# Batches ------------------------------------------------------------------------------------------------------

NAMES = [KEY, BASIC.rstrip("="), f"file-{KEY}", f"x/{KEY}", f"{KEY}.jsonl"]


@pytest.mark.parametrize("path", ["/files", "/batches", "/batches/batch_0"])
@pytest.mark.parametrize("name", NAMES)
def test_a_key_is_no_name_of_a_batch_or_file(path, name, tmp_path):
    fields = {"id": name, "status": "completed", "output_file_id": name, "error_file_id": name}
    fields["data"] = [dict(fields)]

    def named(handler, answer, rng):
        bad_ways.whole(handler, json.dumps(fields).encode())

    with BAD.BadServer(named, lambda n: True, None, path=path, key=KEY) as server:
        outcomes, error, _ = BAD.ask(with_password(server), tmp_path, 2, is_batch=True, tries=1)
        assert not outcomes and 'id" that can be read' in str(error)
        held(PARTS, outcomes, error, tmp_path)
        assert not any("content" in asked for asked in server.requests)


@pytest.mark.parametrize("status", ["in_progress", "completed"])
def test_a_short_key_may_be_a_name_and_is_not_shown(status, tmp_path, monkeypatch):
    fields = {"id": SHORT, "status": status, "output_file_id": SHORT, "data": []}

    def named(handler, answer, rng):
        bad_ways.whole(handler, json.dumps(fields).encode())

    monkeypatch.setenv("OPENAI_API_KEY", SHORT)
    monkeypatch.setattr("tslens.llm.batch.OVERDUE_S", 0.0)
    with BAD.BadServer(named, lambda n: True, None, path="/batches", key=SHORT) as server:
        server.files[SHORT] = b'broken\n{"custom_id": "x"}\n'
        outcomes, error, _ = BAD.ask(server.url, tmp_path, 2, is_batch=True, tries=1)
        assert not outcomes and "[key]" in str(error) and SHORT not in str(error)


def states(text):
    """What becomes of a batch: refused in such words, without end, of such a status."""
    errors = [{"message": text, "code": text}, {"message": KEY, KEY: text}]
    yield {"status": "failed", "errors": {"data": errors}, KEY: text}
    yield {"status": KEY, "metadata": {KEY: text}}
    yield {"status": "completed", "output_file_id": None, "error_file_id": None, "errors": text}


def rows(text, request):
    """Rows of the file of a batch."""
    error = {"message": text, "code": KEY, KEY: PASSWORD}
    for status in (0, 400, 401, 429, 500):
        yield {"custom_id": request, "response": {"status_code": status, "body": {"error": error, KEY: text}}}
    yield {"custom_id": request, "response": None, "error": error, text: KEY}
    yield {"custom_id": request, "response": {"status_code": KEY, "body": {"choices": text}}, KEY: 1}
    yield {
        "custom_id": request,
        "response": {"status_code": 200, "body": {"choices": [{"x": text}], KEY: text}},
    }


@pytest.mark.timeout(900)
@pytest.mark.parametrize("key", [KEY, SHORT], ids=["long", "short"])
def test_no_word_about_a_batch_keeps_a_key(how_many, tmp_path, monkeypatch, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    rng = random.Random(4)
    cases = [("state", n) for n in range(3)] + [("row", n) for n in range(8)]
    for number, (kind, n) in enumerate(cases * how_many(1, 12)):
        text = echo(rng.choice(OFFSETS)) if key == KEY else echo_short(rng.randrange(12))
        with BAD.BadServer("drips_body", lambda n: False, None, key=key) as server:
            show, add_file = server.show_batch, server.add_file

            def shown(name, show=show, n=n, text=text):
                return {**show(name), **list(states(text))[n]}

            def added(content, add_file=add_file, n=n, text=text):
                if b'"url"' not in content:
                    names = [json.loads(line)["custom_id"] for line in content.splitlines()]
                    content = b"".join(json.dumps(list(rows(text, x))[n]).encode() + b"\n" for x in names)
                return add_file(content)

            if kind == "state":
                server.show_batch = shown
                monkeypatch.setattr("tslens.llm.batch.OVERDUE_S", 0.0)
            else:
                server.add_file = added
            folder = tmp_path / str(number)
            outcomes, error, _ = BAD.ask(with_password(server), folder, 2, is_batch=True, tries=1)
            assert outcomes or error, (kind, n)
            held(PARTS if key == KEY else [SHORT[:8]], outcomes, error, folder)


# Commands -----------------------------------------------------------------------------------------------------


def test_a_password_on_the_command_line_is_in_no_result(tslens, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("c.jsonl").write_text('{"prompt": "Tom had", "completion": " a cat. He ran."}\n')
    with loopback.Loopback(key=KEY) as server:
        asked = ["--judge", "openai:loop-1", "--price", "1,2", "--html", "g.html"]
        for form in (["--base-url", with_password(server)], [f"--base-url={with_password(server)}"]):
            done = tslens("grade", "--completions", "c.jsonl", *asked, *form)
            assert done.code in (0, 3), done.err
            held(PARTS, done.out, done.err, tmp_path)
            records = [path.read_text() for path in tmp_path.rglob("*provenance.json")]
            assert records and all(server.url in record for record in records)
        assert server.paid


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("http://me:pw@host:1/v1", "http://host:1/v1"),
        ("--base-url=https://me:p%40w@host/v1", "--base-url=https://host/v1"),
        ("https://token@host", "https://host"),
        ("https://host/v1?key=pw#pw", "https://host/v1"),
        ("http://me:p@w@host/v1", "http://host/v1"),
        ("http://[me:pw@host", "host"),
        ("http://localhost:8000/v1", "http://localhost:8000/v1"),
        ("hub:owner/name:train", "hub:owner/name:train"),
        ("l1_h256@seed2", "l1_h256@seed2"),
        ("--prompt=Is 1+1=2? Mail me@home, and [you]", "--prompt=Is 1+1=2? Mail me@home, and [you]"),
        ("--stories=author:9", "--stories=author:9"),
    ],
)
def test_the_command_is_recorded_as_given_but_for_passwords(given, kept, monkeypatch):
    monkeypatch.setattr("sys.argv", ["/home/me/bin/tslens", "grade", given])
    assert shlex.split(command_line()) == ["tslens", "grade", kept]


def test_one_place_reads_the_command_line():
    root = Path(package.__file__).parent
    found = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if "argv" in (text := path.read_text("utf-8"))
        for node in ast.walk(ast.parse(text))
        if (isinstance(node, ast.Attribute) and node.attr in ("argv", "orig_argv"))
        or (isinstance(node, ast.ImportFrom) and any(name.name == "argv" for name in node.names))
    }
    assert found == {"provenance.py", "cli/main.py"}  # main takes flags out of it, and records nothing
