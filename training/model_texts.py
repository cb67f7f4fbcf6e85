"""What the shipped models read: the corpora of stories and of instruction texts, and losses on their parts by kind."""

import hashlib
import json
import os
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np

import tslens
from tslens.corpus.instructions.variant import instruct_stories
from tslens.corpus.shards import Corpus, corpus_for, import_corpus
from tslens.corpus.stories import describe_source, normalise, read_stories
from tslens.files import atomic_write, data_dir, locked, sha256_file, write_json
from tslens.model import shipped
from tslens.model.loss import LossReport, evaluate
from tslens.model.ngram import NgramModel
from tslens.model.shipped import NGRAM_SCHEMA, TextLoss
from tslens.types import Story

CORPORA = Path("runs/.corpora")
NGRAM_ORDER = 4


@dataclass(frozen=True)
class Texts:
    """A corpus. ``held_out``, ``train``: indices of texts by kind. ``digests``: hashes of all that it trains on."""

    corpus: Corpus
    held_out: dict[str, np.ndarray]
    train: dict[str, np.ndarray]
    digests: np.ndarray


class Corpora:
    """The two corpora, made when first asked for and kept under ``runs``."""

    def __init__(self, data: dict) -> None:
        self.data = data
        self.real = data_dir() / data["stories"]

    @cached_property
    def stories(self) -> Texts:
        """Real stories and the author's."""
        corpus = corpus_for([self.real, self.data["author"]], CORPORA, vocab_size=self.data["vocab_size"])
        real = {story.digest for story in read_stories(self.real, text_only=True)}
        return sort_texts(corpus, real, ("real stories", "author stories"), {})

    @cached_property
    def instructed(self) -> Texts:
        """The same stories after instructions that they follow.

        The tokenizer is that of the stories, so that nats of both kinds of models can be compared.
        """
        tokenizer = self.stories.corpus.tokenizer
        made_of = [describe_source(self.real), self.data, tslens.__version__]
        key = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()
        file = CORPORA / f"instruct-{key[:12]}.jsonl"
        if not file.exists():
            self._write_instructed(file)
        folder = CORPORA / f"instruct-{tokenizer.vocab_size}-{sha256_file(file)[:12]}"
        with locked(folder, wait=True):
            if not (folder / "corpus.json").exists():
                import_corpus(file, folder, tokenizer=tokenizer)
        texts = list(read_stories(file))
        real = {text.digest for text in texts if text.extra["source"] != "author"}
        inside = {text.digest: Story(normalise(text.extra["story"])).digest for text in texts}
        names = ("real stories with instructions", "author stories with instructions")
        return sort_texts(Corpus(folder), real, names, inside)

    def _write_instructed(self, file: Path) -> None:
        sources = (self.real, self.data["author"])
        made = chain.from_iterable(
            instruct_stories(s, seed=self.data["instruct_seed"], n_processes=os.cpu_count() or 1)
            for s in sources
        )
        with atomic_write(file) as out:
            for text in made:
                if text.instruction is not None and not text.is_held_out:
                    out.write(json.dumps(text.to_json(), ensure_ascii=False) + "\n")


def sort_texts(corpus: Corpus, real: set[int], names: tuple[str, str], inside: dict[int, int]) -> Texts:
    """Texts of a corpus by kind. ``real``: hashes of those of the first kind. ``inside``: the story in each text."""

    def by_kind(digests: np.ndarray) -> dict[str, np.ndarray]:
        is_real = np.array([digest in real for digest in digests.tolist()])
        return {
            name: np.flatnonzero(is_real == first) for name, first in zip(names, (True, False), strict=True)
        }

    trained = corpus.train.digests.tolist()
    digests = {*trained, *(inside[digest] for digest in trained if inside)}
    return Texts(
        corpus,
        by_kind(corpus.validation.digests),
        by_kind(corpus.train.digests),
        np.array(sorted(digests), dtype=np.uint64),
    )


# Losses ---------------------------------------------------------------------------------------------------


def held_out_losses(loss_of, texts: Texts) -> tuple[TextLoss, ...]:
    """Losses on all held-out texts, by kind."""
    side = texts.corpus.validation
    return tuple(measure(loss_of, side, index, name, texts) for name, index in texts.held_out.items())


def train_loss(loss_of, texts: Texts) -> TextLoss:
    """Loss on training texts of the first kind, as many as are held out."""
    (name, index), n_texts = next(iter(texts.train.items())), len(next(iter(texts.held_out.values())))
    return measure(loss_of, texts.corpus.train, index[:n_texts], name, texts)


def measure(loss_of, side, index: np.ndarray, name: str, texts: Texts) -> TextLoss:
    """Loss on some texts of one side."""
    report: LossReport = evaluate(loss_of, (side[i] for i in index), texts.corpus.tokenizer.n_bytes)
    return TextLoss(name, len(index), report.loss_nats, report.bits_per_byte)


def share_corpus(texts: Texts) -> None:
    """Write what the cells of a corpus share, unless it is there: tokenizer, hashes, losses of the 4-gram."""
    corpus = texts.corpus
    folder = shipped.corpus_folder(corpus.source_sha256)
    if (folder / "ngram4.json").exists():
        return
    print("counting 4-grams ...", flush=True)
    corpus.tokenizer.save(shipped.tokenizer_file(corpus.tokenizer.sha256))
    with atomic_write(folder / "train_digests.npy", "wb") as file:
        np.save(file, texts.digests)
    ngram = NgramModel.fit(corpus.train, vocab_size=corpus.tokenizer.vocab_size, order=NGRAM_ORDER)
    rows = [vars(row) for row in held_out_losses(ngram.losses, texts)]
    write_json(folder / "ngram4.json", {"schema": NGRAM_SCHEMA, "order": NGRAM_ORDER, "held_out": rows})
