"""What a run keeps in its folder: settings and provenance first, metrics and weights as it goes, ``DONE`` last."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tslens.config import Precision, TrainConfig
from tslens.corpus.shards import Corpus
from tslens.errors import DataError, RunError
from tslens.files import append_line, atomic_write, read_json, read_object, write_json, write_jsonl
from tslens.model.checkpoint import save_checkpoint
from tslens.model.generate import generate
from tslens.model.loss import LossReport
from tslens.model.spec import ModelSpec
from tslens.model.transformer import TinyTransformer
from tslens.provenance import provenance, utc_now
from tslens.reading import BROKEN, parse_row, read_text, split_rows
from tslens.run_folder import METRICS_SCHEMA, RunFolder
from tslens.train.flops import flops_per_token
from tslens.train.state import Counters, has_state

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

RUN_SCHEMA = "tslens.run/1"
SAMPLES_SCHEMA = "tslens.samples/1"
SAMPLE_PROMPT = "Once upon a time"
MOST_NAMED = 4  # settings that the error names where a run has others


class Record:
    """The folder of one run, as it is written. ``tensorboard``: write its metrics for TensorBoard as well."""

    def __init__(
        self, config: TrainConfig, corpus: Corpus, run: RunFolder, *, command: str, tensorboard: bool
    ) -> None:
        self.config, self.corpus, self.run, self.command = config, corpus, run, command
        self.started, self.tensorboard = utc_now(), tensorboard
        self._board: SummaryWriter | None = None

    def is_begun(self, resume: bool) -> bool:
        """Whether there is a run to go on with. Raises RunError if that is not wanted, or cannot be."""
        run = self.run
        if run.config.exists() and (others := other_settings(run, self.config, self.corpus)):
            more = f"; and {len(others) - MOST_NAMED} more" if len(others) > MOST_NAMED else ""
            raise RunError(
                f"{run.path} holds a run with other settings: {'; '.join(others[:MOST_NAMED])}{more}.",
                "Choose another --out or --seed.",
            )
        return is_begun(run, resume)

    def begin(self) -> None:
        """Write what is known before the first step; the settings are written by :meth:`mark_begun`."""
        self.corpus.tokenizer.save(self.run.tokenizer)
        with atomic_write(self.run.train_digests, "wb") as file:
            np.save(file, np.sort(self.corpus.train.digests))
        train = self.corpus.train
        spec = ModelSpec.from_name(self.config.model)
        header = {
            "model": self.config.model,
            "pass_tokens": train.n_tokens,
            "flops_per_token": flops_per_token(spec, self.corpus.tokenizer.vocab_size, train.lengths),
        }
        write_jsonl(self.run.metrics, METRICS_SCHEMA, header, [])
        self.write_provenance(0.0)

    def mark_begun(self) -> None:
        """The settings, last of what a beginning writes: from here on the run can be resumed."""
        write_json(self.run.config, settings_of(self.config, self.corpus))

    def finish(self, model: TinyTransformer, counters: Counters) -> None:
        """Samples and provenance; the mark of completion is written by :meth:`mark_done`."""
        samples = generate(model.eval(), [SAMPLE_PROMPT], samples=3, seed=self.config.seed)
        rows = [{"prompt": s.prompt, "completion": s.completion, "sample": s.sample} for s in samples]
        header = {"model": self.config.model, "seed": self.config.seed, "step": counters.step}
        write_jsonl(self.run.samples / f"step_{counters.step:06d}.jsonl", SAMPLES_SCHEMA, header, rows)
        self.write_provenance(counters.seconds)
        if self._board is not None:
            self._board.close()

    def mark_done(self, counters: Counters, val: LossReport) -> None:
        """The mark of completion, last of all files of a run."""
        write_json(self.run.done, {"steps": counters.step, "val_loss_nats": val.loss_nats})

    def checkpoint(self, model: TinyTransformer, step: int) -> None:
        """The weights after a step."""
        save_checkpoint(model, self.run.checkpoint(step))

    def keep_best(self, model: TinyTransformer) -> None:
        """The weights with the lowest validation loss so far."""
        save_checkpoint(model, self.run.best)

    def write_provenance(self, seconds: float) -> None:
        """What ran on what, when and for how long."""
        kept = read_object(self.run.provenance) if self.run.provenance.exists() else {}
        record = provenance(
            command=kept.get("command", self.command),
            seed=self.config.seed,
            data=self.corpus.source,
            data_sha256=self.corpus.source_sha256,
            started=kept.get("started", self.started),
            seconds=seconds,
        )
        write_json(self.run.provenance, record.to_json())

    # Metrics ----------------------------------------------------------------------------------------------

    def log(
        self,
        counters: Counters,
        split: str,
        nats: float,
        *,
        bits: float | None = None,
        rate: float | None = None,
        speed: float | None = None,
    ) -> None:
        """One row of metrics; empty columns where a split has no such number."""
        row = {
            "step": counters.step,
            "n_tokens": counters.n_tokens,
            "split": split,
            "loss_nats": nats,
            "bits_per_byte": bits,
            "lr": rate,
            "tokens_per_second": speed,
        }
        append_line(self.run.metrics, json.dumps(row))
        if self.tensorboard:
            if self._board is None:
                self._board = _open_board(self.run, counters.step)
            for name in ("loss_nats", "bits_per_byte", "lr", "tokens_per_second"):
                if row[name] is not None:
                    self._board.add_scalar(f"{split}/{name}", row[name], counters.step)
            self._board.flush()

    def forget_later_metrics(self, step: int) -> None:
        """Drop rows of steps that a killed process took after its last state: they will be taken again."""
        self._keep_metrics(lambda row: row.get("step", 0) <= step)

    def forget_validation(self, step: int) -> None:
        """Drop validation rows of a step: a process that was killed at its end wrote them, and they come again."""
        self._keep_metrics(lambda row: row.get("split") != "validation" or row["step"] < step)

    def _keep_metrics(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        try:
            text = read_text(self.run.metrics)
            whole = text[: text.rfind("\n") + 1]
            rows = [row for line in split_rows(whole) if line and wanted(row := parse_row(line))]
        except (OSError, *BROKEN) as error:
            raise DataError(
                f"{self.run.metrics} is broken: {error}.", "Train the run anew, into another --out."
            ) from error
        with atomic_write(self.run.metrics) as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


def settings_of(config: TrainConfig, corpus: Corpus) -> dict[str, Any]:
    """What the ``config.json`` of a run says: its settings, and of which stories."""
    texts = {"corpus_sha256": corpus.source_sha256, "tokenizer_sha256": corpus.tokenizer.sha256}
    return {"schema": RUN_SCHEMA, **config.to_json(), **texts}


def is_begun(run: RunFolder, resume: bool) -> bool:
    """Whether a folder holds a run to go on with. Raises RunError if it is finished, or not to be resumed."""
    if run.done.exists():
        raise RunError(f"{run.path} holds a finished run.", "Choose another --out, --seed or --model.")
    begun = run.config.exists() and has_state(run)
    if begun and not resume:
        raise RunError(
            f"{run.path} holds an unfinished run.", "Go on with --resume, or choose another --out."
        )
    return begun


def has_settings(run: RunFolder, config: TrainConfig, corpus: Corpus) -> bool:
    """Whether a run has these settings, those that :func:`other_settings` compares."""
    return not other_settings(run, config, corpus)


def other_settings(run: RunFolder, config: TrainConfig, corpus: Corpus) -> list[str]:
    """How the settings of a run differ from these, a phrase each, as in ``seed 1, not 0``; empty if they do not.

    The precision ``auto`` is whichever one its device gave it.
    """
    made, wanted = read_json(run.config), settings_of(config, corpus)
    if not isinstance(made, dict):
        return ["its config.json holds none"]
    if config.precision == "auto":
        wanted["precision"] = made.get("precision")
    names = [name for name in {**wanted, **made} if made.get(name) != wanted.get(name)]
    phrases = []
    if {"budget", "amount"} & set(names):
        amounts = [str(one.get("amount")).removesuffix(".0") for one in (made, wanted)]
        there, here = (f"{n} {one.get('budget')}" for n, one in zip(amounts, (made, wanted), strict=True))
        phrases.append(f"budget {there}, not {here}")
    hidden = {"budget", "amount", "corpus_sha256", "tokenizer_sha256"}
    phrases += [f"{name} {made.get(name)}, not {wanted.get(name)}" for name in names if name not in hidden]
    if "corpus_sha256" in names:
        phrases.append("other stories")
    elif names == ["tokenizer_sha256"]:
        phrases.append("another tokenizer")
    return phrases


def precision_of(run: RunFolder) -> Precision | None:
    """The precision that an unfinished run began with, None where there is none."""
    if not run.config.exists() or run.done.exists():
        return None
    settings = read_json(run.config)
    found = settings.get("precision") if isinstance(settings, dict) else None
    return found if found in {"float32", "bfloat16", "float64"} else None


def _open_board(run: RunFolder, step: int) -> SummaryWriter:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise DataError(
            "TensorBoard is not installed.", "Install it: pip install 'tinystories-lens[tensorboard]'"
        ) from error
    return SummaryWriter(run.tensorboard, purge_step=step)  # what a killed process drew later is taken out
