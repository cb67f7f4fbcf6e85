"""Previous token: attention from each token to the one just before it.

Source: Elhage et al. 2021, A Mathematical Framework for Transformer Circuits; TransformerLens' head_detector.
"""

from __future__ import annotations

from tslens.probes.base import Calibration, Probe, Row, uniform_null
from tslens.probes.batch import TokenBatch
from tslens.probes.pairs import averaged


class PreviousToken(Probe):
    """Mean attention of each token (position 0 excepted) to the token just before."""

    name = "previous_token"
    description = "looks at the token just before"
    family = "positional"
    served = "every prediction"
    cost = 1.0
    basis = "positional"

    def rows(self, batch: TokenBatch, calibration: Calibration) -> list[Row]:
        """One row."""
        row, query = batch.is_query.nonzero()
        value = averaged(row, query, query - 1)
        return [Row("word", value, {"uniform": uniform_null(value, batch, calibration)}, has_mul=True)]


PROBE = PreviousToken()
