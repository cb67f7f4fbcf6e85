"""All neurons of a model from its source to files: what ``tslens neurons`` does between two prints, and studies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tslens.cli.opening import Opened, record_of, validation_beside
from tslens.probes.neurons.classify import classify_neurons
from tslens.probes.neurons.report import NeuronsReport
from tslens.probes.neurons.results import save_neuron_roles
from tslens.types import Provenance
from tslens.viz.neurons_page import write_neuron_atlas


@dataclass(frozen=True)
class NeuronsScan:
    """What was measured, of what, and where it comes from."""

    opened: Opened
    report: NeuronsReport
    record: Provenance

    def save(self, path: Path) -> None:
        """Write the rows and their provenance."""
        source = self.opened.source
        save_neuron_roles(
            self.report, path, model=source.label, checkpoint=source.path.name, record=self.record
        )

    def write_page(self, path: Path) -> None:
        """Write the HTML page; the model runs again on the stories that are shown."""
        opened = self.opened
        write_neuron_atlas(
            path, self.report, opened.model, name=opened.source.label, header=self.page_header()
        )

    def page_header(self) -> dict[str, str]:
        """Facts for the head and the foot of the page."""
        report, record, opened = self.report, self.record, self.opened
        beside = validation_beside(opened.source)
        return {
            "stories": f"{report.n_stories} of {record.data}",
            "tokens": f"{report.n_tokens:,}, roles on {report.n_sampled:,}",
            "bits per byte": f"{opened.loss.bits_per_byte:.3f} on the first {len(opened.held_out.first)}",
            **({"in training": beside} if beside else {}),
            "causes tested": f"on {report.n_explained} stories" if report.n_explained else "not tested",
            "seed": str(report.seed),
            "version": record.version,
            "command": record.command,
            "data sha256": record.data_sha256,
        }


def scan_neurons(
    opened: Opened,
    *,
    layers: Sequence[int] | None = None,
    labels: Sequence[str] = (),
    n_explain: int,
    seed: int,
    command: str,
    progress: Callable[[int], None] = lambda n_stories: None,
    judging: Callable[[int], None] = lambda n_neurons: None,
    explaining: Callable[[int], None] = lambda n_stories: None,
) -> NeuronsScan:
    """Read all neurons of an opened model; its stories are read once.

    ``command``: for the record. The rest as for ``classify_neurons``, which says what it raises.
    """
    report = classify_neurons(
        opened.model,
        opened.held_out,
        seed=seed,
        layers=layers,
        labels=labels,
        n_explain=n_explain,
        progress=progress,
        judging=judging,
        explaining=explaining,
    )
    return NeuronsScan(opened, report, record_of(opened, command=command, seed=seed))
