"""One side of bench_train.py in a process of its own: jobs come as JSON lines, answers go back as such.

A process of its own, because what a process did before decides how fast the next thing in it is: which memory its
allocator holds, and what was compiled.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**32)}
"""Makes glibc keep freed memory: large tensors are then not fetched from the system again at each step."""

STEP_ROWS = 4  # of the steps that are timed alone: 2,048 tokens


class Worker:
    """A process that does jobs. ``keeps_memory``: with ``KEPT_MEMORY`` in its environment."""

    def __init__(self, *, keeps_memory: bool = False) -> None:
        environment = os.environ | (KEPT_MEMORY if keeps_memory else {})
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def do(self, job: str, **arguments: Any) -> Any:
        """The answer to a job, a function below by its name."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps({"job": job, **arguments}) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"the process that should do {job} {arguments} ended without an answer")
        return json.loads(answer)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: Any) -> None:
        self.process.kill()
        self.process.wait()


def do(job: str, *, keeps_memory: bool = False, **arguments: Any) -> Any:
    """The answer to one job of a new process."""
    with Worker(keeps_memory=keeps_memory) as worker:
        return worker.do(job, **arguments)


# In the process ---------------------------------------------------------------------------------------------

_STEPS: list[Callable[[], int]] = []  # of the side that was opened


def corpus() -> Any:
    """Real stories."""
    from tslens.corpus.shards import corpus_for
    from tslens.files import data_dir

    return corpus_for(data_dir() / "tinystories.jsonl.gz", Path("runs/.corpora"))


def open_side(side: str, model: str, options: dict[str, bool]) -> float:
    """Make ready to step: ``ours``, ``reference`` or ``native``. Seconds of the first step, which compiles."""
    stories = corpus()
    _STEPS.append(our_steps(model, stories) if side == "ours" else peer_steps(side, model, options, stories))
    began = time.perf_counter()
    _STEPS[0]()
    return time.perf_counter() - began


def take_steps(n: int) -> float:
    """Steps of 2,048 targets a second, over ``n`` steps."""
    began = time.perf_counter()
    n_targets = sum(_STEPS[0]() for _ in range(n))
    return n_targets / 2048 / (time.perf_counter() - began)


def our_steps(model: str, stories: Any) -> Callable[[], int]:
    """A function that takes one step of ours and gives its number of targets."""
    from tslens.allocator import keep_freed_memory
    from tslens.config import train_config
    from tslens.model.batches import collate, epoch_batches
    from tslens.model.spec import N_CTX
    from tslens.train.learner import Learner
    from tslens.train.objective import resolve_precision

    config = train_config(None, model=model, seed=0, minutes=1)
    config = replace(
        config, precision=resolve_precision(config.precision, "cpu"), batch_tokens=STEP_ROWS * N_CTX
    )
    keep_freed_memory()  # as train_model does
    learner = Learner(config, stories.tokenizer, device="cpu")
    batches = cycle(
        epoch_batches(stories.train.lengths, batch_tokens=config.batch_tokens, seed=config.seed, epoch=0)
    )

    def step() -> int:
        rows = collate([stories.train[i] for i in next(batches)])
        learner.gradients(rows, 1 / rows.n_targets)
        learner.update(0.5)
        return rows.n_targets

    return step


def peer_steps(side: str, model: str, options: dict[str, bool], stories: Any) -> Callable[[], int]:
    """The same for a peer."""
    from train_peers import Trainer, gpt_neo, native, training_batches

    from tslens.model.spec import ModelSpec

    make = gpt_neo if side == "reference" else native
    trainer = Trainer(make(ModelSpec.from_name(model), stories.tokenizer.vocab_size, 0), **options)
    batches = training_batches(stories.train, n_rows=STEP_ROWS, seed=0)

    def step() -> int:
        tokens = next(batches)
        trainer.step(tokens, 5e-4)
        return tokens[:, 1:].numel()

    return step


def loss_of(model: Any, stories: Any) -> float:
    """Nats per token on all held-out stories."""
    from tslens.model.loss import evaluate, loss_per_target

    report = evaluate(
        lambda group: loss_per_target(model, group), stories.validation, stories.tokenizer.n_bytes
    )
    return report.loss_nats


def train_reference(
    model: str, options: dict[str, bool], rows: int, rate: float, seed: int, seconds: float
) -> dict[str, float]:
    """Train the reference; its losses by both ways to read them."""
    from train_peers import Trainer, as_ours, gpt_neo, own_loss, train_for, training_batches

    from tslens.model.spec import ModelSpec

    stories, spec = corpus(), ModelSpec.from_name(model)
    reference = gpt_neo(spec, stories.tokenizer.vocab_size, seed)
    batches = training_batches(stories.train, n_rows=rows, seed=seed)
    n_steps = train_for(Trainer(reference, **options), batches, rate=rate, seconds=seconds)
    by_story = loss_of(as_ours(reference, spec, stories), stories)
    return {"steps": n_steps, "by_story": by_story, "by_row": own_loss(reference, stories.validation)}


def train_ours(config: dict[str, Any]) -> dict[str, float]:
    """Train as the command does; the loss of the last weights, steps and seconds."""
    from tslens.config import TrainConfig
    from tslens.model.checkpoint import load_checkpoint
    from tslens.run_folder import RunFolder
    from tslens.train.loop import train_model

    stories = corpus()
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder) / "run")
        result = train_model(TrainConfig.from_json(config), stories, run)
        if result.val is None:  # Ctrl-C, which training takes as an order to save its state
            raise KeyboardInterrupt
        checkpoint = run.last_checkpoint()
        assert checkpoint is not None
        loss = loss_of(load_checkpoint(checkpoint, stories.tokenizer), stories)
    return {"loss": loss, "steps": result.steps, "seconds": round(result.seconds, 1)}


def facts() -> dict[str, Any]:
    """Of libraries, threads and stories."""
    import torch
    import transformers

    return {
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "stories": corpus().source_sha256[:12],
    }


JOBS: dict[str, Callable[..., Any]] = {
    job.__name__: job for job in (open_side, take_steps, train_reference, train_ours, facts)
}


def main() -> None:
    """Do jobs until no more come."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints is no answer
    for line in sys.stdin:
        arguments = json.loads(line)
        print(json.dumps(JOBS[arguments.pop("job")](**arguments)), file=answers, flush=True)


if __name__ == "__main__":
    main()
