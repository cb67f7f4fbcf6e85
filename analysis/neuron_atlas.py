"""What do the neurons of the shipped models do, and are the neurons that the paper shows among them?

    .venv/bin/python analysis/neuron_atlas.py
    .venv/bin/python analysis/neuron_atlas.py --models l1_h64 --stories 60 --explain 20 --out atlas

For each model a page (``NAME.html``), its rows with provenance (``NAME.jsonl``), k-sparse probes
(``NAME.sparse.jsonl``), and for all of them ``report.md``: shares of neurons by status, role and basis; how many go
beyond the word; how many candidates the ablation confirms; whether a label is in one neuron or spread; all neurons of a
role together; and, of ``l8_h64_a16``, an answer on each of the paper's neurons (subject pronouns, actions, adjectives,
the introduction of the protagonist). Stories are the offline author's, of the validation side.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tslens.cli.neurons_scan import NeuronsScan, scan_neurons
from tslens.cli.opening import open_for_scan
from tslens.files import atomic_write, write_jsonl
from tslens.model.load import find_model
from tslens.probes.neurons.report import NeuronsReport
from tslens.probes.neurons.sparse import SparseProbe, sparse_probes
from tslens.probes.neurons.stream import Example
from tslens.types import NeuronRole
from tslens.viz.neurons_words import STATUSES, words

MODELS = ("l1_h256", "l4_h128", "l8_h64_a16")
PAPER_MODEL = "l8_h64_a16"
PAPER = {
    "a subject pronoun": ("subject_pronoun",),
    "the action": ("action",),
    "adjectives": ("pos_adj",),
}
INTRODUCTION = ("introduction", "first_mention", "protagonist")
LAST_LAYERS = 2
SPARSE_SCHEMA = "tslens.sparse_probe/1"
MOST_LABELS = 12  # of a table
_KINDS = ("dead", "positional", "token", "n-gram", "suppressing", "mixed")
_WRITES = ("prediction", "suppression", "partition", "entropy")


def table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [names, ["---"] * len(names), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n"


def found(report: NeuronsReport) -> list[NeuronRole]:
    """Roles and candidates, best first."""
    return [role for role in report.best_first() if role.status in ("role", "candidate")]


def share(n: int, of: int) -> str:
    """A count with its share."""
    return f"{n} ({100 * n / of:.0f}%)" if of else "0"


def counts(scans: Sequence[tuple[str, NeuronsScan]]) -> str:
    """Neurons of each model by status, basis, kind, floor."""
    rows, beyond, kinds = [], [], []
    for name, scan in scans:
        report = scan.report
        status = Counter(role.status for role in report.roles)
        n, at = len(report.roles), report.counts_at_floors
        rows.append([name, str(n), *(share(status[one], n) for one in STATUSES), *(str(at[f]) for f in at)])
        best = found(report)
        basis = Counter(role.basis for role in best)
        tested = [role for role in best if role.cause is not None]
        confirmed = sum(role.status == "role" for role in tested)
        beyond.append(
            [
                name, str(len(best)),
                *(share(basis[one], len(best)) for one in ("lexical", "contextual", "positional")),
                f"{share(confirmed, len(tested))} of {len(tested)}",
            ]
        )  # fmt: skip
        kind, writes = (
            Counter(role.kind for role in report.roles),
            Counter((role.writes or {}).get("kind") for role in report.roles),
        )
        kinds.append([name, *(str(kind[one]) for one in _KINDS), *(str(writes[one]) for one in _WRITES)])
    return (
        table(["model", "neurons", *STATUSES, "at half the floor", "at the floor", "at double"], rows)
        + "Of roles and candidates: what explains them, and how many of those that could be tested the ablation "
        "confirms.\n\n"
        + table(["model", "together", "lexical", "contextual", "positional", "confirmed"], beyond)
        + "Of all neurons, what sort they are and what they write.\n\n"
        + table(
            ["model", *_KINDS, *_WRITES],
            kinds,
        )
    )


def by_label(report: NeuronsReport) -> str:
    """The labels with the most neurons."""
    roles = Counter(role.role for role in report.roles if role.status == "role")
    candidates = Counter(role.role for role in report.roles if role.status == "candidate")
    contextual = Counter(role.role for role in found(report) if role.basis == "contextual")
    facts = {label.name: label for label in report.labels}
    order = sorted({*roles, *candidates}, key=lambda one: (-roles[one], -candidates[one], str(one)))
    rows = [
        [
            words(str(one)), str(roles[one]), str(candidates[one]), str(contextual[one]),
            f"{facts[str(one)].word_alone:.2f}", f"{facts[str(one)].twins:.2f}",
        ]
        for one in order[:MOST_LABELS]
    ]  # fmt: skip
    names = ["label", "roles", "candidates", "beyond the word", "word alone (area)", "random neurons (area)"]
    return table(names, rows)


def one_line(role: NeuronRole) -> str:
    """A neuron in figures."""
    cause = "" if role.cause is None else f", loss {role.cause['mean_beyond']:+.3f}"
    return (
        f"{role.neuron}, {words(role.role or 'no label')}, area {role.auroc:.2f} (low {role.auroc_low:.2f}, its words "
        f"alone {role.nulls.get('tokens', 0.5):.2f}), {role.basis}, {role.status}{cause}"
    )


def strongest(report: NeuronsReport) -> str:
    """The ten strongest that go beyond the word, else that there are none."""
    best = [role for role in found(report) if role.basis == "contextual"]
    if not best:
        return "No neuron goes beyond the word.\n\n"
    lines = "".join(f"- {one_line(role)}\n" for role in best[:10])
    return f"The strongest of the {len(best)} that go beyond the word:\n\n{lines}\n"


def doses(report: NeuronsReport) -> str:
    """All neurons of a role together, at the full dose and at a quarter."""
    rows = []
    for label in dict.fromkeys(dose.label for dose in report.doses):
        mine = {dose.share: dose for dose in report.doses if dose.label == label}
        if 1.0 not in mine:
            continue
        full, quarter = mine[1.0], mine.get(0.25)
        rows.append(
            [
                words(label), str(full.n_neurons), f"{quarter.effect:+.3f}" if quarter else "",
                f"{full.effect:+.3f} [{full.low:+.3f}, {full.high:+.3f}]",
                f"{full.others:+.3f} [{full.others_low:+.3f}, {full.others_high:+.3f}]",
            ]
        )  # fmt: skip
    rows.sort(key=lambda row: -float(row[3].split()[0]))
    return table(["label", "neurons", "a quarter of them", "all", "as many others"], rows[:MOST_LABELS])


def sparse(probes: Sequence[SparseProbe]) -> str:
    """Areas by one neuron and by more."""
    rows = []
    for label in dict.fromkeys(probe.label for probe in probes):
        mine = {probe.k: probe for probe in probes if probe.label == label}
        if not {1, 4, 16, 64} <= set(mine):
            continue
        last = mine[64].selectivity
        areas = [f"{mine[k].auroc:.2f}" for k in (1, 4, 16, 64)]
        rows.append([words(label), *areas, "" if last is None else f"{last:+.2f}"])
    rows.sort(key=lambda row: -float(row[1]))
    return table(["label", "k = 1", "4", "16", "64", "selectivity at 64"], rows)


def paper_answers(scan: NeuronsScan) -> Iterator[str]:
    """One paragraph for each of the paper's neurons."""
    report = scan.report
    last = max(role.neuron.layer for role in report.roles) - LAST_LAYERS + 1
    for what, labels in PAPER.items():
        mine = [role for role in report.best_first() if role.role in labels]
        late = [role for role in mine if role.neuron.layer >= last]
        best = [role for role in mine if role.status in ("role", "candidate")]
        if not best:
            nearest = f" The nearest: {one_line(mine[0])}." if mine else ""
            yield f"- **A neuron for {what}: no.**{nearest}\n"
            continue
        n_roles = sum(role.status == "role" for role in best)
        beyond = sum(role.basis == "contextual" for role in best)
        in_last = sum(role.status in ("role", "candidate") for role in late)
        yield (
            f"- **A neuron for {what}: yes.** {one_line(best[0])}. There are {n_roles} roles and {len(best) - n_roles} "
            f"candidates, {in_last} of them in the last {LAST_LAYERS} layers, {beyond} beyond the word.\n"
        )
    largest = report.read.sums.largest
    column = int(largest.argmax())
    role = report.roles[column]
    examples = report.read.examples[column][:5]
    answer = "yes" if role.role in INTRODUCTION and role.status in ("role", "candidate") else "no"
    contexts = "; ".join(_context(example, scan) for example in examples)
    yield (
        f"- **Is the neuron of largest activation the protagonist's introduction? {answer.capitalize()}.** The largest "
        f"is {largest[column]:.1f}: {one_line(role)}; kind {role.kind}. It is strongest at: {contexts}.\n\n"
    )


def _context(example: Example, scan: NeuronsScan) -> str:
    """The words around a place (of the offline author's stories), the token itself in bold."""
    tokenizer = scan.opened.model.tokenizer
    assert tokenizer is not None
    tokens = tokenizer.token_strings([tokenizer.start_id, *tokenizer.encode(example.story.text)])
    before = "".join(tokens[max(1, example.pos - 6) : example.pos])
    after = "".join(tokens[example.pos + 1 : example.pos + 3])
    here = tokens[example.pos]
    text = (
        f"{before} **{here.strip()}**{after}"
        if here.startswith(" ")
        else f"{before}**{here.strip()}**{after}"
    )
    return "\u201c" + text.replace("\n", " / ").strip() + "\u201d"


def write_report(scans: Sequence[tuple[str, NeuronsScan, Sequence[SparseProbe]]]) -> Iterator[str]:
    """The report, piece by piece."""
    yield "# What the neurons of the shipped models do\n\n"
    yield "Written by `analysis/neuron_atlas.py`. Terms: `docs/methods.md`, *Neurons*.\n\n"
    yield counts([(name, scan) for name, scan, _ in scans])
    for name, scan, probes in scans:
        report, loss = scan.report, scan.opened.loss
        yield f"## {name}\n\n"
        yield (
            f"{report.n_stories} stories of {scan.record.data} (sha256 {scan.record.data_sha256}), {report.n_tokens:,} "
            f"tokens, roles on {report.n_sampled:,}, causes on {report.n_explained} stories, seed {report.seed}. "
            f"{loss.bits_per_byte:.3f} bits per byte. Page and rows: `{name}.html`, `{name}.jsonl`.\n\n"
        )
        yield f"### Labels\n\n{by_label(report)}{strongest(report)}"
        if name == PAPER_MODEL:
            yield "### The paper's neurons\n\n"
            yield from paper_answers(scan)
        yield (
            "### All neurons of a role together\n\nNats at the label's tokens beyond like tokens, with 95% intervals "
            f"over stories.\n\n{doses(report)}"
        )
        yield f"### One neuron or many\n\nArea under the curve of k-sparse probes.\n\n{sparse(probes)}"


def main() -> None:
    """Read, write, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--stories", type=int, default=1000)
    parser.add_argument("--explain", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("reports/neurons"))
    options = parser.parse_args()

    scans = []
    for name in options.models:
        opened = open_for_scan(find_model(name), None, options.stories, device=options.device)
        scan = scan_neurons(
            opened,
            n_explain=options.explain,
            seed=options.seed,
            command=shlex.join(["python", *sys.argv]),
        )
        stem = name.replace("/", "-").replace(":", "-")
        scan.save(options.out / f"{stem}.jsonl")
        scan.write_page(options.out / f"{stem}.html")
        probes = sparse_probes(scan.report.read, seed=options.seed)
        header = {"model": opened.source.label, "stories": scan.record.data, "seed": options.seed}
        rows = (probe.to_json() for probe in probes)
        write_jsonl(options.out / f"{stem}.sparse.jsonl", SPARSE_SCHEMA, header, rows)
        scans.append((stem, scan, probes))
        sys.stderr.write(f"{name}: {scan.record.seconds:.0f} s\n")
    text = "".join(write_report(scans)).rstrip() + "\n"
    with atomic_write(options.out / "report.md") as file:
        file.write(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
