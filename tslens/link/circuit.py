"""The circuit of one prediction: the paths that a model needs to prefer a right next token to a wrong one.

1. The target is the difference of the two tokens' logits at the last position, which is that of their
   log-probabilities. ``causal.paths`` gives it for any set of edges, exactly.
2. Every edge is cut alone from the whole model: its effect.
3. From the weakest effect on, edges are cut, and stay cut where what is left keeps the prediction:
   - the share of the difference that is kept is within ``1 - keep`` of 1, on either side;
   - the divergence of the next token's distribution from the whole's is at most ``1 - keep`` of that of no edges.
   The second is there because one number is easily hit by chance, by sets whose errors cancel; a distribution is not.
   Edges are tried many at once; a group that cannot go is halved and each half tried, down to single edges.
4. An edge that is left on no path from a token to the logits goes with the others; every number is of sets without
   such edges.
5. What is left is ranked by the effect of each edge within it and tried again, until no edge can go alone.
6. Against it stand random sets of as many edges, each edge on a path too; the rest, the whole without the circuit; and
   the circuit where cut edges carry what single other stories give, which the search never saw.

Which circuit is found depends on the reference: by the mean over stories it holds what tells this prompt from stories
at large, and against another prompt only what tells the two apart. It depends on the order of cuts as well: other
sets of the same size may do.

Sources: Wang et al. 2023 (arXiv:2211.00593), faithfulness and completeness; Conmy et al. 2023 (arXiv:2304.14997),
cutting edge by edge, with the divergence.

Axes: edge; set (of edges).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from tslens.causal.path_graph import Keep
from tslens.causal.paths import PathPatcher, Written
from tslens.corpus.text_tokenizer import TextTokenizer
from tslens.errors import ModelError, UsageError
from tslens.link.circuit_report import Circuit, CircuitEdge, RandomPaths, share_kept, shown
from tslens.model.story_model import StoryModel

N_DRAWS = 200
N_MOST = 5  # probable next tokens that are named where another is not preferred
LEAST_NATS = 0.1  # by which the edges must move the difference, for a share of it to be told
SETS_A_TIME = 256
Progress = Callable[[str, float], None]
"""Hears the name of a stage and the share of it that is done."""


def find_circuit(
    model: StoryModel,
    tokens: Int[Tensor, " pos"],
    reference: Written,
    *,
    seed: int,
    right: int | None = None,
    wrong: int | None = None,
    keep: float = 0.9,
    n_draws: int = N_DRAWS,
    other_stories: Sequence[Written] = (),
    progress: Progress = lambda stage, share: None,
) -> Circuit:
    """The edges that keep a share ``keep`` of the difference between a right and a wrong next token.

    ``tokens``: the prompt, the token that begins a story first. ``reference``: what cut edges carry
    (``paths.mean_written``, ``paths.written_on``). ``right``: by default the most probable next token; ``wrong``: the
    most probable other one. ``seed``: of the random sets. ``other_stories``: what single stories of as many positions
    give, to try the circuit on.
    Raises UsageError where the model does not prefer the right token, where the edges move the difference by less than
    0.1 nats, and for a share that is not between 0 and 1; what ``PathPatcher`` raises; ModelError without tokenizer.
    """
    check_keep(keep)
    if model.tokenizer is None:
        raise ModelError("This model has no tokenizer.", "Put a tokenizer.json beside it.")
    patcher = PathPatcher(model, tokens, reference)
    logits = patcher.logits([patcher.graph.whole])[0]
    right, wrong = choose_tokens(logits, model.tokenizer, right, wrong)
    names = model.tokenizer.token_strings([right, wrong])
    search = _Search(patcher, right, wrong, keep, progress)
    search.check(*names)
    effects = search.effects(search.graph.whole, "single paths")
    found = search.prune(effects)
    edges, inside = search.graph.chosen(found), search.effects(found)
    outside = search.graph.on_paths(search.graph.whole & ~found)
    (kept, rest), (divergence, _) = search.measure([found, outside])
    senders, receivers = search.graph.edges[edges].T.tolist()
    others = [PathPatcher(model, tokens, one) for one in other_stories]
    return Circuit(
        tokens=tuple(model.tokenizer.token_strings(tokens.tolist())),
        right=names[0],
        wrong=names[1],
        keep=keep,
        whole=search.whole,
        none=search.none,
        inside=float(kept),
        outside=float(rest),
        divergence=float(divergence),
        divergence_none=search.divergence_none,
        n_edges_whole=len(search.graph.edges),
        edges=tuple(
            CircuitEdge(
                sender=search.graph.senders[senders[i]],
                receiver=search.graph.receivers[receivers[i]],
                effect=float(effects[edges[i]]),
                effect_inside=float(inside[i]),
            )
            for i in np.argsort(-np.abs(inside), kind="stable").tolist()
        ),
        random=search.random(len(edges), float(kept), n_draws, seed),
        other_stories=_share_on(others, found, right, wrong),
        n_other_stories=len(others),
    )


def check_keep(keep: float) -> None:
    """Raise UsageError for a share that no search can keep."""
    if not 0 < keep < 1:
        raise UsageError(f"A share of {keep:g} cannot be kept.", "Give --keep a number above 0 and below 1.")


def choose_tokens(
    logits: Float[Tensor, " d_vocab"], tokenizer: TextTokenizer, right: int | None, wrong: int | None
) -> tuple[int, int]:
    """The right and the wrong next token; None: the most probable one, or the most probable other one.

    Raises UsageError if they are the same or the right one is not preferred.
    """
    best = int(logits.argmax()) if right is None else right
    if wrong is None:
        others = logits.clone()
        others[best] = -torch.inf
        wrong = int(others.argmax())
    if wrong == best:
        raise UsageError(
            "The right and the wrong next token are the same.", "Give words that begin with different tokens."
        )
    behind = float(logits[wrong] - logits[best])
    if behind >= 0:
        first, second = (_quoted(one) for one in tokenizer.token_strings([best, wrong]))
        most = ", ".join(map(_quoted, tokenizer.token_strings(logits.topk(N_MOST).indices.tolist())))
        raise UsageError(
            f"The model does not prefer {first} to {second}: {second} is ahead by {behind:.2f} nats.",
            f"The most probable next tokens are {most}; ask for those, or swap --right and --wrong.",
        )
    return best, wrong


def next_token(tokenizer: TextTokenizer, prompt: str, word: str) -> tuple[int, int]:
    """The token that a word begins with after a prompt, and how many tokens it has there; the first decides.

    A blank goes before a word of letters or digits where the prompt ends in none. Raises UsageError for no word, or a
    prompt whose last token would be another with the word behind it.
    """
    if not word.strip(" "):
        raise UsageError("No word is given.", "Give --right (or --wrong) a word.")
    blank = " " if word[:1].isalnum() and not prompt[-1:].isspace() else ""
    before, together = tokenizer.encode(prompt), tokenizer.encode(prompt + blank + word)
    if together[: len(before)] != before or len(together) == len(before):
        raise UsageError(
            f"“{word}” does not follow the prompt as tokens of its own.",
            "Take away blanks at the end of the prompt; they belong to the next word.",
        )
    return together[len(before)], len(together) - len(before)


def _quoted(token: str) -> str:
    return f"“{shown(token, is_next=True)}”"


def _share_on(others: Sequence[PathPatcher], found: Keep, right: int, wrong: int) -> float | None:
    """The share that a circuit keeps by other references: the mean of what it keeps over that of all there is."""
    if not others:
        return None
    empty = np.zeros_like(found)
    logits = [one.logits([found, one.graph.whole, empty]) for one in others]
    inside, whole, none = np.mean([_differences(one, right, wrong) for one in logits], axis=0).tolist()
    return share_kept(inside, whole, none) if abs(whole - none) >= LEAST_NATS else None


def _differences(logits: Float[Tensor, "set d_vocab"], right: int, wrong: int) -> Float[np.ndarray, " set"]:
    found: np.ndarray = (logits[:, right].double() - logits[:, wrong].double()).cpu().numpy()
    return found


class _Search:
    """What sets of edges keep, and the cutting of edges."""

    def __init__(self, patcher: PathPatcher, right: int, wrong: int, keep: float, progress: Progress) -> None:
        self._patcher, self._tokens, self._progress = patcher, (right, wrong), progress
        self.graph, self._slack = patcher.graph, 1 - keep
        self._log_probs = patcher.logits([self.graph.whole])[0].double().log_softmax(-1)
        difference, divergence = self.measure([self.graph.whole, np.zeros_like(self.graph.whole)])
        self.whole, self.none = difference.tolist()
        self.divergence_none = float(divergence[1])

    def check(self, right: str, wrong: str) -> None:
        """Raise UsageError where there is nothing to explain."""
        if abs(self.whole - self.none) < LEAST_NATS:
            raise UsageError(
                f"The model prefers {_quoted(right)} to {_quoted(wrong)} by {self.whole:.2f} nats, and as much with "
                f"every path cut, within {LEAST_NATS:g}: the prompt decides too little for a share of it to be told.",
                "Name words between which this prompt decides, or another prompt to stand in.",
            )

    def measure(self, keeps: Sequence[Keep]) -> tuple[Float[np.ndarray, " set"], Float[np.ndarray, " set"]]:
        """Of each set of edges, right minus wrong in nats, and the divergence of its prediction from the whole's."""
        logits = self._patcher.logits(keeps).double()
        lost = self._log_probs - logits.log_softmax(-1)
        return _differences(logits, *self._tokens), (self._log_probs.exp() * lost).sum(-1).cpu().numpy()

    def effects(self, keep: Keep, stage: str = "") -> Float[np.ndarray, " edge"]:
        """What the difference loses when each edge of a set is cut alone, in the order of ``graph.chosen``.

        What no path runs along any more goes with it. ``stage``: under which name progress is told, "" for none.
        """
        edges = self.graph.chosen(keep)
        cut = np.empty(len(edges))
        for first in range(0, len(edges), SETS_A_TIME):
            some = edges[first : first + SETS_A_TIME, None]
            cut[first : first + len(some)] = self.measure([self._without(keep, one) for one in some])[0]
            if stage:
                self._progress(stage, (first + len(some)) / len(edges))
        return self.measure([keep])[0] - cut

    def _without(self, keep: Keep, edges: Int[np.ndarray, " cut"]) -> Keep:
        return self.graph.on_paths(self.graph.without(keep, edges))

    def prune(self, effects: Float[np.ndarray, " edge"]) -> Keep:
        """Cut from the whole until no edge that is left can go alone. ``effects``: of each edge on the whole."""
        keep, n_before = self.graph.whole, -1
        while n_before != keep.sum():
            n_before = int(keep.sum())
            keep = self._cut(keep, self.graph.chosen(keep)[np.argsort(np.abs(effects), kind="stable")])
            effects = self.effects(keep)
        return keep

    def _cut(self, keep: Keep, ranked: Int[np.ndarray, " edge"]) -> Keep:
        """``keep`` without as many of these edges as can go, all together or by halves, weakest first."""
        groups = [ranked]
        while groups:
            group = groups.pop()
            group = group[keep[tuple(self.graph.edges[group].T)]]  # others may have taken some along
            tried = self._without(keep, group)
            if self._is_kept(tried):
                keep = tried
            elif len(group) > 1:
                groups += [group[len(group) // 2 :], group[: len(group) // 2]]
                continue
            self._progress("cutting", 1 - sum(map(len, groups)) / len(ranked))
        return keep

    def _is_kept(self, keep: Keep) -> bool:
        (difference,), (divergence,) = self.measure([keep])
        is_near = abs(self._share(difference) - 1) <= self._slack
        return bool(is_near and divergence <= self._slack * self.divergence_none)

    def _share(self, difference: float) -> float:
        return share_kept(difference, self.whole, self.none)

    def random(self, n_edges: int, inside: float, n_draws: int, seed: int) -> RandomPaths:
        """Shares that random sets of as many edges keep, beside the circuit's difference ``inside``."""
        generator = np.random.default_rng(seed)
        drawn = [self.graph.draw(n_edges, generator) for _ in range(n_draws)]
        shares = np.array([self._share(one) for one in self.measure(drawn)[0].tolist()])
        n_near = int((np.abs(shares - 1) <= abs(self._share(inside) - 1)).sum())
        low, median, high = np.quantile(shares, [0.05, 0.5, 0.95]).tolist()
        return RandomPaths(n_draws, low, median, high, (1 + n_near) / (1 + n_draws))
