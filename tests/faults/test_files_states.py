"""The state of a run that somebody else trained: ``--resume`` opens nothing that unfolds or runs code, and goes on
from nothing that its run cannot have had."""

import io
import math
import os
import warnings
import zipfile

import files_fuzz as fuzz
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st


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
        load_state(run, tiny_model, None, None)

    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "code-ran"),)

    with zipfile.ZipFile(run.state, "w") as whole:
        whole.writestr("archive/data.pkl", pickle.dumps(Trap()))
        whole.writestr("archive/version", "3")
    with fuzz.watched(tmp_path), pytest.raises(RunError):
        load_state(run, tiny_model, None, None)
    assert not (tmp_path / "code-ran").exists()


STEPS = 3  # taken of ten


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run after some steps: its folder, settings, model and optimizers."""
    from tslens.config import train_config
    from tslens.model.spec import ModelSpec
    from tslens.model.transformer import TinyTransformer
    from tslens.run_folder import RunFolder
    from tslens.train.optimizer import Optimizers
    from tslens.train.state import Counters, save_state

    run = RunFolder(tmp_path_factory.mktemp("state") / "seed0")
    config = train_config(None, model="l1_h16", seed=0, steps=10, batch_tokens=512, precision="float32")
    model = TinyTransformer(ModelSpec.from_name("l1_h16"), 300, seed=0)
    optimizers = Optimizers(model, config)
    for _ in range(STEPS):
        model(torch.arange(40)[None]).square().mean().backward()
        optimizers.step(0.1)
    save_state(run, model, optimizers, Counters(STEPS, 1, 2, 900, 1.5, 3.0, 6.0, STEPS))
    return run, config, model, optimizers


@pytest.fixture
def load(trained, tmp_path):
    """A function that writes a state or its bytes, has a model of another seed resume from it, and returns both."""
    from tslens.model.transformer import TinyTransformer
    from tslens.run_folder import RunFolder
    from tslens.train.optimizer import Optimizers
    from tslens.train.state import load_state

    _, config, model, _ = trained
    run = RunFolder(tmp_path / "seed0")
    run.checkpoints.mkdir(parents=True)
    other = TinyTransformer(model.spec, 300, seed=1)
    optimizers = Optimizers(other, config)

    def load(state):
        buffer = io.BytesIO()
        if not isinstance(state, bytes):
            torch.save(state, buffer)
        run.state.write_bytes(state if isinstance(state, bytes) else buffer.getvalue())
        return load_state(run, other, optimizers, config), other, optimizers

    load.run, load.model, load.optimizers = run, other, optimizers
    return load


@pytest.fixture
def state(trained):
    """The sound state, to be spoiled."""
    return torch.load(trained[0].state, weights_only=True)


def test_a_sound_state_is_taken_over_whole(trained, load, state):
    """But for rates and betas: those of a recipe are no part of what somebody else's state may say."""
    _, _, model, optimizers = trained
    for group in state["optimizer"]["AdamW"]["param_groups"]:
        group.update(peak=1e9, betas=(0.0, 0.0), lr=1e9, weight_decay=5.0)
    counters, found, resumed = load(state)
    assert (counters.step, counters.n_tokens, counters.best_nats) == (STEPS, 900, 3.0)
    for one, other in zip(model.parameters(), found.parameters(), strict=True):
        assert torch.equal(one, other)
    for one, other in zip(optimizers.all, resumed.all, strict=True):
        for group, same in zip(one.param_groups, other.param_groups, strict=True):
            assert {**group, "params": 0, "lr": 0} == {**same, "params": 0, "lr": 0}
            for parameter, copy in zip(group["params"], same["params"], strict=True):
                assert one.state[parameter].keys() == other.state[copy].keys()
                assert all(
                    torch.equal(one.state[parameter][k], other.state[copy][k]) for k in one.state[parameter]
                )


def _weights(change):
    return lambda state: state["model"].update({name: change(one) for name, one in state["model"].items()})


def _counters(**changes):
    return lambda state: state["counters"].update(changes)


def _moment(kind, name, change):
    def spoil(state):
        row = state["optimizer"][kind]["state"][0]
        row[name] = change(row[name])

    return spoil


SPOILED = {
    "scalars for weights": _weights(lambda one: torch.tensor(0.5)),
    "weights of another shape": _weights(lambda one: one.mT.contiguous() if one.ndim > 1 else one[:-1]),
    "NaN": _weights(lambda one: one * math.nan),
    "one infinity": lambda state: state["model"]["embed.W_E"].data[7, 3].fill_(math.inf),
    "weights of another kind": _weights(lambda one: one.half()),
    "weights that are lists": _weights(lambda one: one.tolist()),
    "sparse weights": _weights(lambda one: one.to_sparse()),
    "more weights than memory": _weights(lambda one: one.flatten()[0].expand(10**5, 10**5)),
    "a weight less": lambda state: state["model"].pop("embed.W_E"),
    "a weight more": lambda state: state["model"].update(other=torch.zeros(2)),
    "no weights": lambda state: state.pop("model"),
    "a step that is a text": _counters(step="x"),
    "a step below zero": _counters(step=-1),
    "a step beyond the budget": _counters(step=11),
    "a step that is no whole number": _counters(step=2.5),
    "a truth for a step": _counters(step=True),
    "batches without end": _counters(batch=10**12),
    "passes without end": _counters(epoch=10**30),
    "tokens below zero": _counters(n_tokens=-5),
    "tokens of more steps": _counters(n_tokens=STEPS * 512 + 1),
    "no time": _counters(seconds=math.nan),
    "endless time": _counters(seconds=math.inf),
    "a loss that is no number": _counters(loss_sum=math.nan),
    "a best loss that is no number": _counters(best_nats=math.nan),
    "more losses than steps": _counters(loss_steps=4),
    "another counter": _counters(speed=1),
    "a counter less": lambda state: state["counters"].pop("batch"),
    "counters that are a list": lambda state: state.update(counters=[1, 2]),
    "moments of another shape": _moment("AdamW", "exp_avg", lambda one: one[:-1]),
    "a moment that is a scalar": _moment("Muon", "momentum", lambda one: torch.tensor(1.0)),
    "NaN in a moment": _moment("Muon", "momentum", lambda one: one * math.nan),
    "squares below zero": _moment("AdamW", "exp_avg_sq", lambda one: -one - 1),
    "moments of a later step": _moment("AdamW", "step", lambda one: one + 1000),
    "moments of no step": _moment("AdamW", "step", lambda one: one * math.nan),
    "a moment less": lambda state: state["optimizer"]["AdamW"]["state"][0].pop("exp_avg"),
    "moments of a weight less": lambda state: state["optimizer"]["AdamW"]["state"].pop(0),
    "no moments of one optimizer": lambda state: state["optimizer"].pop("Muon"),
    "moments that are a list": lambda state: state["optimizer"]["Muon"].update(state=[]),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_state_that_no_step_left_is_refused(load, state, name):
    """With its file named; nothing of it is in the model or the optimizer then."""
    from tslens.errors import RunError

    before = [parameter.detach().clone() for parameter in load.model.parameters()]
    SPOILED[name](state)
    with (
        fuzz.little_memory(150_000_000),
        pytest.raises(RunError, match="holds no state of this run") as raised,
    ):
        load(state)
    assert str(load.run.state) in raised.value.message and "--out" in raised.value.hint
    assert all(torch.equal(one, two) for one, two in zip(before, load.model.parameters(), strict=True))
    assert not any(one.state for one in load.optimizers.all)


def test_a_state_names_the_one_before_it(trained, load, state):
    """Where the newest is of another run and the one before is there, the error says how to go on from that."""
    from tslens.errors import RunError

    load.run.state_before.write_bytes(trained[0].state.read_bytes())
    state["counters"]["step"] = -1
    with pytest.raises(RunError, match="Remove it, and --resume takes the state before it"):
        load(state)
    load.run.state.unlink()
    from tslens.train.state import load_state

    assert load_state(load.run, load.model, load.optimizers, trained[1]).step == STEPS


# Drawn cases ----------------------------------------------------------------------------------------------------

_PUT = [None, True, -1, 10**30, math.nan, math.inf, "x", [], {}, b"x", [1.0], {0: {}}]
_TENSORS = [torch.tensor(0.5), torch.tensor(math.nan), torch.zeros(3), torch.zeros(2, 2, dtype=torch.int64)]
_TENSORS += [
    torch.zeros(1).expand(10**6),
    torch.zeros(0),
    torch.ones(4, dtype=torch.bool),
    torch.eye(3).to_sparse(),
]


def _is_sound(load, counters):
    """What is taken over is finite, of the shapes of the model, and within the budget."""
    rows = [row for one in load.optimizers.all for row in one.state.values()]
    finite = all(bool(one.isfinite().all()) for one in load.model.parameters())
    return (
        finite
        and 0 <= counters.step <= 10
        and all(bool(x.isfinite().all()) for row in rows for x in row.values())
    )


def test_states_with_something_else_in_a_place(trained, load, how_many):
    @fuzz.tries(how_many(25, 800))
    @given(st.integers(0, 10_000), st.sampled_from([*_PUT, *_TENSORS]), st.booleans())
    def check(number, value, is_removed):
        state = torch.load(trained[0].state, weights_only=True)
        places = list(fuzz.places_in(state))
        holder, key = places[number % len(places)]
        if is_removed and isinstance(holder, dict):
            del holder[key]
        else:
            holder[key] = value
        found = []
        if fuzz.survives(lambda: found.append(load(state)[0]), load.run.path):
            assert _is_sound(load, found[0])

    check()


def test_states_with_broken_bytes(trained, load, how_many):
    """Torn, and torn in the names and shapes alone, with a checksum that is right again."""

    @fuzz.tries(how_many(30, 1500))
    @given(fuzz.byte_edits, st.booleans())
    def check(edits, in_names):
        data = trained[0].state.read_bytes()
        if in_names:
            buffer = io.BytesIO()
            with zipfile.ZipFile(io.BytesIO(data)) as whole, zipfile.ZipFile(buffer, "w") as spoiled:
                for part in whole.infolist():
                    held = whole.read(part)
                    is_spoiled = part.filename.endswith("data.pkl")
                    spoiled.writestr(part.filename, fuzz.spoil(held, edits) if is_spoiled else held)
            data = buffer.getvalue()
        else:
            data = fuzz.spoil(data, edits)
        found = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, on what it does not know
            if fuzz.survives(lambda: found.append(load(data)[0]), load.run.path):
                assert _is_sound(load, found[0])

    check()
