"""What ``analysis/replication.py`` writes from its files: the report on matched units and on roles that replicate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tslens.model.spec import ModelSpec
from tslens.probes.matching.report import STATUSES, MatchReport, Mean, PairMatch
from tslens.probes.matching.roles import RoleAgreement, RoleHolders, replicated

ALPHA = 0.05
MOST_NAMES = 6


def table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [names, ["---"] * len(names), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n"


def short(label: str) -> str:
    """A model's label as in a table."""
    return label.removeprefix("shipped:")


def words(role: str) -> str:
    """A role as in a table."""
    return role.replace("_", " ")


@dataclass(frozen=True)
class Group:
    """A group of models as it was saved."""

    name: str
    stories: str
    report: MatchReport

    @property
    def is_seeds(self) -> bool:
        """Whether its models differ in nothing but the seed."""
        return len({label.partition("@")[0] for label in self.report.models}) == 1


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
    found = [one for group in groups for one in group.report.agreements if one.role is None]
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


@dataclass(frozen=True)
class RoleInSeeds:
    """A role over the seeds of one model.

    ``n_held``: holders by model. ``n_both``: pairs of matched units, over every two seeds, that both hold it;
    ``n_most``: as many as there could be; ``by_chance``: mean of deals within layers. ``n_kept``: holders whose own
    match, of any role, is no less than like, of ``n_holders`` in all pairs.
    """

    role: str
    n_held: tuple[int, ...]
    in_all: bool
    n_both: int
    n_most: int
    by_chance: float
    n_kept: int
    n_holders: int


def roles_in_seeds(group: Group, component: str) -> list[RoleInSeeds]:
    """Every role that some seed holds, those of most holders first."""
    report = group.report
    mine = [one for one in report.roles if one.component == component]
    in_all = set(replicated(mine, report.models, component))  # type: ignore[arg-type]
    found = []
    for role in sorted({one.role for one in mine if one.holders}):
        held = {one.model: set(one.holders) for one in mine if one.role == role}
        pairs = [pair for pair in report.pairs if pair.component == component]
        shared = [one for one in report.agreements if (one.component, one.role) == (component, role)]
        most = sum(min(len(held.get(p.model_a, ())), len(held.get(p.model_b, ()))) for p in pairs)
        by_holders = [match for pair in pairs for match in _of_holders(pair, held)]
        found.append(
            RoleInSeeds(
                role,
                tuple(len(held.get(model, ())) for model in report.models),
                role in in_all,
                sum(one.n_both for one in shared),
                most,
                sum(_expected(one) for one in shared),
                sum(status in ("same", "like") for status in by_holders),
                len(by_holders),
            )
        )
    return sorted(found, key=lambda one: (-one.in_all, -sum(one.n_held), one.role))


def _expected(one: RoleAgreement) -> float:
    assert one.chance_in_layer is not None
    return one.chance_in_layer * (one.n_a + one.n_b) / 2


def _of_holders(pair: PairMatch, held: Mapping[str, set[str]]) -> Iterator[str]:
    """Status of the match of every holder, of either model."""
    for match in pair.matches:
        for model, unit in ((pair.model_a, match.a), (pair.model_b, match.b)):
            if str(unit) in held.get(model, ()):
                yield match.status


def role_table(group: Group, component: str) -> str:
    """Roles over seeds."""
    rows = [
        [
            words(one.role), *map(str, one.n_held), "yes" if one.in_all else "no", f"{one.n_both} of {one.n_most}",
            f"{one.by_chance:.1f}", f"{one.n_kept} of {one.n_holders}",
        ]
        for one in roles_in_seeds(group, component)
    ]  # fmt: skip
    seeds = [label.partition("@")[2] or label for label in group.report.models]
    return table(
        [
            "role",
            *seeds,
            "in all",
            "held by both of a match",
            "by chance in the layer",
            "holders that are matched",
        ],
        rows,
    )


def verdict(group: Group, component: str) -> str:
    """Which roles replicate, and how many of them by the matched units."""
    found = roles_in_seeds(group, component)
    in_all = [one for one in found if one.in_all]
    by_chance = [one for one in in_all if one.n_both <= one.by_chance]
    without = [one for one in in_all if 2 * one.n_kept < one.n_holders]
    pairs = [pair for pair in group.report.pairs if pair.component == component]
    n_matched = sum(pair.counts["same"] + pair.counts["like"] for pair in pairs)
    n_same, n_pairs = sum(pair.counts["same"] for pair in pairs), sum(len(pair.matches) for pair in pairs)
    shared = [one for one in group.report.agreements if (one.component, one.role) == (component, None)]
    beyond = sum(one.p_in_layer is not None and one.p_in_layer <= ALPHA for one in shared)
    return (
        f"- **{group.name}, {component}s.** Of {n_pairs} matched pairs {n_matched} are nearer than every null by the "
        f"floor, {n_same} of them nearer than their own programs. Of {len(found)} roles that any seed has "
        f"{len(in_all)} are in all of them. Matched units share roles beyond chance in their layer in {beyond} of "
        f"{len(shared)} pairs of seeds. Roles in all seeds of which fewer than half of the holders have such a match: "
        f"{_names(without)}. In all seeds, but no more often in both of a match than by chance: {_names(by_chance)}.\n"
    )


def _names(roles: Sequence[RoleInSeeds]) -> str:
    names = [words(one.role) for one in roles]
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return (", ".join(names[:MOST_NAMES]) or "none") + more


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
            if any(match.a.layer or match.b.layer for pair in group.report.pairs for match in pair.matches):
                yield f"### {group.name}, by layers\n\n{layer_table(group, component)}"
    yield "## Do matched units hold the same roles?\n\n"
    yield (
        "Roles and candidates. Shared: of the roles that matched units hold, the share that both hold. Dealt out: its "
        "mean where the second units are dealt out anew, among all or within their layers. Matches and roles are both "
        "read from attention (or activations), so part of this is built in: it says that a role stays with one unit, "
        "not that two measurements agree.\n\n"
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
