"""Waits that servers ask for, keys that are never shown, and what an exception of the library means."""

import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tslens.errors import UsageError
from tslens.llm.connect import Failed, asked_wait, find_server, read_json_body, server_name, stopped
from tslens.llm.redact import Redactor

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:30 GMT"}, 10),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:10 GMT"}, 0),
        ({"retry-after": "tomorrow"}, 0),
        ({"retry-after": "nan"}, 0),
    ],
)
def test_waits_are_read_in_every_form(headers, seconds):
    assert asked_wait(headers, NOW) == pytest.approx(seconds)


@given(st.text(max_size=20))
def test_no_header_breaks_the_reading(text):
    assert asked_wait({"retry-after": text, "retry-after-ms": text}, NOW) >= 0


def test_keys_come_out_whole_and_shortened():
    redact = Redactor("my+key/1234567890")
    assert redact("a my+key/1234567890 b my%2Bkey%2F1234567890") == "a [key] b [key]"
    assert redact("Incorrect API key provided: sk-ab***wxyz.") == "Incorrect API key provided: [key]"
    assert redact("Authorization: Bearer abcdef") == "Authorization: [key]"
    assert redact.exact("the sk-ing my+key/1234567890") == "the sk-ing [key]"
    assert Redactor("")("nothing here") == "nothing here"


def test_a_key_is_found_with_characters_escaped():
    key = 'my+key/1"2345\\67890'
    redact = Redactor(key)
    written = json.dumps(key)[1:-1]
    codes = "".join(f"\\u{ord(c):04X}" for c in key)
    for form in (written, written.replace("/", "\\/"), codes, json.dumps(codes)[1:-1], repr(key)[1:-1]):
        assert redact.exact(f"a {form}, {form}") == redact(f"a {form}, {form}") == "a [key], [key]"
    for form in (quote(key, safe=""), quote(key, safe="").lower(), key.replace("+", "%2b")):
        assert redact.exact(f"a {form} b") == "a [key] b"
    for other in ("50% of\\n it, %zz %2", "\\u00", 'my+key/1"2345\\6789', "\\" * 99):
        assert redact.exact(other) is other


def test_parsed_json_is_cleaned_in_names_and_values_and_left_alone_without_a_key():
    redact = Redactor("my+key/1234567890")
    value = {"a": ["x my+key/1234567890", 1, None, {"my+key/1234567890": {"b": True}, "c": "my+key"}]}
    assert redact.json(value) == {"a": ["x [key]", 1, None, {"[key]": {"b": True}, "c": "my+key"}]}
    assert redact.json("my+key/1234567890") == "[key]"
    clean = {"a": [["text"] * 3, {"b": {}}]}
    assert redact.json(clean) is clean and clean == {"a": [["text"] * 3, {"b": {}}]}
    assert redact.json(None) is None
    deep: list = []
    for _ in range(100_000):
        deep = [deep, "my+key/1234567890"]
    assert redact.json(deep)[1] == "[key]"
    while deep:  # by hand, as Python would take it down by recursion
        deep = deep[0]


@pytest.mark.parametrize(
    ("address", "secret"),
    [
        ("http://me:very-secret-pw%2F@localhost", "bWU6dmVyeS1zZWNyZXQtcHcv"),
        ("http://me:very-secret-pw%2F@localhost", "very-secret-pw/"),
        ("http://a-token-of-its-own@localhost", "a-token-of-its-own"),
        ("http://a-token-of-its-own@localhost", "YS10b2tlbi1vZi1pdHMtb3duOg"),
    ],
)
def test_what_an_address_lets_in_with_is_taken_out_of_errors_as_headers_have_it(monkeypatch, address, secret):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    redact = find_server(address, 1.0).redact
    assert redact(f"Authorization: Basic {secret}==.") == "Authorization: Basic [key]==."
    assert redact("me") == "me"


def test_openai_needs_a_key_and_other_servers_do_not(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(UsageError, match="OPENAI_API_KEY"):
        find_server(None, 1.0)
    assert find_server("http://localhost:1/v1", 1.0).key == "no-key"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:2/v1")
    assert find_server(None, 1.0).base_url == "http://localhost:2/v1"
    with pytest.raises(UsageError, match="no address"):
        find_server("localhost:1", 1.0)
    monkeypatch.setenv("OPENAI_API_KEY", "two words")
    with pytest.raises(UsageError) as caught:
        find_server(None, 1.0)
    assert "two words" not in str(caught.value)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-key-1")
    assert "secret" not in repr(find_server(None, 1.0))


def test_bodies_that_are_cut_are_lost_and_pages_are_fatal():
    assert read_json_body(b'{"a": 1}', "application/json") == {"a": 1}
    lost = read_json_body(b'{"a"', "application/json")
    assert isinstance(lost, Failed) and lost.kind == "lost" and not lost.is_free
    assert read_json_body(b"<html>", "text/html; charset=utf-8").kind == "fatal"


def explain(status, code=None, headers=None, message="said"):
    import httpx2
    import openai

    server = find_server("http://localhost:1/v1", 1.0)
    response = httpx2.Response(status, headers=headers, request=httpx2.Request("POST", "http://localhost:1"))
    body = {"message": message, "code": code}
    return server.explain(openai.APIStatusError(message, response=response, body=body))


@pytest.mark.parametrize(
    ("status", "code", "headers", "kind", "is_free"),
    [
        (429, "rate_limit_exceeded", {"retry-after": "2"}, "busy", True),
        (429, "rate_limit_exceeded", {"retry-after": "90000"}, "fatal", True),
        (429, "insufficient_quota", {}, "fatal", True),
        (503, None, {}, "busy", False),
        (500, None, {}, "lost", False),
        (502, None, {}, "lost", False),
        (408, None, {}, "lost", False),
        (400, None, {}, "rejected", True),
        (422, None, {}, "rejected", True),
        (401, None, {}, "fatal", True),
        (403, None, {}, "fatal", True),
        (404, "model_not_found", {}, "fatal", True),
    ],
)
def test_what_a_status_means(monkeypatch, status, code, headers, kind, is_free):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-key-1")
    found = explain(status, code, headers, "you sent sk-secret-key-1")
    assert (found.kind, found.is_free) == (kind, is_free) and "secret" not in found.detail


def test_an_exception_of_ours_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        find_server("http://localhost:1/v1", 1.0).explain(ZeroDivisionError())


def test_a_key_that_may_be_a_word_is_left_in_answers_and_taken_out_of_errors():
    redact = Redactor("test", "pass/word")
    assert redact.exact("a test of pass/word") == "a test of pass/word"
    assert redact("You sent test, the tested pass%2Fword.") == "You sent [key], the tested [key]."
    assert redact("a \ud83d in an error") == "a ? in an error"


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (None, ""),
        ("https://api.openai.com/v1", ""),
        ("https://API.openai.com/v1/", ""),
        ("http://Host:8000/v1/", "http://host:8000/v1"),
        ("http://me:secretpw@host/v1?key=secretpw#secretpw", "http://host/v1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
    ],
)
def test_a_server_has_one_name_and_no_password(monkeypatch, address, name):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("TSLENS_ALLOW_HTTP", "1")
    assert server_name(address) == name
    if name:
        monkeypatch.setenv("OPENAI_BASE_URL", address)
        assert server_name(None) == name and find_server(None, 1.0).name == name
        assert server_name("http://other/v1") == "http://other/v1"


@pytest.mark.parametrize(
    "address", ["me:secretpw@host/v1", "ftp://me:secretpw@host", "http://me:secretpw@[::1"]
)
def test_what_is_no_address_is_said_without_its_password(address):
    with pytest.raises(UsageError, match="no address") as caught:
        server_name(address)
    assert "secretpw" not in str(caught.value)


def test_a_password_in_an_address_is_never_shown(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    server = find_server("https://me:secretpw@host/v1", 1.0)
    assert "secretpw" not in repr(server) + str(stopped(server, server.redact("secretpw is wrong")))
