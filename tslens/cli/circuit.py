"""``tslens circuit``."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tslens.cli import options
from tslens.cli.console import counted, progress_bar, say, show, show_json, show_table
from tslens.provenance import command_line

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from tslens.causal.paths import Written
    from tslens.corpus.text_tokenizer import TextTokenizer
    from tslens.link.circuit_report import Circuit
    from tslens.model.story_model import StoryModel
    from tslens.model.transformer import TinyTransformer
    from tslens.viz.circuit_figure import Patterns

CIRCUIT_SCHEMA = "tslens.circuit/1"
N_STORIES = 200
N_OTHERS = 40  # stories to try the circuit on, beyond those of the mean
FIRST_ROWS = 24  # of the table on a terminal
N_MOST = 3  # tokens that a head looks at, in what is printed
OurModel = Annotated[
    str,
    typer.Option(
        "--model",
        help="A model of tslens's own: a name (l1_h256, l1_h256@seed2, shipped:l1_h256), a run folder or a checkpoint. "
        "Default: the newest finished run.",
        show_default=False,
        callback=options.newest_unless(),
        autocompletion=options.complete_model,
    ),
]


def circuit(
    prompt: Annotated[str, typer.Option("--prompt", help="The text whose next token is explained.")],
    model: OurModel = options.NEWEST,
    right: Annotated[
        str | None,
        typer.Option(
            "--right",
            help="The word that comes next; its first token counts. Default: the most probable token.",
        ),
    ] = None,
    wrong: Annotated[
        str | None,
        typer.Option(
            "--wrong",
            help="The word it is held against; its first token counts. Default: the most probable other token.",
        ),
    ] = None,
    corrupted: Annotated[
        str | None,
        typer.Option(
            "--corrupted",
            help="Another prompt of as many tokens, which stands in along cut paths. Default: the mean over stories.",
        ),
    ] = None,
    keep: Annotated[
        float,
        typer.Option("--keep", help="Share of the difference that the circuit keeps, above 0, below 1."),
    ] = 0.9,
    stories: options.Stories = None,
    n_stories: Annotated[
        int, typer.Option("--n-stories", min=1, help="Stories of the mean; 40 more try the circuit.")
    ] = N_STORIES,
    html: options.Html = None,
    svg: Annotated[
        Path | None, typer.Option("--svg", help="Where to draw the circuit, a file that ends in .svg.")
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Find the paths by which a model prefers one next token to another: tokens, heads, MLPs, what reads what.

    Along a cut path the mean over stories stands in, or another prompt. Paths are cut while the prediction stays.

    Takes tslens's own models only, trained or shipped: paths are read from their weights, one by one.

    Example: tslens circuit --model l1_h256 --prompt "Mia had a kite. Mia flew her" --right kite --wrong ball
    """
    say(f"tslens circuit: loading {model} (seed {seed})")
    import torch

    from tslens.causal.paths import our_model
    from tslens.errors import UsageError
    from tslens.files import check_page, check_writable, refuse_replacing
    from tslens.link.circuit import check_keep, find_circuit
    from tslens.model.load import find_model, open_model

    check_keep(keep)
    check_page(html, stories)
    if svg is not None:
        refuse_replacing(svg, stories)
        if svg.suffix.lower() != ".svg" or svg.is_dir():
            raise UsageError(f"{svg} is no name of a drawing.", "Give --svg a file that ends in .svg.")
        check_writable(svg.parent)
    source = find_model(model)
    say(source.note)
    loaded = our_model(open_model(source, device=options.resolve_device(device)))
    ids = _ids(loaded, prompt)
    right_id, wrong_id = _choose(loaded, prompt, ids, right, wrong)
    reference, others, told = _reference(loaded, ids, corrupted, stories, n_stories)
    say(f"along cut paths: {told}")
    with progress_bar("single paths", 1.0) as (bar, task):
        found = find_circuit(
            loaded,
            torch.tensor(ids),
            reference,
            seed=seed,
            right=right_id,
            wrong=wrong_id,
            keep=keep,
            other_stories=others,
            progress=lambda stage, share: bar.update(task, description=stage, completed=share),
        )
    patterns = _patterns(loaded, torch.tensor([ids]), found)
    if html is not None:
        from tslens.viz.circuit_page import write_circuit_page

        header = {"command": command_line()}
        write_circuit_page(html, found, patterns, model=source.label, reference=told, header=header)
    if svg is not None:
        from tslens.viz.circuit_figure import write_circuit_figure
        from tslens.viz.circuit_page import summary

        write_circuit_figure(svg, found, patterns, f"{source.label}: {summary(found)}")
    if as_json:
        show_json(
            {
                "schema": CIRCUIT_SCHEMA,
                "model": source.label,
                "prompt": prompt,
                "reference": told,
                **found.to_json(),
                "heads": _heads(found, patterns),
            }
        )
        return
    show_circuit(found, patterns)
    for path in (html, svg):
        if path is not None:
            show(f"wrote {path}")


def _tokenizer(model: StoryModel) -> TextTokenizer:
    from tslens.errors import ModelError

    if model.tokenizer is None:
        raise ModelError("This model has no tokenizer.", "Put a tokenizer.json beside it.")
    return model.tokenizer


def _ids(model: StoryModel, text: str) -> list[int]:
    """The tokens of a prompt. Raises UsageError for too few or too many, or a blank at the end."""
    from tslens.errors import UsageError

    if text.endswith(" "):
        raise UsageError("The prompt ends in a blank; it belongs to the next word.", "Take it away.")
    tokenizer = _tokenizer(model)
    ids = [tokenizer.start_id, *tokenizer.encode(text)]
    if len(ids) < 2:
        raise UsageError("The prompt is empty.", "Give a text that a word may follow.")
    if len(ids) > model.cfg.n_ctx:
        raise UsageError(
            f"The prompt is {len(ids)} tokens, the context of the model {model.cfg.n_ctx}.",
            "Give a shorter one.",
        )
    return ids


def _choose(
    model: TinyTransformer, prompt: str, ids: list[int], right: str | None, wrong: str | None
) -> tuple[int, int]:
    """The right and the wrong next token, before any story is read. Raises UsageError where they cannot be compared."""
    import torch

    from tslens.link.circuit import choose_tokens

    with torch.inference_mode():
        logits = model(torch.tensor([ids], device=model.device))[0, -1]
    given = [_first_token(model, prompt, word, logits) for word in (right, wrong)]
    return choose_tokens(logits, _tokenizer(model), *given)


def _first_token(
    model: StoryModel, prompt: str, word: str | None, logits: Float[Tensor, " d_vocab"]
) -> int | None:
    """The token that a word begins with after the prompt; None for no word."""
    from tslens.link.circuit import next_token

    if word is None:
        return None
    tokenizer = _tokenizer(model)
    token, n_tokens = next_token(tokenizer, prompt, word)
    if n_tokens > 1:
        say(f"“{word}” is {n_tokens} tokens; the first of them decides")
    for other in (word.lower(), word.capitalize()):
        its_token, n_others = next_token(tokenizer, prompt, other)
        if n_others == 1 and logits[its_token] > logits[token]:
            say(
                f"“{word}” is another token than “{other}”, which is more probable: capitals tell words apart"
            )
    return token


def _reference(
    model: StoryModel, ids: list[int], corrupted: str | None, stories: str | None, n_stories: int
) -> tuple[Written, list[Written], str]:
    """What stands along cut paths, what single other stories give, and the first in words."""
    import torch

    from tslens.causal.paths import mean_written, written_on
    from tslens.errors import UsageError
    from tslens.probes.held_out import HeldOut

    if corrupted is not None:
        other = _ids(model, corrupted)
        if len(other) != len(ids):
            raise UsageError(
                f"The prompt has {len(ids)} tokens, the other one {len(other)}.",
                "Change words for words of as many tokens; tslens look shows them.",
            )
        return written_on(model, torch.tensor(other)), [], f"the prompt “{corrupted}”"
    held_out = HeldOut(model, stories, n_stories + N_OTHERS)
    rows = [_tokenizer(model).encode_story(story.text, context=model.cfg.n_ctx) for story in held_out]
    n_mean = min(n_stories, len(rows))
    long = [row for row in rows[n_mean:] if len(row) > len(ids)]
    others = [written_on(model, torch.from_numpy(row[: len(ids)].astype("int64"))) for row in long]
    told = f"the mean at the position over {n_mean} stories of {held_out.source}"
    return mean_written(model, rows[:n_mean], n_pos=len(ids)), others, told


def _patterns(model: StoryModel, tokens: Tensor, found: Circuit) -> Patterns:
    """Attention of the circuit's heads in the whole model."""
    import torch

    with torch.inference_mode():
        of_layers = [one[0].cpu().numpy() for one in model.attention_patterns(tokens.to(model.device))]
    return {head: of_layers[head.layer][head.index] for head in found.heads}


# Results -------------------------------------------------------------------------------------------------


def show_circuit(found: Circuit, patterns: Patterns) -> None:
    """The strongest paths, where the heads look, and how much of the prediction this is."""
    from tslens.link.circuit_report import shown
    from tslens.viz.circuit_figure import figure
    from tslens.viz.circuit_page import NODES, effects, figures, named, summary

    rows = [
        [named(found, edge.sender), str(edge.receiver), figure(edge.effect_inside), figure(edge.effect)]
        for edge in found.edges[:FIRST_ROWS]
    ]
    show_table(["<from>", "<to>", "inside", "whole"], [[_plain(cell) for cell in row] for row in rows])
    more = len(found.edges) - len(rows)
    beside = f" {counted(more, 'more path')}: --json or --html." if more > 0 else ""
    looks = [
        f"{row['head']} looks at "
        + ", ".join(f"{_plain(shown(one['token']))} {one['share']:.2f}" for one in row["attends"])
        for row in _heads(found, patterns)
    ]
    numbers = [f"{name}: {said}" for name, said in figures(found).items()]
    for text in (NODES, f"{effects(found)}{beside}", *looks, *numbers, summary(found)):
        show(textwrap.fill(_plain(text), 98, subsequent_indent="  "))


def _heads(found: Circuit, patterns: Patterns) -> list[dict[str, Any]]:
    """What each head of a circuit looks at most from the last token, as plain JSON types."""
    from tslens.link.circuit_report import most_attended

    return [
        {
            "head": str(head),
            "attends": [
                {"pos": one.pos, "token": found.tokens[one.pos], "share": round(one.share, 5)}
                for one in most_attended(pattern[-1].tolist(), N_MOST)
            ],
        }
        for head, pattern in patterns.items()
    ]


def _plain(text: str) -> str:
    return text.replace("\n", "\\n")
