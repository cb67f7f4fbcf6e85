"""``tslens compare`` without a judge: two models or checkpoints beside each other, role by role."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tslens.cli.compare_files import GRADES
from tslens.cli.console import progress_bar, say, show, show_json, show_table
from tslens.cli.opening import MUCH_WORSE
from tslens.errors import UsageError
from tslens.link.compared_roles import (
    LossDifference,
    Mean,
    RoleDifference,
    RoleInModel,
    RolesComparison,
    compare_losses,
    compare_roles,
)
from tslens.model.load import ModelSource, find_model, open_model
from tslens.probes.held_out import HeldOut
from tslens.probes.matching.role_tables import stories_of_both
from tslens.stats import LEVEL

ROLES_SCHEMA = "tslens.compare_roles/1"


@dataclass(frozen=True)
class _Compared:
    """Both models as they are called in tables, and what was found. ``n_heads``: of each."""

    names: tuple[str, str]
    n_heads: tuple[int, int]
    stories: str
    losses: Sequence[LossDifference]
    roles: RolesComparison

    def to_json(self, seed: int) -> dict[str, Any]:
        """All of it as plain JSON types."""
        return {
            "schema": ROLES_SCHEMA,
            "a": self.names[0],
            "b": self.names[1],
            "stories": self.stories,
            "n_stories": self.roles.n_stories,
            "seed": seed,
            "causes": "not tested",
            "losses": [one.to_json() for one in self.losses],
            "roles": [one.to_json() for one in self.roles.roles],
            "too_few_stories": list(self.roles.too_few),
            "probes_left_out": list(self.roles.left_out),
        }


def check_roles_asked(models: Sequence[str], html: Path | None) -> None:
    """Raise UsageError for anything but two models, for files of grades, and for a page."""
    if any(Path(model).suffix == GRADES for model in models):
        raise UsageError("Files of grades are compared by their judge.", "Say which: --judge local.")
    if len(models) != 2:
        raise UsageError(
            f"Two models are compared role by role, not {len(models)}.",
            "Name two. The grades of several are compared with --judge, as in --judge local.",
        )
    if html is not None:
        raise UsageError(
            "There is no page of two models' roles.",
            f"A page of each: tslens heads --model {models[0]} --html {html}",
        )


def show_roles_compared(
    models: Sequence[str], stories: str | None, n_stories: int, *, seed: int, device: str, as_json: bool
) -> None:
    """The command for two models without a judge. Raises what loading, reading and scanning raise."""
    sources = [find_model(name) for name in models]
    for source in sources:
        say(source.note)
    a, b = (open_model(source, device=device) for source in sources)
    held_out = HeldOut(a, stories, n_stories, exclude=a.train_digests | b.train_digests)
    there = list(held_out)
    read = stories_of_both(a, b, there)
    _say_stories(held_out, len(there), len(read))
    losses = compare_losses(a, b, read, seed=seed)
    _warn_of_other_stories(sources, losses)
    with progress_bar("scanning", 2 * len(read)) as (bar, task):
        roles = compare_roles(
            a, b, read, seed=seed, progress=lambda n: bar.update(task, completed=n, note=f"{n} readings")
        )
    n_heads = (a.cfg.n_layers * a.cfg.n_heads, b.cfg.n_layers * b.cfg.n_heads)
    names = (_name(models[0], sources[0]), _name(models[1], sources[1]))
    found = _Compared(names, n_heads, held_out.source, losses, roles)
    if as_json:
        show_json(found.to_json(seed))
    else:
        _show(found)


def _name(asked: str, source: ModelSource) -> str:
    """Label of a model; of a checkpoint that was named by its file, which one."""
    is_file = source.run is not None and Path(asked).is_file()
    return f"{source.label} {source.path.stem}" if is_file else source.label


def _say_stories(held_out: HeldOut, n_there: int, n_read: int) -> None:
    excluded = f", {held_out.n_excluded} training stories left out" if held_out.n_excluded else ""
    cut = (
        f", {n_there - n_read} that come twice or do not fit both contexts left out"
        if n_there > n_read
        else ""
    )
    say(f"stories: {n_read} of {held_out.source}{excluded}{cut}")


def _warn_of_other_stories(sources: Sequence[ModelSource], losses: Sequence[LossDifference]) -> None:
    """Of a model that does much worse than on its own kind of stories."""
    for source, mean in zip(sources, (losses[0].a.mean, losses[0].b.mean), strict=True):
        known = source.validation_bits()
        if known is not None and mean > MUCH_WORSE * known:
            say(
                f"warning: {mean:.3f} bits per byte are over {MUCH_WORSE} times the validation figure of "
                f"{source.label}. It is not trained as far, or never learned such stories; --stories gives its kind."
            )


# Results ----------------------------------------------------------------------------------------------------


def _show(found: _Compared) -> None:
    """The models, their losses, the roles that either holds, then what the others are."""
    for letter, name, n_heads in zip("AB", found.names, found.n_heads, strict=True):
        show(f"{letter}: {name}, {n_heads} heads")
    show("")
    show_table(
        ["<loss>", "A", "B", "<B - A>"],
        [
            [one.unit, _plain(one.a, 3), _plain(one.b, 3), _marked(one.difference, one.is_real)]
            for one in found.losses
        ],
    )
    roles = found.roles
    held = [one for one in roles.roles if one.is_held]
    others = [one for one in roles.roles if not one.is_held]
    show("")
    if held:
        show_table(
            ["<role>", "A: heads", "<best>", "excess", "B: heads", "<best>", "excess", "<B - A>"],
            [[one.role, *_side(one.a), *_side(one.b), _corrected(one)] for one in held],
        )
    show(_folded(_verdict(roles.roles)))
    show(
        _folded(
            "heads: that hold the role, by attention; causes are not tested. best: the head chosen on one half of the "
            "stories and measured on the other, both ways; two where the halves choose differently. excess: its "
            "attention less its largest null. \N{PLUS-MINUS SIGN}: half of the "
            f"{LEVEL:.0%} interval over {roles.n_stories} stories, for roles' differences the corrected one."
        )
    )
    if others:
        show(_folded(f"Held by neither, differences in --json: {', '.join(one.role for one in others)}."))
    if roles.too_few:
        show(_folded(f"In too few stories: {', '.join(roles.too_few)}."))
    if roles.left_out:
        show(_folded(f"Left out, for want of labels: {', '.join(roles.left_out)}."))


def _verdict(roles: Sequence[RoleDifference]) -> str:
    held = [one for one in roles if one.is_held]
    n_real = sum(one.is_real for one in held)
    if not held:
        return "Neither model holds a role: no real difference."
    if not n_real:
        return f"No real difference in the {len(held)} roles that either holds, of {len(roles)} compared."
    return f"*: real, {n_real} of {len(held)} differences, corrected for all {len(roles)} roles that were compared."


def _side(one: RoleInModel) -> list[str]:
    best = one.best[0] if one.best[0] == one.best[1] else ", ".join(one.best)
    return [str(len(one.holders)), best, _plain(one.excess, 3)]


def _plain(mean: Mean, digits: int) -> str:
    reach = (mean.high - mean.low) / 2
    return f"{mean.mean:.{digits}f} \N{PLUS-MINUS SIGN}{reach:.{digits}f}"


def _marked(difference: Mean, is_real: bool) -> str:
    reach = (difference.high - difference.low) / 2
    return f"{difference.mean:+.3f} \N{PLUS-MINUS SIGN}{reach:.3f}{'*' if is_real else ''}"


def _corrected(one: RoleDifference) -> str:
    ends = Mean(one.difference.mean, one.corrected_low, one.corrected_high)
    return _marked(ends, one.is_real)


def _folded(text: str) -> str:
    import textwrap

    return textwrap.fill(text, 100, break_long_words=False)
