"""A microscope for tiny language models.

Public names load on first use, so that ``import tslens`` and ``tslens --help`` cost neither torch nor
transformer_lens.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "Story": "tslens.types",
    "HeadId": "tslens.types",
    "HeadScore": "tslens.types",
    "Labels": "tslens.types",
    "Provenance": "tslens.types",
    "TslensError": "tslens.errors",
    "read_stories": "tslens.corpus.stories",
    "write_stories": "tslens.corpus.author",
    "read_wishes": "tslens.corpus.author",
    "annotate": "tslens.corpus.annotate",
    "read_labels": "tslens.corpus.labelled",
    "unit_labels": "tslens.corpus.labelled",
    "relation_pairs": "tslens.corpus.labelled",
    "token_labels": "tslens.corpus.labelled",
    "user_label": "tslens.corpus.labelled",
    "corrupt": "tslens.corpus.corrupt",
    "parse_prompt": "tslens.corpus.instructions.form",
    "check_instruction": "tslens.corpus.instructions.compliance",
    "StoryIndex": "tslens.corpus.diversity.story_index",
    "ModelSpec": "tslens.model.spec",
    "TinyTransformer": "tslens.model.transformer",
    "load_model": "tslens.model.load",
    "NgramModel": "tslens.model.ngram",
    "score_heads": "tslens.probes.scan",
    "classify_neurons": "tslens.probes.neurons.classify",
    "score_production": "tslens.probes.production.produce",
    "head_kinds": "tslens.probes.kinds.measure",
    "score_programs": "tslens.probes.programs.score",
    "match_models": "tslens.probes.matching.match",
    "score_weights": "tslens.probes.weights.score",
    "ablate": "tslens.link.effects",
    "make_readouts": "tslens.link.readouts",
    "read_readouts": "tslens.link.measure",
    "grade": "tslens.grading.grade",
    "Grade": "tslens.types",
    "GradeFailure": "tslens.types",
    "Graded": "tslens.types",
    "NeuronId": "tslens.types",
    "NeuronRole": "tslens.types",
    "write_atlas": "tslens.viz.atlas",
    "write_neuron_atlas": "tslens.viz.neurons_page",
    "show": "tslens.viz.notebook",
    "look": "tslens.viz.notebook",
    "train_model": "tslens.train.loop",
}

__all__ = ["__version__", *sorted(_HOME)]

if TYPE_CHECKING:
    from tslens.corpus.annotate import annotate as annotate
    from tslens.corpus.author import read_wishes as read_wishes
    from tslens.corpus.author import write_stories as write_stories
    from tslens.corpus.corrupt import corrupt as corrupt
    from tslens.corpus.diversity.story_index import StoryIndex as StoryIndex
    from tslens.corpus.instructions.compliance import check_instruction as check_instruction
    from tslens.corpus.instructions.form import parse_prompt as parse_prompt
    from tslens.corpus.labelled import read_labels as read_labels
    from tslens.corpus.labelled import relation_pairs as relation_pairs
    from tslens.corpus.labelled import token_labels as token_labels
    from tslens.corpus.labelled import unit_labels as unit_labels
    from tslens.corpus.labelled import user_label as user_label
    from tslens.corpus.stories import read_stories as read_stories
    from tslens.errors import TslensError as TslensError
    from tslens.grading.grade import grade as grade
    from tslens.link.effects import ablate as ablate
    from tslens.link.measure import read_readouts as read_readouts
    from tslens.link.readouts import make_readouts as make_readouts
    from tslens.model.load import load_model as load_model
    from tslens.model.ngram import NgramModel as NgramModel
    from tslens.model.spec import ModelSpec as ModelSpec
    from tslens.model.transformer import TinyTransformer as TinyTransformer
    from tslens.probes.kinds.measure import head_kinds as head_kinds
    from tslens.probes.matching.match import match_models as match_models
    from tslens.probes.neurons.classify import classify_neurons as classify_neurons
    from tslens.probes.production.produce import score_production as score_production
    from tslens.probes.programs.score import score_programs as score_programs
    from tslens.probes.scan import score_heads as score_heads
    from tslens.probes.weights.score import score_weights as score_weights
    from tslens.train.loop import train_model as train_model
    from tslens.types import Grade as Grade
    from tslens.types import Graded as Graded
    from tslens.types import GradeFailure as GradeFailure
    from tslens.types import HeadId as HeadId
    from tslens.types import HeadScore as HeadScore
    from tslens.types import Labels as Labels
    from tslens.types import NeuronId as NeuronId
    from tslens.types import NeuronRole as NeuronRole
    from tslens.types import Provenance as Provenance
    from tslens.types import Story as Story
    from tslens.viz.atlas import write_atlas as write_atlas
    from tslens.viz.neurons_page import write_neuron_atlas as write_neuron_atlas
    from tslens.viz.notebook import look as look
    from tslens.viz.notebook import show as show


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'tslens' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
