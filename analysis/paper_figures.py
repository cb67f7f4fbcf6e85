"""What do the paper's figures show when they are drawn of our models? Figures 3, 4, 14 to 17, 19 to 21 and 24.

    .venv/bin/python analysis/paper_figures.py
    .venv/bin/python analysis/paper_figures.py --only 14 15 --model shipped:l1_h64 --completions 10 --out figures

Each figure is ``figureNN.svg``, ``.pdf``, ``.png`` and its data, ``figureNN.csv``; ``figures.json`` has the numbers
that each one shows, ``report.md`` says what the paper's figure shows and what ours does. With ``--only`` the other
figures in the folder stay as they are; a figure that is there and whose inputs are the same (results, stories, weights,
settings) is passed over: remove its ``.csv`` to have it again. Figures 14 to 17 come together, and 19 with 20.
Figures 4 and 24 are of the rows of ``reports/sizes``, 19 and 20 of
``reports/heads``, 21 of ``reports/neurons``, 3 of ``reports/emergence``; 14 to 17 are measured here, on real stories
where they are at hand, else on the author's. Of real stories only numbers are written.

The figures of scaling (23) are drawn by ``analysis/scaling.py``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paper_figures_diversity import draw_diversity
from paper_figures_models import draw_head_counts, draw_table, draw_training
from paper_figures_report import write_report

import tslens
from tslens.corpus.sources import describe_sources
from tslens.corpus.stories import describe_source
from tslens.files import data_dir, read_json, sha256_file, write_json
from tslens.link.emergence.results import load_trace
from tslens.link.sizes.measured import load_sizes
from tslens.model.load import find_model, open_model
from tslens.probes.held_out import HeldOut
from tslens.probes.neurons.evidence import read_tracks
from tslens.probes.neurons.results import load_neuron_roles
from tslens.probes.neurons.token_labels import names_with, token_flags
from tslens.probes.results import load_head_scores
from tslens.provenance import provenance, utc_now
from tslens.types import NeuronRole, Story
from tslens.viz.paragraph import read_paragraph
from tslens.viz.print_attention import (
    MEANINGS,
    SCALES,
    at_scale,
    choose_heads,
    draw_meanings,
    draw_scales,
)
from tslens.viz.print_neurons import PAPER_LABELS, NeuronText, ReadStory, choose_neurons, draw_neuron_texts

SCHEMA = "tslens.paper_figures/1"
STORIES = "tinystories.jsonl.gz"
AUTHOR = "author:1777:1"  # what the shipped models read beside the real stories: training/shipped.toml
DIVERSITY_MODEL = "shipped:l2_h128"
HEADS_MODEL, HEADS = "shipped:l1_h256", Path("reports/heads/l1_h256.jsonl")
NEURONS_MODEL, NEURONS = "shipped:l8_h64_a16", Path("reports/neurons/l8_h64_a16.jsonl")
SIZES = Path("reports/sizes/sizes.jsonl")


@dataclass
class Study:
    """What was asked, and what was read on the way. ``model``: of the completions. ``data``: names of what was read."""

    out: Path
    seed: int
    device: str
    model: str
    n_completions: int
    n_stories: int
    emergence: str
    data: list[str] = field(default_factory=list)

    def stem(self, number: int) -> Path:
        """Of a figure's files."""
        return self.out / f"figure{number:02d}"

    def read(self, path: Path) -> Path:
        """A file of results that is read, remembered."""
        self.data.append(path.as_posix())
        return path

    def readings(self) -> list[Path]:
        """Files of the study of emergence."""
        pattern = Path(self.emergence)
        return sorted(pattern.parent.glob(pattern.name))


Found = dict[str, Any]


# Each group of figures -------------------------------------------------------------------------------------


def training(study: Study) -> dict[int, Found]:
    """Grades over training, where a study of emergence was made."""
    paths = study.readings()
    runs = {header["model"]: steps for header, steps in (load_trace(study.read(path)) for path in paths)}
    found = draw_training(runs, study.stem(3))
    why = "holds no grades" if paths else "is not there"
    return {3: found or {"skipped": f"{study.emergence} {why}"}}


def model_table(study: Study) -> dict[int, Found]:
    """Shapes with loss and grades."""
    return {4: draw_table(load_sizes(study.read(SIZES))[1], study.stem(4))}


def heads_table(study: Study) -> dict[int, Found]:
    """Models that differ in their number of heads alone."""
    return {24: draw_head_counts(load_sizes(study.read(SIZES))[1], study.stem(24))}


def diversity(study: Study) -> dict[int, Found]:
    """Completions beside true endings."""
    source = corpus()
    study.data.append(describe_source(source)[0])
    return draw_diversity(
        source, study.model, study.stem, n=study.n_completions, seed=study.seed, device=study.device
    )


def corpus() -> str:
    """Training stories: the real ones where they are at hand."""
    real = data_dir() / STORIES
    return str(real) if real.exists() else AUTHOR


def attention(study: Study) -> dict[int, Found]:
    """Heads by distance and by meaning."""
    header, rows = load_head_scores(study.read(HEADS))
    model = open_model(find_model(HEADS_MODEL), device=study.device)
    paragraph = read_paragraph(model)
    scales = choose_heads(paragraph, rows, SCALES)
    meanings = choose_heads(paragraph, rows, MEANINGS)
    draw_scales(paragraph, scales, study.stem(19))
    draw_meanings(paragraph, meanings, study.stem(20))
    at = [at_scale(paragraph, one) for one in scales]
    rows_of_scales = [
        {**one.to_json(), "at_scale": of and of[0], "even_at_scale": of and of[1]}
        for one, of in zip(scales, at, strict=True)
    ]
    return {
        19: {"model": header["model"], "heads": rows_of_scales},
        20: {"model": header["model"], "heads": [one.to_json() for one in meanings]},
    }


def neurons(study: Study) -> dict[int, Found]:
    """The best neuron of each of the paper's four kinds, on stories of the author."""
    header, roles = load_neuron_roles(study.read(NEURONS))
    chosen = choose_neurons(roles, PAPER_LABELS)
    model = open_model(find_model(NEURONS_MODEL), device=study.device)
    held_out = HeldOut(model, None, study.n_stories)
    study.data.append(held_out.source)
    stories = {story.digest: story for story in held_out}
    texts = read_texts(model, stories, chosen)
    draw_neuron_texts(texts, study.stem(21))
    return {
        21: {
            "model": header["model"],
            "n_stories": len(stories),
            "n_tokens": sum(len(one.tokens) for one in texts[0].stories) if texts else 0,
            "neurons": {label: _of_neuron(one) for label, one in zip(chosen, texts, strict=True)},
            "none": [label for label in PAPER_LABELS if label not in chosen],
        }
    }


def read_texts(
    model: Any, stories: Mapping[int, Story], chosen: Mapping[str, NeuronRole]
) -> list[NeuronText]:
    """Run the model on the stories; what each chosen neuron does on them, and where its label is."""
    places = [names_with(()).index(label) for label in chosen]
    tracks = read_tracks(model, stories.values(), [role.neuron for role in chosen.values()])
    read: list[list[ReadStory]] = [[] for _ in chosen]
    for track in sorted(tracks, key=lambda one: one.story):
        story = stories[track.story]
        n = len(track.ids) - 1  # but the token that begins the story
        flags = token_flags(story, model.tokenizer.encode_with_offsets(story.text)[1])[:n]
        tokens = tuple(model.tokenizer.token_strings(track.ids)[1:])
        for column, place in enumerate(places):
            read[column].append(ReadStory(tokens, track.activation[1:, column], flags[:, place]))
    return [NeuronText(role, found) for role, found in zip(chosen.values(), read, strict=True)]


def _of_neuron(one: NeuronText) -> Found:
    role = one.role
    return {
        "neuron": str(role.neuron), "status": role.status, "basis": role.basis,
        "auroc": role.auroc, "low": role.low, "high": role.high, "words_alone": role.nulls.get("tokens"),
        "largest": one.largest, "label_share": one.label_share, "strongest_with_label": one.share_of_strongest(),
    }  # fmt: skip


# All --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Group:
    """Figures that are made together. ``reads``: files and sources that they are made of; ``model``: whose weights."""

    numbers: tuple[int, ...]
    draw: Callable[[Study], dict[int, Found]]
    reads: Callable[[Study], Sequence[str | Path]]
    model: Callable[[Study], str | None] = lambda study: None

    def inputs(self, study: Study) -> str:
        """SHA-256 of all that the figures depend on but the code."""
        model = self.model(study)
        told = [
            tslens.__version__, study.seed, study.n_completions, study.n_stories,
            *(describe_source(source) for source in self.reads(study)),
            None if model is None else sha256_file(find_model(model).path),
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    def is_drawn(self, study: Study) -> bool:
        """Whether the data of all figures are there."""
        return all(study.stem(number).with_suffix(".csv").exists() for number in self.numbers)


GROUPS = (
    Group((3,), training, Study.readings),
    Group((4,), model_table, lambda study: [SIZES]),
    Group((14, 15, 16, 17), diversity, lambda study: [corpus()], lambda study: study.model),
    Group((19, 20), attention, lambda study: [HEADS], lambda study: HEADS_MODEL),
    Group((21,), neurons, lambda study: [NEURONS], lambda study: NEURONS_MODEL),
    Group((24,), heads_table, lambda study: [SIZES]),
)


def main() -> None:
    """Draw what is asked for and not there, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = [number for group in GROUPS for number in group.numbers]
    parser.add_argument("--only", nargs="+", type=int, choices=every, default=every, metavar="N")
    parser.add_argument("--model", default=DIVERSITY_MODEL, help="of figures 14 to 17")
    parser.add_argument("--completions", type=int, default=100)
    parser.add_argument("--stories", type=int, default=100, help="of the author, for the neurons")
    parser.add_argument("--emergence", default="reports/emergence/*@*.jsonl", help="readings, as a pattern")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("reports/paper"))
    asked = parser.parse_args()
    started, clock = utc_now(), time.monotonic()
    path = asked.out / "figures.json"
    before: Found = read_json(path) if path.exists() else {"figures": {}, "made": {}}
    found, made = dict(before["figures"]), dict(before["made"])
    for group in GROUPS:
        study = Study(
            asked.out,
            asked.seed,
            asked.device,
            asked.model,
            asked.completions,
            asked.stories,
            asked.emergence,
        )
        name, inputs = str(group.numbers[0]), group.inputs(study)
        is_there = group.is_drawn(study) and made.get(name, {}).get("inputs") == inputs
        if {*group.numbers} & {*asked.only} and not is_there:
            found |= {str(number): of for number, of in group.draw(study).items()}
            made[name] = {"inputs": inputs, "data": study.data}
            print(f"{group.numbers}: {time.monotonic() - clock:.0f} s so far", file=sys.stderr, flush=True)
    figures = {str(number): found[str(number)] for number in every if str(number) in found}
    write_json(path, {"schema": SCHEMA, "seed": asked.seed, "figures": figures, "made": made})
    write_report(figures, asked.out / "report.md")
    record_path = path.with_suffix(".provenance.json")
    if made == before["made"] and record_path.exists():
        return
    read = list(dict.fromkeys(data for one in made.values() for data in one["data"]))
    record = provenance(
        command=shlex.join(["python", *sys.argv]),
        seed=asked.seed,
        data="+".join(read),
        data_sha256=describe_sources([corpus() if data == STORIES else data for data in read])[1],
        started=started,
        seconds=time.monotonic() - clock,
    )
    write_json(record_path, record.to_json())


if __name__ == "__main__":
    main()
