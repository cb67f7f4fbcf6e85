"""``tslens neurons``."""

from __future__ import annotations

import textwrap
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tslens.cli import options
from tslens.cli.console import progress_bar, say, show, show_json, show_table
from tslens.files import check_page, check_writable
from tslens.provenance import command_line

if TYPE_CHECKING:
    from tslens.probes.neurons.report import NeuronsReport
    from tslens.types import NeuronRole

NEURONS_SCHEMA = "tslens.neurons/1"
N_STORIES = 500
N_EXPLAIN = 100
FIRST_ROWS = 24  # of the table on a terminal


def neurons(
    model: options.Model = options.NEWEST,
    stories: options.Stories = None,
    n_stories: Annotated[int, typer.Option("--n-stories", help="Stories to read.")] = N_STORIES,
    layer: Annotated[
        list[int] | None, typer.Option("--layer", help="One layer; may be repeated. All if absent.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", help="A list in the lines of the stories, a label as well; may be repeated."),
    ] = None,
    n_explain: Annotated[
        int,
        typer.Option(
            "--n-explain", help="First stories, in whole batches, on which candidates are ablated; 0: none."
        ),
    ] = N_EXPLAIN,
    html: options.Html = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Results folder; RUN/results/neurons if absent.")
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Say what makes every MLP neuron fire and what it writes, with intervals, nulls and a verdict.

    Example: tslens neurons --model l1_h256 --html neurons.html
    """
    say(f"tslens neurons: loading {model} (seed {seed})")
    from tslens.cli.neurons_scan import scan_neurons
    from tslens.cli.opening import file_name, open_for_scan, say_loss, say_stories
    from tslens.errors import UsageError
    from tslens.model.load import find_model

    if n_stories < 1:
        raise UsageError(f"{n_stories} stories are none.", "Give --n-stories 1 or more.")
    if n_explain < 0:
        raise UsageError(f"--n-explain {n_explain} is below 0.", "Give 0 or more.")
    if label and stories is None:
        raise UsageError(
            "The default stories have no labels of yours.", "Give stories that have, with --stories."
        )
    layers = sorted(set(layer)) if layer else None
    source = find_model(model)
    say(source.note)
    folder = out or source.home.results("neurons")
    check_page(html, stories)
    check_writable(folder)
    opened = open_for_scan(source, stories, n_stories, device=options.resolve_device(device))
    say_loss(opened)
    with progress_bar("reading", n_stories) as (bar, task):

        def judging(n: int) -> None:
            n_neurons = opened.model.cfg.d_mlp * (len(layers) if layers else opened.model.cfg.n_layers)
            bar.update(task, description="judging", total=n_neurons, completed=n, note=f"{n} neurons")

        def explaining(n: int) -> None:
            total = min(n_explain, n_stories)
            bar.update(task, description="explaining", total=total, completed=n, note=f"{n} stories")

        scan = scan_neurons(
            opened,
            layers=layers,
            labels=label or (),
            n_explain=n_explain,
            seed=seed,
            command=command_line(),
            progress=lambda n: bar.update(task, completed=n, note=f"{n} stories"),
            judging=judging,
            explaining=explaining,
        )
    report = scan.report
    say_stories(opened, report.n_stories)
    asked = "".join(f"_L{one}" for one in layers or ())
    asked += "_" + "+".join(label) if label else ""
    asked += f"_explain{n_explain}" if n_explain != N_EXPLAIN else ""
    path = folder / file_name(opened, report.n_stories, seed, asked, named=out is not None)
    scan.save(path)
    if html is not None:
        scan.write_page(html)
    if as_json:
        rows = [role.to_json() for role in report.roles]
        show_json(
            {"schema": NEURONS_SCHEMA, "model": source.label, "n_stories": report.n_stories, "neurons": rows}
        )
    else:
        show_neurons(report)
        show(f"wrote {path}" + (f"\nwrote {html}" if html else ""))


# Results -------------------------------------------------------------------------------------------------


def show_neurons(report: NeuronsReport) -> None:
    """The best rows, then how many there are of each status, basis and kind."""
    rows = report.best_first()
    show_table(
        ["<neuron>", "<role>", "area", "low", "null", "word", "<basis>", "loss", "<status>", "<it raises>"],
        [_cells(role) for role in rows[:FIRST_ROWS]],
    )
    show(_word_alone(report))
    status, kind = Counter(role.status for role in rows), Counter(role.kind for role in rows)
    basis = Counter(role.basis for role in rows if role.status in ("role", "candidate"))
    more = f" ({len(rows) - FIRST_ROWS} more rows in the file)" if len(rows) > FIRST_ROWS else ""
    at = report.counts_at_floors
    show(
        f"{len(rows)} neurons: {status['role']} role, {status['candidate']} candidate, {status['unclear']} unclear, "
        f"{status['no']} no{more}.\n"
        f"Of roles and candidates {basis['lexical']} lexical, {basis['contextual']} contextual, "
        f"{basis['positional']} positional. Of all, {kind['dead']} dead,\n"
        f"{kind['token'] + kind['n-gram']} follow a word or a pair of words, {kind['suppressing']} suppress it, "
        f"{kind['positional']} follow the position.\n"
        "area: under the curve of the role's label by activation, on the other half of the stories;\n"
        "low: its corrected lower end; null: the larger of moved labels and random twins; word: what the\n"
        f"neuron's mean for each word alone gives. Candidate: low is {report.floor:g} or more. At half that floor's\n"
        f"excess {at['half']} neurons reach it, at double {at['double']}.\n"
        + (
            "loss: nats that its mean in place of its activation costs at the label's tokens, beyond like\n"
            f"tokens, on {report.n_explained} stories. Role: a candidate where that is above zero, corrected."
            if report.n_explained
            else "Causes were not tested (--n-explain 0), so no neuron is a role."
        )
    )


def _word_alone(report: NeuronsReport) -> str:
    """How far the word by itself tells each label that was read, best first."""
    read = sorted((label for label in report.labels if label.is_read), key=lambda label: -label.word_alone)
    told = ", ".join(f"{label.name} {label.word_alone:.2f}" for label in read)
    return textwrap.fill(f"How far the word alone tells each label (area): {told}.", 98)


def _cells(role: NeuronRole) -> list[str]:
    null = max(role.nulls.get("shifted", 0.5), role.nulls.get("twins", 0.5))
    word = role.nulls.get("tokens", 0.5)
    loss = "" if role.cause is None else f"{role.cause['mean_beyond']:+.3f}"
    raised = " ".join(token.strip() for token in (role.writes or {}).get("promotes", ())[:3])
    numbers = [f"{role.auroc:.3f}", f"{role.auroc_low:.3f}", f"{null:.3f}", f"{word:.3f}"]
    return [str(role.neuron), role.role or "", *numbers, role.basis or "", loss, role.status, raised]
