"""Fixed distance: attention to a band of distances. Together with the previous token they cover a head's reach.

Source: Eldan and Li 2023, section 5.1: heads by distance, at several scales; Voita et al. 2019: positional heads.
"""

from __future__ import annotations

import numpy as np

from tslens.probes.base import Calibration, Probe, Row, uniform_null
from tslens.probes.batch import TokenBatch
from tslens.probes.pairs import averaged

BANDS = ((2, 2), (3, 4), (5, 8), (9, 16), (17, 32), (33, 64), (65, 128))


class FixedDistance(Probe):
    """Mean over tokens of the attention to all tokens that lie ``nearest`` to ``farthest`` places back.

    Position 0 is no key: rest on it is the sink's. Tokens too near to the beginning for the whole band do not ask.
    """

    family = "positional"
    served = "every prediction"
    basis = "positional"

    def __init__(self, nearest: int, farthest: int) -> None:
        self.nearest, self.farthest = nearest, farthest
        band = str(nearest) if nearest == farthest else f"{nearest}_{farthest}"
        self.name = f"distance_{band}"
        self.cost = float(farthest - nearest + 1)
        self.description = f"looks {band.replace('_', ' to ')} tokens back"

    def rows(self, batch: TokenBatch, calibration: Calibration) -> list[Row]:
        """One row."""
        asks = batch.is_query & (np.arange(batch.tokens.shape[1]) > self.farthest)
        row, query = asks.nonzero()
        back = np.arange(self.nearest, self.farthest + 1)
        key = (query[:, None] - back).ravel()
        value = averaged(row.repeat(len(back)), query.repeat(len(back)), key)
        return [Row("word", value, {"uniform": uniform_null(value, batch, calibration)})]


PROBES = tuple(FixedDistance(nearest, farthest) for nearest, farthest in BANDS)
