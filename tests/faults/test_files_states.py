"""The state of a run that somebody else trained: ``--resume`` opens nothing that unfolds or runs code."""

import os
import zipfile

import files_fuzz as fuzz
import pytest


def test_a_state_that_unfolds_or_runs_code_is_not_opened(tmp_path, tiny_model):
    """``latest_state.pt`` is a zip of a pickle: torch reads it with ``weights_only``, and only what is not packed."""
    import pickle

    from tslens.errors import RunError
    from tslens.run_folder import RunFolder
    from tslens.train.state import load_state

    run = RunFolder(tmp_path)
    run.checkpoints.mkdir()
    with (
        zipfile.ZipFile(run.state, "w", zipfile.ZIP_DEFLATED) as packed,
        packed.open("archive/data/0", "w") as part,
    ):
        for _ in range(300):
            part.write(bytes(1 << 20))
    with fuzz.little_memory(150_000_000), pytest.raises(RunError, match="packed"):
        load_state(run, tiny_model, None)

    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "code-ran"),)

    with zipfile.ZipFile(run.state, "w") as whole:
        whole.writestr("archive/data.pkl", pickle.dumps(Trap()))
        whole.writestr("archive/version", "3")
    with fuzz.watched(tmp_path), pytest.raises(RunError):
        load_state(run, tiny_model, None)
    assert not (tmp_path / "code-ran").exists()
