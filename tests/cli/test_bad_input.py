"""What users get wrong: two lines that help, exit code 1 or 2, no traceback, nothing half-written."""

import gzip
import json
import pickle
import subprocess
import sys

import pytest

from tslens.run_folder import RunFolder


def check(outcome, *words, code=None):
    """The shape of every error: two lines, the last with what to do."""
    assert outcome.code in {1, 2}, (outcome.code, outcome.err)
    assert code is None or outcome.code == code
    assert "Traceback" not in outcome.err
    lines = [line for line in outcome.err.splitlines() if line.strip()]
    start = next(i for i, line in enumerate(lines) if line.startswith("error:"))
    assert len(lines) - start == 2, lines
    for word in words:
        assert word in outcome.err, (word, outcome.err)


def files_in(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.name != ".lock")


def write(path, content):
    path.write_bytes(content)
    return path


STORIES = {
    "empty.jsonl": (b"", "no stor"),
    "blank.txt": (b"\n \n<|endoftext|>\n", "no stor"),
    "junk.jsonl": (bytes(range(128, 256)) * 40, "UTF-8"),
    "nul.txt": (b"Once\0upon a time" * 9, "NUL"),
    "broken.jsonl": (b'{"text": "Tom had a cat."}\n{"text": "Mia\n', "2"),
    "list.jsonl": (b'["Tom had a cat."]\n', "text"),
    "other.jsonl": (b'{"story": "Tom had a cat."}\n', "text"),
    "torn.jsonl.gz": (gzip.compress(b'{"text": "Tom had a cat and a dog."}\n' * 200)[:-12], "cut off"),
    "story.pdf": (b"%PDF-1.4", "unknown kind"),
}


@pytest.mark.parametrize("name", STORIES)
def test_bad_story_files(tslens, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    content, word = STORIES[name]
    path = write(tmp_path / name, content)
    check(tslens("train", "--model", "l1_h32", "--data", path, "--steps", 2), word)
    check(tslens("data", "import", path, "--out", tmp_path / "corpus"), word)
    assert files_in(tmp_path) == [name]


@pytest.mark.parametrize("name", ["empty.jsonl", "junk.jsonl", "broken.jsonl"])
def test_bad_story_files_for_heads(tslens, project, tmp_path, name):
    before = files_in(project)
    check(tslens("heads", "--model", "l2_h32", "--stories", write(tmp_path / name, STORIES[name][0])))
    assert files_in(project) == before


def test_no_such_file_suggests_a_near_one(tslens, tmp_path):
    write(tmp_path / "stories.jsonl", b'{"text": "Tom had a cat."}\n')
    done = tslens("train", "--model", "l1_h32", "--data", tmp_path / "storys.jsonl", "--steps", 2)
    check(done, "storys.jsonl", "stories.jsonl")


def test_a_story_of_one_token(tslens, project, tmp_path):
    one = write(tmp_path / "one.jsonl", b'{"text": "a"}\n')
    check(tslens("heads", "--model", "l2_h32", "--stories", one), "two")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("l1_h250_a16", "l1_h256"),
        ("banana", "Did you mean l1_h256"),
        ("l2_h33", "l2_h64"),
        ("l1h256", "l1_h256"),
    ],
)
def test_impossible_model_names(tslens, story_file, tmp_path, monkeypatch, name, hint):
    monkeypatch.chdir(tmp_path)
    check(tslens("train", "--model", name, "--data", story_file, "--steps", 2), "Did you mean", hint, code=2)
    assert files_in(tmp_path) == []


def test_unknown_models_suggest_the_nearest(tslens, project):
    check(tslens("heads", "--model", "l2_h23"), "l2_h32")
    check(tslens("heads", "--model", "l3_h96"), "tslens train --model l3_h96")
    check(tslens("heads", "--model", "l2_h32@seed7"), "seed0")


def test_impossible_budgets(tslens, story_file):
    base = ("train", "--model", "l1_h32", "--data", story_file)
    check(tslens(*base, "--steps", 3, "--minutes", 1), "wo budgets", code=2)
    check(tslens(*base, "--steps", 0), code=2)
    check(tslens(*base, "--steps", 3, "--vocab-size", 12), "257", code=2)
    check(tslens(*base, "--steps", 3, "--device", "tpu"), "tpu", code=2)


def test_unknown_probe_and_head(tslens, project):
    check(tslens("heads", "--model", "l2_h32", "--probe", "telepathy"), "previous_token", code=2)
    check(tslens("look", "Tom ate.", "--model", "l2_h32", "--head", "L9H9"), "L1H1", code=2)
    check(tslens("look", "Tom ate.", "--model", "l2_h32", "--head", "third"), "L0H3", code=2)


@pytest.fixture
def checkpoint(project, tmp_path):
    """A copy of the run, to be spoiled."""
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(project / "runs" / "l2_h32" / "seed0", folder)
    return RunFolder(folder).last_checkpoint()


def test_a_truncated_checkpoint(tslens, checkpoint):
    content = checkpoint.read_bytes()
    for size in (0, 5, 100, len(content) // 2, len(content) - 1):
        checkpoint.write_bytes(content[:size])
        check(tslens("heads", "--model", checkpoint), "truncated", code=1)


def test_a_checkpoint_with_another_tokenizer(tslens, checkpoint, stories):
    from tslens.corpus.tokenizer import StoryTokenizer

    StoryTokenizer.train(stories, vocab_size=299).save(checkpoint.parent.parent / "tokenizer.json")
    check(tslens("heads", "--model", checkpoint), "another tokenizer", code=1)


class Bomb:
    """Pickled, it would write a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("name", ["step_000099.safetensors", "model.pt", "model.bin"])
def test_a_pickle_is_never_opened(tslens, checkpoint, tmp_path, name):
    mark = tmp_path / "code-ran"
    path = write(checkpoint.parent / name, pickle.dumps(Bomb(mark)))
    check(tslens("heads", "--model", path), code=1)
    assert not mark.exists()


def test_weights_of_another_shape_or_not_finite(tslens, checkpoint):
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(checkpoint, framework="pt") as file:
        metadata = file.metadata()
    weights = load_file(checkpoint)
    save_file({**weights, "ln_final.w": weights["ln_final.w"][:3].clone()}, checkpoint, metadata=metadata)
    check(tslens("heads", "--model", checkpoint), "ln_final.w", code=1)
    save_file({**weights, "ln_final.w": weights["ln_final.w"] * float("nan")}, checkpoint, metadata=metadata)
    check(tslens("heads", "--model", checkpoint), "not finite", code=1)


def test_a_read_only_folder(tslens, project, tmp_path, as_user):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    source = "author:100"
    check(
        tslens("train", "--model", "l1_h32", "--data", source, "--steps", 2, "--out", folder / "run"),
        "write",
        code=1,
    )
    check(
        tslens("heads", "--model", "l2_h32", "--stories", source, "--html", folder / "h.html"),
        "write",
        code=1,
    )


def test_a_place_that_cannot_be_written(tslens, project, tmp_path, story_file):
    """The same as root: a file stands where a folder should be."""
    file = write(tmp_path / "file", b"")
    done = tslens(
        "train",
        "--model",
        "l1_h32",
        "--data",
        story_file,
        "--steps",
        2,
        "--vocab-size",
        300,
        "--out",
        file / "run",
    )
    check(done, code=1)
    done = tslens(
        "heads", "--model", "l2_h32", "--stories", "author:60", "--probe", "first_token", "--out", file / "x"
    )
    check(done, "write", code=1)
    check(tslens("export", file / "out", "--model", "l2_h32", "--to", "huggingface"), code=1)
    assert file.read_bytes() == b""


def test_a_run_folder_in_use(tslens, story_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    script = (
        "import sys, time; from pathlib import Path; from tslens.files import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, run], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        arguments = ("--data", story_file, "--steps", 2, "--vocab-size", 300, "--out", run)
        check(tslens("train", "--model", "l1_h32", *arguments), "in use", code=1)
        assert files_in(run) == []
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_finished_run_is_not_trained_over(tslens, project, story_file):
    arguments = ("--model", "l2_h32", "--data", story_file, "--steps", 40, "--vocab-size", 300)
    before = files_in(project)
    check(tslens("train", *arguments), "holds a finished run", code=1)
    assert files_in(project) == before


def test_bad_prompts(tslens, project, tmp_path):
    for content in (b"", b"not json\n", json.dumps({"text": "x"}).encode(), b'{"prompt": 3}'):
        path = write(tmp_path / "prompts.jsonl", content)
        check(tslens("generate", "--model", "l2_h32", "--prompts", path), "prompt")
    long = "Tom found a kite. " * 400
    check(tslens("generate", "--model", "l2_h32", "--prompt", long), "context", code=2)


def test_wrong_usage_is_code_2(tslens):
    assert tslens("export").code == 2
    assert tslens("heads", "--nonsense").code == 2
    assert tslens("fly").code == 2


def test_an_interrupt_says_so_and_ends_with_one(tslens, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("tslens.corpus.author.write_stories", interrupt)
    done = tslens("data", "author", "--stories", 2, "--out", tmp_path / "s.jsonl")
    assert done.code == 1 and "Interrupted" in done.err and list(tmp_path.iterdir()) == []


def test_control_characters_of_a_message_never_reach_the_terminal(tslens, tmp_path):
    done = tslens("data", "import", f"{tmp_path}/\x1b]0;title\x07.jsonl", "--out", tmp_path / "corpus")
    assert done.code == 1 and "\x1b" not in done.err and "\x07" not in done.err


def test_a_page_never_replaces_what_is_read(tslens, project, tmp_path, story_file):
    stories = write(tmp_path / "mine.html", b'{"text": "Tom had a cat. He was glad."}\n' * 3)
    before = stories.read_bytes()
    check(
        tslens("heads", "--model", "l2_h32", "--stories", stories, "--html", stories), "would replace", code=2
    )
    check(tslens("look", "--labels", "--stories", stories, "--html", stories), "would replace", code=2)
    for page in ("rows.jsonl", ".", "heads"):
        check(tslens("heads", "--model", "l2_h32", "--html", page), ".html", code=2)
    assert stories.read_bytes() == before


def test_a_scan_that_fails_leaves_no_folder(tslens, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    empty = write(tmp_path / "empty.jsonl", b"")
    for command in ("heads", "neurons"):
        check(tslens(command, "--model", "shipped:l1_h64", "--stories", empty), "no stor")
    assert not (tmp_path / "runs").exists()


@pytest.mark.filterwarnings("ignore:.*below 30 intervals:UserWarning")
def test_two_models_in_one_folder_leave_two_files(tslens, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scan = ("--n-stories", 4, "--probe", "first_token", "--n-explain", 0, "--out", "found")
    for model in ("shipped:l1_h64", "shipped:l1_h128"):
        assert tslens("heads", "--model", model, *scan).code == 0
    names = sorted(path.name for path in (tmp_path / "found").glob("*.jsonl"))
    assert [name.split("_author")[0] for name in names] == ["shipped-l1_h128@seed0", "shipped-l1_h64@seed0"]


def test_a_label_of_a_user_that_is_asked_for_as_a_probe(tslens, project):
    check(tslens("heads", "--model", "l2_h32", "--probe", "label_mood"), "--label mood", code=2)


def test_layers_that_no_model_has(tslens, project):
    check(tslens("neurons", "--model", "l2_h32", "--layer", 5, "--n-stories", 5), "no layer 5")
    check(tslens("neurons", "--model", "l2_h32", "--n-stories", 0), code=2)
    check(tslens("neurons", "--model", "l2_h32", "--n-explain", -1), code=2)
    check(tslens("neurons", "--model", "l2_h32", "--label", "mood"), "--stories", code=2)
