"""The n-gram model against a slow one of dictionaries, written from the textbook formula."""

import json
import pickle
from collections import Counter

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tslens.errors import DataError, ModelError, UsageError
from tslens.model.ngram import NgramModel

EOS, VOCAB = 0, 12
ORDERS = [1, 2, 3, 4, 5]


def chain_stories(n_stories, *, seed, vocab=VOCAB):
    """Stories of a random chain, skewed so that counts of 1, 2, 3, 4 and more all occur; every fifth one is cut."""
    rng = np.random.default_rng(seed)
    follow = rng.dirichlet(np.full(vocab - 1, 0.3), size=vocab)
    stories = []
    for number in range(n_stories):
        story = [EOS]
        for _ in range(rng.integers(1, 15)):
            story.append(1 + int(rng.choice(vocab - 1, p=follow[story[-1]])))
        stories.append(np.array(story if number % 5 == 0 else [*story, EOS]))
    return stories


class Textbook:
    """Interpolated modified Kneser-Ney as Chen and Goodman (1998) write it, one gram at a time."""

    def __init__(self, stories, vocab, order):
        self.vocab, self.order = vocab, order
        raw, begins = Counter(), Counter()
        for story in map(tuple, map(np.ndarray.tolist, stories)):
            for end in range(1, len(story)):  # position 0 is no target
                for length in range(1, order + 1):
                    if end - length + 1 >= 0:
                        gram = story[end - length + 1 : end + 1]
                        raw[gram] += 1
                        begins[gram] += end - length + 1 == 0
        before = {}
        for gram in raw:
            before.setdefault(gram[1:], set()).add(gram[0])
        self.count = {
            gram: raw[gram] if len(gram) == order else len(before.get(gram, ())) + begins[gram]
            for gram in raw
        }
        self.discounts = {}
        for length in range(1, order + 1):
            n = Counter(count for gram, count in self.count.items() if len(gram) == length)
            self.discounts[length] = (0.5, 1.0, 1.5)
            if n[1] and n[2] and n[3]:
                y = n[1] / (n[1] + 2 * n[2])
                found = tuple(j - (j + 1) * y * n[j + 1] / n[j] for j in (1, 2, 3))
                if min(found) > 0:
                    self.discounts[length] = found

    def prob(self, token, history):
        history = tuple(history)[-(self.order - 1) :] if self.order > 1 else ()
        return self._prob(token, history)

    def _prob(self, token, history):
        lower = self._prob(token, history[1:]) if history else 1 / self.vocab
        counts = [self.count.get((*history, w), 0) for w in range(self.vocab)]
        total = sum(counts)
        if not total:
            return lower
        discount = [0, *self.discounts[len(history) + 1]]
        left = sum(discount[min(count, 3)] for count in counts) / total
        count = counts[token]
        return max(count - discount[min(count, 3)], 0) / total + left * lower


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("n_stories", [2, 60])
def test_equals_the_textbook(order, n_stories):
    stories = chain_stories(n_stories, seed=n_stories)
    textbook = Textbook(stories, VOCAB, order)
    model = NgramModel.fit(stories, vocab_size=VOCAB, order=order)
    if order > 1:  # both kinds of discount are tried
        assert (textbook.discounts[order] == (0.5, 1.0, 1.5)) == (n_stories == 2)
    held_out = chain_stories(25, seed=99)
    for story, losses in zip(held_out, model.losses(held_out), strict=True):
        expected = [-np.log(textbook.prob(story[i], story[:i])) for i in range(1, len(story))]
        np.testing.assert_allclose(losses, expected, rtol=0, atol=1e-10)


def test_equals_a_bigram_worked_by_hand():
    # one story, [E 1 E]: bigrams (E 1) and (1 E) once each, so all discounts are 1/2, 1, 3/2
    model = NgramModel.fit([np.array([0, 1, 0])], vocab_size=4, order=2)
    unigram = np.array([0.5, 0.5, 0, 0]) / 2 + 0.5 * np.full(4, 1 / 4)  # E and 1 each follow one token
    np.testing.assert_allclose(model.next_probs(np.array([1])), [0.5 + unigram[0] / 2, *(unigram[1:] / 2)])
    np.testing.assert_allclose(model.next_probs(np.array([3])), unigram)


@pytest.mark.parametrize("order", ORDERS)
def test_probabilities_are_positive_and_sum_to_one(order):
    stories = chain_stories(40, seed=1, vocab=VOCAB - 1)  # the last token never occurs
    model = NgramModel.fit(stories, vocab_size=VOCAB, order=order)
    seen = [story[:i] for story in stories[:8] for i in range(1, len(story) + 1)]
    rng = np.random.default_rng(0)
    unseen = [np.array([]), np.array([11]), np.array([3, 11]), *rng.integers(0, VOCAB, (20, 6))]
    for context in seen + unseen:
        probs = model.next_probs(context)
        assert probs.shape == (VOCAB,)
        assert probs.min() > 0
        assert abs(probs.sum() - 1) < 1e-12


@pytest.mark.parametrize("order", ORDERS)
def test_loss_is_minus_log_of_next_probs(order):
    model = NgramModel.fit(chain_stories(40, seed=1), vocab_size=VOCAB, order=order)
    for story in chain_stories(10, seed=2):
        expected = [-np.log(model.next_probs(story[:i])[story[i]]) for i in range(1, len(story))]
        np.testing.assert_allclose(model.loss(story), expected, rtol=0, atol=1e-12)


def test_learns_a_sequence_that_always_repeats():
    story = np.array(
        [EOS, 3, 1, 4, 1, 5, 9, 2, 6, EOS]
    )  # 1 is followed by 4 or 5: needs two tokens of history
    model = NgramModel.fit([story] * 500, vocab_size=VOCAB, order=4)
    assert np.exp(-model.loss(story)).min() > 0.99
    assert model.generate(eos=EOS, max_tokens=20, seed=0, temperature=0).tolist() == story[1:].tolist()
    bigram = NgramModel.fit([story] * 500, vocab_size=VOCAB, order=2)
    assert np.exp(-bigram.loss(story))[2] < 0.6


def test_no_gram_crosses_stories():
    cut = [np.array([EOS, 1, 2]), np.array([EOS, 3, 4]), np.array([EOS, 5, 6])]
    model = NgramModel.fit(cut, vocab_size=VOCAB, order=3)
    other = NgramModel.fit([cut[2], cut[0], cut[1]], vocab_size=VOCAB, order=3)
    for story in cut:  # nothing follows the end of a cut story, so the order of stories leaves no trace
        np.testing.assert_array_equal(model.next_probs(story), model.next_probs(np.array([])))
        np.testing.assert_array_equal(model.next_probs(story), other.next_probs(story))
    held_out = chain_stories(12, seed=4)
    alone = [model.loss(story) for story in held_out]
    for one, together in zip(alone, model.losses(held_out), strict=True):
        np.testing.assert_array_equal(one, together)
    assert model.next_probs(cut[0])[EOS] == model.next_probs(cut[0])[7], "the first token is no target"


def test_the_start_counts_what_occurs_there():
    # ten stories start 1, one starts 2; a continuation count would call the two equal
    stories = [np.array([EOS, 1, 3, EOS])] * 10 + [np.array([EOS, 2, 3, EOS])]
    probs = NgramModel.fit(stories, vocab_size=VOCAB, order=4).next_probs(np.array([EOS]))
    assert probs[1] > 5 * probs[2] > probs[3]


def test_a_large_vocabulary_in_two_bytes():
    top = 65_535
    story = np.array([top, 65_534, 65_533, 65_532, 65_533, top], dtype=np.uint16)
    model = NgramModel.fit([story] * 50, vocab_size=65_536, order=5)
    wide = NgramModel.fit([story.astype(np.int64)] * 50, vocab_size=65_536, order=5)
    assert np.exp(-model.loss(story)).min() > 0.9
    np.testing.assert_array_equal(model.loss(story), wide.loss(story.astype(np.int64)))


def test_generation_is_seeded_and_stops_at_the_end_token():
    model = NgramModel.fit(chain_stories(60, seed=1), vocab_size=VOCAB)
    samples = [model.generate(eos=EOS, max_tokens=40, seed=seed) for seed in range(30)]
    again = [model.generate(eos=EOS, max_tokens=40, seed=seed) for seed in range(30)]
    for one, two in zip(samples, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert len({tuple(sample) for sample in samples}) > 15
    assert all(EOS not in sample[:-1] for sample in samples)
    assert any(sample[-1] == EOS for sample in samples)
    assert len(model.generate(eos=EOS, max_tokens=1, seed=0)) == 1


def test_generation_draws_from_next_probs():
    model = NgramModel.fit(chain_stories(60, seed=1), vocab_size=VOCAB, order=3)
    context = np.array([EOS, 5, 2])
    for temperature in (1.0, 0.5):
        drawn = [
            int(model.generate(eos=EOS, max_tokens=1, seed=seed, temperature=temperature, context=context)[0])
            for seed in range(4000)
        ]
        expected = model.next_probs(context) ** (1 / temperature)
        shares = np.bincount(drawn, minlength=VOCAB) / len(drawn)
        np.testing.assert_allclose(shares, expected / expected.sum(), atol=0.03)


@pytest.mark.parametrize("order", ORDERS)
def test_save_and_load(tmp_path, order):
    stories = [*chain_stories(40, seed=1), *[np.array([EOS, 1, 2, EOS])] * 70_000]  # counts beyond two bytes
    model = NgramModel.fit(stories, vocab_size=VOCAB, order=order)
    path = tmp_path / "ngram.safetensors"
    model.save(path)
    loaded = NgramModel.load(path)
    assert (loaded.order, loaded.vocab_size) == (order, VOCAB)
    for story in chain_stories(10, seed=2):
        np.testing.assert_array_equal(loaded.loss(story), model.loss(story))
    first = path.read_bytes()
    loaded.save(path)
    assert path.read_bytes() == first
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_histories_longer_than_any_story():
    model = NgramModel.fit([np.array([EOS, 1])], vocab_size=VOCAB, order=5)
    assert abs(model.next_probs(np.array([EOS, 1, 2, 3, 4, 5])).sum() - 1) < 1e-12
    assert model.losses([]) == []


@pytest.mark.parametrize(
    ("stories", "found"),
    [
        ([], "no story"),
        ([np.array([EOS, 1]), np.array([EOS])], "Story 1 has 1 tokens"),
        ([np.array([], dtype=np.int64)], "Story 0 has 0 tokens"),
        ([np.array([EOS, VOCAB])], f"vocabulary of {VOCAB}"),
        ([np.array([EOS, -1])], f"vocabulary of {VOCAB}"),
        ([np.array([[EOS, 1]])], "shape (1, 2)"),
        ([np.array([0.0, 1.0])], "float64"),
    ],
)
def test_stories_that_cannot_be_read(stories, found):
    with pytest.raises(DataError) as caught:
        NgramModel.fit(stories, vocab_size=VOCAB)
    assert found in caught.value.message
    if stories:
        model = NgramModel.fit([np.array([EOS, 1, EOS])], vocab_size=VOCAB)
        with pytest.raises(DataError):
            model.losses(stories)


def test_impossible_settings():
    stories = [np.array([EOS, 1, EOS])]
    for order in (0, 6):
        with pytest.raises(UsageError, match="1 to 5"):
            NgramModel.fit(stories, vocab_size=VOCAB, order=order)
    model = NgramModel.fit(stories, vocab_size=VOCAB)
    for wrong in ({"max_tokens": 0}, {"temperature": -1.0}, {"temperature": float("nan")}, {"eos": VOCAB}):
        with pytest.raises(UsageError):
            model.generate(**{"eos": EOS, "max_tokens": 5, "seed": 0, **wrong})
    with pytest.raises(DataError):
        model.next_probs(np.array([VOCAB]))


def test_files_that_are_no_model(tmp_path):
    path = tmp_path / "ngram.safetensors"
    NgramModel.fit(chain_stories(20, seed=1), vocab_size=VOCAB, order=3).save(path)
    whole, arrays = path.read_bytes(), load_file(path)

    def refuse(match):
        with pytest.raises(ModelError, match=match):
            NgramModel.load(path)

    def write(header, **changed):
        save_file({**arrays, **changed}, path, metadata={"tslens": json.dumps(header)})

    header = {"schema": "tslens.ngram/1", "vocab_size": VOCAB, "order": 3}
    write(header)
    NgramModel.load(path)  # so each refusal below is for what was changed
    write({**header, "schema": "tslens.ngram/9"})
    refuse("schema")
    write({**header, "order": 4})
    refuse("no n-gram model")
    write({**header, "order": 0})
    refuse("order")
    write({**header, "vocab_size": VOCAB + 1})
    refuse("length 1 is broken")
    write(header, **{"keys.3": arrays["keys.3"][::-1].copy()})
    refuse("length 3 is broken")
    write(header, **{"keys.2": arrays["keys.2"] + VOCAB * VOCAB})
    refuse("length 2 is broken")
    write(header, **{"counts.2": arrays["counts.2"][:-1]})
    refuse("length 2 is broken")
    for content in (whole[:-5], whole[:20], b"", b"\x00\xff" * 50, pickle.dumps({"order": 4})):
        path.write_bytes(content)
        refuse("no n-gram model")
    path.unlink()
    refuse("There is no")
    path.mkdir()
    refuse("no n-gram model")
