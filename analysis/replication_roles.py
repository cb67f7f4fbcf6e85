"""For ``replication_report.py``: which roles every seed of a model has, and whether matched units hold them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from markdown_table import table

from tslens.probes.matching.report import MatchReport, PairMatch
from tslens.probes.matching.roles import RoleAgreement, replicated, role_agreements

ALPHA = 0.05
MOST_NAMES = 6
BY_DISTANCE = "by distance"  # one role for all that are mostly held by the same heads


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

    def together(self) -> Group:
        """The group with the roles of heads that go by distance as one role."""
        return replace(self, report=by_distance_together(self.report))


def goes_by_distance(role: str) -> bool:
    """Whether a head holds the role by looking so far back, whatever is there."""
    return role.startswith(("distance_", "previous_"))


def by_distance_together(report: MatchReport) -> MatchReport:
    """One role of heads in place of all that go by distance; how often matched heads share roles is counted anew."""
    roles = [one for one in report.roles if one.component != "head" or not goes_by_distance(one.role)]
    for model in report.models:
        mine = [
            one
            for one in report.roles
            if (one.model, one.component) == (model, "head") and goes_by_distance(one.role)
        ]
        if mine:
            holders = dict.fromkeys(unit for one in mine for unit in one.holders)
            confirmed = dict.fromkeys(unit for one in mine for unit in one.confirmed)
            roles.append(
                replace(
                    max(mine, key=lambda one: one.best),
                    role=BY_DISTANCE,
                    holders=tuple(holders),
                    confirmed=tuple(confirmed),
                )
            )
    pairs = [pair for pair in report.pairs if pair.component == "head"]
    agreements = [one for pair in pairs for one in role_agreements(pair, roles, seed=report.seed)]
    agreements += [one for one in report.agreements if one.component != "head"]
    return replace(report, roles=tuple(roles), agreements=tuple(agreements))


@dataclass(frozen=True)
class RoleInSeeds:
    """A role over the seeds of one model.

    ``n_held``: holders by model. ``n_both``: pairs of matched units, over every two seeds, that both hold it;
    ``n_most``: as many as there could be; ``by_chance``: mean of deals within layers. ``n_kept``: holders whose own
    match, of any role, is no less than like, of ``n_holders`` in all pairs. ``confirmed``: whether in every model an
    intervention confirms a holder.
    """

    role: str
    n_held: tuple[int, ...]
    in_all: bool
    n_both: int
    n_most: int
    by_chance: float
    n_kept: int
    n_holders: int
    confirmed: bool


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
                all(
                    any(one.confirmed for one in mine if one.model == m and one.role == role)
                    for m in report.models
                ),
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
    """Roles over seeds; those by distance all together, then each."""
    found = []
    for one in roles_in_seeds(group.together(), component):
        found.append((words(one.role), one))
        if one.role == BY_DISTANCE:
            members = [each for each in roles_in_seeds(group, component) if goes_by_distance(each.role)]
            found += [(f"*of these: {words(each.role)}*", each) for each in members]
    rows = [
        [
            name, *map(str, one.n_held), "yes" if one.in_all else "no", f"{one.n_both} of {one.n_most}",
            f"{one.by_chance:.1f}", f"{one.n_kept} of {one.n_holders}",
        ]
        for name, one in found
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
    """Which roles replicate, how many of them by the matched units, and what of that is built in or not tested."""
    group = group.together()
    found = roles_in_seeds(group, component)
    in_all = [one for one in found if one.in_all]
    by_chance = [one for one in in_all if one.n_both <= one.by_chance]
    without = [one for one in in_all if 2 * one.n_kept < one.n_holders]
    pairs = [pair for pair in group.report.pairs if pair.component == component]
    n_matched = sum(pair.counts["same"] + pair.counts["like"] for pair in pairs)
    n_same, n_pairs = sum(pair.counts["same"] for pair in pairs), sum(len(pair.matches) for pair in pairs)
    shared = [one for one in group.report.agreements if (one.component, one.role) == (component, None)]
    matched = [match for pair in pairs for match in pair.matches if match.status in ("same", "like")]
    n_lowest = sum(match.a.layer == match.b.layer == 0 for match in matched)
    forced = (
        f" ({n_lowest} of the {n_matched} are of layer 0, where a program that is fitted well says nearly all, so that "
        "hardly any can be)"
        if component == "head" and n_lowest
        else ""
    )
    confirmed = sum(one.confirmed for one in in_all)
    caused = (
        f"In {confirmed} of them an intervention confirms a holder in every seed."
        if confirmed
        else "No intervention stands behind any of them in every seed: they are patterns, not known to be used."
    )
    as_one = ", those by distance counted as one," if any(one.role == BY_DISTANCE for one in found) else ""
    beyond = sum(one.p_in_layer is not None and one.p_in_layer <= ALPHA for one in shared)
    return (
        f"- **{group.name}, {component}s.** Of {n_pairs} matched pairs {n_matched} are nearer than every null by the "
        f"floor, {n_same} of them nearer than their own programs{forced}. Of {len(found)} roles that any seed has"
        f"{as_one} {len(in_all)} are in all of them. {caused} Matched units share roles beyond chance in their layer "
        f"in {beyond} of {len(shared)} pairs of seeds. Roles in all seeds of which fewer than half of the holders have "
        f"such a match: {_names(without)}. In all seeds, but no more often in both of a match than by chance: "
        f"{_names(by_chance)}.\n"
    )


def _names(roles: Sequence[RoleInSeeds]) -> str:
    names = [words(one.role) for one in roles]
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return (", ".join(names[:MOST_NAMES]) or "none") + more
