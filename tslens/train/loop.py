"""The training loop: exact to resume, cheap to watch.

Weights after k steps are a function of settings, data and (for a budget in minutes) the clock. A run folder
explains itself at every moment: settings and provenance first, weights and metrics as it goes, ``DONE`` last.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch

from tslens.config import TrainConfig
from tslens.corpus.shards import Corpus
from tslens.errors import RunError
from tslens.files import METRICS_SCHEMA, RunFolder, atomic_write, locked, read_json, write_json, write_jsonl
from tslens.model.batches import collate, epoch_batches
from tslens.model.checkpoint import save_checkpoint
from tslens.model.generate import generate
from tslens.model.loss import LossReport, evaluate, loss_per_target, next_token_loss
from tslens.model.spec import ModelSpec
from tslens.model.transformer import TinyTransformer
from tslens.provenance import provenance, utc_now
from tslens.train.optimizer import Optimizers, schedule
from tslens.train.state import Counters, load_state, save_state

RUN_SCHEMA = "tslens.run/1"
SAMPLES_SCHEMA = "tslens.samples/1"
STATE_SECONDS = 30.0  # at most so much training is lost to kill -9
EVEN_STEPS = 1024  # between checkpoints after step 512
LOG_STEPS = 50
N_EVALUATIONS = 10
QUICK_STORIES = 100  # validation stories read while training; the end reads up to FINAL_STORIES
FINAL_STORIES = 2000
SAMPLE_PROMPT = "Once upon a time"


@dataclass(frozen=True)
class TrainProgress:
    """What a progress bar shows. ``fraction``: of the budget. ``val``: the newest evaluation, None before one."""

    step: int
    fraction: float
    loss_nats: float
    tokens_per_second: float
    val: LossReport | None


@dataclass(frozen=True)
class TrainResult:
    """What a run ended with. ``val``: on the validation stories; None if interrupted, to be resumed."""

    run: RunFolder
    steps: int
    n_tokens: int
    seconds: float
    val: LossReport | None


def train_model(
    config: TrainConfig,
    corpus: Corpus,
    run: RunFolder,
    *,
    resume: bool = False,
    device: str = "cpu",
    command: str = "",
    report: Callable[[TrainProgress], None] = lambda progress: None,
) -> TrainResult:
    """Train one model into a run folder.

    Ctrl-C ends the run after the current step with its state saved. Raises RunError if the folder is in use,
    cannot be written, holds a finished run or one with other settings, or an unfinished one without ``resume``.
    """
    with locked(run.path):
        return _Training(config, corpus, run, device, command, report).to_end(resume)


class _Training:
    """One run in progress."""

    def __init__(
        self,
        config: TrainConfig,
        corpus: Corpus,
        run: RunFolder,
        device: str,
        command: str,
        report: Callable[[TrainProgress], None],
    ) -> None:
        self.config, self.corpus, self.run, self.command, self.report = config, corpus, run, command, report
        self.tokenizer = corpus.tokenizer
        spec = ModelSpec.from_name(config.model)
        self.model = TinyTransformer(
            spec, self.tokenizer.vocab_size, seed=config.seed, tokenizer=self.tokenizer
        ).to(device)
        self.optimizers = Optimizers(self.model, config)
        self.counters = Counters()
        self.started = utc_now()

    def to_end(self, resume: bool) -> TrainResult:
        """Begin or resume, train, then finish or, if interrupted, leave what resumes."""
        if self._begun(resume):
            self.counters = load_state(self.run.state, self.model, self.optimizers)
            self._forget_later_metrics()
        else:
            self._begin()
        with _interrupt_flag() as interrupted:
            self._train(interrupted)
        val = self._finish() if self._fraction() >= 1 else None
        done = self.counters
        return TrainResult(self.run, done.step, done.n_tokens, done.seconds, val)

    # Begin and end --------------------------------------------------------------------------------------

    def _config(self) -> dict[str, Any]:
        corpus = {"corpus_sha256": self.corpus.source_sha256, "tokenizer_sha256": self.tokenizer.sha256}
        return {"schema": RUN_SCHEMA, **self.config.to_json(), **corpus}

    def _begun(self, resume: bool) -> bool:
        run = self.run
        if run.config.exists() and read_json(run.config) != self._config():
            raise RunError(f"{run.path} holds a run with other settings.", "Choose another --out or --seed.")
        if run.done.exists():
            raise RunError(f"{run.path} holds a finished run.", "Choose another --out, --seed or --model.")
        begun = run.config.exists() and run.state.exists()
        if begun and not resume:
            raise RunError(
                f"{run.path} holds an unfinished run.", "Go on with --resume, or choose another --out."
            )
        return begun

    def _begin(self) -> None:
        self.tokenizer.save(self.run.tokenizer)
        with atomic_write(self.run.train_digests, "wb") as file:
            np.save(file, np.sort(self.corpus.train.digests))
        write_jsonl(self.run.metrics, METRICS_SCHEMA, {"model": self.config.model}, [])
        self._write_provenance()
        self._checkpoint()
        self._save_state()
        write_json(self.run.config, self._config())

    def _finish(self) -> LossReport:
        val = self._evaluate(FINAL_STORIES)
        self._checkpoint()
        samples = generate(self.model.eval(), [SAMPLE_PROMPT], samples=3, seed=self.config.seed)
        rows = [{"prompt": s.prompt, "completion": s.completion, "sample": s.sample} for s in samples]
        header = {"model": self.config.model, "seed": self.config.seed, "step": self.counters.step}
        write_jsonl(self.run.samples / f"step_{self.counters.step:06d}.jsonl", SAMPLES_SCHEMA, header, rows)
        self._write_provenance()
        self._save_state()
        write_json(self.run.done, {"steps": self.counters.step, "val_loss_nats": val.loss_nats})
        return val

    def _write_provenance(self) -> None:
        kept = read_json(self.run.provenance) if self.run.provenance.exists() else {}
        record = provenance(
            command=kept.get("command", self.command),
            seed=self.config.seed,
            data=self.corpus.source,
            data_sha256=self.corpus.source_sha256,
            started=kept.get("started", self.started),
            seconds=self.counters.seconds,
        )
        write_json(self.run.provenance, record.to_json())

    # Steps ------------------------------------------------------------------------------------------------

    def _fraction(self) -> float:
        """Share of the budget that is used."""
        used = {
            "steps": self.counters.step,
            "tokens": self.counters.n_tokens,
            "minutes": self.counters.seconds / 60,
        }
        return min(1.0, used[self.config.budget] / self.config.amount)

    def _train(self, interrupted: Callable[[], bool]) -> None:
        counters = self.counters
        clock = _Clock(counters)
        saved_at, evaluations = counters.seconds, int(self._fraction() * N_EVALUATIONS)
        losses: list[torch.Tensor] = []
        logged_tokens, logged_seconds = counters.n_tokens, counters.seconds
        val: LossReport | None = None
        for index in self._batches():
            fraction = self._fraction()
            if fraction >= 1 or interrupted():
                break
            losses.append(self._step(index, schedule(self.config, fraction)))
            clock.tick()
            if _is_checkpoint_step(counters.step):
                self._check_finite(float(losses[-1]))
                self._checkpoint()
            if counters.step % LOG_STEPS == 0:
                speed = (counters.n_tokens - logged_tokens) / max(1e-9, counters.seconds - logged_seconds)
                mean = float(torch.stack(losses).mean())
                rate = self.config.learning_rate * schedule(self.config, fraction)
                self._log("train", mean, None, rate, speed)
                losses, logged_tokens, logged_seconds = [], counters.n_tokens, counters.seconds
                self.report(TrainProgress(counters.step, self._fraction(), mean, speed, val))
            if int(self._fraction() * N_EVALUATIONS) > evaluations and self._fraction() < 1:
                evaluations = int(self._fraction() * N_EVALUATIONS)
                val = self._evaluate(QUICK_STORIES)
            clock.tick()
            if counters.seconds - saved_at >= STATE_SECONDS:
                self._check_finite(float(losses[-1]) if losses else 0.0)
                self._save_state()
                saved_at = counters.seconds
        self._check_finite(float(losses[-1]) if losses else 0.0)
        self._save_state()

    def _step(self, index: np.ndarray, share: float) -> torch.Tensor:
        batch = collate([self.corpus.train[i] for i in index])
        device = self.model.embed.W_E.device
        self.model.train()
        loss = next_token_loss(self.model, batch.tokens.to(device), batch.targets.to(device))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimizers.step(share)
        self.counters.step += 1
        self.counters.batch += 1
        self.counters.n_tokens += batch.n_targets
        return loss.detach()

    def _batches(self) -> Iterator[np.ndarray]:
        """Story indices of every batch from where the counters stand, pass after pass."""
        while True:
            batches = epoch_batches(
                self.corpus.train.lengths,
                batch_tokens=self.config.batch_tokens,
                seed=self.config.seed,
                epoch=self.counters.epoch,
            )
            yield from islice(batches, self.counters.batch, None)
            self.counters.epoch += 1
            self.counters.batch = 0

    def _check_finite(self, loss: float) -> None:
        if not np.isfinite(loss):
            raise RunError(
                f"The loss is {loss} at step {self.counters.step}: training has diverged.",
                "Train again with a smaller --learning-rate; the checkpoints before this step are kept.",
            )

    # What is kept -----------------------------------------------------------------------------------------

    def _evaluate(self, n_stories: int) -> LossReport:
        self.model.eval()
        stories = islice(self.corpus.validation, n_stories)
        report = evaluate(lambda s: loss_per_target(self.model, s), stories, self.tokenizer.n_bytes)
        self._check_finite(report.loss_nats)
        self._log("validation", report.loss_nats, report.bits_per_byte, None, None)
        return report

    def _log(
        self, split: str, nats: float, bits: float | None, rate: float | None, speed: float | None
    ) -> None:
        row = {
            "step": self.counters.step,
            "n_tokens": self.counters.n_tokens,
            "split": split,
            "loss_nats": nats,
            "bits_per_byte": bits,
            "lr": rate,
            "tokens_per_second": speed,
        }
        with self.run.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def _forget_later_metrics(self) -> None:
        """Drop rows of steps that a killed process took after its last state: they will be taken again."""
        text = self.run.metrics.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        rows = [
            row
            for line in whole.splitlines()
            if (row := json.loads(line)).get("step", 0) <= self.counters.step
        ]
        with atomic_write(self.run.metrics) as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)

    def _checkpoint(self) -> None:
        save_checkpoint(self.model, self.run.checkpoint(self.counters.step))

    def _save_state(self) -> None:
        save_state(self.run.state, self.model, self.optimizers, self.counters)


class _Clock:
    """Adds the time since the last tick to the counters, so that a pause between processes is not training."""

    def __init__(self, counters: Counters) -> None:
        self.counters, self.last = counters, time.monotonic()

    def tick(self) -> None:
        """Count the time since the last tick."""
        now = time.monotonic()
        self.counters.seconds += now - self.last
        self.last = now


def _is_checkpoint_step(step: int) -> bool:
    return step % EVEN_STEPS == 0 if step > 512 else step & (step - 1) == 0


@contextmanager
def _interrupt_flag() -> Iterator[Callable[[], bool]]:
    """Turn Ctrl-C and SIGTERM into a flag that the loop reads between steps; a second Ctrl-C interrupts at once."""
    seen = False

    def note(number: int, frame: Any) -> None:
        nonlocal seen
        if seen:
            raise KeyboardInterrupt
        seen = True

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: whoever runs it handles signals
        before = {}
    try:
        yield lambda: seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
