"""How much of a head's attention is explained by which tokens there are and how far apart they stand.

The predictor of a head is the row softmax, over the keys that its layer may look at, of

    s(q, k) = u[token at q] . v[token at k]  +  b[token at k]  +  g(q - k)  +  c where k is position 0.

1. Patterns of the fitting stories are read once and kept in half precision. Of every ten stories one is held back.
2. ``u`` and ``v`` start from the mean query and the mean key of each token. A token that was seen n times keeps
   n / (n + 4) of its own mean, the rest is the mean over all tokens. Tokens seen once share one row with those
   never seen. ``g`` and ``c`` start from the log of the mass at each distance over that of uniform attention.
   Where nothing but small random ``u`` and ``v`` predicts the stories held back better, a head starts from those.
3. Adam lowers the cross-entropy of predicted rows under the true ones, plus a weak quadratic pull to the start.
   Each head keeps its numbers of the epoch that predicted the stories held back best.

What a fitted predictor misses on other stories is not in token identities and distance, as far as this form, rank
``d_head`` or 16 and so many stories can tell. Layer 0 needs no fit: :func:`exact_layer0`. Terms may be left out, and
tokens may share rows by class, as by part of speech.

Axes: row (a story), pos (query_pos, key_pos), head, token_row (row of the tables), rank, bin (of distances).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor

from tslens.errors import ProbeInputError
from tslens.model.story_model import StoryModel
from tslens.probes.predictor import Rows, Tables, TokenPredictor, distance_bin, exact_layer0
from tslens.types import HeadId

__all__ = ["Rows", "TokenPredictor", "distance_bin", "exact_layer0", "factors_of_rank", "fit_predictor"]

MAX_RANK = 16
MIN_TOKEN_COUNT = 2
SHRINKAGE = 4.0
PULL = 0.2  # times half the squared change, against the cross-entropy summed over all queries
CACHE_BYTES = 512 * 2**20  # of patterns; where they are more, a random part of the queries is kept
HELD_BACK_QUERIES = 64  # of each story that is held back
STEP_ROWS = 8
STEP_QUERIES = 32
EPOCHS = 60
PATIENCE = 8  # epochs in which no head got better
LEARNING_RATE = 0.02  # falls to zero over all epochs


@dataclass(frozen=True)
class _Sample:
    """Some stories and the true pattern, in float16, at some queries that are the same for all of them."""

    token_row: Int[Tensor, "row pos"]
    length: Int[Tensor, " row"]
    query_pos: Int[Tensor, " query"]
    rows: Float[Tensor, "row head query key_pos"]

    def part(self, chosen: Int[Tensor, " part"]) -> _Sample:
        return _Sample(self.token_row, self.length, self.query_pos[chosen], self.rows[:, :, chosen])

    def true(self) -> Float[Tensor, "row head query key_pos"]:
        """True rows, summing to 1 again after rounding."""
        rows = self.rows.float()
        return rows.div_(rows.sum(-1, keepdim=True))

    def weight(self) -> Float[Tensor, "row query"]:
        """1 for real queries, 0 for padding."""
        return (self.query_pos < self.length[:, None]).float()


def fit_predictor(
    model: StoryModel,
    batches: Sequence[Rows],
    heads: Sequence[HeadId],
    *,
    seed: int,
    token_terms: bool = True,
    distance_terms: bool = True,
    classes: Int[Tensor, " d_vocab"] | None = None,
    epochs: int = EPOCHS,
) -> TokenPredictor:
    """The best predictor of these heads from token identities and distance, fitted on stories.

    ``batches``: the fitting stories; read what it explains on others. ``token_terms``: False leaves u, v and b at
    zero, so that distance and position 0 alone predict. ``distance_terms``: False leaves g at zero, so that tokens
    alone predict; the token at position 0 stands nowhere else, so c stays. ``classes``: tokens of one class, numbered
    from 0, share one row. ``epochs``: at most. The same inputs give the same bits; torch's own generator is not
    touched. It runs on the CPU, also inside ``torch.inference_mode``. Raises ProbeInputError without a head, or with
    fewer than two stories of two tokens.
    """
    with torch.inference_mode(False), torch.no_grad():
        terms = _Terms(token_terms, distance_terms)
        fit = _Fit(model, [batch.copied() for batch in batches], tuple(heads), seed, classes)
        tables = fit.refine(fit.best_start(terms), terms, epochs)
        return TokenPredictor(fit.heads, fit.windows, fit.row_of, tables)


@dataclass(frozen=True)
class _Terms:
    """What a predictor may use."""

    tokens: bool
    distance: bool

    def of(self, tables: Tables) -> list[Tensor]:
        """The numbers that are fitted: position 0 can be told by its token and by its place."""
        of_tokens = [tables.u, tables.v, tables.b] if self.tokens else []
        return [*of_tokens, *([tables.g] if self.distance else []), tables.c]


class _Fit:
    """What one fit is of: heads, rows of the tables, stories to fit and stories held back."""

    def __init__(
        self,
        model: StoryModel,
        batches: list[Rows],
        heads: tuple[HeadId, ...],
        seed: int,
        classes: Int[Tensor, " d_vocab"] | None,
    ) -> None:
        self.model, self.heads = model, heads
        self.generator = torch.Generator().manual_seed(seed)
        self.groups, held_back = split_rows(batches, self.generator)
        if not heads or not self.groups or not held_back:
            raise ProbeInputError(
                f"{len(heads)} heads cannot be fitted on {sum(len(rows.length) for rows in batches)} stories.",
                "A fit needs a head, and two stories of two tokens or more.",
            )
        self.windows = tuple(model.window(head.layer) for head in heads)
        tokens = torch.cat([rows.real(rows.tokens) for rows in self.groups])
        self.row_of = self._rows_of_tokens(tokens) if classes is None else classes.long().cpu().clone()
        self.count = torch.bincount(self.row_of[tokens], minlength=int(self.row_of.max()) + 1)
        self.rank = min(model.cfg.d_head, MAX_RANK, len(self.count))
        self.train = list(self._samples(self.groups, model.cfg.n_ctx))
        self.held_back = list(self._samples(held_back, HELD_BACK_QUERIES))

    def _rows_of_tokens(self, tokens: Int[Tensor, " token"]) -> Int[Tensor, " d_vocab"]:
        """A row for each token that was seen twice, the last for all others."""
        known = torch.bincount(tokens, minlength=self.model.cfg.d_vocab) >= MIN_TOKEN_COUNT
        return torch.where(known, known.cumsum(0) - 1, known.sum())

    def _samples(self, groups: list[Rows], most_queries: int) -> Iterator[_Sample]:
        """True patterns at all queries but the first, or at a random part of them."""
        n_bytes = sum(2 * len(self.heads) * rows.tokens.numel() * rows.tokens.shape[1] for rows in groups)
        share = min(1.0, CACHE_BYTES / n_bytes)
        for rows in groups:
            n_queries = rows.tokens.shape[1] - 1
            n_kept = max(1, min(most_queries, int(n_queries * share)))
            chosen = torch.randperm(n_queries, generator=self.generator)[:n_kept]
            query_pos = chosen.sort().values + 1
            found: dict[HeadId, Tensor] = {}
            for layer, pattern in enumerate(self.model.attention_patterns(rows.tokens.to(self.model.device))):
                for head in self.heads:
                    if head.layer == layer:
                        found[head] = pattern[:, head.index, query_pos.to(pattern.device)].cpu().half()
            true = torch.stack([found[head] for head in self.heads], 1)
            yield _Sample(self.row_of[rows.tokens], rows.length, query_pos, true)

    # Where it starts ------------------------------------------------------------------------------------

    def best_start(self, terms: _Terms) -> Tables:
        """Of each head the start that predicts the stories held back best."""
        best, *others = self._starts(terms)
        lowest = self.cross_entropy(best)
        for start in others:
            found = self.cross_entropy(start)
            best, lowest = best.with_heads(found < lowest, start), torch.minimum(found, lowest)
        return best

    def _starts(self, terms: _Terms) -> Iterator[Tables]:
        """Small random u and v, or mean queries and keys, with scores divided by sqrt(d_head) or not."""
        shapes = (len(self.count), len(self.heads), self.rank), (len(self.count), len(self.heads))
        n_bins = int(distance_bin(torch.tensor(self.model.cfg.n_ctx))) + 1
        u, b, g, c = map(torch.zeros, (*shapes, (n_bins, len(self.heads)), (1, len(self.heads))))
        g, c = self._log_excess(Tables(u[..., :0], u[..., :0], b, g, c))
        g = g * terms.distance
        if not terms.tokens:
            yield Tables(u[..., :0], u[..., :0], b, g, c)
            return
        u, v = 0.1 * torch.randn(2, *u.shape, generator=self.generator)
        yield Tables(u, v, b, g, c)
        if (means := self._mean_queries_and_keys()) is not None:
            for scale in (1.0, self.model.cfg.d_head**-0.25):
                u, v = (x * scale for x in means)
                yield from (Tables(u, v, b, g * known, c * known) for known in (1, 0))

    def _log_excess(self, zero: Tables) -> tuple[Float[Tensor, "bin head"], Float[Tensor, "one head"]]:
        """Log of the mass at each distance, and at position 0, over that of uniform attention, 1 added to both."""
        mass = torch.ones(2, len(zero.g) + 1, len(self.heads))  # the last: position 0
        for sample in self.train:
            place = distance_bin(sample.query_pos[:, None] - torch.arange(sample.token_row.shape[1]))
            place[:, 0] = len(zero.g)
            uniform = zero.scores(sample.token_row, sample.query_pos, self.windows).softmax(-1)
            for total, rows in zip(mass, (sample.true(), uniform), strict=True):
                found = einsum(rows, sample.weight(), "s h q k, s q -> q k h")
                total.index_add_(0, place.flatten(), rearrange(found, "q k h -> (q k) h"))
        excess = (mass[0] / mass[1]).log()
        return excess[:-1], excess[-1:]

    def _mean_queries_and_keys(self) -> list[Float[Tensor, "token_row head rank"]] | None:
        """Mean query and key of each token, shrunk, at the rank of the fit; None where hooks do not give them."""
        model: Any = self.model
        if not hasattr(model, "run_with_hooks"):
            return None
        shape = (model.cfg.n_heads, model.cfg.d_head)
        total = torch.zeros(2, len(self.count), len(self.heads), model.cfg.d_head)
        names = [[f"blocks.{head.layer}.attn.hook_{part}" for head in self.heads] for part in "qk"]
        for rows in self.groups:
            found: dict[str, Tensor] = {}
            hooks = [(name, partial(_keep, found, name)) for name in sorted({*names[0], *names[1]})]
            model.run_with_hooks(rows.tokens.to(model.device), return_type=None, fwd_hooks=hooks)
            if any(activation.shape[2:] != shape for activation in found.values()):
                return None  # heads that share their keys
            token_row = rows.real(self.row_of[rows.tokens])
            for sums, of_heads in zip(total, names, strict=True):
                own = [found[name][:, :, head.index] for name, head in zip(of_heads, self.heads, strict=True)]
                sums.index_add_(0, token_row, rows.real(torch.stack(own, 2).float().cpu()))
        overall = SHRINKAGE * total.sum(1, keepdim=True) / self.count.sum()
        q, k = (total + overall) / (self.count + SHRINKAGE)[:, None, None]
        return factors_of_rank(q, k, self.count, self.rank)

    # How it goes on -------------------------------------------------------------------------------------

    def cross_entropy(self, tables: Tables) -> Float[Tensor, " head"]:
        """Mean cross-entropy in nats of predicted rows under the true ones, on the stories held back."""
        total, n_queries = torch.zeros(len(self.heads)), 0.0
        for sample in self.held_back:
            scores, weight = tables.scores(sample.token_row, sample.query_pos, self.windows), sample.weight()
            losses = scores.logsumexp(-1) - (sample.true() * scores).sum(-1)
            total += einsum(losses, weight, "s h q, s q -> h")
            n_queries += float(weight.sum())
        return total / n_queries

    def refine(self, start: Tables, terms: _Terms, epochs: int) -> Tables:
        """Adam from the start; of each head the numbers of its best epoch on the stories held back."""
        n_queries = float(sum(sample.weight().sum() for sample in self.train))
        tables = start.map(torch.clone)
        chosen, anchors = terms.of(tables), terms.of(start)
        for parameter in chosen:
            parameter.requires_grad_()
        optimizer = torch.optim.Adam(chosen, lr=LEARNING_RATE)
        best, lowest, best_epoch = start, self.cross_entropy(start), 0
        for epoch in range(1, epochs + 1):
            optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1 - (epoch - 1) / epochs)
            for index in torch.randperm(len(self.train), generator=self.generator).tolist():
                sample = self.train[index]
                order = torch.randperm(len(sample.query_pos), generator=self.generator)
                self._backward(tables, sample.part(order[:STEP_QUERIES]))
                for x, anchor in zip(chosen, anchors, strict=True):
                    assert x.grad is not None  # all numbers enter the scores
                    x.grad.add_(x.detach() - anchor, alpha=PULL / n_queries)
                optimizer.step()
                optimizer.zero_grad()
            better = (found := self.cross_entropy(tables)) < lowest
            best, lowest = best.with_heads(better, tables), torch.minimum(found, lowest)
            best_epoch = epoch if better.any() else best_epoch
            if epoch - best_epoch >= PATIENCE:
                break
        return best

    def _backward(self, tables: Tables, sample: _Sample) -> None:
        """Gradients of the heads' mean cross-entropies: with respect to a score, predicted minus true attention."""
        with torch.enable_grad():
            scores = tables.scores(sample.token_row, sample.query_pos, self.windows)
        weight = sample.weight()
        weight /= weight.sum().clamp(min=1)
        error = scores.detach().softmax(-1).sub_(sample.true())
        scores.backward(error.mul_(rearrange(weight, "s q -> s 1 q 1")))


def _keep(found: dict[str, Tensor], name: str, activation: Tensor, hook: Any) -> None:
    found[name] = activation


def split_rows(batches: list[Rows], generator: torch.Generator) -> tuple[list[Rows], list[Rows]]:
    """Stories of two tokens or more in groups of ``STEP_ROWS`` or fewer: about nine tenths, and one tenth."""
    n_rows = sum(len(rows.length) for rows in batches)
    held_back = torch.zeros(n_rows, dtype=torch.bool)
    held_back[torch.randperm(n_rows, generator=generator)[: max(1, round(n_rows / 10))]] = True
    sides: tuple[list[Rows], list[Rows]] = [], []
    for rows, held in zip(batches, held_back.split([len(rows.length) for rows in batches]), strict=True):
        for side, chosen in zip(sides, (~held, held), strict=True):
            index = (chosen & (rows.length > 1)).nonzero().flatten()
            for group in index.split(STEP_ROWS) if len(index) else []:
                length = rows.length[group]
                side.append(Rows(rows.tokens[group, : int(length.max())], length))
    return sides


def factors_of_rank(
    q: Float[Tensor, "token_row head d_head"],
    k: Float[Tensor, "token_row head d_head"],
    count: Int[Tensor, " token_row"],
    rank: int,
) -> list[Float[Tensor, "token_row head rank"]]:
    """Two factors of like size whose products are nearest to ``q . k``, tokens weighted by how often they occur."""
    weight = (count + 1.0).sqrt()[:, None, None]
    (q_basis, q_root), (k_basis, k_root) = (
        torch.linalg.qr(rearrange(x * weight, "t h d -> h t d")) for x in (q, k)
    )
    left, size, right = torch.linalg.svd(q_root @ k_root.mT)
    scale = size[:, None, :rank].sqrt()
    factors = (q_basis @ left[:, :, :rank] * scale, k_basis @ right.mT[:, :, :rank] * scale)
    return [rearrange(x, "h t r -> t h r") / weight for x in factors]
