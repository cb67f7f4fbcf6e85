"""Results in a notebook: records as a table, a head or a neuron on one text as CircuitsVis draws it.

Nothing is asked of the network. CircuitsVis' own Python functions load its script from a content delivery network
where there is a connection; here the bundle of the installed package stands in the output, in a frame that a
Content-Security-Policy shuts: no script but the bundle and ours runs, and nothing is fetched. So an output that draws
takes 1.4 MB in the notebook's file. A table has no script.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import TYPE_CHECKING, Any, cast

from tslens.causal.ablation import check_component
from tslens.errors import ModelError, UsageError
from tslens.model.story_model import StoryModel
from tslens.types import HeadId, NeuronId
from tslens.viz.page import build_page, escape, number, signed, visible
from tslens.viz.patterns import CHART_TOKENS

if TYPE_CHECKING:
    import pandas as pd

    from tslens.corpus.text_tokenizer import TextTokenizer

FRAME_WIDTH = 640  # pixels of a pattern; a pattern is as high as it is wide
_COLOURS = {"positiveColor": "#0b5a9e", "negativeColor": "#b8530a"}
_COMPACT = (
    "<style>body { padding: 0 0.5rem; } header { padding: 0; } h1 { font-size: 1rem; margin: 0.5rem 0 0; } "
    ".lead { font-size: 1rem; margin: 0.2rem 0 0.6rem; max-width: none; } footer { display: none; } "
    "#drawing { background: #fff; color: #000; padding: 0.3rem 0.6rem; }</style>\n"
)


# Tables -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """Rows under ``columns``, which a notebook shows as a table; ``rows``: cells as plain JSON types, by column."""

    columns: tuple[str, ...]
    rows: tuple[Mapping[str, Any], ...]

    def to_pandas(self) -> pd.DataFrame:
        """The same as a frame."""
        import pandas as pd

        return pd.DataFrame(list(self.rows), columns=list(self.columns))

    def __repr__(self) -> str:
        import pandas as pd

        cells = {name: [_told(row.get(name)) for row in self.rows] for name in self.columns}
        return str(pd.DataFrame(cells).to_string(index=False, max_colwidth=40))

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(name)}</th>" for name in self.columns)
        body = "\n".join(
            f"<tr>{''.join(_cell(row.get(name)) for name in self.columns)}</tr>" for row in self.rows
        )
        return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def show(records: Iterable[Any], columns: Sequence[str] | None = None) -> Table:
    """Records as a table: scores of heads, roles of neurons, grades, stories; any that have ``to_json`` or fields.

    ``columns``: which, and in which order; by default all that hold plain values, those of what a record holds by name
    (``nulls``, ``cause``) left out. A report of a scan (``score_heads``, ``classify_neurons``, ``ablate``) or a
    table of pandas is all of its rows.
    Raises UsageError for what is no record, and for a column that no record has.
    """
    if hasattr(records, "to_pandas"):
        records = records.to_pandas()
    if hasattr(records, "to_dict"):
        records = records.to_dict("records")
    if isinstance(records, str) or not isinstance(records, Iterable):
        raise UsageError(
            f"A {type(records).__name__} holds no records.", "Give a list of records, or a report."
        )
    rows = [_row(one) for one in records]
    known = dict.fromkeys(name for row in rows for name in row)
    for name in columns or ():
        if name not in known:
            raise UsageError(f'No record has "{name}".', f"There are: {', '.join(known) or 'no records'}.")
    plain = [name for name in known if any(isinstance(row.get(name), str | int | float) for row in rows)]
    return Table(tuple(plain if columns is None else columns), tuple(rows))


def _row(record: Any) -> Mapping[str, Any]:
    if hasattr(record, "to_json"):
        found = record.to_json()
    elif is_dataclass(record) and not isinstance(record, type):
        found = asdict(record)
    else:
        found = record
    if not isinstance(found, Mapping):
        raise UsageError(
            f"A {type(record).__name__} is no record.", "Give a list of records, as report.best_first()[:10]."
        )
    return found


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f'<td style="text-align: right">{escape(number(value, 3))}</td>'
    return f'<td style="text-align: left">{escape(_told(value))}</td>'


def _told(value: Any) -> str:
    """A value in words: what it holds by name, what is not known as nothing."""
    if value is None:
        return ""
    if isinstance(value, float):
        return number(value, 3)
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_told(one)}" for name, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_told, value))
    return str(value)


# Drawings ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawing:
    """What CircuitsVis draws in a notebook's cell.

    ``title``, ``lead``: above it, in words. ``element``, ``properties``: CircuitsVis' name of the drawing and what it
    takes. ``height``: of the frame, pixels.
    """

    title: str
    lead: str
    element: str
    properties: Mapping[str, Any]
    height: int

    def __repr__(self) -> str:
        return f"{visible(self.title)}: {visible(self.lead)}"

    def page(self) -> str:
        """The whole page that the frame holds; it opens without a network."""
        return build_page(
            title=self.title,
            lead=self.lead,
            header={},
            main=f'{_COMPACT}<div id="drawing"></div>\n',
            data={"element": self.element, "properties": self.properties},
            scripts=("cell.js",),
        )

    def _repr_html_(self) -> str:
        page = self.page().replace("&", "&amp;").replace('"', "&quot;")
        return (
            f'<iframe sandbox="allow-scripts" title="{escape(self.title)}" width="100%" height="{self.height}" '
            f'style="border: 0; max-width: {FRAME_WIDTH}px" srcdoc="{page}"></iframe>'
        )


def look(model: StoryModel, text: str, at: HeadId | NeuronId | str) -> Drawing:
    """Where one head looks in a text, or where one MLP neuron fires: ``tslens look``, in a notebook.

    ``at``: as in ``L0H3`` or ``L0N117``. A head's drawing is its attention pattern, a row for each token that looks;
    a neuron's is the text, coloured by its activation. One text is an example, no measurement. Up to 96 tokens
    are drawn, which is said.
    Raises UsageError for a head or neuron that is not there, and for a text of fewer than two tokens; ModelError for a
    model without tokenizer.
    """
    component = _component(at) if isinstance(at, str) else at
    if not isinstance(component, HeadId | NeuronId):
        raise UsageError(f"{at!r} is no head or neuron.", "Give one as L0H3 or L0N117.")
    check_component(cast("Any", model), component)
    if model.tokenizer is None:
        raise ModelError(
            "This model has no tokenizer, so it cannot read a text.", "Put a tokenizer.json beside it."
        )
    ids = [model.tokenizer.start_id, *model.tokenizer.encode(text)]
    if len(ids) < 3:
        raise UsageError("A text of fewer than two tokens has nothing to look at.", "Give a sentence.")
    cut = f" The first {CHART_TOKENS} of {len(ids)} tokens." if len(ids) > CHART_TOKENS else ""
    draw = _attention if isinstance(component, HeadId) else _activation
    return draw(model, model.tokenizer, ids[: min(CHART_TOKENS, model.cfg.n_ctx)], component, cut)


def _component(name: str) -> HeadId | NeuronId:
    return NeuronId.parse(name) if re.fullmatch(r"\s*[Ll]\d+[Nn]\d+\s*", name) else HeadId.parse(name)


def _attention(
    model: StoryModel, tokenizer: TextTokenizer, ids: Sequence[int], head: HeadId | NeuronId, cut: str
) -> Drawing:
    import torch

    tokens = [visible(token) for token in tokenizer.token_strings(ids)]
    with torch.inference_mode():
        for layer, pattern in enumerate(model.attention_patterns(torch.tensor([ids], device=model.device))):
            if layer == head.layer:
                shares = pattern[0, head.index].float().cpu()
    below = shares[:, 1:].tril(-2)  # what is looked at, the first token and the query itself left out
    query, key = divmod(int(below.argmax()), below.shape[1])
    return Drawing(
        title=f"Where {head} looks",
        lead=f"Most sharply from \u201c{tokens[query].strip()}\u201d at \u201c{tokens[key + 1].strip()}\u201d "
        f"({number(float(below[query, key]))}). Rows look, columns are looked at.{cut}",
        element="AttentionPattern",
        properties={
            "tokens": tokens,
            "attention": [[round(share, 4) for share in row] for row in shares.tolist()],
            "minValue": -1,
            "maxValue": 1,
            **_COLOURS,
            "upperTriColor": "#ffffff",
            "zoomed": False,
        },
        height=FRAME_WIDTH + 80,
    )


def _activation(
    model: StoryModel, tokenizer: TextTokenizer, ids: Sequence[int], neuron: HeadId | NeuronId, cut: str
) -> Drawing:
    import torch

    tokens = [visible(token) for token in tokenizer.token_strings(ids)]
    with torch.inference_mode():
        for layer, post in enumerate(model.neuron_activations(torch.tensor([ids], device=model.device))):
            if layer == neuron.layer:
                values = [round(value, 4) for value in post[0, :, neuron.index].float().tolist()]
    strongest = max(range(len(values)), key=values.__getitem__)
    largest = max(map(abs, values)) or 1.0
    return Drawing(
        title=f"Where {neuron} fires",
        lead=f"Strongest at \u201c{tokens[strongest].strip()}\u201d ({signed(values[strongest])}). "
        f"Blue is above zero, orange below.{cut}",
        element="ColoredTokens",
        properties={
            # ColoredTokens puts a token into the page as HTML
            "tokens": [html.escape(token) for token in tokens],
            "values": values,
            "minValue": -largest,
            "maxValue": largest,
            **_COLOURS,
        },
        height=110 + 28 * (sum(map(len, tokens)) // 70 + 1),
    )
