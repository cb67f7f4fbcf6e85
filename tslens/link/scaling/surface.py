"""Loss as a function of size and tokens, and the size that is best for a budget of operations.

``log L = log(E + A / N^alpha + B / D^beta)`` (Hoffmann et al. 2022, arXiv:2203.15556, approach 3), N being parameters,
D tokens, by least squares on log L with a soft loss (outliers count less), from several beginnings.

The best size for C operations is where L(N, C / f(N)) is least; f(N), the operations per token, is a line through the
models in the logarithms of both, as a model of twice the parameters does not take twice the operations. The exponent
is the slope of log N on log C over the budgets that the runs cover.

**Interval**: wild bootstrap over runs (Cameron, Gelbach and Miller 2008): each run's residuals times one draw of Webb's
six points are added to the fit, and everything is fitted again; percentiles of 400. Points of a run are alike, so runs
are what is drawn.

Axes: point, run, budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from scipy.optimize import least_squares

from tslens.link.scaling.points import ScalingRun
from tslens.stats import LEVEL, Interval

Count = Literal["all", "blocks"]
"""Which parameters make a size: all that are trained, or those of blocks."""

N_REPLICATES = 400
N_BUDGETS = 20
BEYOND = 8.0  # times the sizes that were trained, in which a best size is looked for
WEBB = np.array([-np.sqrt(1.5), -1.0, -np.sqrt(0.5), np.sqrt(0.5), 1.0, np.sqrt(1.5)])
SOFT = 0.02  # residuals of log L above it count less
RIDGE = 1e-3  # of a run that the fit follows wholly
_STARTS = [(a, b) for a in (0.2, 0.5, 1.0) for b in (0.2, 0.5, 1.0)]


@dataclass(frozen=True)
class Surface:
    """``floor``: E, nats per token. ``of_size``, ``alpha``: A at the geometric mean of the sizes, and its power;
    ``of_tokens``, ``beta``: likewise of tokens.
    """

    floor: float
    of_size: float
    alpha: float
    of_tokens: float
    beta: float
    mean_size: float
    mean_tokens: float

    def loss(
        self, size: Float[np.ndarray, "*point"], tokens: Float[np.ndarray, "*point"]
    ) -> Float[np.ndarray, "*point"]:
        """Nats per token."""
        found: np.ndarray = (
            self.floor
            + self.of_size * (size / self.mean_size) ** -self.alpha
            + self.of_tokens * (tokens / self.mean_tokens) ** -self.beta
        )
        return found


@dataclass(frozen=True)
class Scaling:
    """What runs say. ``exponent``: of the best size in operations. ``tokens_exponent``: of the best number of tokens.

    ``budgets``, ``best``: operations, and the best size at each. ``outside``: share of the budgets whose best size is
    smaller or larger than any that was trained. ``error``: root mean square of log L about the surface. ``warnings``:
    what these runs cannot tell, in words.
    """

    count: Count
    exponent: float
    interval: Interval
    tokens_exponent: float
    tokens_interval: Interval
    surface: Surface
    alpha_interval: Interval
    beta_interval: Interval
    budgets: tuple[float, ...]
    best: tuple[float, ...]
    outside: float
    error: float
    n_runs: int
    n_sizes: int
    n_points: int
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self)


def fit_scaling(
    runs: Sequence[ScalingRun], *, seed: int, count: Count = "all", n_replicates: int = N_REPLICATES
) -> Scaling:
    """Fit, best sizes, exponent with its interval. ``seed``: of the bootstrap."""
    points = _Points.of(runs, count)
    surface = _fit(points, points.log_loss, None)
    fitted = np.log(surface.loss(points.size, points.tokens))
    residuals = points.log_loss - fitted
    unshrunk = _unshrunk(points, surface, residuals)
    low, high = _budgets_of(runs)
    budgets = np.geomspace(low, high, N_BUDGETS)
    best = points.best(surface, budgets)
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(n_replicates):
        signs = rng.choice(WEBB, size=len(runs))[points.run]
        again = _fit(points, fitted + signs * unshrunk, surface)
        drawn.append((*_exponents(points, again, budgets), again.alpha, again.beta))
    ends = [
        Interval(*np.quantile(column, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist())
        for column in np.array(drawn).T
    ]
    exponent, tokens_exponent = _exponents(points, surface, budgets)
    smallest, largest = points.size.min(), points.size.max()
    outside = float(np.mean((best < smallest) | (best > largest)))
    return Scaling(
        count=count,
        exponent=exponent,
        interval=ends[0],
        tokens_exponent=tokens_exponent,
        tokens_interval=ends[1],
        surface=surface,
        alpha_interval=ends[2],
        beta_interval=ends[3],
        budgets=tuple(budgets.tolist()),
        best=tuple(best.tolist()),
        outside=outside,
        error=float(np.sqrt(np.mean(residuals**2))),
        n_runs=len(runs),
        n_sizes=len(set(points.size.tolist())),
        n_points=len(points.size),
        warnings=tuple(_warnings(points, surface, outside, ends[0])),
    )


@dataclass(frozen=True, eq=False)
class _Points:
    size: Float[np.ndarray, " point"]
    tokens: Float[np.ndarray, " point"]
    log_loss: Float[np.ndarray, " point"]
    run: np.ndarray
    slope: float  # of log operations per token on log size
    level: float

    @classmethod
    def of(cls, runs: Sequence[ScalingRun], count: Count) -> _Points:
        sizes = np.array([float(run.n_params if count == "all" else run.n_blocks) for run in runs])
        flops = np.array([run.flops_per_token for run in runs])
        slope, level = np.polyfit(np.log(sizes), np.log(flops), 1)
        n = np.array([len(run.loss) for run in runs])
        index = np.repeat(np.arange(len(runs)), n)
        return cls(
            sizes[index],
            np.concatenate([run.tokens for run in runs]),
            np.log(np.concatenate([run.loss for run in runs])),
            index,
            float(slope),
            float(level),
        )

    def best(self, surface: Surface, budgets: Float[np.ndarray, " budget"]) -> Float[np.ndarray, " budget"]:
        """The size of least loss for each budget: where the two terms' slopes balance, in closed form.

        With f(N) = k N^s: alpha P = beta s Q, P and Q being the two terms.
        """
        k = np.exp(self.level)
        ratio = surface.alpha * surface.of_size * surface.mean_size**surface.alpha
        other = surface.beta * self.slope * surface.of_tokens * surface.mean_tokens**surface.beta
        power = surface.alpha + surface.beta * self.slope
        with np.errstate(over="ignore", divide="ignore"):
            found = (ratio / other) ** (1 / power) * (budgets / k) ** (surface.beta / power)
        low, high = self.size.min() / BEYOND, self.size.max() * BEYOND
        clipped: np.ndarray = np.clip(found, low, high)
        return clipped


def _exponents(points: _Points, surface: Surface, budgets: np.ndarray) -> tuple[float, float]:
    """Of the best size and of its tokens: exact for such a surface."""
    size = surface.beta / (surface.alpha + points.slope * surface.beta)
    return float(size), float(1 - points.slope * size)


def _unshrunk(
    points: _Points, surface: Surface, residuals: Float[np.ndarray, " point"]
) -> Float[np.ndarray, " point"]:
    """Residuals with what the fit took from each run put back: (I - H_gg)^-1 e_g, H being the fit's hat matrix.

    A run at an end of the sizes draws the fit to itself; without this its residuals are too small. Source: MacKinnon,
    Nielsen and Webb 2023, Fast and reliable jackknife and bootstrap methods for cluster-robust inference.
    """
    x, y = np.log(points.size / surface.mean_size), np.log(points.tokens / surface.mean_tokens)
    of_size = surface.of_size * np.exp(-surface.alpha * x)
    of_tokens = surface.of_tokens * np.exp(-surface.beta * y)
    told = surface.floor + of_size + of_tokens
    jacobian = (
        np.stack([np.ones_like(x), of_size, of_tokens, -of_size * x, -of_tokens * y], 1) / told[:, None]
    )
    left, _, _ = np.linalg.svd(jacobian, full_matrices=False)
    found = residuals.copy()
    for run in np.unique(points.run):
        mine = points.run == run
        hat = left[mine] @ left[mine].T
        found[mine] = np.linalg.solve(np.eye(int(mine.sum())) * (1 + RIDGE) - hat, residuals[mine])
    return found


def _fit(points: _Points, log_loss: Float[np.ndarray, " point"], start: Surface | None) -> Surface:
    """Least squares on log L. ``start``: where to begin, None for several beginnings."""
    mean_size, mean_tokens = (float(np.exp(np.log(one).mean())) for one in (points.size, points.tokens))
    x, y = np.log(points.size / mean_size), np.log(points.tokens / mean_tokens)

    def residuals(theta: np.ndarray) -> np.ndarray:
        e, a, b, alpha, beta = theta
        told = np.exp(e) + np.exp(a - np.exp(alpha) * x) + np.exp(b - np.exp(beta) * y)
        found: np.ndarray = np.log(told) - log_loss
        return found

    def jacobian(theta: np.ndarray) -> np.ndarray:
        e, a, b, alpha, beta = theta
        floor, of_size, of_tokens = np.exp(e), np.exp(a - np.exp(alpha) * x), np.exp(b - np.exp(beta) * y)
        parts = (
            np.full_like(x, floor),
            of_size,
            of_tokens,
            -of_size * x * np.exp(alpha),
            -of_tokens * y * np.exp(beta),
        )
        found: np.ndarray = np.stack(parts, 1) / (floor + of_size + of_tokens)[:, None]
        return found

    least = float(np.exp(log_loss.min()))
    if start is not None:
        begins = [np.log([start.floor, start.of_size, start.of_tokens, start.alpha, start.beta])]
    else:
        begins = [np.log([least * 0.6, least * 0.2, least * 0.4, a, b]) for a, b in _STARTS]
    lower = np.log([1e-3, 1e-6, 1e-6, 0.02, 0.02])
    upper = np.log([least, 20.0, 20.0, 3.0, 3.0])
    best = min(
        (
            least_squares(
                residuals,
                np.clip(begin, lower + 1e-6, upper - 1e-6),
                jacobian,
                bounds=(lower, upper),
                loss="soft_l1",
                f_scale=SOFT,
                max_nfev=200,
            )
            for begin in begins
        ),
        key=lambda found: float(found.cost),
    )
    floor, of_size, of_tokens, alpha, beta = np.exp(best.x).tolist()
    return Surface(floor, of_size, alpha, of_tokens, beta, mean_size, mean_tokens)


def _budgets_of(runs: Sequence[ScalingRun]) -> tuple[float, float]:
    """From the least budget that two sizes reach to the most that two reach."""
    first = sorted(float(run.flops.min()) for run in runs)
    last = sorted(float(run.flops.max()) for run in runs)
    return first[min(1, len(first) - 1)], last[max(len(last) - 2, 0)]


def _warnings(points: _Points, surface: Surface, outside: float, interval: Interval) -> list[str]:
    found = []
    if outside > 0.25:
        found.append(
            f"at {outside:.0%} of the budgets the best size is smaller or larger than any that was trained: "
            "the exponent is extrapolated"
        )
    if interval.high - interval.low > 0.5:
        found.append("the interval of the exponent is wider than 0.5: these runs cannot tell it")
    if min(surface.alpha, surface.beta) < 0.03 or max(surface.alpha, surface.beta) > 2.9:
        found.append(
            "a power of the surface lies at the end of what is looked for: these runs do not tell it"
        )
    if points.size.max() / points.size.min() < 8:
        found.append("the largest size is less than eight times the smallest")
    return found
