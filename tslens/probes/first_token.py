"""First token: attention to position 0, the sink where a head rests when it has nothing to say.

Source: Xiao et al. 2024, Efficient Streaming Language Models with Attention Sinks.
"""

from __future__ import annotations

import numpy as np

from tslens.probes.base import Calibration, Probe, Row, uniform_null
from tslens.probes.batch import TokenBatch
from tslens.probes.pairs import averaged


class FirstToken(Probe):
    """Mean attention of each token (position 0 excepted) to the token that begins a story, at position 0."""

    name = "first_token"
    description = "rests on the first position, the attention sink"
    family = "positional"
    served = "none: a sink is where a head does nothing"
    cost = 1.0
    basis = "positional"

    def serves(self, batch: TokenBatch) -> None:
        """It serves no prediction."""

    def rows(self, batch: TokenBatch, calibration: Calibration) -> list[Row]:
        """One row."""
        row, query = batch.is_query.nonzero()
        value = averaged(row, query, np.zeros_like(query))
        return [Row("word", value, {"uniform": uniform_null(value, batch, calibration)})]


PROBE = FirstToken()
