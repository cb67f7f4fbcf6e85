"""Does a neuron of the protagonist's introduction feed a head that later attends to the name? Do other pairs of roles?

    .venv/bin/python analysis/composition.py
    .venv/bin/python analysis/composition.py --models l4_h128 --stories 40 --loss 10 --out composition

For each model the direct paths that were tested, with provenance (``NAME.jsonl``), and for all of them ``report.md``:
the answer on the authors' guess, how large an effect would have been seen, and what was found of any other pair of
roles. Roles of neurons and heads are those of ``reports/neurons`` and ``reports/heads`` (``--neurons``, ``--heads``);
where there is no file of the model, its neurons or heads are scanned first, without ablation (so that all roles are
candidates), on ``--scan`` stories. Stories are the offline author's, of a seed that neither any such scan nor the
models' training saw. ``--report-only`` writes the report again.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from composition_report import Saved, write_report

from tslens.cli.opening import Opened, open_for_scan, record_of
from tslens.cli.programs_scan import saved_scores
from tslens.errors import DataError
from tslens.files import atomic_write
from tslens.link.composition.measure import find_compositions
from tslens.link.composition.report import load_compositions, save_compositions
from tslens.model.load import find_model
from tslens.probes.held_out import HeldOut
from tslens.probes.neurons.classify import classify_neurons
from tslens.probes.neurons.results import load_neuron_roles
from tslens.probes.scan import score_heads
from tslens.types import HeadScore, NeuronRole

MODELS = ("l1_h256", "l2_h128", "l4_h128", "l8_h64_a16")
DATA = "author:4400:2"  # the scans of heads and neurons read seed 0, the models learned from seed 1
SCAN_SAMPLE = 32_768  # tokens of a scan of neurons, where no saved roles are given


@dataclass(frozen=True)
class Roles:
    """Roles of neurons and heads, and where they are from; none for a model of one layer, which has no path."""

    neurons: Sequence[NeuronRole] = ()
    heads: Sequence[HeadScore] = ()
    origin: tuple[str, ...] = ()


def roles_of(opened: Opened, neurons: Path, heads: Path, *, n_scan: int, seed: int) -> Roles:
    """From the files of a model, or from scans where there is none. Raises DataError if a file is of another model."""
    if opened.model.cfg.n_layers == 1:
        return Roles()
    scanned = HeldOut(opened.model, None, n_scan) if not (neurons.exists() and heads.exists()) else None
    if neurons.exists():
        roles, of_neurons = saved_neurons(neurons, opened), str(neurons.parent)
    else:
        assert scanned is not None
        report = classify_neurons(opened.model, scanned, seed=seed, sample_tokens=SCAN_SAMPLE, n_explain=0)
        roles, of_neurons = report.roles, f"a scan of {report.n_stories} stories of {scanned.source}"
    if heads.exists():
        scores, of_heads = saved_scores(heads, opened), str(heads.parent)
    else:
        assert scanned is not None
        found = score_heads(opened.model, scanned, seed=seed, n_explain=0)
        scores, of_heads = list(found.scores), f"a scan of {found.n_stories} stories of {scanned.source}"
    return Roles(roles, scores, (f"neurons from {of_neurons}", f"heads from {of_heads}"))


def saved_neurons(path: Path, opened: Opened) -> Sequence[NeuronRole]:
    """Roles of neurons from a file of ``tslens neurons``. Raises DataError if they are of another model."""
    header, roles = load_neuron_roles(path)
    source = opened.source
    if (header["model"], header["checkpoint"]) != (source.label, source.path.name):
        raise DataError(
            f"{path} holds the neurons of {header['model']} ({header['checkpoint']}), not of {source.label} "
            f"({source.path.name}).",
            "Give the roles of this model, or none: then its neurons are scanned first.",
        )
    return roles


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--data", default=DATA, help="source of the stories")
    parser.add_argument("--stories", type=int, default=120)
    parser.add_argument("--loss", type=int, default=50, help="stories on which losses are read")
    parser.add_argument("--scan", type=int, default=300, help="stories of a scan where no roles are saved")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--neurons", type=Path, default=Path("reports/neurons"), help="saved roles of neurons"
    )
    parser.add_argument("--heads", type=Path, default=Path("reports/heads"), help="saved scores of heads")
    parser.add_argument("--report-only", action="store_true", help="read the files that are there")
    parser.add_argument("--out", type=Path, default=Path("reports/composition"))
    options = parser.parse_args()

    for name in () if options.report_only else options.models:
        opened = open_for_scan(
            find_model(f"shipped:{name}"), options.data, options.stories, device=options.device
        )
        roles = roles_of(
            opened,
            options.neurons / f"{name}.jsonl",
            options.heads / f"{name}.jsonl",
            n_scan=options.scan,
            seed=options.seed,
        )
        report = find_compositions(
            opened.model,
            opened.held_out,
            roles.neurons,
            roles.heads,
            seed=options.seed,
            n_loss=options.loss,
        )
        record = record_of(opened, command=shlex.join(["python", *sys.argv]), seed=options.seed)
        save_compositions(
            report,
            options.out / f"{name}.jsonl",
            model=opened.source.label,
            checkpoint=opened.source.path.name,
            roles=roles.origin,
            record=record,
        )
        sys.stderr.write(f"{name}: {record.seconds:.0f} s\n")
    saved = [Saved(path.stem, *load_compositions(path)) for path in sorted(options.out.glob("*.jsonl"))]
    text = "".join(write_report(saved)).rstrip() + "\n"
    with atomic_write(options.out / "report.md") as file:
        file.write(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
