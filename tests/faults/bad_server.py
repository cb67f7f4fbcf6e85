"""A server on loopback that goes wrong in one way, at one of its answers or from one on; another that listens."""

import contextlib
import gc
import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import bad_ways
import loopback

from tslens.corpus.requests.asking import Asking, story_calls
from tslens.errors import TslensError
from tslens.llm.batch import answer_batch
from tslens.llm.calls import CallFailure
from tslens.llm.client import Client
from tslens.llm.connect import server_name
from tslens.llm.ledger import Ledger
from tslens.llm.prices import Price

HERE = Path(__file__).parent
KEY = "sk-loopback-0123456789"
PRICE = Price(1.0, 2.0, "test")
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def go_home(monkeypatch):
    """The key of the servers here, no other one's address, and waits between tries without the waiting."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for name in ("OPENAI_BASE_URL", "TSLENS_ALLOW_HTTP", *PROXIES, *map(str.upper, PROXIES)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("tslens.llm.pace.BACKOFF_S", 0.001)
    monkeypatch.setattr("tslens.llm.batch_road.LISTED_S", 0.0)


def asking(url):
    """How the few stories of these tests are asked for."""
    return Asking("loop-1", seed=3, server=server_name(url), max_tokens=60)


def ask(url, folder, n_stories, *, is_batch=False, **options):
    """Outcomes of the calls for stories, as far as they came; what ended the job; the USD that count as spent."""
    settings = {"price": PRICE, "base_url": url, "timeout_s": 60.0, **options}
    outcomes, error = [], None
    with Ledger(folder, "job") as ledger:
        try:
            client, calls = Client(ledger, **settings), story_calls(n_stories, asking(url))
            for outcome in answer_batch(client, calls, poll_s=0.01) if is_batch else client.answer(calls):
                outcomes.append(outcome)
        except TslensError as caught:
            error = caught
        return outcomes, error, ledger.spent_usd


def are_whole(outcomes, n_stories):
    return len(outcomes) == n_stories and not any(isinstance(outcome, CallFailure) for outcome in outcomes)


def mutated(value, rng):
    """JSON with one of its places changed to something that does not belong there."""
    odd = [None, 0, -1, 1e400, "x", "", [], {}, [[]], {"x": {}}, True, "\ud800", 10**30, ["x"]]
    places = [(value, name) for name in (value if isinstance(value, dict) else range(len(value)))]
    for parent, name in places:  # it grows meanwhile
        child = parent[name]
        places += [
            (child, n)
            for n in (
                child if isinstance(child, dict) else range(len(child) if isinstance(child, list) else 0)
            )
        ]
    parent, name = rng.choice(places)
    if isinstance(parent, dict) and rng.random() < 0.2:
        del parent[name]
    else:
        parent[name] = rng.choice(odd)
    return value


@bad_ways.way
def answers_with_one_thing_odd(handler, answer, rng):
    bad_ways.whole(handler, json.dumps(mutated(json.loads(answer), rng)).encode())


def story_for(body):
    """The text of a good answer: a function of the prompt alone."""
    return f"Once there was a frog called {loopback.prompt_of(body['messages'])}. He was glad."


class BadServer(loopback.Loopback):
    """Answers as a good server does, but goes wrong in ``way`` at the requests for which ``is_bad(number)`` holds.

    ``way``: name, or a function like those of ``bad_ways``. Numbers count from 1. ``n_bad``: requests answered so.
    """

    def __init__(self, way, is_bad, rng, *, path="/chat/completions", **options):
        super().__init__(before=self._before, answer=story_for, **options)
        self.way = bad_ways.WAYS[way] if isinstance(way, str) else way
        self.is_bad = is_bad
        self.rng = rng
        self.path = path
        self.n_bad = 0

    def _before(self, handler, path, content):
        with self.lock:
            number = self.requests[path]
        if not path.startswith(self.path) or not self.is_bad(number):
            return False
        self.n_bad += 1
        answer = b"{}"
        if path == "/chat/completions":
            _, answer = self.serve_completion(json.loads(content), {})
            answer = json.dumps(answer).encode()
            if self.way.__name__ in bad_ways.FREE:
                self.rows[-1]["usd"] = 0.0
        handler.close_connection = True
        with contextlib.suppress(OSError):
            self.way(handler, answer, self.rng)
        return True


class Elsewhere:
    """A server of somebody else, who writes down all that arrives, and answers as if it were the right one."""

    def __init__(self, certificate=None):
        heard = self.heard = []

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def log_message(self, *_):
                pass

            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                heard.append(f"{self.requestline}\n{self.headers}\n{body.decode('utf-8', 'replace')}")
                text = json.dumps({"choices": [{"message": {"content": "stolen"}}], "usage": None}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

        for method in ("GET", "POST", "PUT", "CONNECT"):
            setattr(Handler, f"do_{method}", Handler.answer)
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.handle_error = lambda *_: None
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self._http.socket = context.wrap_socket(
                self._http.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


class Peak:
    """Megabytes by which the memory of this process grew at most, above what it was on entry."""

    def __enter__(self):
        gc.collect()
        self.mb, self._first, self._is_over = 0.0, self._now(), threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._is_over.set()
        self._thread.join()

    def _now(self):
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / bad_ways.MB

    def _watch(self):
        while not self._is_over.wait(0.004):
            self.mb = max(self.mb, self._now() - self._first)
