"""Texts, prompts, settings, records, ledgers, states: files that commands read beside stories, models and results."""

import json
import sys
from pathlib import Path

import files_fuzz as fuzz
import pytest
from hypothesis import given

pytestmark = pytest.mark.timeout(1500)

SHA = "ab" * 32
TEXTS = [
    {"prompt": "Tom had", "completion": " a cat. It ran.", "prompt_id": "p1", "sample": 0, "seed": 3},
    {"prompt": "Mia had", "completion": " a dog.", "ended": True, "story": "Mia had a dog. It ran."},
    {"prompt": "Words: cat, dog\nStory:\n", "completion": "A cat saw a dog.", "instructions": None},
]
METRICS = [
    {"schema": "tslens.metrics/1", "model": "l1_h16", "pass_tokens": 900, "flops_per_token": 100.0},
    *(
        {"step": n, "n_tokens": 64 * n, "split": split, "loss_nats": 5.0, "bits_per_byte": bits, "lr": 0.1}
        for n in (1, 2, 3)
        for split, bits in (("train", None), ("validation", 3.0))
    ),
]
CONFIG = {
    "schema": "tslens.run/1",
    "model": "l1_h16",
    "seed": 0,
    "budget": "steps",
    "amount": 3.0,
    "vocab_size": 300,
    "warmup": 0.0,
    "decay": "constant",
    "corpus_sha256": SHA,
    "tokenizer_sha256": SHA,
}
RECORD = {
    "command": "tslens heads --model l1_h64",
    "version": "0.1.0",
    "seed": 0,
    "data": "author:20:0",
    "data_sha256": SHA,
    "started": "2026-01-01",
    "seconds": 3.5,
    "python": "3.11",
    "torch": "2",
}
LEDGER = [
    {"schema": "tslens.ledger/1", "job": "j", "id": "abc", "started": "2026-01-01"},
    {"event": "sent", "n": 0, "hash": "aa" * 16, "key": "k", "worst_usd": 0.5},
    {"event": "reply", "n": 0, "hash": "aa" * 16, "key": "k", "usd": 0.1, "fault": None, "text": "x"},
    {"event": "sent", "n": 1, "hash": "bb" * 16, "key": "l", "worst_usd": None, "part": "p"},
    {"event": "batch", "part": "p", "stage": "created", "batch_id": "b", "server": "s"},
    {"event": "failed", "n": 1, "hash": "bb" * 16, "key": "l", "usd": None},
    {"event": "gave_up", "hash": "cc" * 16, "key": "m", "reason": "r", "detail": "d"},
]


def _run(path):
    from tslens.link.scaling.points import read_run
    from tslens.model.run_list import find_runs, last_rows
    from tslens.run_folder import RunFolder

    for name, value in {"config.json": CONFIG, "ngram4.json": {"nats": 9.0, "n_bytes": 9}}.items():
        if not (path.parent / name).exists():
            (path.parent / name).write_text(json.dumps(value))
    run = RunFolder(path.parent)
    for one in find_runs(path.parent):
        last_rows(one.run)
    run.label()
    float(run.ngram_bits())
    run.validation_bits()
    run.is_better_than_ngram(2)
    run.tokens_at(2)
    found = read_run(run)
    assert all(found.flops >= 0)


def _config(path):
    (path.parent / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in METRICS))
    _run(path)


def _record(path):
    from tslens.audit.recorded import absent_data, find_records, to_repeat
    from tslens.errors import TslensError

    out = path.parent / "out"
    for one in find_records(path.parent):
        absent_data(one)
        try:
            command, _ = to_repeat(one, out)
        except TslensError:
            continue
        assert command[:2] in ([sys.executable, "-m"], [sys.executable, command[1]])
        assert Path(command[-1]).is_relative_to(out.resolve())


def _ledger(path):
    from tslens.llm.ledger import Ledger

    with Ledger(path.parent, "j") as ledger:
        spent, known = ledger.spent_usd, ledger.known_usd
    assert (spent is None or spent >= 0) and known >= 0 and known < float("inf")


def _compared(path):
    from tslens.audit.differences import compare_files, rows_where

    other = path.with_name("o.jsonl")
    other.write_text("".join(json.dumps(row) + "\n" for row in TEXTS))
    compare_files(other, path, tolerance=0.1)
    rows_where(path, {"prompt": "Tom had"})


def _texts(path):
    from tslens.grading.completions import prompts_of
    from tslens.grading.completions_file import read_texts

    found = read_texts(path)
    prompts_of(found)
    json.dumps([one.key for one in found], ensure_ascii=False).encode()


def _measured(path):
    from tslens.corpus.diversity.sampling import read_completions

    read_completions(path)


def _prompts(path):
    from tslens.cli.generate import _read_prompts
    from tslens.cli.grade_prompts import _of_file
    from tslens.grading.prompts import read_beginnings

    if path.suffix == ".jsonl":
        _read_prompts(path)
    for one in read_beginnings(path):
        one.text.encode()
    _of_file(path)


def _short(path):
    from tslens.cli.grade_prompts import _of_file

    _of_file(path)


def _people(path):
    from tslens.audit.judge_people import read_scores

    read_scores(path)


YAML = b"- Tom had a cat.\n- 'Mia saw: a dog'\n- |\n  One day,\n  it rained.\n"
CSV = (
    b"model_name,prompt,completion,category,Grammar_a,Grammar_b,Plot_a\n"
    b'm,"Tom had","a cat, it ran.",Grammar,1,0.5,\nm,Tom had,x,Plot,,,1\n'
)
SHORT = {
    "prompts": {"factual": ["Milk is"], "reasoning_x": ["Tom was cold, so"], "context_tracking": ["A b"]}
}
FILES = {
    "completions": ("c.jsonl", TEXTS, _texts),
    "measured completions": ("m.jsonl", TEXTS, _measured),
    "prompts": ("p.jsonl", [{"prompt": "Tom had"}, {"prompt": "Mia saw"}], _prompts),
    "prompts as JSON": ("p.json", ["Tom had", "Mia saw"], _prompts),
    "prompts as YAML": ("p.yaml", YAML, _prompts),
    "short prompts": ("s.json", SHORT, _short),
    "scores of people": ("s.csv", CSV, _people),
    "metrics": ("metrics.jsonl", METRICS, _run),
    "settings": ("config.json", CONFIG, _config),
    "record": ("r.provenance.json", RECORD, _record),
    "ledger": ("j.jsonl", LEDGER, _ledger),
    "compared rows": ("d.jsonl", TEXTS, _compared),
}


@pytest.mark.parametrize("kind", FILES)
def test_files_that_commands_read(how_many, tmp_path, kind):
    name, sound, read = FILES[kind]
    path = tmp_path / "f" / name
    path.parent.mkdir()
    if kind == "record":
        (path.parent / "r.jsonl").write_text("{}\n")
    is_rows = name.endswith(".jsonl")
    data = sound if isinstance(sound, bytes) else json.dumps(sound).encode()
    data = "".join(json.dumps(row) + "\n" for row in sound).encode() if is_rows else data
    path.write_bytes(data)
    assert fuzz.survives(lambda: read(path), tmp_path)

    @fuzz.tries(how_many(5, 250))
    @given(edits=fuzz.byte_edits)
    def spoiled(edits):
        path.write_bytes(fuzz.spoil(data, edits))
        fuzz.survives(lambda: read(path), tmp_path)

    @fuzz.tries(how_many(5, 350))
    @given(edits=fuzz.json_edits)
    def of_other_shape(edits):
        spoilt = fuzz.spoil_rows(sound, edits) if is_rows else fuzz.spoil_json(sound, edits)
        path.write_bytes(spoilt.encode("utf-8", "surrogatepass"))
        fuzz.survives(lambda: read(path), tmp_path)

    spoiled()
    if not isinstance(sound, bytes):
        of_other_shape()


BOMBS = {
    "b.yaml": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(9)),
    "c.yaml": "[" * 100_000,
    "d.yaml": "- !!python/object/apply:os.system ['touch code-ran']\n",
    "e.json": "[" * 100_000 + "]" * 100_000,
    "f.jsonl": '{"prompt": ' + "9" * 10_000 + "}\n",
    "g.jsonl": '{"prompt": ' + '{"a":' * 100_000 + "1" + "}" * 100_000 + "}\n",
    "h.json": '["\\ud800"]',
    "i.jsonl": '{"prompt": "a", "prompt": 3}\n',
    "j.yaml": "- 0x" + "f" * 20_000 + "\n",
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_in_the_place_of_prompts(tmp_path, name):
    path = tmp_path / name
    path.write_text(BOMBS[name])
    with fuzz.little_memory(150_000_000):
        assert not fuzz.survives(lambda: _prompts(path), tmp_path)
    assert not Path("code-ran").exists()


@pytest.mark.parametrize("name", ["c.jsonl", "p.json", "p.yaml", "metrics.jsonl", "tokenizer.json", "s.csv"])
def test_a_file_of_ten_gigabytes_is_refused_at_the_limit(tmp_path, name):
    """A file with a hole takes no space on disk; it is not read whole."""
    path = tmp_path / name
    with path.open("wb") as file:
        file.write(b'{"prompt": "')
        file.truncate(10_000_000_000)
    from tslens.corpus.tokenizer import StoryTokenizer

    readers = {
        "c.jsonl": _texts,
        "metrics.jsonl": _run,
        "tokenizer.json": StoryTokenizer.load,
        "s.csv": _people,
    }
    with fuzz.little_memory(700_000_000):
        assert not fuzz.survives(lambda: readers.get(name, _prompts)(path), tmp_path)


def test_a_ledger_cannot_pay_back(tmp_path):
    """A sum below zero, or none at all, would make a budget larger."""
    from tslens.errors import DataError
    from tslens.llm.ledger import Ledger

    for usd in ("-1000", "NaN", "-1e400", '"-5"', "true"):
        rows = [json.dumps(row) for row in LEDGER[:2]]
        rows.append(json.dumps(LEDGER[2]).replace("0.1", usd))
        (tmp_path / "j.jsonl").write_text("\n".join(rows) + "\n")
        with pytest.raises(DataError, match="Line 3"):
            Ledger(tmp_path, "j")
