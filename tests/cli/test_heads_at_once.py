"""``tslens heads`` on models that nobody has to train: of the package, right after installation, and of llama2.c."""

import json
import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("TSLENS_DATA", Path(__file__).parents[3] / "shared" / "data"))
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*intervals are:UserWarning"),  # of six stories
    pytest.mark.usefixtures("small_scans"),
]


@pytest.fixture
def heads(tslens, tmp_path, monkeypatch):
    """The command in an empty folder: no runs, no data, the default stories."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TSLENS_DATA", raising=False)

    def run(model):
        done = tslens(
            "heads", "--model", model, "--n-stories", 6, "--probe", "previous_token", "--seed", 0, "--json"
        )
        assert done.code == 0, done.err
        found = json.loads(done.out)
        assert (found["schema"], found["n_stories"]) == ("tslens.heads/1", 6)
        return found

    return run


def test_a_shipped_model_right_after_installation(heads, tmp_path):
    found = heads("shipped:l1_h64")
    assert found["model"] == "shipped:l1_h64@seed0"
    assert {row["head"] for row in found["heads"]} == {f"L0H{head}" for head in range(4)}
    assert {row["probe"] for row in found["heads"]} == {"previous_token"}
    assert list((tmp_path / "runs" / "l1_h64-shipped" / "seed0" / "results" / "heads").glob("*.jsonl"))


def test_the_published_folder_of_a_llama2c_model(heads):
    folder = DATA / "models" / "stories260K"
    if not folder.exists():
        pytest.skip("the published llama2.c model is absent: set TSLENS_DATA")
    found = heads(folder)
    assert found["model"] == "stories260K"
    expected = {f"L{layer}H{head}" for layer in range(5) for head in range(8)}
    assert {row["head"] for row in found["heads"]} == expected
