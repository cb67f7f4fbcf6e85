"""What ``analysis/replication.py`` writes from its files: the report on matched units and on roles that replicate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from markdown_table import table
from replication_roles import Group, role_table, short, verdict, words

from tslens.model.spec import ModelSpec
from tslens.probes.matching.report import STATUSES, Mean
from tslens.probes.matching.roles import RoleHolders


def _number(mean: Mean) -> str:
    return f"{mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]"


def pair_table(groups: Sequence[Group], component: str) -> str:
    """How like matched units are, two models a row."""
    nulls = ["exchanged", "twins"] + ["rotated"] * (component == "neuron")
    rows = []
    for group in groups:
        for pair in group.report.pairs:
            if pair.component != component:
                continue
            mutual = sum(match.mutual for match in pair.matches)
            rows.append(
                [
                    f"{short(pair.model_a)}, {short(pair.model_b)}", str(len(pair.matches)),
                    _number(pair.means["value"]),
                    *(f"{pair.means[name].value:.3f}" for name in (*nulls, "program")),
                    _number(pair.means["excess"]), *(str(pair.counts[status]) for status in STATUSES), str(mutual),
                    *(str(n) for n in pair.counts_at_floors.values()),
                ]
            )  # fmt: skip
    at = ["at half the floor", "at the floor", "at double"] + ["universal"] * (component == "neuron")
    return table(
        ["models", "pairs", "value", *nulls, "program", "excess", *STATUSES, "mutual", *at],
        rows,
    )


def layer_table(group: Group, component: str) -> str:
    """Which layer of the one model goes with which of the other, and how many pairs are no less than like."""
    rows = []
    for pair in group.report.pairs:
        if pair.component != component:
            continue
        cells = sorted({(match.a.layer, match.b.layer) for match in pair.matches})
        for a, b in cells:
            mine = [match for match in pair.matches if (match.a.layer, match.b.layer) == (a, b)]
            found = [match for match in mine if match.status in ("same", "like")]
            mean = sum(match.value for match in mine) / len(mine)
            rows.append(
                [
                    f"{short(pair.model_a)}, {short(pair.model_b)}", f"{a} and {b}", str(len(mine)),
                    str(len(found)), f"{mean:.3f}",
                ]
            )  # fmt: skip
    return table(["models", "layers", "pairs", "same or like", "mean value"], rows)


def agreement_table(groups: Sequence[Group]) -> str:
    """Whether matched units hold the same roles, all roles together; p by Holm over all rows."""
    found = [one for group in groups for one in group.together().report.agreements if one.role is None]
    corrected = holm([one.p_in_layer for one in found])
    rows = []
    for one, p in zip(found, corrected, strict=True):
        if one.shared is None:
            continue
        rows.append(
            [
                f"{short(one.model_a)}, {short(one.model_b)}", f"{one.component}s", str(one.n_a), str(one.n_b),
                str(one.n_both), f"{one.shared:.2f}", f"{one.chance:.2f}", f"{one.p:.4f}",
                f"{one.chance_in_layer:.2f}", f"{one.p_in_layer:.4f}", "" if p is None else f"{p:.4f}",
            ]
        )  # fmt: skip
    return table(
        [
            "models", "units", "held by the first", "by the second", "by both", "shared", "dealt out", "p",
            "dealt out in layers", "p", "p (Holm)",
        ],
        rows,
    )  # fmt: skip


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Corrected for the number of tests (Holm 1979); None stays None."""
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, i) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        corrected[i] = largest
    return corrected


def shape_table(holders: Sequence[RoleHolders]) -> str:
    """Heads that hold each role, by model: depth first, then width."""
    models = sorted(dict.fromkeys(one.model for one in holders), key=_shape)
    held = {(one.role, one.model): one for one in holders}
    roles = sorted(
        {one.role for one in holders if one.holders},
        key=lambda role: (-sum(bool(held[role, m].holders) for m in models if (role, m) in held), role),
    )
    n_units = {one.model: one.n_units for one in holders}
    rows = [["*heads in all*", *(str(n_units[model]) for model in models)]]
    for role in roles:
        cells = []
        for model in models:
            one = held.get((role, model))
            n, confirmed = (0, 0) if one is None else (len(one.holders), len(one.confirmed))
            cells.append("" if not n else f"{n} ({confirmed})" if confirmed else str(n))
        rows.append([words(role), *cells])
    return table(["role", *map(short, models)], rows)


def _shape(label: str) -> tuple[bool, int, int, int, str]:
    spec = ModelSpec.from_name(short(label).partition("@")[0])
    return spec.instruct, spec.n_layers, spec.d_model, spec.n_heads, label


def write_report(
    groups: Sequence[Group], header: Mapping[str, object], holders: Sequence[RoleHolders]
) -> Iterator[str]:
    """The report, piece by piece."""
    yield "# The same head in another seed, the same role in another size\n\n"
    yield "Written by `analysis/replication.py`. Terms: `docs/methods.md`, *The same head in another model*.\n\n"
    seeds = [group for group in groups if group.is_seeds]
    yield "".join(verdict(group, component) for group in seeds for component in ("head", "neuron")) + "\n"
    for group in groups:
        report = group.report
        yield (
            f"{group.name}: {report.n_stories} stories of {group.stories}, values on {report.n_read}, seed "
            f"{report.seed}; rows in `{group.name}.jsonl`. "
        )
    yield "Intervals: 95% over stories, of the mean over pairs.\n\n"
    for component in ("head", "neuron"):
        yield f"## {component.capitalize()}s matched\n\n{pair_table(groups, component)}"
        for group in groups:
            pairs = [pair for pair in group.report.pairs if pair.component == component]
            if any(match.a.layer or match.b.layer for pair in pairs for match in pair.matches):
                yield f"### {group.name}, by layers\n\n{layer_table(group, component)}"
    yield "## Do matched units hold the same roles?\n\n"
    yield (
        "Roles and candidates. Shared: of the roles that matched units hold, the share that both hold. Dealt out: its "
        "mean where the second units are dealt out anew, among all or within their layers. Matches and roles are both "
        "read from attention (or activations), so part of this is built in: it says that a role stays with one unit, "
        "not that two measurements agree. Distances, the previous token and the previous word are one role here: they "
        "are mostly held by the same heads.\n\n"
    )
    yield agreement_table(groups)
    for group in seeds:
        for component in ("head", "neuron"):
            yield f"## Roles over seeds: {group.name}, {component}s\n\n{role_table(group, component)}"
    yield "## Roles by depth and width\n\n"
    tested = f", in brackets those that an intervention on {header['n_explained']} stories confirms"
    yield (
        f"Heads that hold each role on {header['n_stories']} stories of {header['stories']} (seed {header['seed']}): "
        f"roles and candidates{tested if header['n_explained'] else '; causes were not tested'}. Of a role that no "
        "model's head holds there is no row.\n\n"
    )
    yield shape_table(holders)
