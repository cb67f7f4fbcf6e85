"""``tslens data request`` against a server on loopback: complete, resumable, marked, within its budget."""

import json
import re

import pytest

from tslens.corpus.author import read_wishes, write_story
from tslens.corpus.stories import read_stories
from tslens.errors import UsageError


def write_as_asked(body):
    """The server's model: the offline author, who follows the request as far as he can."""
    prompt = body["messages"][-1]["content"]
    if prompt.startswith("Summarize"):
        return "A frog swims home\nand is glad."
    words = re.findall(r'the (verb|noun|adjective) "([\w-]+)"', prompt)
    wishes = read_wishes(",".join(f"{word}:{kind}" for kind, word in words), "")
    try:
        return write_story(0, seed=1, wishes=wishes).text.replace("\n", "\n\n")
    except UsageError:
        return write_story(0, seed=1).text


@pytest.fixture
def at_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def request(tslens, server, *more, stories=12, out="stories.jsonl"):
    asked = () if stories is None else ("--stories", stories)
    options = ("--model", "loop-1", "--base-url", server.url, "--out", out, "--json")
    return tslens("data", "request", *asked, *options, *more)


def test_each_plan_is_answered_once_and_marked(tslens, serve, fast, at_home):
    server = serve(answer=write_as_asked, faults={"busy": 0.2, "error": 0.1, "truncated": 0.1, "reset": 0.1})
    done = request(tslens, server, "--price", "1,2", "--budget", "1")
    assert done.code == 0, done.err
    facts = json.loads(done.out)
    assert facts["written"] == facts["asked"] == 12 and facts["unanswered"] == 0
    assert facts["spent_usd"] >= server.usd > 0
    stories = list(read_stories(at_home / "stories.jsonl"))
    assert [story.extra["index"] for story in stories] == list(range(12))
    for story in stories:
        assert story.extra["reply"]["model"] == "loop-1-2026-01-01" and story.extra["words_pos"][0] == "VERB"
        assert story.extra["gates"]["missing_words"] == [] and "\n\n" not in story.text
    assert facts["marked"].get("features", 0) == sum(
        "features" in story.extra["gates"]["marked"] for story in stories
    )
    assert any(story.extra["gates"]["missing_features"] for story in stories)
    n_asked = server.asked.total()
    before = (at_home / "stories.jsonl").read_bytes()
    again = request(tslens, server, "--price", "1,2", "--budget", "1")
    assert json.loads(again.out)["asked_now"] == 0 and server.asked.total() == n_asked
    assert (at_home / "stories.jsonl").read_bytes() == before
    assert not list(at_home.glob("*failures*"))
    for path in at_home.rglob("*"):
        assert not path.is_file() or server.key.encode() not in path.read_bytes(), path


def test_files_of_others_stay(tslens, serve, at_home):
    for name in ("set.failures.jsonl", "set.v1.failures.jsonl", "set.v2.failures.jsonl"):
        (at_home / name).write_text('{"text": "mine"}\n')
    server = serve(answer=write_as_asked)
    assert request(tslens, server, stories=1, out="set.v2.jsonl").code == 0
    assert len(list(at_home.glob("*.failures.jsonl"))) == 3


def test_a_folder_that_cannot_be_written_is_said_before_anything_is_asked(tslens, serve, at_home):
    server = serve(answer=write_as_asked)
    assert request(tslens, server, out="/proc/none/x.jsonl").code == 1
    (at_home / "folder.jsonl").mkdir()
    assert request(tslens, server, out="folder.jsonl").code == 2
    assert server.asked.total() == 0


def test_another_file_asks_for_nothing_twice(tslens, serve, at_home):
    server = serve(answer=write_as_asked)
    assert request(tslens, server, stories=3).code == 0
    more = request(tslens, server, stories=5, out="more.jsonl")
    assert json.loads(more.out)["asked_now"] == 2 and server.asked.total() == 5


def test_refusals_are_kept_apart_and_the_rest_is_written(tslens, serve, fast, at_home):
    server = serve(answer=write_as_asked, faults={"refusal": 0.75})
    done = request(tslens, server)
    facts = json.loads(done.out)
    assert (
        done.code == 3
        and 0 < facts["unanswered"] < 12
        and facts["reasons"] == {"refusal": facts["unanswered"]}
    )
    header, *rows = map(json.loads, (at_home / "stories.failures.jsonl").read_text().splitlines())
    assert header["schema"] == "tslens.unanswered/1" and len(rows) == facts["unanswered"]
    written = [story.extra["index"] for story in read_stories(at_home / "stories.jsonl")]
    assert sorted(written + [row["index"] for row in rows]) == list(range(12))
    assert rows[0]["asked"]["words"] and rows[0]["reason"] == "refusal"
    server.faults = {}
    assert request(tslens, server).code == 3  # what was refused is not asked again by itself
    mended = request(tslens, server, "--retry-failed")
    assert mended.code == 0 and json.loads(mended.out)["asked_now"] == facts["unanswered"]
    assert not (at_home / "stories.failures.jsonl").exists()


def test_a_budget_ends_the_asking(tslens, serve, at_home):
    server = serve(answer=write_as_asked)
    done = request(tslens, server, "--price", "1,2", "--budget", "0.013", "--concurrency", 1, stories=30)
    facts = json.loads(done.out)
    assert done.code == 3 and set(facts["reasons"]) == {"budget"} and 0 < facts["written"] < 30
    assert server.usd <= facts["spent_usd"] <= 0.013
    for _ in range(3):
        assert request(tslens, server, "--price", "1,2", "--budget", "0.013", stories=30).code == 3
    assert server.usd <= 0.013


def test_nothing_at_all_is_an_error(tslens, serve, at_home):
    done = request(tslens, serve(), "--price", "1,2", "--budget", "0.0001")
    assert done.code == 1 and "budget" in done.err and not (at_home / "stories.jsonl").exists()


def test_dry_run_sends_and_writes_nothing(tslens, serve, at_home):
    server = serve()
    done = request(tslens, server, "--dry-run", "--price", "1,2")
    facts = json.loads(done.out)
    assert facts["calls"] == facts["to_ask"] == 12 and facts["worst_usd"] > facts["expected_usd"] > 0
    assert facts["first"].startswith("Write a short story (3-5 paragraphs)")
    assert not server.requests and list(at_home.iterdir()) == []


def test_summaries_join_the_stories(tslens, serve, at_home):
    server = serve(answer=write_as_asked)
    source = at_home / "mine.jsonl"
    lines = [{"text": "A frog swam home.", "mood": 1}, {"text": "Ben ate."}, {"text": "Ben ate."}]
    lines += [{"text": "Mia slept.", "summary": "Mia sleeps at home."}]
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = request(tslens, server, "--summaries", source, stories=None, out="summarised.jsonl")
    assert done.code == 0, done.err
    rows = [json.loads(line) for line in (at_home / "summarised.jsonl").read_text().splitlines()]
    assert [row["summary"] for row in rows] == ["A frog swims home and is glad."] * 3 + [
        "Mia sleeps at home."
    ]
    assert "summary_reply" not in rows[3]
    assert rows[0]["mood"] == 1 and rows[0]["text"] == "A frog swam home." and server.asked.total() == 2


def test_in_batches(tslens, serve, at_home):
    server = serve(answer=write_as_asked, item_faults={"expired": 0.3, "failed": 0.1})
    done = request(tslens, server, "--batch", "--poll", 0.02)
    assert done.code == 0, done.err
    assert json.loads(done.out)["written"] == 12 and len(server.batches) > 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "either --stories N or --summaries"),
        (("--stories", 0), "Ask for one or more"),
        (("--stories", 2, "--summaries", "x.jsonl"), "either --stories N or --summaries"),
        (("--stories", 2, "--budget", 1), "--price"),
        (("--stories", 2, "--base-url", "nonsense"), "http"),
        (("--stories", 2, "--base-url", "nonsense", "--dry-run"), "http"),
        (("--stories", 2, "--budget", 1, "--dry-run"), "--price"),
        (("--stories", 2, "--poll", 1), "--batch"),
        (("--stories", 2, "--out", "x.failures.jsonl"), "Name the file otherwise"),
        (("--summaries", "x.jsonl", "--processes", 2), "Leave them out"),
    ],
)
def test_wrong_usage(tslens, at_home, monkeypatch, arguments, says):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    done = tslens("data", "request", "--model", "loop-1", "--out", "x.jsonl", *arguments)
    assert done.code == 2 and says in done.err and list(at_home.glob("x*")) == []


def test_a_template_without_its_words_is_refused(tslens, at_home):
    (at_home / "t.txt").write_text("Tell me of a {noun}. {features}")
    done = tslens(
        "data", "request", "--model", "m", "--out", "x.jsonl", "--stories", 2, "--template", "t.txt"
    )
    assert done.code == 2 and "{verb}" in done.err


def test_no_key_no_request(tslens, at_home, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    done = tslens("data", "request", "--model", "gpt-4o-mini", "--out", "x.jsonl", "--stories", 2)
    assert done.code == 2 and "OPENAI_API_KEY" in done.err
