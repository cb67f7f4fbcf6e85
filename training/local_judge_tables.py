"""What the local judge knows of real stories: writes ``tslens/assets/grading/local_judge.safetensors``.

    python training/local_judge_tables.py STORIES [--labelled 2500] [--processes 2]

1. n-grams of words, hashed and pruned (``grading.local.word_table``);
2. where in a story a sentence belongs: ridge regression; whether it is the last, which sentence follows which (the
   real next one against others of the story), and whether it belongs to a beginning (against one at the same place of
   another story): logistic regression (``grading.local.order``); stories of the author, which end and begin in ways of
   their own, are read here as well;
3. whose name and which pronoun stands where: conditional logit (``grading.local.slots``), on the first ``--labelled``
   stories with labels by the annotator.

Stories whose digest ``for_tables`` takes are read, four of five of the training side; the fifth is for the heads
(``local_judge_heads.py``), and the validation side for the audit of judges.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from safetensors.numpy import save
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from scipy.special import logsumexp
from sklearn.linear_model import Ridge, SGDClassifier
from sklearn.metrics import roc_auc_score

from tslens.corpus.annotate import annotate
from tslens.corpus.faults.reading import Reading
from tslens.corpus.labelled import read_labels
from tslens.corpus.stories import is_validation, read_stories
from tslens.files import atomic_write
from tslens.grading.local.evidence import FILE, Tables
from tslens.grading.local.order import (
    N_FOLLOW,
    N_PLACE,
    Linear,
    OrderModel,
    belong_columns,
    follow_columns,
    place_columns,
)
from tslens.grading.local.slots import (
    NAME_CUES,
    PRONOUN_CUES,
    People,
    Slot,
    SlotModel,
    name_slots,
    pronoun_slots,
)
from tslens.grading.local.word_table import WordTable, cut
from tslens.types import Story

N_WORDS = 8_000
LEAST = {2: 2, 3: 2, 4: 3}  # times an n-gram was seen, to be kept
N_OTHERS = 2  # sentences that do not follow, for each that does
N_BEGINNING, N_BELONG = 2, 5  # sentences of a beginning, and of each story that belong to it
RIDGE, PENALTY = 1.0, 3e-6
SEED, AUTHOR_SEED = 0, 21


def for_tables(story: Story) -> bool:
    """Whether a story is read for the tables: four of five of the training side."""
    return not is_validation(story) and story.digest // 1000 % 5 != 0


def fit_order(texts: Sequence[tuple[list[str], list[bool], list[int]]], words: WordTable) -> OrderModel:
    """All models of order."""
    dice = np.random.default_rng(SEED)
    stories = [found for text in texts if len(found := sentences_of(text, words)) >= 4]
    sentences = [place_columns(one) for story in stories for one in story]
    places = [place for story in stories for place in np.linspace(0, 1, len(story))]
    last = [place == 1 for place in places]
    pairs, follows = list[np.ndarray](), list[bool]()
    both, belongs = list[np.ndarray](), list[bool]()
    for story in stories:
        n = len(story)
        for number in range(n - 1):
            others = [other for other in range(n) if other not in (number, number + 1)]
            chosen = [number + 1, *dice.choice(others, size=min(N_OTHERS, len(others)), replace=False)]
            pairs += [follow_columns(story[number], story[other]) for other in chosen]
            follows += [True] + [False] * (len(chosen) - 1)
        beginning = np.concatenate(story[:N_BEGINNING])
        for number in dice.choice(
            np.arange(N_BEGINNING, n), size=min(N_BELONG, n - N_BEGINNING), replace=False
        ):
            stranger = stories[dice.integers(len(stories))]
            place = min(len(stranger) - 1, round(number / (n - 1) * (len(stranger) - 1)))
            both += [belong_columns(beginning, story[number]), belong_columns(beginning, stranger[place])]
            belongs += [True, False]
    place = Ridge(alpha=RIDGE, solver="sparse_cg", random_state=SEED).fit(
        _matrix(sentences, N_PLACE, mean=True), np.array(places)
    )
    return OrderModel(
        Linear(place.coef_, float(place.intercept_)),
        _logistic("is the last", sentences, N_PLACE, last),
        _logistic("follows", pairs, N_FOLLOW, follows),
        _logistic("belongs", both, N_FOLLOW, belongs),
    )


def sentences_of(text: tuple[list[str], list[bool], list[int]], words: WordTable) -> list[np.ndarray]:
    """Ids of the units of each sentence."""
    surfaces, starts, of = text
    ids, where = words.ids(surfaces, starts), np.array(of)
    found = [ids[where == number] for number in range(of[-1] + 1)]
    return [one for one in found if len(one)]


def _logistic(what: str, rows: Sequence[np.ndarray], n_columns: int, flags: Sequence[bool]) -> Linear:
    """Logistic regression, both classes of equal weight; the last tenth of the rows says how well it does."""
    matrix, truth = _matrix(rows, n_columns, mean=False), np.array(flags)
    model = SGDClassifier(
        loss="log_loss",
        alpha=PENALTY,
        max_iter=6,
        tol=None,
        random_state=SEED,
        average=True,
        class_weight="balanced",
    )
    n_fit = len(rows) * 9 // 10
    model.fit(matrix[:n_fit], truth[:n_fit])
    found = roc_auc_score(truth[n_fit:], model.decision_function(matrix[n_fit:]))
    print(f"{what}: area {found:.3f} on the last tenth of {len(rows)}")
    model.fit(matrix, truth)
    return Linear(model.coef_[0], float(model.intercept_[0]))


def _matrix(rows: Sequence[np.ndarray], n_columns: int, *, mean: bool) -> csr_matrix:
    """Each row its columns, of weight 1/n (``mean``) or 1/sqrt(n), as ``grading.local.order`` weighs them."""
    lengths = np.array([len(row) for row in rows])
    ends = np.concatenate(([0], np.cumsum(lengths)))
    weights = np.repeat(1.0 / lengths if mean else 1.0 / np.sqrt(lengths), lengths)
    return csr_matrix((weights, np.concatenate(rows), ends), shape=(len(rows), n_columns))


def fit_slots(stories: Iterable[Story], names: frozenset[str], n_processes: int) -> SlotModel:
    """Both choice models."""
    name, pronoun = list[Slot](), list[Slot]()
    for story in annotate(stories, n_processes=n_processes):
        labels = read_labels(story)
        assert labels is not None
        people = People(Reading(story, labels), names)
        name += name_slots(people)
        pronoun += pronoun_slots(people)
    print(f"{len(name)} names and {len(pronoun)} pronouns with a choice")
    return SlotModel(_conditional_logit(name, NAME_CUES), _conditional_logit(pronoun, PRONOUN_CUES))


def _conditional_logit(slots: Sequence[Slot], cues: Sequence[str]) -> np.ndarray:
    """Weights of the cues by maximum likelihood with a ridge of one."""
    most = max(len(slot.cues) for slot in slots)
    values = np.zeros((len(slots), most, len(cues)))
    there = np.zeros((len(slots), most), dtype=bool)
    for row, slot in enumerate(slots):
        values[row, : len(slot.cues)] = slot.cues
        there[row, : len(slot.cues)] = True
    taken = np.array([slot.taken for slot in slots])
    chosen = values[np.arange(len(slots)), taken]

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        score = np.where(there, values @ weights, -np.inf)
        normal = logsumexp(score, axis=1)
        share = np.exp(score - normal[:, None])
        value = (normal - chosen @ weights).sum() + weights @ weights / 2
        gradient = np.einsum("sc,sck->k", share, values) - chosen.sum(0) + weights
        return float(value), gradient

    found = minimize(loss, np.zeros(len(cues)), jac=True, method="L-BFGS-B")
    score = np.where(there, values @ found.x, -np.inf)
    right = float(np.mean(score.argmax(1) == taken))
    per_slot = found.fun / len(slots)
    print(f"right {right:.3f}, {per_slot:.3f} nats a choice (blind {np.log(there.sum(1)).mean():.3f})")
    for cue, weight in zip(cues, found.x, strict=True):
        print(f"  {weight:+.2f}  {cue}")
    return np.asarray(found.x)


def main() -> None:
    """Fit all of them, and write the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stories")
    parser.add_argument("--labelled", type=int, default=2500)
    parser.add_argument(
        "--author", type=int, default=3000, help="stories of the author for the models of order"
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("tslens/assets/grading") / FILE)
    options = parser.parse_args()
    stories = [story for story in read_stories(options.stories) if for_tables(story)]
    texts = [cut(story.text) for story in stories]
    words = WordTable.build([text[:2] for text in texts], n_words=N_WORDS, least=LEAST)
    print(f"{len(stories)} stories, {sum(len(text[0]) for text in texts)} words and marks")
    print("n-grams kept: " + ", ".join(f"{len(words.keys[order])} of order {order}" for order in words.keys))
    ours = [
        cut(story.text) for story in read_stories(f"author:{options.author}:{AUTHOR_SEED}", text_only=True)
    ]
    order = fit_order([*texts, *ours], words)
    slots = fit_slots(islice(stories, options.labelled), words.names, options.processes)
    packed = save(Tables(words, order, slots).tensors())
    with atomic_write(options.out, mode="wb") as file:
        file.write(packed)
    print(f"wrote {options.out}: {math.ceil(len(packed) / 1e3)} kB")


if __name__ == "__main__":
    main()
