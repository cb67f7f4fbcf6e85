"""What sort of neuron one is, whatever its role (after Voita, Ferrando and Nalmpantis 2024).

- ``dead``: not above zero at any token that was read;
- ``positional``: its mean at each position explains half of its variance;
- ``token``: its mean for each word explains four fifths of its variance; ``n-gram``: only its mean for each pair of
  words does;
- ``mixed``: the rest.

A ``token`` or ``n-gram`` neuron that lowers the very tokens at which it fires (``writes.own_tokens`` in the lowest
twentieth) is called ``suppressing`` instead: it takes back what is already said.
"""

from __future__ import annotations

from tslens.probes.neurons.reader import Explained
from tslens.probes.neurons.writes import Writes
from tslens.types import NeuronKind

POSITIONAL = 0.5
TOKEN = 0.8
SUPPRESSED = 0.05


def kind_of(n_positive: float, explained: Explained, writes: Writes) -> NeuronKind:
    """``n_positive``: tokens at which it is above zero."""
    if n_positive == 0:
        return "dead"
    if explained.position >= POSITIONAL:
        return "positional"
    if max(explained.token, explained.bigram) < TOKEN:
        return "mixed"
    if writes.own_tokens is not None and writes.own_tokens <= SUPPRESSED:
        return "suppressing"
    return "token" if explained.token >= TOKEN else "n-gram"
