"""What ``tslens report`` joins: results of models in their run folders and in folders that are named."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from tslens.causal.ablation import Component, LayerId
from tslens.cli.console import progress_bar, say
from tslens.errors import DataError, ModelError
from tslens.files import read_json
from tslens.grading.completions import write_completions
from tslens.grading.judge import Outcome
from tslens.grading.prompts import load_beginnings
from tslens.grading.results import SCHEMA as GRADES_SCHEMA
from tslens.grading.results import GradedModel, load_grades
from tslens.link.joined.model_part import ModelPart, Origin
from tslens.link.joined.samples import Sample, choose_texts, read_sample
from tslens.link.map_report import SCHEMA as MAP_SCHEMA
from tslens.link.map_report import load_map
from tslens.link.readouts import author_stories
from tslens.link.story_costs import CostStories
from tslens.model.load import ModelSource, find_model, open_model
from tslens.model.story_model import StoryModel, parameter_count
from tslens.probes.neurons.results import SCHEMA as NEURONS_SCHEMA
from tslens.probes.neurons.results import load_neuron_roles
from tslens.probes.results import SCHEMA as HEADS_SCHEMA
from tslens.probes.results import load_head_scores
from tslens.reading import first_line, parse_json
from tslens.types import GradeFailure, HeadId, NeuronId, Story

N_MEANS = 60  # stories of the author over which means are taken
N_NEURONS = 24  # whose activations are shown on the texts
SAMPLES = 1  # of a prompt, where nothing was graded
WAYS: Mapping[str, str] = {
    "heads": "tslens heads --model {}",
    "neurons": "tslens neurons --model {}",
    "map": "tslens link --model {} --judge local",
    "grades": "tslens grade --model {} --judge local",
}
"""The command that makes each part."""


@dataclass(frozen=True)
class ResultFile:
    """A file of results and its header."""

    path: Path
    header: Mapping[str, Any]


def index_results(folders: Iterable[Path]) -> list[ResultFile]:
    """Every ``.jsonl`` with a header in some folders and below, the newest first."""
    found = []
    named = (path for folder in folders for path in sorted(folder.rglob("*.jsonl")) if path.is_file())
    paths = {path.resolve(): path for path in named}
    for path in sorted(paths.values(), key=lambda one: (-one.stat().st_mtime, str(one))):
        try:
            header = parse_json(first_line(path))
        except (OSError, ValueError):
            continue
        if isinstance(header, dict) and isinstance(header.get("schema"), str):
            found.append(ResultFile(path, header))
    return found


def gather_model(
    reference: str, named: Sequence[ResultFile], *, n_texts: int, seed: int, device: str
) -> ModelPart:
    """What is known of one model: in its own results first, then in those of folders that were named.

    Some of its texts are read again token by token. What it lacks is said, with the command that makes it.
    Raises what loading raises.
    """
    source = find_model(reference)
    say(source.note)
    own = index_results([source.home.path / "results"])
    files = [*_of(own, source), *_of(named, source)]
    model = open_model(source, device=device)
    heads, neurons = _newest(files, HEADS_SCHEMA), _newest(files, NEURONS_SCHEMA)
    maps = [one for one in files if one.header["schema"] == MAP_SCHEMA]
    with_grades = next((one for one in maps if "judge" in one.header), None)
    chosen_map = with_grades or next(iter(maps), None)
    graded = next((one for one in files if _are_grades(one)), None)
    kept = {"heads": heads, "neurons": neurons, "map": chosen_map, "grades": graded}
    lacks = {
        name: WAYS[name].format(reference)
        for name, file in kept.items()
        if file is None and not (name == "map" and source.label.endswith("-instruct"))
    }
    for name, command in lacks.items():
        say(f"{source.label} has no {name} yet: {command}")
    roles = None if neurons is None else load_neuron_roles(neurons.path)
    grades = None if graded is None else load_grades(graded.path)
    ranked = (
        []
        if roles is None
        else sorted(
            (one for one in roles[1] if one.status == "role"), key=lambda one: (-one.excess, one.neuron)
        )
    )
    return ModelPart(
        label=source.label,
        n_layers=model.cfg.n_layers,
        d_model=model.cfg.d_model,
        n_heads=model.cfg.n_heads,
        n_parameters=parameter_count(model),
        validation_bits=source.validation_bits(),
        ngram_bits=source.ngram_bits(),
        heads=None if heads is None else load_head_scores(heads.path),
        neurons=roles,
        map=None if chosen_map is None else load_map(chosen_map.path),
        grades=grades,
        samples=_samples(
            model, grades, [one.neuron for one in ranked[:N_NEURONS]], n_texts=n_texts, seed=seed
        ),
        origins={
            "model": _training(source),
            **{name: _origin(file) for name, file in kept.items() if file is not None},
        },
        lacks=lacks,
    )


def _samples(
    model: StoryModel, grades: GradedModel | None, neurons: Sequence[NeuronId], *, n_texts: int, seed: int
) -> list[Sample]:
    """Texts read again, all heads' patterns kept of the first; written here where nothing was graded."""
    if model.tokenizer is None:
        raise ModelError(
            "This model has no tokenizer, so it cannot read texts.", "Give one with a tokenizer.json."
        )
    if not n_texts:
        return []
    outcomes = _written(model, n_texts, seed) if grades is None else choose_texts(grades.outcomes, n_texts)
    heads = [HeadId(layer, i) for layer in range(model.cfg.n_layers) for i in range(model.cfg.n_heads)]
    halves: list[Component] = [
        LayerId(layer, part) for layer in range(model.cfg.n_layers) for part in ("attn", "mlp")
    ]
    means = CostStories(model, _author_stories()).means
    found = []
    with progress_bar("reading texts", len(outcomes)) as (bar, task):
        for number, one in enumerate(outcomes):
            patterns_of = heads if number == 0 else None
            found.append(read_sample(model, means, one, [*heads, *halves], neurons, patterns_of=patterns_of))
            bar.update(task, completed=number + 1, note=one.graded.key)
    return found


@cache
def _author_stories() -> list[Story]:
    """The same for all models."""
    return list(islice(author_stories(), N_MEANS))


def _written(model: StoryModel, n_texts: int, seed: int) -> list[Outcome]:
    prompts = load_beginnings()[:n_texts]
    texts = write_completions(model, prompts, samples=SAMPLES, max_tokens=120, temperature=1.0, seed=seed)
    return [GradeFailure(text, "not graded", "no judge was asked") for text in texts]


def _of(files: Sequence[ResultFile], source: ModelSource) -> list[ResultFile]:
    """Those of this model and checkpoint."""
    return [
        one
        for one in files
        if one.header.get("model") == source.label and one.header.get("checkpoint") == source.path.name
    ]


def _newest(files: Sequence[ResultFile], schema: str) -> ResultFile | None:
    return next((one for one in files if one.header["schema"] == schema), None)


def _are_grades(file: ResultFile) -> bool:
    """Of stories that the whole model wrote, by any judge."""
    header = file.header
    is_whole = header["schema"] == GRADES_SCHEMA and "without" not in header
    return is_whole and "short" not in str(header.get("prompts"))


def _training(source: ModelSource) -> Origin:
    """Of the model itself: what it was trained on and how, as far as its folder says."""
    if source.shipped is not None:
        facts = asdict(source.shipped.facts)
        names = ("name", "seed", "steps", "n_tokens", "corpus", "tokenizer_sha256")
        quoted = facts["held_out"][0]["texts"]
        return Origin("model.json", {**{name: facts[name] for name in names}, "held_out": quoted})
    if source.run is not None:
        return Origin(source.run.provenance.name, _record(source.run.provenance))
    return Origin(source.path.name, {})


def _origin(file: ResultFile) -> Origin:
    return Origin(file.path.name, _record(file.path.with_suffix(".provenance.json")))


def _record(path: Path) -> Mapping[str, Any]:
    try:
        found = read_json(path) if path.exists() else {}
    except DataError:
        return {}
    return found if isinstance(found, dict) else {}
