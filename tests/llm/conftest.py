"""The loopback server, ledgers and calls that the tests of the client share."""

import loopback
import pytest
from pydantic import BaseModel


class Plan(BaseModel):
    title: str
    events: list[str]
    stars: int


@pytest.fixture
def plan_type():
    return Plan


@pytest.fixture
def make_calls():
    """Different calls, structured unless ``answer=None``."""
    from tslens.llm.calls import Call

    def make(n, *, first=0, **fields):
        settings = {"model": "loop-1", "temperature": 1.0, "max_tokens": 60, "answer": Plan, **fields}
        return [
            Call(key=f"story-{i:06d}", messages=(("system", "Plan."), ("user", f"Story {i}")), **settings)
            for i in range(first, first + n)
        ]

    return make


@pytest.fixture
def serve(monkeypatch):
    """Start servers that stop when the test ends; the key is set as a user would set it."""
    running = []

    def start(**options):
        server = loopback.Loopback(**options).__enter__()
        running.append(server)
        monkeypatch.setenv("OPENAI_API_KEY", server.key)
        return server

    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield start
    for server in running:
        server.__exit__()


@pytest.fixture
def fast(monkeypatch):
    """Waits between tries without the waiting."""
    monkeypatch.setattr("tslens.llm.pace.BACKOFF_S", 0.001)


@pytest.fixture
def open_ledger(tmp_path):
    """Ledgers in one folder, closed when the test ends."""
    from tslens.llm.ledger import Ledger

    opened = []

    def open_one(job="job", **options):
        opened.append(Ledger(tmp_path / "ledgers", job, **options))
        return opened[-1]

    yield open_one
    for ledger in opened:
        ledger.close()


@pytest.fixture
def price():
    from tslens.llm.prices import Price

    return Price(1.0, 2.0, "test")
