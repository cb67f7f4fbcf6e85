"""From a sample of activations to roles: the label that a neuron fires at, held against its nulls.

1. On one half of the stories each neuron chooses the label that explains most of the variance of its activation, among
   those at whose tokens it is higher. On the other half the area under the curve of that label is read.
2. Nulls: the labels moved in a circle around their stories; two random twins of the model, whose neurons choose and
   are read in the same way. ``excess``: the area minus the larger null (of the twins: their 95th percentile).
3. ``p``: the larger of two. That of "no more than where the labels are moved", from the error over stories
   (Obuchowski 1997). That of "a random neuron does as well": how many deviations over the twins' neurons the area lies
   from their mean, held against what these reach at the labels that they chose themselves: a word that is frequent
   looks like a role to many a random neuron.
4. ``candidate``: among the discoveries at a false discovery rate of 5% (Benjamini and Hochberg 1995), and the lower end
   of the area, corrected for the selection (Benjamini and Yekutieli 2005), reaches the floor. ``unclear``: a discovery
   below it. ``no``: the rest.
5. ``basis``: ``contextual`` where, on the tokens whose word does not decide the label, the label explains 5% of the
   variance of the activation beyond the best predictor from word, pair of words and position (lower end, one-sided 95%,
   over stories); else ``positional`` where its mean at each position goes with the activation better than its mean for
   each word, else ``lexical``. Not said of neurons without a discovery.

Axes: token, neuron, label.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import false_discovery_control, t

from tslens.probes.neurons.reader import Found
from tslens.types import NeuronId, NeuronRole, Status

NEURON_FLOOR = 0.65  # of the area, written down before any model was scanned
DISCOVERY_RATE = 0.05


def judge_neurons(
    neurons: Sequence[NeuronId], labels: Sequence[str], found: Sequence[Found | None]
) -> list[NeuronRole]:
    """Statuses, corrected for the number of neurons."""
    adjusted, corrected = _corrected(found)
    roles = []
    for neuron, one, q, low in zip(neurons, found, adjusted.tolist(), corrected.tolist(), strict=True):
        if one is None:
            roles.append(NeuronRole.none(neuron))
            continue
        status: Status = "no"
        if q <= DISCOVERY_RATE and one.excess > 0:
            status = "candidate" if min(low, one.first_area) >= NEURON_FLOOR else "unclear"
        reach = float(t.ppf(0.975, one.degrees)) * one.error
        roles.append(
            NeuronRole(
                neuron=neuron,
                role=labels[one.label],
                auroc=one.area,
                low=one.area - reach,
                high=one.area + reach,
                auroc_low=low,
                precision=one.precision,
                variance=one.variance,
                variance_beyond_token=one.beyond_token,
                nulls=one.nulls,
                excess=one.excess,
                p=q,
                status=status,
                basis=None if status == "no" else one.basis,
                within_word=one.within,
                n_ambiguous=one.n_ambiguous,
            )
        )
    return roles


def reach_floor(found: Sequence[Found | None], floor: float) -> int:
    """How many neurons would be candidates at a floor."""
    adjusted, corrected = _corrected(found)
    return sum(
        one is not None and q <= DISCOVERY_RATE and one.excess > 0 and min(low, one.first_area) >= floor
        for one, q, low in zip(found, adjusted.tolist(), corrected.tolist(), strict=True)
    )


def _corrected(found: Sequence[Found | None]) -> tuple[np.ndarray, np.ndarray]:
    """p-values at a false discovery rate, and lower ends of the areas, corrected for the selection of discoveries."""
    p = np.array([1.0 if one is None else one.p for one in found])
    adjusted = false_discovery_control(p)
    tail = DISCOVERY_RATE * max(int((adjusted <= DISCOVERY_RATE).sum()), 1) / len(p)
    low = [
        0.5 if one is None else one.area - float(t.ppf(1 - tail, one.degrees)) * one.error for one in found
    ]
    return adjusted, np.array(low)
