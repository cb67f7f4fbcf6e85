"""The circuit that is found is the one that was planted, or keeps what it says; its drawing and page hold it all."""

import json

import numpy as np
import pytest
import torch

from tslens.causal.paths import PathPatcher, mean_written, written_on
from tslens.errors import UsageError
from tslens.link.circuit import find_circuit, next_token
from tslens.link.circuit_report import most_attended, share_kept, shown
from tslens.types import HeadId

PROMPT = "Once upon a time, Lily found a kite in the park. Then"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def model(random_model):
    return random_model("l2_h32").to(torch.float64)


@pytest.fixture(scope="module")
def tokens(model):
    return model.to_tokens(PROMPT)[0]


@pytest.fixture(scope="module")
def reference(model, stories):
    rows = [model.tokenizer.encode_story(one.text) for one in stories[:20]]
    return mean_written(model, rows, n_pos=len(model.to_tokens(PROMPT)[0]))


@pytest.fixture(scope="module")
def found(model, tokens, reference, stories):
    rows = [model.tokenizer.encode_story(one.text).astype(np.int64) for one in stories[20:24]]
    others = [written_on(model, torch.from_numpy(row[: len(tokens)])) for row in rows]
    return find_circuit(model, tokens, reference, seed=0, keep=0.8, n_draws=30, other_stories=others)


class Measured:
    """Differences and divergences of sets of edges, in another way: from log-probabilities."""

    def __init__(self, model, tokens, reference, right, wrong):
        self.patcher = PathPatcher(model, tokens, reference)
        self.graph = self.patcher.graph
        ids = [model.tokenizer.token_strings([i])[0] for i in range(model.cfg.d_vocab)]
        self.right, self.wrong = ids.index(right), ids.index(wrong)
        self.clean = model(tokens[None])[0, -1].log_softmax(-1).detach()

    def of(self, keep):
        log_probs = self.patcher.logits([keep])[0].log_softmax(-1)
        divergence = torch.nn.functional.kl_div(log_probs, self.clean, log_target=True, reduction="sum")
        return float(log_probs[self.right] - log_probs[self.wrong]), float(divergence)

    def keep(self, edges):
        names = [*map(str, self.graph.senders)], [*map(str, self.graph.receivers)]
        keep = np.zeros_like(self.graph.whole)
        for edge in edges:
            keep[names[0].index(str(edge.sender)), names[1].index(str(edge.receiver))] = True
        return keep


def test_a_circuit_keeps_what_it_says_and_nothing_less_does(model, tokens, reference, found):
    measured = Measured(model, tokens, reference, found.right, found.wrong)
    graph, keep = measured.graph, measured.keep(found.edges)
    assert 2 <= len(found.edges) < found.n_edges_whole == len(graph.edges)
    assert (graph.on_paths(keep) == keep).all()
    difference, divergence = measured.of(keep)
    none, divergence_none = measured.of(np.zeros_like(keep))
    whole, _ = measured.of(graph.whole)
    assert (found.whole, found.inside, found.none) == pytest.approx((whole, difference, none), abs=1e-9)
    told = (found.divergence, found.divergence_none)
    assert told == pytest.approx((divergence, divergence_none), abs=1e-9)
    assert found.share == pytest.approx((difference - none) / (whole - none))
    assert found.outside == pytest.approx(measured.of(graph.on_paths(graph.whole & ~keep))[0], abs=1e-9)

    def is_kept(of):
        return abs((of[0] - none) / (whole - none) - 1) <= 0.2 and of[1] <= 0.2 * divergence_none

    assert is_kept((difference, divergence))
    for edge in found.edges:
        left = measured.of(graph.on_paths(keep & ~measured.keep([edge])))
        assert not is_kept(left), str(edge)
        assert edge.effect_inside == pytest.approx(difference - left[0], abs=1e-9)
        alone = measured.of(graph.on_paths(graph.whole & ~measured.keep([edge])))
        assert edge.effect == pytest.approx(whole - alone[0], abs=1e-9)
    sizes = [abs(edge.effect_inside) for edge in found.edges]
    assert sizes == sorted(sizes, reverse=True)


def test_random_sets_and_other_stories(model, tokens, reference, found, stories):
    measured = Measured(model, tokens, reference, found.right, found.wrong)
    generator = np.random.default_rng(0)
    shares = np.array(
        [
            share_kept(
                measured.of(measured.graph.draw(len(found.edges), generator))[0], found.whole, found.none
            )
            for _ in range(30)
        ]
    )
    random = found.random
    assert (random.low, random.median, random.high) == pytest.approx(
        tuple(np.quantile(shares, [0.05, 0.5, 0.95]))
    )
    assert random.p == pytest.approx((1 + (abs(shares - 1) <= abs(found.share - 1)).sum()) / 31)
    sums = np.zeros(3)
    for story in stories[20:24]:
        row = torch.from_numpy(model.tokenizer.encode_story(story.text).astype(np.int64)[: len(tokens)])
        other = Measured(model, tokens, written_on(model, row), found.right, found.wrong)
        keep = measured.keep(found.edges)
        sums += [other.of(one)[0] for one in (keep, measured.graph.whole, np.zeros_like(keep))]
    assert found.n_other_stories == 4
    assert found.other_stories == pytest.approx((sums[0] - sums[2]) / (sums[1] - sums[2]))


def test_equal_seeds_give_equal_bytes(model, tokens, reference, found):
    again = find_circuit(model, tokens, reference, seed=0, keep=0.8, n_draws=30)
    assert json.dumps(again.to_json()["edges"]) == json.dumps(found.to_json()["edges"])
    other = find_circuit(model, tokens, reference, seed=1, keep=0.8, n_draws=30)
    assert again.random == found.random != other.random and other.edges == again.edges


def test_the_one_path_that_there_is_is_found(random_model, tokens):
    """Of a model in which only one head writes, and another prompt that differs in one word."""
    model = random_model("l1_h64").to(torch.float64)
    with torch.no_grad():
        model.blocks[0].attn.W_O[[0, 1, 3]] = 0
        model.blocks[0].attn.W_O[2] *= 5
        model.blocks[0].mlp.W_out.zero_()
    pattern = next(model.attention_patterns(tokens[None]))[0, 2, -1]
    pos = 1 + int(pattern[1:-1].argmax())
    other = tokens.clone()
    other[pos] = int(tokens[pos]) + 1
    before, after = (model(row[None])[0, -1].detach() for row in (other, tokens))
    right, wrong = int((after - before).argmax()), int((after - before).argmin())
    right, wrong = (right, wrong) if after[right] > after[wrong] else (wrong, right)
    found = find_circuit(model, tokens, written_on(model, other), right=right, wrong=wrong, seed=0)
    named = {(str(one.sender), str(one.receiver)) for one in found.edges}
    assert named == {(f"T{pos}", "L0H2"), ("L0H2", "logits")}
    assert found.share == pytest.approx(1) and found.share_outside == pytest.approx(0, abs=1e-9)
    assert found.divergence == pytest.approx(0, abs=1e-9) and found.heads == (HeadId(0, 2),)
    assert found.edges[0].effect == pytest.approx(found.whole - found.none)


def test_what_cannot_be_explained_is_refused(model, tokens, reference):
    best = int(model(tokens[None])[0, -1].argmax())
    for keep in (0.0, 1.0, 2.0, float("nan")):
        with pytest.raises(UsageError, match="cannot be kept"):
            find_circuit(model, tokens, reference, seed=0, keep=keep)
    with pytest.raises(UsageError, match="does not prefer") as refused:
        find_circuit(model, tokens, reference, seed=0, right=(best + 1) % 300, wrong=best)
    probable = model(tokens[None])[0, -1].sort(descending=True).indices[:2].tolist()
    first, second = (shown(one, is_next=True) for one in model.tokenizer.token_strings(probable))
    assert f"“{first}” is ahead by" in str(refused.value)
    assert f"tokens are “{first}”, “{second}”, " in str(refused.value)
    with pytest.raises(UsageError, match="are the same"):
        find_circuit(model, tokens, reference, seed=0, right=best, wrong=best)
    with pytest.raises(UsageError, match="decides too little"):
        find_circuit(model, tokens, written_on(model, tokens), seed=0)


def test_the_token_that_a_word_begins_with(tokenizer):
    for word in ("Lily", "trumpets", ",", "zebra"):
        number, n_tokens = next_token(tokenizer, "One day", word)
        blank = "" if word == "," else " "
        ids = tokenizer.encode(f"{blank}{word}")
        assert (number, n_tokens) == (ids[0], len(ids))
    assert next_token(tokenizer, "One day", " Lily") == next_token(tokenizer, "One day", "Lily")
    with pytest.raises(UsageError, match="blanks at the end"):
        next_token(tokenizer, "One day ", "the")
    for word in ("", " "):
        with pytest.raises(UsageError, match="No word is given"):
            next_token(tokenizer, "One day", word)


def test_tokens_as_readers_see_them():
    assert [shown(one) for one in (" dog", "ing", "<|endoftext|>", " ")] == ["dog", "ing", "start", "␣"]
    assert shown("<|endoftext|>", is_next=True) == "end"


def test_the_most_attended_tokens():
    assert [(one.pos, one.share) for one in most_attended([0.2, 0.5, 0.2, 0.1], 3)] == [
        (1, 0.5),
        (0, 0.2),
        (2, 0.2),
    ]
