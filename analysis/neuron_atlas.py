"""What do the neurons of the shipped models do, and are the neurons that the paper shows among them?

    .venv/bin/python analysis/neuron_atlas.py
    .venv/bin/python analysis/neuron_atlas.py --models l1_h64 --stories 60 --explain 20 --out atlas

For each model a page (``NAME.html``), its rows with provenance (``NAME.jsonl``), k-sparse probes
(``NAME.sparse.jsonl``), where its strongest neuron fires (``NAME.largest.json``). From these files, of all models that
the folder holds, ``report.md``: shares of neurons by status, role and basis; how many go beyond the word; how many
candidates the ablation confirms; whether a label is in one neuron or spread; all neurons of a role together; and, of
``l8_h64_a16``, an answer on each of the paper's neurons (subject pronouns, actions, adjectives, the introduction of the
protagonist). Stories are the offline author's, of the validation side. ``--report-only`` writes the report again.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markdown_table import table

from tslens.cli.neurons_scan import NeuronsScan, scan_neurons
from tslens.cli.opening import open_for_scan
from tslens.files import atomic_write, read_json, read_jsonl, write_json, write_jsonl
from tslens.model.load import find_model
from tslens.probes.neurons.report import RANK
from tslens.probes.neurons.results import load_neuron_roles
from tslens.probes.neurons.sparse import sparse_probes
from tslens.probes.neurons.stream import Example
from tslens.types import NeuronRole
from tslens.viz.neurons_words import STATUSES, words

MODELS = ("l1_h256", "l2_h128", "l4_h128", "l8_h64_a16")
PAPER_MODEL = "l8_h64_a16"
PAPER = {"a subject pronoun": "subject_pronoun", "the action": "action", "adjectives": "pos_adj"}
INTRODUCTION = "introduction"
LAST_LAYERS = 2
SPARSE_SCHEMA = "tslens.sparse_probe/1"
LARGEST_SCHEMA = "tslens.largest_neuron/1"
MOST_LABELS = 12  # of a table
_KINDS = ("dead", "positional", "token", "n-gram", "suppressing", "mixed")
_WRITES = ("prediction", "suppression", "partition", "entropy")


@dataclass(frozen=True)
class Saved:
    """What the folder holds of one model: rows and their header, k-sparse probes, the neuron of largest activation."""

    name: str
    header: Mapping[str, Any]
    roles: Sequence[NeuronRole]
    sparse: Sequence[Mapping[str, Any]]
    largest: Mapping[str, Any] | None

    @classmethod
    def load(cls, folder: Path, name: str) -> Saved:
        """From its files."""
        header, roles = load_neuron_roles(folder / f"{name}.jsonl")
        _, sparse = read_jsonl(folder / f"{name}.sparse.jsonl", SPARSE_SCHEMA)
        largest = folder / f"{name}.largest.json"
        return cls(name, header, roles, sparse, read_json(largest) if largest.exists() else None)

    @property
    def best(self) -> list[NeuronRole]:
        """Roles, then candidates, best first."""
        positive = [role for role in self.roles if role.status in ("role", "candidate")]
        return sorted(positive, key=lambda role: (-RANK[role.status], -role.excess, str(role.neuron)))


def share(n: int, of: int) -> str:
    """A count with its share."""
    return f"{n} ({100 * n / of:.0f}%)" if of else "0"


def counts(saved: Sequence[Saved]) -> str:
    """Neurons of each model by status, basis, kind, floor."""
    rows, beyond, kinds = [], [], []
    for one in saved:
        status = Counter(role.status for role in one.roles)
        n, at, best = len(one.roles), one.header["counts_at_floors"], one.best
        rows.append([one.name, str(n), *(share(status[s], n) for s in STATUSES), *(str(at[f]) for f in at)])
        basis = Counter(role.basis for role in best)
        tested = [role for role in best if role.cause is not None]
        confirmed = sum(role.status == "role" for role in tested)
        beyond.append(
            [
                one.name, str(len(best)),
                *(share(basis[b], len(best)) for b in ("lexical", "contextual", "positional")),
                f"{share(confirmed, len(tested))} of {len(tested)}",
            ]
        )  # fmt: skip
        kind = Counter(role.kind for role in one.roles)
        writes = Counter((role.writes or {}).get("kind") for role in one.roles)
        kinds.append([one.name, *(str(kind[k]) for k in _KINDS), *(str(writes[w]) for w in _WRITES)])
    return (
        table(["model", "neurons", *STATUSES, "at half the floor", "at the floor", "at double"], rows)
        + "Of roles and candidates: what explains them, and how many of those that could be tested the ablation "
        "confirms.\n\n"
        + table(["model", "together", "lexical", "contextual", "positional", "confirmed"], beyond)
        + "Of all neurons, what sort they are and what they write.\n\n"
        + table(["model", *_KINDS, *_WRITES], kinds)
    )


def by_label(one: Saved) -> str:
    """The labels with the most neurons."""
    roles = Counter(role.role for role in one.best if role.status == "role")
    candidates = Counter(role.role for role in one.best if role.status == "candidate")
    contextual = Counter(role.role for role in one.best if role.basis == "contextual")
    facts = {label["name"]: label for label in one.header["labels"]}
    order = sorted({*roles, *candidates}, key=lambda name: (-roles[name], -candidates[name], str(name)))
    rows = [
        [
            words(str(name)), str(roles[name]), str(candidates[name]), str(contextual[name]),
            f"{facts[name]['word_alone']:.2f}", f"{facts[name]['twins']:.2f}",
        ]
        for name in order[:MOST_LABELS]
    ]  # fmt: skip
    names = ["label", "roles", "candidates", "beyond the word", "word alone (area)", "random neurons (area)"]
    return table(names, rows)


def one_line(role: NeuronRole) -> str:
    """A neuron in figures."""
    cause = "" if role.cause is None else f", loss {role.cause['mean_beyond']:+.3f}"
    return (
        f"{role.neuron}, {words(role.role or 'no label')}, area {role.auroc:.2f} (low {role.auroc_low:.2f}, its words "
        f"alone {role.nulls.get('tokens', 0.5):.2f}), {role.basis or 'explained by neither'}, {role.status}{cause}"
    )


def strongest(one: Saved) -> str:
    """The ten strongest that go beyond the word, else that there are none."""
    best = [role for role in one.best if role.basis == "contextual"]
    if not best:
        return "No neuron goes beyond the word.\n\n"
    lines = "".join(f"- {one_line(role)}\n" for role in best[:10])
    return f"The strongest of the {len(best)} that go beyond the word:\n\n{lines}\n"


def doses(one: Saved) -> str:
    """All neurons of a role together, at the full dose and at a quarter."""
    rows = []
    for label in dict.fromkeys(dose["label"] for dose in one.header["doses"]):
        mine = {dose["share"]: dose for dose in one.header["doses"] if dose["label"] == label}
        if 1.0 not in mine:
            continue
        full, quarter = mine[1.0], mine.get(0.25)
        rows.append(
            [
                words(label), str(full["n_neurons"]), f"{quarter['effect']:+.3f}" if quarter else "",
                f"{full['effect']:+.3f} [{full['low']:+.3f}, {full['high']:+.3f}]",
                f"{full['others']:+.3f} [{full['others_low']:+.3f}, {full['others_high']:+.3f}]",
            ]
        )  # fmt: skip
    rows.sort(key=lambda row: -float(row[3].split()[0]))
    return table(["label", "neurons", "a quarter of them", "all", "as many others"], rows[:MOST_LABELS])


def sparse(one: Saved) -> str:
    """Areas by one neuron and by more."""
    rows = []
    for label in dict.fromkeys(probe["label"] for probe in one.sparse):
        mine = {probe["k"]: probe for probe in one.sparse if probe["label"] == label}
        if not {1, 4, 16, 64} <= set(mine):
            continue
        last = mine[64]["selectivity"]
        areas = [f"{mine[k]['auroc']:.2f}" for k in (1, 4, 16, 64)]
        rows.append([words(label), *areas, "" if last is None else f"{last:+.2f}"])
    rows.sort(key=lambda row: -float(row[1]))
    return table(["label", "k = 1", "4", "16", "64", "selectivity at 64"], rows)


def paper_answers(one: Saved) -> Iterator[str]:
    """One paragraph for each of the paper's neurons, and the last layers by role."""
    last = max(role.neuron.layer for role in one.roles) - LAST_LAYERS + 1
    for what, label in PAPER.items():
        mine = [role for role in one.best if role.role == label]
        chose = sorted((r for r in one.roles if r.role == label), key=lambda r: -r.excess)
        if not mine:
            nearest = f" The nearest: {one_line(chose[0])}." if chose else " No neuron chose the label."
            yield f"- **A neuron for {what}: no.**{nearest}\n"
            continue
        n_roles = sum(role.status == "role" for role in mine)
        beyond = sum(role.basis == "contextual" for role in mine)
        late = sum(role.neuron.layer >= last for role in mine)
        answer = "yes" if n_roles else "a candidate only, as no ablation confirms one"
        yield (
            f"- **A neuron for {what}: {answer}.** {one_line(mine[0])}. There are {n_roles} roles and "
            f"{len(mine) - n_roles} candidates, {late} of them in the last {LAST_LAYERS} layers, {beyond} beyond the "
            "word.\n"
        )
    assert one.largest is not None
    role = next(role for role in one.roles if str(role.neuron) == one.largest["neuron"])
    is_it = role.role == INTRODUCTION and role.status == "role"
    yield (
        "- **Is the neuron of largest activation the protagonist's introduction? "
        f"{'Yes' if is_it else 'No'}.** The largest is {one.largest['activation']:.1f}: {one_line(role)}; kind "
        f"{role.kind}. It is strongest at: {'; '.join(one.largest['contexts'])}.\n"
    )
    mine = [role for role in one.best if role.role == INTRODUCTION]
    told = f"The best of {len(mine)}: {one_line(mine[0])}." if mine else "None is even a candidate."
    yield f"- **A neuron for the introduction of the protagonist?** {told}\n\n"
    yield f"The last {LAST_LAYERS} layers by role, the best of each first:\n\n"
    late_ones = [role for role in one.best if role.neuron.layer >= last]
    by_role: dict[str, list[NeuronRole]] = {}
    for each in late_ones:
        by_role.setdefault(str(each.role), []).append(each)
    rows = [
        [
            words(label), str(sum(each.status == "role" for each in them)), str(len(them)),
            ", ".join(f"{each.neuron} {each.auroc:.2f}" for each in them[:5]),
        ]
        for label, them in sorted(by_role.items(), key=lambda item: -len(item[1]))
    ]  # fmt: skip
    yield table(["label", "roles", "roles and candidates", "the best, with their areas"], rows)


def largest_of(scan: NeuronsScan) -> dict[str, Any]:
    """The neuron of largest activation and where it is strongest."""
    read = scan.report.read
    column = int(read.sums.largest.argmax())
    return {
        "schema": LARGEST_SCHEMA,
        "neuron": str(read.neurons[column]),
        "activation": float(read.sums.largest[column]),
        "contexts": [_context(example, scan) for example in read.examples[column][:5]],
    }


def _context(example: Example, scan: NeuronsScan) -> str:
    """The words around a place (of the offline author's stories), the token itself in bold."""
    tokenizer = scan.opened.model.tokenizer
    assert tokenizer is not None
    tokens = tokenizer.token_strings([tokenizer.start_id, *tokenizer.encode(example.story.text)])
    before = "".join(tokens[max(1, example.pos - 6) : example.pos])
    after = "".join(tokens[example.pos + 1 : example.pos + 3])
    here = tokens[example.pos]
    blank = " " if here.startswith(" ") else ""
    return "\u201c" + f"{before}{blank}**{here.strip()}**{after}".replace("\n", " / ").strip() + "\u201d"


def write_report(saved: Sequence[Saved]) -> Iterator[str]:
    """The report, piece by piece."""
    yield "# What the neurons of the shipped models do\n\n"
    yield "Written by `analysis/neuron_atlas.py`. Terms: `docs/methods.md`, *Neurons*.\n\n"
    yield counts(saved)
    for one in saved:
        header = one.header
        yield f"## {one.name}\n\n"
        yield (
            f"{header['n_stories']} stories of {header['stories']} (sha256 {header['data_sha256']}), "
            f"{header['n_tokens']:,} tokens, roles on {header['n_sampled']:,}, causes on {header['n_explained']} "
            f"stories, seed {header['seed']}. Page and rows: `{one.name}.html`, `{one.name}.jsonl`.\n\n"
        )
        yield f"### Labels\n\n{by_label(one)}{strongest(one)}"
        if one.name == PAPER_MODEL:
            yield "### The paper's neurons\n\n"
            yield from paper_answers(one)
        yield (
            "### All neurons of a role together\n\nNats at the label's tokens beyond like tokens, with 95% intervals "
            f"over stories.\n\n{doses(one)}"
        )
        yield f"### One neuron or many\n\nArea under the curve of k-sparse probes.\n\n{sparse(one)}"


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
    parser.add_argument("--report-only", action="store_true", help="read the files that are there")
    parser.add_argument("--out", type=Path, default=Path("reports/neurons"))
    options = parser.parse_args()

    for name in () if options.report_only else options.models:
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
        write_json(options.out / f"{stem}.largest.json", largest_of(scan))
        sys.stderr.write(f"{name}: {scan.record.seconds:.0f} s\n")
    there = sorted(path.name.removesuffix(".sparse.jsonl") for path in options.out.glob("*.sparse.jsonl"))
    saved = [Saved.load(options.out, name) for name in there]
    text = "".join(write_report(saved)).rstrip() + "\n"
    with atomic_write(options.out / "report.md") as file:
        file.write(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
