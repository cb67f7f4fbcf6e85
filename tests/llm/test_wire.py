"""Request bodies, the answers to them, and the words that a server knows."""

from enum import StrEnum
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from tslens.llm.calls import Call
from tslens.llm.schema import bare_json, misfit, strict_schema
from tslens.llm.wire import Dialect, judge, read_answer


class Mood(StrEnum):
    GOOD = "good"
    BAD = "bad"


class Scene(BaseModel):
    title: str = Field(description="its name", max_length=20)
    default: int = 3  # a field named like a keyword


class Story(BaseModel):
    scenes: list[Scene] = Field(min_length=1)
    first: Scene = Field(description="the first")
    mood: Mood | None = None
    kind: Literal["short", "long"]


def objects(node):
    if isinstance(node, dict):
        if node.get("type") == "object":
            yield node
        for value in node.values():
            yield from objects(value)
    elif isinstance(node, list):
        for value in node:
            yield from objects(value)


def test_strict_schemas_close_and_require_everything():
    schema = strict_schema(Story)
    found = list(objects(schema))
    assert len(found) == 3  # the story, a scene, and a scene that was written out beside its description
    for node in found:
        assert node["additionalProperties"] is False and node["required"] == list(node["properties"])
    assert "maxLength" not in str(schema) and "default" in found[1]["properties"] | found[2]["properties"]
    assert schema["properties"]["first"]["description"] == "the first"
    assert schema["properties"]["scenes"]["minItems"] == 1


def test_our_schemas_are_as_strict_as_those_of_the_library():
    from openai.lib._pydantic import to_strict_json_schema

    class Plain(BaseModel):
        title: str
        events: list[str]
        scene: "Inner"

    class Inner(BaseModel):
        stars: int

    Plain.model_rebuild(_types_namespace={"Inner": Inner})

    def untitled(node):
        if isinstance(node, dict):
            return {k: untitled(v) for k, v in node.items() if not (k == "title" and isinstance(v, str))}
        return [untitled(v) for v in node] if isinstance(node, list) else node

    assert strict_schema(Plain) == untitled(to_strict_json_schema(Plain))


def test_misfits_are_said_without_the_reply():
    assert misfit(Scene, '{"title": "a", "default": 1}') is None
    wrong = misfit(Scene, '{"title": 5, "default": "secret"}')
    assert "title: " in wrong and "default: " in wrong and "secret" not in wrong
    assert "Invalid JSON" in misfit(Scene, '{"title": "a", "def')
    assert "title" in misfit(
        Scene, '{"title": "' + "a" * 30 + '", "default": 1}'
    )  # what the schema leaves out


@given(st.dictionaries(st.text(), st.integers()))
def test_fences_come_off_and_nothing_else(value):
    import json

    text = json.dumps(value)
    assert json.loads(bare_json(f"```json\n{text}\n```")) == value
    assert json.loads(bare_json(f" {text}\n")) == value


def test_bodies_say_all_that_the_hash_covers(make_calls):
    (call,) = make_calls(1, seed=9)
    body = Dialect().body(call)
    assert body["messages"] == [
        {"role": "system", "content": "Plan."},
        {"role": "user", "content": "Story 0"},
    ]
    assert (body["model"], body["temperature"], body["max_tokens"], body["seed"]) == ("loop-1", 1.0, 60, 9)
    assert body["response_format"]["json_schema"]["strict"] is True
    (plain,) = make_calls(1, answer=None)
    assert {"response_format", "seed"}.isdisjoint(Dialect().body(plain))
    in_prompt = Dialect(json="object").body(call)
    assert in_prompt["response_format"] == {"type": "json_object"}
    assert (
        in_prompt["messages"][0]["content"].startswith("Plan.\n\n")
        and "JSON" in in_prompt["messages"][0]["content"]
    )
    assert call.messages[0] == ("system", "Plan.")
    bare = Call("k", (("user", "Hi"),), "m", 0.0, 5, answer=call.answer)
    assert [m["role"] for m in Dialect(json="prompt").body(bare)["messages"]] == ["system", "user"]


UNSUPPORTED = "Unsupported parameter: '{}' is not supported with this model. Use '{}' instead."


def test_a_dialect_learns_each_lesson_once(make_calls):
    (call,) = make_calls(1)
    dialect = Dialect()
    first = dialect.body(call)
    assert dialect.adapt(first, "400 'response_format' of type json_schema is not supported")
    assert dialect.json == "object"
    assert dialect.adapt(
        first, "400 'response_format' of type json_schema is not supported"
    )  # sent before the lesson
    assert dialect.json == "object"
    second = dialect.body(call)
    assert dialect.adapt(second, "400 response_format is unknown") and dialect.json == "prompt"
    third = dialect.body(call)
    assert not dialect.adapt(third, "400 response_format is unknown")
    assert dialect.adapt(third, UNSUPPORTED.format("max_tokens", "max_completion_tokens"))
    assert "max_completion_tokens" in dialect.body(call)
    assert dialect.adapt(third, UNSUPPORTED.format("max_tokens", "max_completion_tokens"))
    back = UNSUPPORTED.format("max_completion_tokens", "max_tokens")
    assert not dialect.adapt(dialect.body(call), back)  # a server that knows neither is not asked for ever


@pytest.mark.parametrize(
    "complaint",
    [
        "400 max_tokens is too large: 99999. This model supports at most 16384 completion tokens",
        "400 Invalid schema for response_format 'Plan': 'required' is required to be supplied",
        "400 temperature does not support 0.5 with this model",
    ],
)
def test_other_complaints_are_no_matter_of_words(make_calls, complaint):
    (call,) = make_calls(1)
    dialect = Dialect()
    assert not dialect.adapt(dialect.body(call), complaint) and dialect == Dialect()


def completion(content="{}", finish="stop", **message):
    choice = {"message": {"content": content, "refusal": None, **message}, "finish_reason": finish}
    usage = {"prompt_tokens": 5, "completion_tokens": 2}
    return {"id": "a", "model": "m", "choices": [choice], "usage": usage, "system_fingerprint": "fp"}


GOOD = '{"title": "a", "events": [], "stars": 1}'


def test_answers_are_judged_by_what_was_asked(make_calls):
    (structured,), (plain,) = make_calls(1), make_calls(1, answer=None)
    assert read_answer(structured, completion(GOOD)).fault is None
    assert read_answer(structured, completion(f"```json\n{GOOD}\n```")).text == GOOD
    assert read_answer(structured, completion(GOOD[:-5])).fault == "schema"
    assert read_answer(structured, completion(GOOD[:-5], "length")).fault == "cut"
    assert read_answer(structured, completion(None, refusal="I'm sorry")).fault == "refusal"
    assert read_answer(structured, completion("", "content_filter")).fault == "filtered"
    assert read_answer(structured, completion("")).fault == "schema"
    cut = read_answer(plain, completion("Once upon", "length"))
    assert cut.fault is None and cut.finish_reason == "length" and cut.text == "Once upon"
    assert read_answer(plain, completion("```\nkeep\n```")).text == "```\nkeep\n```"
    assert read_answer(plain, completion(None, "length")).fault == "cut"  # all went into thinking
    assert read_answer(plain, completion("a")).tokens == (5, 2)
    for nothing in (" ", "\n\t ", "a \ud83d", "a\x00b"):
        assert read_answer(plain, completion(nothing)).fault == "schema"
    assert read_answer(plain, completion("  ", "length")).fault == "cut"
    assert read_answer(plain, completion("\U0001f438 is a frog")).fault is None


def test_an_answer_whose_call_is_not_at_hand_is_read_as_plain_text(make_calls):
    (structured,) = make_calls(1)
    fenced = f"```json\n{GOOD}\n```"
    assert read_answer(None, completion(fenced)).text == fenced
    assert read_answer(None, completion(GOOD[:-5], "length")).fault is None  # judged when its call comes
    assert read_answer(None, completion(None, refusal="no")).fault == "refusal"
    assert judge(structured, fenced, None, "stop") == (GOOD, None, "")
    assert judge(structured, GOOD, None, "length")[1] == "cut"


@pytest.mark.parametrize(
    "body",
    [{}, [], "text", None, 5, {"choices": []}, {"choices": [{}]}, {"choices": [{"message": None}]},
     {"choices": [{"message": {"content": 5}}]}, {"error": {"message": "no"}},
     {"choices": [{"message": {"content": "a"}}], "usage": "many"}],
)  # fmt: skip
def test_what_is_no_completion_is_none(make_calls, body):
    assert read_answer(make_calls(1)[0], body) is None


def test_a_server_that_counts_nothing_is_read_all_the_same(make_calls):
    (plain,) = make_calls(1, answer=None)
    body = completion("a")
    del body["usage"], body["system_fingerprint"]
    answer = read_answer(plain, body)
    assert answer.tokens is None and answer.fingerprint is None and answer.fault is None
