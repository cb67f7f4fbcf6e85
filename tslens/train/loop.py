"""The training loop: exact to resume, cheap to watch.

Weights after k steps are a function of settings, data and (for a budget in minutes) the clock. Gradients are those of
the mean over all targets of a batch, whatever the number of processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch

from tslens.allocator import keep_freed_memory
from tslens.config import TrainConfig
from tslens.corpus.shards import Corpus
from tslens.errors import RunError
from tslens.files import locked, refuse_links
from tslens.model.loss import LossReport, evaluate, loss_per_target
from tslens.run_folder import RunFolder
from tslens.train.distribute import World, joined, own_device
from tslens.train.ending import interrupt_flag, plain_errors
from tslens.train.feed import Share, batch_shares
from tslens.train.learner import Learner
from tslens.train.objective import resolve_precision
from tslens.train.optimizer import schedule
from tslens.train.record import Record, precision_of
from tslens.train.state import Counters, load_state, save_state

STATE_SECONDS = 30.0  # at most so much training is lost to kill -9,
STATE_SHARE = 0.05  # or what it takes that writing states costs at most this share of the time
EVEN_STEPS = 1024  # between checkpoints after step 512
LOG_STEPS = 50
REPORT_SECONDS = 0.5  # between two reports of progress
N_EVALUATIONS = 10
QUICK_STORIES = 100  # validation stories read while training; the end reads up to FINAL_STORIES
FINAL_STORIES = 2000
BEST_FROM = 0.5  # share of the budget from which the best weights are kept


@dataclass(frozen=True)
class TrainProgress:
    """What a progress bar shows.

    ``fraction``: of the budget. ``loss_nats``, ``tokens_per_second``: means over the steps since the last row of
    metrics. ``val``: the newest evaluation, None before one.
    """

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
    tensorboard: bool = False,
    report: Callable[[TrainProgress], None] = lambda progress: None,
    before_done: Callable[[], object] = lambda: None,
) -> TrainResult:
    """Train one model into a run folder; under torchrun, together with the other processes.

    ``before_done``: what else belongs into the folder; called by one process, before the mark of completion.
    Ctrl-C ends the run after the current step with its state saved. Raises RunError if the folder is in use,
    cannot be written, holds a finished run or one with other settings, or an unfinished one without ``resume``; if
    memory does not suffice, or nothing can be compiled here.
    """
    keep_freed_memory()
    device = own_device(device)
    precision = precision_of(run) if config.precision == "auto" and resume else None
    config = replace(config, precision=precision or resolve_precision(config.precision, device))
    with joined(device) as world, _held(run, world), plain_errors():
        record = Record(config, corpus, run, command=command, tensorboard=tensorboard and world.leads)
        return _Training(record, world, device, report, before_done).to_end(resume)


class _Training:
    """One run in progress, in one of its processes."""

    def __init__(
        self,
        record: Record,
        world: World,
        device: str,
        report: Callable[[TrainProgress], None],
        before_done: Callable[[], object],
    ) -> None:
        self.record, self.world, self.report, self.before_done = record, world, report, before_done
        self.config, self.corpus, self.run = record.config, record.corpus, record.run
        self.learner = Learner(self.config, self.corpus.tokenizer, device=device, world=world)
        self.model = self.learner.model
        self.counters = Counters()

    def to_end(self, resume: bool) -> TrainResult:
        """Begin or resume, train, then finish or, if interrupted, leave what resumes."""
        begun = self.record.is_begun(resume)
        if begun:
            self.counters = load_state(self.run, self.model, self.learner.optimizers, self.config)
        self.world.wait()  # all have read before one writes
        if self.world.leads and begun:
            self.record.forget_later_metrics(self.counters.step)
        elif self.world.leads:
            self.record.begin()
            self.record.checkpoint(self.model, 0)
            self._save_state()
            self.record.mark_begun()
        with interrupt_flag() as interrupted:
            ended = self._train(interrupted)
        val = self._finish() if ended else None
        done = self.counters
        return TrainResult(self.run, done.step, done.n_tokens, done.seconds, val)

    def _finish(self) -> LossReport:
        """The loss at the end, in every process; the first of them evaluates and writes."""
        val = LossReport(0.0, 0, 0)
        if self.world.leads:
            self.record.forget_validation(self.counters.step)
            self._evaluate(QUICK_STORIES, keep=True)
            val = self._evaluate(FINAL_STORIES)
            self.record.checkpoint(self.model, self.counters.step)
            self._save_state()
            self.record.finish(self.model, self.counters)
        nats, n_targets, n_bytes = self.world.agreed(val.nats, val.n_targets, val.n_bytes)
        if self.world.leads:  # what is left may take long: nobody waits for it
            self.before_done()
            self.record.mark_done(self.counters, val)
        return LossReport(nats, int(n_targets), int(n_bytes))

    # Steps ------------------------------------------------------------------------------------------------

    def _fraction(self) -> float:
        """Share of the budget that is used."""
        used = {
            "steps": self.counters.step,
            "tokens": self.counters.n_tokens,
            "minutes": self.counters.seconds / 60,
        }
        return min(1.0, used[self.config.budget] / self.config.amount)

    def _train(self, interrupted: Callable[[], bool]) -> bool:
        """Steps until the budget is used (true) or somebody interrupts (false)."""
        counters, clock = self.counters, _Clock(self.counters)
        told_at = saved_at = counters.seconds
        saving = 0.0
        n_evaluated = int(self._fraction() * N_EVALUATIONS)
        device = self.learner.device
        losses = torch.tensor(counters.loss_sum, dtype=torch.float64).to(device, _sum_dtype(device))
        since = (counters.n_tokens, counters.seconds)  # of the last row of metrics
        val: LossReport | None = None
        feed = batch_shares(
            self.corpus.train, self.config, self.world, device, epoch=counters.epoch, used=counters.batch
        )
        while True:
            is_due = counters.seconds - saved_at >= max(STATE_SECONDS, saving / STATE_SHARE)
            fraction, stop, save = self.world.agreed(self._fraction(), float(interrupted()), float(is_due))
            if fraction >= 1 or stop:
                break
            if save:
                before = counters.seconds
                self._save_state(losses)
                clock.tick()
                saved_at, saving = counters.seconds, counters.seconds - before
            losses += self._step(next(feed), fraction)
            counters.loss_steps += 1
            clock.tick()
            if _is_checkpoint_step(counters.step) and self.world.leads:
                self._check_finite(float(losses))
                self.record.checkpoint(self.model, counters.step)
            is_row = counters.step % LOG_STEPS == 0
            if self.world.leads and (is_row or counters.seconds - told_at >= REPORT_SECONDS):
                told_at = counters.seconds
                loss, speed = float(losses) / counters.loss_steps, self._speed(since)
                self.report(TrainProgress(counters.step, self._fraction(), loss, speed, val))
            if is_row:
                self._log_training(losses, fraction, since)
                clock.tick()
                since = (counters.n_tokens, counters.seconds)
            if not self.world.leads:
                continue
            due = int(self._fraction() * N_EVALUATIONS)
            if due > n_evaluated and self._fraction() < 1:
                n_evaluated = due
                val = self._evaluate(QUICK_STORIES, keep=self._fraction() >= BEST_FROM)
            clock.tick()
        if fraction >= 1 and counters.loss_steps:
            self._log_training(losses, fraction, since)
        self._save_state(losses)
        feed.close()
        return fraction >= 1

    def _log_training(self, losses: torch.Tensor, fraction: float, since: tuple[int, float]) -> None:
        """One row of the losses since the last one, over all processes."""
        counters = self.counters
        loss = float(self.world.mean(losses)) / counters.loss_steps
        self._check_finite(loss)
        if self.world.leads:
            rate = self.config.learning_rate * schedule(self.config, fraction)
            self.record.log(counters, "train", loss, rate=rate, speed=self._speed(since))
        losses.zero_()
        counters.loss_steps = 0

    def _speed(self, since: tuple[int, float]) -> float:
        """Tokens a second since a number of tokens and of seconds."""
        return (self.counters.n_tokens - since[0]) / max(1e-9, self.counters.seconds - since[1])

    def _step(self, share: Share, fraction: float) -> torch.Tensor:
        """One step; the loss of the batch, of this process's targets where there are several."""
        counters = self.counters
        # gradients are averaged over the processes: each weighs its sum so that the average is the mean over all
        loss = self.learner.gradients(share.rows, self.world.size / share.n_targets)
        self.learner.update(schedule(self.config, fraction))
        counters.step += 1
        counters.epoch, counters.batch = share.epoch, share.used
        counters.n_tokens += share.n_targets
        return loss

    def _check_finite(self, loss: float) -> None:
        if not np.isfinite(loss):
            raise RunError(
                f"The loss is {loss} at step {self.counters.step}: training has diverged.",
                "Train again with a smaller --learning-rate or --matrix-learning-rate; checkpoints before it are kept.",
            )

    # What is kept -----------------------------------------------------------------------------------------

    def _evaluate(self, n_stories: int, *, keep: bool = False) -> LossReport:
        """Loss on the first validation stories; ``keep``: keep the weights if none had a lower one."""
        self.model.eval()
        stories = islice(self.corpus.validation, n_stories)
        report = evaluate(lambda s: loss_per_target(self.model, s), stories, self.corpus.tokenizer.n_bytes)
        self._check_finite(report.loss_nats)
        self.record.log(self.counters, "validation", report.loss_nats, bits=report.bits_per_byte)
        if keep and report.loss_nats < self.counters.best_nats:
            self.counters.best_nats = report.loss_nats
            self.record.keep_best(self.model)
        return report

    def _save_state(self, losses: torch.Tensor | None = None) -> None:
        """Write the state; with ``losses``, which are then averaged, in all processes together."""
        self.counters.loss_sum = float(self.world.mean(losses)) if losses is not None else 0.0
        self._check_finite(self.counters.loss_sum)
        if self.world.leads:
            save_state(self.run, self.model, self.learner.optimizers, self.counters)


class _Clock:
    """Adds the time since the last tick to the counters, so that a pause between processes is not training."""

    def __init__(self, counters: Counters) -> None:
        self.counters, self.last = counters, time.monotonic()

    def tick(self) -> None:
        """Count the time since the last tick."""
        now = time.monotonic()
        self.counters.seconds += now - self.last
        self.last = now


def _sum_dtype(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64


def _is_checkpoint_step(step: int) -> bool:
    return step % EVEN_STEPS == 0 if step > 512 else step & (step - 1) == 0


@contextmanager
def _held(run: RunFolder, world: World) -> Iterator[None]:
    """The run folder, held by the process that writes it."""
    if not world.leads:
        yield
        return
    for folder in (run.checkpoints, run.samples, run.tensorboard):
        refuse_links(folder, run.path)
    with locked(run.path):
        yield
