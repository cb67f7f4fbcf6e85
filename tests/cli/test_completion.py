"""What a shell is told after ``--model``: names of runs and of shipped models, and nothing heavy is imported."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from tslens.cli.completion import complete_model, join_bash_words

SHOW = (
    "import sys; sys.argv = ['tslens']\n"
    "from tslens.cli.main import run\n"
    "try: run()\n"
    "except SystemExit: pass\n"
    "heavy = {'torch', 'transformer_lens', 'numpy', 'tokenizers'} & set(sys.modules)\n"
    "print(sorted(heavy), file=sys.stderr)"
)


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A folder with two seeds of one model and one of another."""
    for name in ("l3_h48/seed0", "l3_h48/seed7", "l5_h32/seed0"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def asked(**environ):
    """What the command prints for a shell."""
    done = subprocess.run(
        [sys.executable, "-c", SHOW],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environ},
    )
    assert done.stderr.strip() == "[]"
    return done.stdout


def test_bash(runs):
    words = "tslens\nheads\n--model\nl3"
    shown = asked(_TSLENS_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD="3")
    assert shown.split() == ["l3_h48", "l3_h48@seed0", "l3_h48@seed7"]


def test_zsh(runs):
    line = "tslens heads --n-stories 3 --model l3_h48@"
    shown = asked(_TSLENS_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS=line)
    assert re.findall(r'"([^"]+)"', shown) == ["l3_h48@seed0", "l3_h48@seed7"]


def test_names_are_those_of_runs_and_of_shipped_models(runs):
    every = complete_model("")
    assert {"l3_h48", "l3_h48@seed0", "l3_h48@seed7", "l5_h32", "l1_h64", "l1_h256", "l1_h256@seed2"} <= set(
        every
    )
    assert not any(name.startswith("shipped:") for name in every)
    assert "shipped:l1_h64@seed0" in complete_model("shipped:l1")
    assert complete_model("l5_h32@") == ["l5_h32@seed0"]
    assert complete_model("nonsense") == []


@pytest.mark.parametrize(
    ("words", "joined", "found"),
    [
        (["--model", "l3_h48", "@"], ["--model", ""], ["seed0", "seed7"]),
        (["--model", "l3_h48", "@", "seed7"], ["--model", "seed7"], ["seed7"]),
        (["--model", "shipped", ":", "l8"], ["--model", "l8"], ["l8_h64_a16@seed0"]),
        (
            ["--judge", "openai", ":", "m", "--model", "l5"],
            ["--judge", "openai:m", "--model", "l5"],
            ["l5_h32"],
        ),
    ],
)
def test_words_that_bash_broke_are_joined(runs, words, joined, found):
    environ = {
        "_TSLENS_COMPLETE": "complete_bash",
        "COMP_WORDS": "\n".join(["tslens", "grade", *words]),
        "COMP_CWORD": str(len(words) + 1),
    }
    join_bash_words(environ)
    assert environ["COMP_WORDS"].split("\n") == ["tslens", "grade", *joined]
    assert environ["COMP_CWORD"] == str(len(joined) + 1)
    assert complete_model(joined[-1]) == found
    join_bash_words({})
    assert complete_model("l5") == ["l5_h32"]


def test_bash_itself_completes_a_seed(runs, tmp_path):
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash on this machine")
    command = tmp_path / "tslens"
    command.write_text(f"#!{sys.executable}\nfrom tslens.cli.main import run\nrun()\n")
    command.chmod(0o755)
    script = (
        f'PATH="{tmp_path}:$PATH"; source <(_TSLENS_COMPLETE=source_bash tslens); '
        "COMP_WORDS=(tslens heads --model l3_h48 @ seed7); COMP_CWORD=5; _tslens_completion tslens; "
        'echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run([bash, "--norc", "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "seed7", done.stderr
