"""``tslens heads``."""

from __future__ import annotations

import shlex
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tslens.cli import options
from tslens.cli.console import progress_bar, say, show, show_json, show_table
from tslens.files import check_writable

if TYPE_CHECKING:
    from tslens.model.load import ModelSource
    from tslens.model.loss import LossReport
    from tslens.model.story_model import StoryModel
    from tslens.probes.verdict import HeadsReport
    from tslens.types import HeadScore, Provenance, Story

HEADS_SCHEMA = "tslens.heads/1"
N_STORIES = 500
N_EXAMPLES, EXAMPLE_TOKENS = 3, 80
FIRST_ROWS = 24  # of the table on a terminal
MUCH_WORSE = 1.5  # times the validation bits per byte: the stories are not what the model learned
CANNOT_TELL = (
    "Whether a head matters: attention says where a head looks, not what it moves nor whether anything uses it. "
    "No row here has been tested by intervention, so none is called a role.",
    "What the other roles of the paper (subject, topic, names) do: only the probes listed here were run.",
    "Why a head looks where it does: the basis (distance, token identity, context) is measured for positional "
    "probes only.",
    "Anything about other seeds, sizes or texts: these are figures of one trained model on these stories.",
)


def heads(
    model: options.Model,
    stories: options.Stories = None,
    n_stories: Annotated[int, typer.Option("--n-stories", help="Stories to read.")] = N_STORIES,
    probe: Annotated[
        list[str] | None, typer.Option("--probe", help="One probe; may be repeated. All if absent.")
    ] = None,
    html: options.Html = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Results folder; RUN/results/heads if absent.")
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Say what every attention head looks at, with intervals, nulls and a verdict.

    Example: tslens heads --model l1_h256 --html heads.html
    """
    say(f"tslens heads: loading {model} (seed {seed})")
    scan_model(model, stories, n_stories, probe, html, out, seed, device, as_json)


def scan_model(
    model: str,
    stories: str | None,
    n_stories: int,
    probes: list[str] | None,
    html: Path | None,
    out: Path | None,
    seed: int,
    device: str,
    as_json: bool,
) -> None:
    """The command, for ``tslens demo`` as well."""
    from tslens.errors import UsageError
    from tslens.model.load import find_model, open_model
    from tslens.probes.base import choose_probes
    from tslens.probes.held_out import HeldOut, loss_on
    from tslens.probes.results import save_head_scores
    from tslens.probes.scan import score_heads
    from tslens.provenance import provenance, utc_now

    if n_stories < 1:
        raise UsageError(f"{n_stories} stories are none.", "Give --n-stories 1 or more.")
    started, clock = utc_now(), time.monotonic()
    chosen = choose_probes(probes)
    source = find_model(model)
    say(source.note)
    loaded = open_model(source, device=options.resolve_device(device))
    held_out = HeldOut(loaded, stories, n_stories)
    folder = out or source.home.results("heads")
    for target in (folder, *([html.parent] if html is not None else [])):
        check_writable(target)
    loss = loss_on(loaded, held_out.first)
    say_loss(loss, len(held_out.first), source)
    with progress_bar("scanning", n_stories) as (bar, task):
        report = score_heads(
            loaded,
            held_out,
            seed=seed,
            probes=chosen,
            progress=lambda n: bar.update(task, completed=n, note=f"{n} stories"),
        )
    left_out = f", {held_out.n_excluded} training stories left out" if held_out.n_excluded else ""
    if not loaded.train_digests:
        left_out = "; what it was trained on is not known, so nothing was left out"
    cut = f", {report.n_cut} cut at {loaded.cfg.n_ctx} tokens" if report.n_cut else ""
    say(f"stories: {report.n_stories} of {held_out.source}{cut}{left_out}")
    record = provenance(
        command=shlex.join(["tslens", *sys.argv[1:]]),
        seed=seed,
        data=held_out.source,
        data_sha256=held_out.sha256,
        started=started,
        seconds=time.monotonic() - clock,
    )
    asked = "_" + "+".join(probe.name for probe in chosen) if probes else ""
    stem = held_out.source.replace(":", "-").replace("/", "-")
    for ending in (".gz", ".jsonl", ".txt", ".parquet"):
        stem = stem.removesuffix(ending)
    path = folder / f"{stem}_{source.path.stem}_n{report.n_stories}_seed{seed}{asked}.jsonl"
    save_head_scores(report, path, model=source.label, checkpoint=source.path.name, record=record)
    if html is not None:
        write_page(html, loaded, source, report, record, loss, held_out.first)
    if as_json:
        rows = [score.to_json() for score in report.scores]
        show_json(
            {"schema": HEADS_SCHEMA, "model": source.label, "n_stories": report.n_stories, "heads": rows}
        )
        return
    show_report(report, probes_asked=probes is not None)
    show(f"wrote {path}" + (f"\nwrote {html}" if html else ""))


def validation_beside(source: ModelSource) -> str:
    """The validation figure of a model and its 4-gram's, as in ``validation 1.021, 4-gram 1.078``; or nothing."""
    known = source.validation_bits()
    if known is None:
        return ""
    ngram = source.ngram_bits()
    return f"validation {known:.3f}" + (f", 4-gram {ngram:.3f}" if ngram is not None else "")


def say_loss(loss: LossReport, n_stories: int, source: ModelSource) -> None:
    """Bits per byte on the stories; a warning where the model does much worse than on its own kind."""
    beside = validation_beside(source)
    beside = f" ({beside})" if beside else ""
    say(f"bits per byte on the first {n_stories} stories: {loss.bits_per_byte:.3f}{beside}")
    known = source.validation_bits()
    if known is not None and loss.bits_per_byte > MUCH_WORSE * known:
        say(
            f"warning: that is over {MUCH_WORSE} times the validation figure. The model never learned such stories; "
            "give the kind it was trained on with --stories."
        )


# Results -------------------------------------------------------------------------------------------------


def show_report(report: HeadsReport, *, probes_asked: bool) -> None:
    """The best rows, then how many there are of each status."""
    rows = report.best_first()
    shown = rows if probes_asked else rows[:FIRST_ROWS]
    show_table(
        ["<head>", "<probe>", "<at>", "value", "95% interval", "null", "<largest>", "low", "<status>"],
        [[*_cells(score)] for score in shown],
    )
    found = {score.head for score in rows}
    counts = Counter(report.status_of(head) for head in found)
    more = f" ({len(rows) - len(shown)} more rows in the file)" if len(shown) < len(rows) else ""
    at = report.counts_at_floors
    show(
        f"{len(found)} heads: {counts['candidate']} candidate, {counts['unclear']} unclear, {counts['no']} no{more}.\n"
        f"null: the largest; low: lower end of value minus null, corrected for {len(rows)} rows. Candidate: low is\n"
        f"{report.floor:g} or more, on both halves too. At half that floor {at['half']} heads reach it, at double "
        f"{at['double']}."
    )


def _cells(score: HeadScore) -> list[str]:
    name, null = max(score.nulls.items(), key=lambda item: item[1])
    interval = f"{score.low:.3f} {score.high:.3f}"
    numbers = [f"{score.value:.3f}", interval, f"{null:.3f}", name, f"{score.excess_low:+.3f}"]
    return [str(score.head), score.probe, score.position, *numbers, score.status]


def write_page(
    path: Path,
    model: StoryModel,
    source: ModelSource,
    report: HeadsReport,
    record: Provenance,
    loss: LossReport,
    stories: list[Story],
) -> None:
    """The HTML page, with the patterns of the first stories."""
    from tslens.viz.heads_page import write_heads_page

    at = report.counts_at_floors
    floors = {"half": report.floor / 2, "floor": report.floor, "double": report.floor * 2}
    beside = validation_beside(source)
    header = {
        "stories": f"{report.n_stories} of {record.data}",
        "bits per byte": f"{loss.bits_per_byte:.3f} on the first {min(report.n_stories, 200)}",
        **({"in training": beside} if beside else {}),
        "seed": str(report.seed),
        "version": record.version,
        "command": record.command,
        "data sha256": record.data_sha256,
    }
    write_heads_page(
        path,
        title=f"Attention heads of {source.label}",
        model=source.label,
        header=header,
        rows=report.scores,
        probes=report.probes,
        floor=report.floor,
        counts={
            f"{'the floor' if k == 'floor' else k + ' the floor'} ({floors[k]:g})": n for k, n in at.items()
        },
        distance_profiles=report.distance_profiles,
        examples=[example_pattern(model, story, i) for i, story in enumerate(stories[:N_EXAMPLES])],
        cannot_tell=CANNOT_TELL,
    )


def example_pattern(model: StoryModel, story: Story, index: int) -> Any:
    """Patterns of all heads on the beginning of a story."""
    import torch

    from tslens.types import HeadId
    from tslens.viz.patterns import ExamplePattern

    tokenizer = model.tokenizer
    assert tokenizer is not None  # or the scan had been refused
    ids = [tokenizer.start_id, *tokenizer.encode(story.text)][:EXAMPLE_TOKENS]
    tokens = torch.tensor([ids], device=model.device)
    with torch.inference_mode():
        patterns = {
            HeadId(layer, head): pattern[0, head].float().cpu().numpy()
            for layer, pattern in enumerate(model.attention_patterns(tokens))
            for head in range(model.cfg.n_heads)
        }
    return ExamplePattern(f"Story {index + 1}", tokenizer.token_strings(ids), patterns)
