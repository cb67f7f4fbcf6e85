"""Where the key may go and where it never does: redirects, plain http, proxies, certificates."""

import contextlib
import os
import random
import shutil
import subprocess
import sys

import bad_server as BAD
import bad_ways
import pytest

from tslens.errors import RunError, TslensError, UsageError
from tslens.llm.address import check_may_be_asked, is_loopback
from tslens.llm.client import Client
from tslens.llm.ledger import Ledger
from tslens.llm.transport import proxy_for


@pytest.fixture(autouse=True)
def at_home(monkeypatch):
    BAD.go_home(monkeypatch)


def ask(url, folder, **options):
    """Outcomes of three calls, and what ended the job."""
    return BAD.ask(url, folder, 3, **options)[:2]


def is_whole(outcomes):
    return BAD.are_whole(outcomes, 3)


# Redirects ----------------------------------------------------------------------------------------------------

TARGETS = [
    "http://127.0.0.1:{port}/v1/chat/completions",
    "http://localhost:{port}/v1/chat/completions",
    "//127.0.0.1:{port}/v1",
    "https://127.0.0.1:{port}/v1",
    "http://127.0.0.1:{own}@127.0.0.1:{port}/",
    "/v1/chat/completions",
    "/elsewhere",
    "file:///etc/passwd",
    "http://",
    "http://[::1",
    "\x7f",
    "x" * 5000,
    "http://127.0.0.1:{port}/?key=" + BAD.KEY,
]
REDIRECTS = [(status, target, path) for path in ("/chat/completions", "/files", "/batches") for target in TARGETS
             for status in (302, 307, 301, 308, 303)]  # fmt: skip


def test_a_redirect_is_not_followed(how_many, tmp_path):
    chosen = random.Random(1).sample(REDIRECTS, how_many(4, len(REDIRECTS)))
    with BAD.Elsewhere() as other:
        for number, (status, target, path) in enumerate(chosen):

            def redirect(handler, answer, rng, status=status, target=target):
                to = target.format(port=other.port, own=server.url.split(":")[2].split("/")[0])
                bad_ways.whole(handler, b"moved", status, Location=to)

            with BAD.BadServer(redirect, lambda n: n >= 2, None, path=path) as server:
                if path != "/chat/completions":
                    server.is_bad = lambda n: True
                is_batch = path != "/chat/completions"
                folder = tmp_path / str(number)
                outcomes, error = ask(server.url, folder, is_batch=is_batch, concurrency=1)
                assert isinstance(error, RunError) and not is_whole(outcomes)
                assert f"{status}: it redirects to" in str(error) and "not followed" in str(error)
                assert (
                    BAD.KEY not in str(error) and server.n_bad == 1
                )  # nobody is asked again, here or elsewhere
                server.is_bad = lambda n: False
                outcomes, error = ask(server.url, folder, is_batch=is_batch)
                assert error is None and is_whole(outcomes)
                assert max(server.paid.values()) == 1 or path == "/chat/completions"
        assert other.heard == []


# Plain http ---------------------------------------------------------------------------------------------------

AWAY = [
    "http://localhost.evil.com/v1", "http://127.0.0.1.nip.io/v1", "http://127.0.0.1@evil.com/v1",
    "http://127.0.0.1:80@evil.com/v1", "http://localhost@evil.com:8000", "http://0.0.0.0:8000/v1",
    "http://2130706433/v1", "http://0x7f000001/v1", "http://0x7f.0.0.1/v1", "http://127.1/v1", "http://0177.0.0.1/",
    "http://127.0.0.01/", "http://[::ffff:127.0.0.1]/", "http://[::]/", "http://[::1%25eth0]/", "http://localhost./v1",
    "http://128.0.0.1/v1", "http://10.0.0.7:8000/v1", "http://node7:8000/v1", "http://evil.com/#@127.0.0.1/",
    "http://evil.com/?http://localhost", "HTTP://EVIL.COM/v1", "http://127.0.0.1%2eevil.com/v1",
    "http://ｌocalhost/v1", "http://localhoſt/v1", "http://127。0。0。1/v1",
]  # fmt: skip
HOME = ["http://localhost/v1", "http://LOCALHOST:8000/v1", "http://127.0.0.1:1/v1", "http://127.9.8.7/v1",
        "http://[::1]:8000/v1", "http://me:pw@localhost/v1", "http://localhost:8000/?a=@evil.com"]  # fmt: skip
NONE = ["http://127.0.0.1\\@evil.com/", "http://127.0.0.1\n.evil.com/", "http://evil.com\t/", "http://a b/",
        "http://", "http:///v1", "ftp://localhost/", "file:///etc/passwd", "localhost:8000", "http://[::1/v1",
        "http://localhost:99999/", "http://localhost:0/", "javascript:x", "http://<localhost>/"]  # fmt: skip


@pytest.mark.parametrize("address", AWAY)
def test_plain_http_is_refused_off_this_machine(address, tmp_path, monkeypatch):
    assert not is_loopback(address)
    with pytest.raises(UsageError, match="TSLENS_ALLOW_HTTP=1"), Ledger(tmp_path, "job") as ledger:
        Client(ledger, price=None, base_url=address)
    monkeypatch.setenv("OPENAI_BASE_URL", address)
    with pytest.raises(UsageError, match="plain http"), Ledger(tmp_path, "job") as ledger:
        Client(ledger, price=None)
    for value, is_allowed in (("1", True), ("0", False), ("", False), ("yes", False)):
        monkeypatch.setenv("TSLENS_ALLOW_HTTP", value)
        with contextlib.nullcontext() if is_allowed else pytest.raises(UsageError):
            check_may_be_asked(address)


def test_this_machine_and_https_are_not_refused():
    import httpx2

    for address in HOME:
        check_may_be_asked(address)
        assert is_loopback(address)
        host = httpx2.URL(address).host
        assert host in ("localhost", "::1") or host.startswith("127.")  # who connects reads it alike
    for address in (None, "https://evil.com/v1", "https://10.0.0.7/v1"):
        check_may_be_asked(address)


@pytest.mark.parametrize("address", NONE)
def test_what_is_read_in_two_ways_is_no_address(address, monkeypatch):
    monkeypatch.setenv("TSLENS_ALLOW_HTTP", "1")
    with pytest.raises(UsageError, match="no address"):
        check_may_be_asked(address)


def test_no_address_is_on_this_machine_for_us_and_elsewhere_for_who_connects(how_many):
    import httpx2

    rng = random.Random(4)
    pieces = [
        "localhost",
        "127.0.0.1",
        "[::1]",
        "evil.com",
        "@",
        ":",
        "/",
        "?",
        "#",
        "80",
        ".",
        "%",
        "%40",
        "a",
        "\\",
    ]
    n_home = 0
    for _ in range(how_many(1000, 100_000)):
        address = "http://" + "".join(rng.choices(pieces, k=rng.randrange(1, 7)))
        with contextlib.suppress(UsageError):
            check_may_be_asked(address)
            n_home += 1
            with contextlib.suppress(httpx2.InvalidURL):
                host = httpx2.URL(address).host
                assert host in ("localhost", "::1") or host.startswith("127.0.0."), address
    assert n_home > 20


@pytest.mark.parametrize("is_allowed", [False, True])
def test_the_command_refuses_and_says_how_to_allow(tslens, tmp_path, monkeypatch, is_allowed):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TSLENS_ALLOW_HTTP", str(int(is_allowed)))
    asked = ("data", "request", "--stories", 1, "--model", "m", "--base-url", "http://node7.invalid:8000/v1")
    done = tslens(*asked, "--out", "x.jsonl", "--dry-run", "--price", "0,0")
    assert done.code == (0 if is_allowed else 2) and ("TSLENS_ALLOW_HTTP=1" in done.err) != is_allowed
    assert "https" in done.err or is_allowed


# Proxies and certificates -------------------------------------------------------------------------------------


def test_a_proxy_never_hears_key_or_prompt(tmp_path, monkeypatch):
    with BAD.Elsewhere() as proxy, BAD.BadServer("drips_body", lambda n: False, None) as server:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://me:pw@127.0.0.1:{proxy.port}")
        outcomes, error = ask(server.url, tmp_path / "home")
        assert error is None and is_whole(outcomes) and proxy.heard == []
        monkeypatch.setenv("TSLENS_ALLOW_HTTP", "1")
        for name, url in (("http", "http://nobody.invalid/v1"), ("https", "https://nobody.invalid/v1")):
            _, error = ask(url, tmp_path / name, tries=1)
            assert isinstance(error, RunError) and BAD.KEY not in str(error) and "pw@" not in str(error)
            n_heard = len(proxy.heard)
            assert n_heard == 0 if name == "http" else n_heard > 0
        for heard in proxy.heard:
            assert (
                heard.startswith("CONNECT nobody.invalid:443")
                and BAD.KEY not in heard
                and "verb" not in heard
            )


def test_which_proxy_is_used(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "p:1")
    assert proxy_for(None) == proxy_for("https://a.b/v1") == "http://p:1"
    assert proxy_for("http://a.b/v1") is None and proxy_for("https://localhost/v1") is None
    monkeypatch.setenv("NO_PROXY", "a.b")
    assert proxy_for("https://a.b/v1") is None and proxy_for("https://c.d/v1") == "http://p:1"


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "nonsense://x", "http://[::1", "http://x:99999"])
def test_a_proxy_that_cannot_be_used_is_an_error_in_words(proxy, tmp_path, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    _, error = ask("https://nobody.invalid/v1", tmp_path, tries=1)
    assert isinstance(error, TslensError)


def test_a_certificate_that_nobody_signed_is_refused(tmp_path):
    if not shutil.which("openssl"):
        pytest.skip("there is no openssl to make a certificate with")
    certificate = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    made += ["-addext", "subjectAltName=DNS:localhost", "-out", certificate[0], "-keyout", certificate[1]]
    subprocess.run(made, check=True, capture_output=True)
    with BAD.Elsewhere(certificate) as server:
        outcomes, error = ask(f"https://localhost:{server.port}/v1", tmp_path / "ledgers", concurrency=1)
        assert isinstance(error, RunError) and "CERTIFICATE_VERIFY_FAILED" in str(error) and not outcomes
        assert server.heard == []


def test_names_of_openai_are_told_to_nobody_else(tmp_path, monkeypatch):
    for name in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY", "OPENAI_WEBHOOK_SECRET"):
        monkeypatch.setenv(name, f"secret-{name}")
    with BAD.Elsewhere() as other:
        assert is_whole(ask(f"http://127.0.0.1:{other.port}/v1", tmp_path)[0])
        assert other.heard and all("secret-" not in heard for heard in other.heard)


def test_the_hub_is_told_no_key(tmp_path):
    with BAD.Elsewhere() as hub:
        code = "from tslens.corpus.hub_model import *; import tslens; tslens.load_model('a/b')"
        secret = {
            "OPENAI_API_KEY": BAD.KEY,
            "HF_ENDPOINT": f"http://127.0.0.1:{hub.port}",
            "HF_HOME": str(tmp_path),
        }
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **secret}, capture_output=True, timeout=100
        )
        assert hub.heard and all(BAD.KEY not in heard for heard in hub.heard)
