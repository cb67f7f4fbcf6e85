"""The predictor explains what tokens and distance decide, and nothing else; layer 0 is exact."""

from types import SimpleNamespace

import pytest
import torch

from tslens.errors import ProbeInputError
from tslens.model.attention import allowed_pairs
from tslens.model.spec import ModelSpec
from tslens.model.transformer import TinyTransformer
from tslens.probes.basis import Rows, distance_bin, exact_layer0, factors_of_rank, fit_predictor
from tslens.types import HeadId

N_TOKENS, N_POS, RANK = 12, 40, 4
HEAD = HeadId(0, 0)


class MadeHeads:
    """A model of one layer whose scores are a function [story pos] -> [story head query_pos key_pos]."""

    def __init__(self, scores, *, window=None, n_heads=1):
        self.scores, self._window, self.device = scores, window, torch.device("cpu")
        self.cfg = SimpleNamespace(n_layers=1, n_heads=n_heads, d_head=RANK, d_vocab=N_TOKENS + 5, n_ctx=64)

    def window(self, layer):
        return self._window

    def attention_patterns(self, tokens, scratch=None):
        pos = torch.arange(tokens.shape[1])
        allowed = allowed_pairs(pos, pos, self._window)
        yield self.scores(tokens).masked_fill(~allowed, float("-inf")).softmax(-1)


def made_stories(n, seed, n_pos=N_POS):
    """Batches of random tokens, the last rows of each batch shorter."""
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for start in range(0, n, 16):
        size = min(16, n - start)
        tokens = torch.randint(N_TOKENS, (size, n_pos), generator=generator)
        length = torch.full((size,), n_pos)
        length[size // 2 :] -= 7
        batches.append(Rows(tokens, length))
    return batches


def distance_between(true, predicted, batches):
    """Mean total variation distance of rows of two functions tokens -> [story head query_pos key_pos]."""
    found = []
    for rows in batches:
        is_query = torch.arange(rows.tokens.shape[1]) < rows.length[:, None]
        is_query[:, 0] = False
        distance = (true(rows.tokens) - predicted(rows.tokens)).abs().sum(-1)[:, 0] / 2
        found.append(distance[is_query])
    return float(torch.cat(found).mean())


def of_layer(source, layer=0):
    """The pattern of a model or a predictor at one layer, as a function of tokens."""
    if hasattr(source, "pattern"):
        return lambda tokens: source.pattern(tokens)[layer]
    return lambda tokens: list(source.attention_patterns(tokens))[layer]


def by_distance(n_pos):
    """Scores of a head that likes the token three before and the first one."""
    distance = torch.arange(n_pos)[:, None] - torch.arange(n_pos)
    scores = torch.where(distance == 3, 4.0, -0.05 * distance)
    scores[:, 0] += 2
    return scores


def by_tokens_and_distance(tokens):
    generator = torch.Generator().manual_seed(1)
    u, v = (1.2 * torch.randn(N_TOKENS + 5, RANK, generator=generator) for _ in range(2))
    b = torch.randn(N_TOKENS + 5, generator=generator)
    return (
        torch.einsum("sqr,skr->sqk", u[tokens], v[tokens]) + b[tokens][:, None] + by_distance(tokens.shape[1])
    )[:, None]


def place_of_story(tokens):
    """For each story a position from 1 to 8 that depends on all of its first tokens, and on no two of them."""
    return tokens[:, :9].sum(1) % 8 + 1


def by_story(tokens):
    """Scores of a head that attends to the story's place, with 95% of its attention at the last query."""
    scores = torch.zeros(len(tokens), 1, tokens.shape[1], tokens.shape[1])
    scores[torch.arange(len(tokens)), 0, :, place_of_story(tokens)] = 6.6
    return scores


def test_a_head_of_tokens_and_distance_is_explained():
    model = MadeHeads(by_tokens_and_distance)
    fitting, reading = made_stories(48, 2), made_stories(32, 3)
    true = of_layer(model)
    found = distance_between(true, of_layer(fit_predictor(model, fitting, [HEAD], seed=0)), reading)
    profile = fit_predictor(model, fitting, [HEAD], seed=0, token_terms=False)
    assert found < 0.1
    assert found < distance_between(true, of_layer(profile), reading) / 4


def test_a_head_of_distance_is_explained_without_tokens():
    model = MadeHeads(lambda tokens: by_distance(tokens.shape[1]).expand(len(tokens), 1, -1, -1))
    fitting, reading = made_stories(30, 2), made_stories(20, 3)
    for token_terms in (False, True):
        predictor = fit_predictor(model, fitting, [HEAD], seed=0, token_terms=token_terms)
        assert distance_between(of_layer(model), of_layer(predictor), reading) < 0.05


def test_a_head_that_follows_the_story_is_not_explained():
    model = MadeHeads(by_story)
    fitting, reading = made_stories(48, 2), made_stories(32, 3)
    predictor = fit_predictor(model, fitting, [HEAD], seed=0)
    true_mass, predicted_mass = [], []
    for rows in reading:
        place = place_of_story(rows.tokens)
        for source, mass in ((model, true_mass), (predictor, predicted_mass)):
            pattern = of_layer(source)(rows.tokens)
            mass.append(pattern[torch.arange(len(place)), 0, 20:33, place])
    assert torch.cat(true_mass).mean() > 0.9
    # The place is one of eight: who knows no more than that gives it an eighth.
    assert torch.cat(predicted_mass).mean() < 0.2


def test_no_mass_is_beyond_the_window_or_behind_the_query():
    model = MadeHeads(by_tokens_and_distance, window=6)
    predictor = fit_predictor(model, made_stories(20, 2), [HEAD], seed=0)
    pattern = predictor.pattern(made_stories(5, 3)[0].tokens)[0]
    pos = torch.arange(N_POS)
    allowed = allowed_pairs(pos, pos, 6)
    assert not pattern[..., ~allowed].any()
    assert (pattern[..., allowed] > 0).all()
    assert torch.allclose(pattern.sum(-1), torch.ones(()), atol=1e-5)


def test_tokens_that_were_never_seen_are_predicted_like_rare_ones():
    model = MadeHeads(by_tokens_and_distance)
    predictor = fit_predictor(model, made_stories(20, 2), [HEAD], seed=0)
    tokens = made_stories(4, 3)[0].tokens
    one, other = (tokens.where(tokens != 3, torch.tensor(N_TOKENS + new)) for new in (0, 3))
    assert torch.equal(predictor.pattern(one)[0], predictor.pattern(other)[0])
    assert torch.isfinite(predictor.pattern(one)[0]).all()


@pytest.fixture(scope="module")
def token_rows(tiny_model, stories):
    """Some stories as the tiny model reads them."""
    ids = [tiny_model.tokenizer.encode_story(story.text, context=64)[:64] for story in stories[:24]]
    length = torch.tensor([len(one) for one in ids])
    rows = [torch.as_tensor(one).long() for one in ids]
    return [Rows(torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), length)]


HEADS = [HeadId(1, 2), HeadId(0, 1), HeadId(1, 0)]


def test_the_same_inputs_give_the_same_bits(tiny_model, token_rows):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first = fit_predictor(tiny_model, token_rows, HEADS, seed=4).pattern(token_rows[0].tokens)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(8)
    with torch.inference_mode():
        rows = [Rows(token_rows[0].tokens + 0, token_rows[0].length + 0)]
        again = fit_predictor(tiny_model, rows, HEADS, seed=4).pattern(rows[0].tokens)
    assert first.keys() == again.keys() == {0, 1}
    assert all(torch.equal(first[layer], again[layer]) for layer in first)
    assert tuple(first[1].shape[:2]) == (24, 2)
    assert not tiny_model.list_hooks()
    assert all(parameter.grad is None for parameter in tiny_model.parameters())


def test_heads_stand_in_the_order_that_was_asked_for():
    """Two heads, one three tokens behind, one five: each is predicted in its own place, alone or together."""

    def scores(tokens):
        distance = torch.arange(tokens.shape[1])[:, None] - torch.arange(tokens.shape[1])
        return torch.stack([5.0 * (distance == 3), 5.0 * (distance == 5)]).expand(len(tokens), -1, -1, -1)

    model, rows = MadeHeads(scores, n_heads=2), made_stories(10, 2)
    both = fit_predictor(model, rows, [HeadId(0, 1), HeadId(0, 0)], seed=0, token_terms=False)
    pattern = both.pattern(rows[0].tokens)[0]
    assert (pattern[:, 0, 30, 25] > 0.7).all()
    assert (pattern[:, 1, 30, 27] > 0.7).all()
    alone = fit_predictor(model, rows, [HeadId(0, 0)], seed=0, token_terms=False)
    assert torch.allclose(alone.pattern(rows[0].tokens)[0][:, 0], pattern[:, 1], atol=0.02)


def test_layer_0_is_an_exact_function_of_tokens_and_positions(tiny_model, token_rows):
    tokens = token_rows[0].tokens
    expected = next(iter(tiny_model.attention_patterns(tokens)))
    found = exact_layer0(tiny_model, tokens)
    assert torch.allclose(found, expected, atol=1e-6)
    assert (found - found.mean(1, keepdim=True)).abs().max() > 0.1  # heads differ: it is no uniform pattern


def test_layer_0_is_exact_where_layernorm_and_length_matter():
    model = TinyTransformer(ModelSpec.from_name("l1_h32_a2"), N_TOKENS, seed=3)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = 30 if ".W_" in name else 1
            parameter.mul_(scale).add_(0.3 * torch.randn(parameter.shape, generator=generator))
    tokens = torch.randint(N_TOKENS, (2, 300), generator=generator)
    expected = next(iter(model.attention_patterns(tokens)))
    assert torch.allclose(exact_layer0(model, tokens), expected, atol=1e-4)


def test_distances_are_exact_up_to_64_and_then_grow_by_an_eighth_of_a_doubling():
    distance = torch.arange(-3, 600)
    bins = distance_bin(distance)
    assert bins[3 : 3 + 65].tolist() == list(range(65))
    assert not bins[:3].any()
    assert set(bins.diff()[3:].tolist()) == {0, 1}
    assert distance_bin(torch.tensor([65, 69, 70, 128, 129, 256, 512])).tolist() == [
        65,
        65,
        66,
        72,
        73,
        80,
        88,
    ]


def test_factors_keep_the_products_that_their_rank_allows():
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 30, 3, 6, generator=generator)
    q[..., 4:] *= 1e-3  # of six directions, four carry the products
    count = torch.randint(9, (30,), generator=generator)
    products = torch.einsum("qhd,khd->hqk", q, k)
    for rank, error in ((6, 1e-4), (4, 0.02)):
        u, v = factors_of_rank(q, k, count, rank)
        assert u.shape == v.shape == (30, 3, rank)
        assert torch.allclose(torch.einsum("qhr,khr->hqk", u, v), products, atol=error)


@pytest.mark.parametrize("heads, n", [([], 20), ([HEAD], 1), ([HEAD], 0)])
def test_too_little_to_fit_is_refused(heads, n):
    with pytest.raises(ProbeInputError, match="cannot be fitted"):
        fit_predictor(MadeHeads(by_tokens_and_distance), made_stories(n, 0), heads, seed=0)


def by_tokens(tokens):
    """Scores of a head that cares for words, wherever they stand."""
    generator = torch.Generator().manual_seed(1)
    u, v = (1.5 * torch.randn(N_TOKENS + 5, RANK, generator=generator) for _ in range(2))
    return torch.einsum("sqr,skr->sqk", u[tokens], v[tokens])[:, None]


def of_distance(tokens):
    return by_distance(tokens.shape[1]).expand(len(tokens), 1, -1, -1)


def test_tokens_alone_explain_a_head_of_tokens_and_none_of_distance():
    fitting, reading = made_stories(48, 2), made_stories(32, 3)
    found = {}
    for name, scores in (
        ("tokens", by_tokens),
        ("distance", lambda t: by_distance(t.shape[1]).expand(len(t), 1, -1, -1)),
    ):
        model = MadeHeads(scores)
        predictor = fit_predictor(model, fitting, [HEAD], seed=0, distance_terms=False)
        assert not predictor.tables.g.any()
        found[name] = distance_between(of_layer(model), of_layer(predictor), reading)
    assert found["tokens"] < 0.1 < 0.4 < found["distance"]


def test_tokens_of_one_class_share_their_rows():
    """A head that tells even tokens from odd ones is explained by these classes, and by none that mix them."""

    def scores(tokens):
        return (3.0 * (tokens % 2))[:, None, None, :].expand(-1, 1, tokens.shape[1], -1)

    model, fitting, reading = MadeHeads(scores), made_stories(40, 2), made_stories(20, 3)
    place = torch.arange(N_TOKENS + 5)
    found = []
    for classes in (place % 2, place // 9):
        predictor = fit_predictor(model, fitting, [HEAD], seed=0, classes=classes)
        assert len(predictor.tables.b) == int(classes.max()) + 1
        found.append(distance_between(of_layer(model), of_layer(predictor), reading))
    assert found[0] < 0.05 < 0.2 < found[1]


def test_logarithms_are_those_of_the_pattern_and_finite():
    model = MadeHeads(by_tokens_and_distance, window=6)
    predictor = fit_predictor(model, made_stories(20, 2), [HEAD], seed=0)
    tokens = made_stories(5, 3)[0].tokens
    logarithm, pattern = predictor.log_pattern(tokens)[0], predictor.pattern(tokens)[0]
    assert torch.isfinite(logarithm).all()
    assert torch.allclose(logarithm.exp(), pattern, atol=1e-6)
