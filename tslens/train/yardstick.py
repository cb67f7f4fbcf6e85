"""The n-gram that a model has to beat: counted on the same training stories, read on the same held-out ones."""

from __future__ import annotations

from itertools import islice

from tslens.corpus.shards import Corpus
from tslens.errors import DataError
from tslens.files import read_object, write_json
from tslens.model.loss import LossReport, evaluate
from tslens.model.ngram import MOST_TOKENS, NgramModel
from tslens.reading import BROKEN, checked
from tslens.run_folder import RunFolder
from tslens.train.loop import FINAL_STORIES

ORDER = 4


def ngram_yardstick(corpus: Corpus, run: RunFolder) -> LossReport:
    """Loss of an interpolated Kneser-Ney 4-gram on the validation stories, kept beside corpus and run."""
    kept = corpus.folder / f"ngram{ORDER}.json"
    if kept.exists():
        found = read_object(kept)
    else:
        n_stories = max(1, int(len(corpus.train) * min(1.0, MOST_TOKENS / corpus.train.n_tokens)))
        ngram = NgramModel.fit(
            islice(corpus.train, n_stories), vocab_size=corpus.tokenizer.vocab_size, order=ORDER
        )
        report = evaluate(ngram.losses, islice(corpus.validation, FINAL_STORIES), corpus.tokenizer.n_bytes)
        found = {
            "order": ORDER,
            "nats": report.nats,
            "n_targets": report.n_targets,
            "n_bytes": report.n_bytes,
        }
        write_json(kept, found)
    write_json(run.yardstick, found)
    try:
        return checked(LossReport(found["nats"], found["n_targets"], found["n_bytes"]))
    except BROKEN as error:
        raise DataError(f"{kept} holds no loss: {error}.", "Remove it; it is counted again.") from error
