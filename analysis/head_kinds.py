"""Which heads of the shipped models follow distance, which words, and do they fall into two kinds, as the paper says?

    .venv/bin/python analysis/head_kinds.py
    .venv/bin/python analysis/head_kinds.py --models l1_h64@seed0 --stories 40 --out kinds

For each model its rows with provenance (``NAME.jsonl``); a file that is there is not made again. Of two models a
random twin too (``NAME.twin.jsonl``), of one more stories (``NAME.more.jsonl``). From these files ``report.md``,
``kinds.svg`` and ``two_kinds.json``: kinds by model, the test of two kinds and what it could have seen. Stories are the
offline author's, of the validation side. ``--report-only`` writes the report again.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from dataclasses import replace
from pathlib import Path

from head_kinds_report import Saved, write_report

from tslens.cli.opening import open_for_scan, record_of
from tslens.files import atomic_write, write_json
from tslens.model.load import find_model, open_model
from tslens.model.shipped import shipped_models
from tslens.model.story_model import StoryModel
from tslens.probes.kinds.measure import head_kinds
from tslens.probes.kinds.report import HeadKind, load_head_kinds, save_head_kinds
from tslens.probes.kinds.two_kinds import beyond_twins, judge_two_kinds, places
from tslens.probes.twins import FIRST_SEED
from tslens.provenance import utc_now
from tslens.viz.kinds_figure import write_kinds_figure

TWINS = ("l1_h256@seed0", "l2_h128@seed0")
MORE = "l2_h128@seed0"
TIMES_MORE = 2


class Study:
    """The same stories for all models: written once, as that takes longer than to read them."""

    def __init__(self, label: str, n_stories: int, *, seed: int, device: str) -> None:
        self.n_stories, self.seed, self.device = n_stories, seed, device
        self.opened = open_for_scan(find_model(f"shipped:{label}"), None, n_stories, device=device)
        self.stories = list(self.opened.held_out)

    def measure(self, label: str, path: Path, *, twin: bool = False) -> None:
        """Fit and read one model, or its redrawn random twin, and save it; nothing where that is done."""
        if path.exists():
            header, _ = load_head_kinds(path)
            if (header["n_stories"], header["seed"]) == (self.n_stories, self.seed):
                return
        source = find_model(f"shipped:{label}")
        model: StoryModel = open_model(source, device=self.device)
        opened = replace(self.opened, source=source, started=utc_now(), clock=time.monotonic())
        if twin:
            model = model.random_twin("redrawn", seed=FIRST_SEED + self.seed)
        report = head_kinds(model, self.stories, seed=self.seed)
        record = record_of(opened, command=shlex.join(["python", *sys.argv]), seed=self.seed)
        name = f"a random twin of {label}" if twin else label
        save_head_kinds(report, path, model=name, checkpoint=source.path.name, record=record)
        sys.stderr.write(f"{path.name}: {len(report.heads)} heads, {record.seconds:.0f} s\n")


def stem(label: str) -> str:
    """Of a model's files."""
    return label.replace("@", "_")


def main() -> None:
    """Fit, read, test, draw, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", help="default: all whose weights are here, or whose rows are")
    parser.add_argument("--stories", type=int, default=160)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--models-only", action="store_true", help="no random twins, and no more stories")
    parser.add_argument("--report-only", action="store_true", help="read the files that are there")
    parser.add_argument("--out", type=Path, default=Path("reports/kinds"))
    options = parser.parse_args()

    out = options.out
    models = options.models or [
        one.label
        for one in shipped_models()
        if one.weights is not None or (out / f"{stem(one.label)}.jsonl").exists()
    ]
    if not options.report_only:
        settings = {"seed": options.seed, "device": options.device}
        study = Study(models[0], options.stories, **settings)
        for label in models:
            study.measure(label, out / f"{stem(label)}.jsonl")
        beside = [] if options.models_only else models
        for label in (label for label in TWINS if label in beside):
            study.measure(label, out / f"{stem(label)}.twin.jsonl", twin=True)
        if MORE in beside:
            more_stories = Study(MORE, TIMES_MORE * options.stories, **settings)
            more_stories.measure(MORE, out / f"{stem(MORE)}.more.jsonl")

    def load(ending: str) -> list[Saved]:
        paths = [(label, out / f"{stem(label)}{ending}.jsonl") for label in models]
        return [Saved(label, *load_head_kinds(path)) for label, path in paths if path.exists()]

    saved, more = load(""), load(".more")
    shapes: dict[str, list[HeadKind]] = {}
    layers: dict[str, list[HeadKind]] = {}
    for one in saved:
        shapes.setdefault(one.shape, []).extend(one.heads)
        for head in one.heads:
            layers.setdefault(f"{one.shape} layer {head.head.layer}", []).append(head)
    asked = {
        "balance": places(shapes, "balance"),
        "difference": places(shapes, "difference"),
        "balance, within layers": places(layers, "balance"),
        "balance, beyond twins": places(beyond_twins(shapes), "balance"),
    }
    tests = {name: judge_two_kinds(heads, seed=options.seed) for name, heads in asked.items()}
    write_json(out / "two_kinds.json", {name: found.to_json() for name, found in tests.items()})
    write_kinds_figure(out / "kinds.svg", shapes)
    text = "".join(write_report(saved, load(".twin"), more[0] if more else None, tests)).rstrip() + "\n"
    with atomic_write(out / "report.md") as file:
        file.write(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
