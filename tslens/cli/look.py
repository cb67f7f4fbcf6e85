"""``tslens look``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tslens.cli import options
from tslens.cli.console import counted, say, show, show_json, show_table
from tslens.provenance import command_line

if TYPE_CHECKING:
    import numpy as np

    from tslens.types import HeadId

LOOK_SCHEMA = "tslens.look/1"
CANNOT_TELL = (
    "Whether a head does this on other texts: one text is an example, no measurement. tslens heads measures.",
    "Whether it matters: attention says where a head looks, not what it moves.",
)


def look(
    text: Annotated[str | None, typer.Argument(help="The text to read.")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="Whose heads to show: see tslens heads --help. Default: the newest finished run.",
            callback=options.newest_unless("labels"),
            autocompletion=options.complete_model,
        ),
    ] = None,
    labels: Annotated[
        bool, typer.Option("--labels", help="Show the labels of a story in place of a model's heads.")
    ] = False,
    stories: Annotated[
        str | None, typer.Option("--stories", help="With --labels: a source of stories, as author:100.")
    ] = None,
    number: Annotated[
        int, typer.Option("--number", min=0, help="With --stories: which one, counted from 0.")
    ] = 0,
    head: Annotated[str | None, typer.Option("--head", help="One head, as in L0H3.")] = None,
    neuron: Annotated[str | None, typer.Option("--neuron", help="One MLP neuron, as in L0N12.")] = None,
    html: options.Html = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Show where the heads of a model look in a text of yours, where a neuron fires, or the labels of a story.

    Example: tslens look "One day, Tom ate a banana in the park." --model l1_h256 --head L0H3

    Example: tslens look "One day, Tom ate a banana in the park." --model l1_h256 --neuron L0N12

    Example: tslens look --labels --stories author:100 --number 7 --html labels.html
    """
    from tslens.errors import UsageError
    from tslens.files import check_page

    check_page(html, stories)
    if labels:
        from tslens.cli.look_labels import look_labels

        say("tslens look: labels")
        look_labels(text, stories, number, html, as_json)
        return
    if text is None or model is None:
        raise UsageError(
            "There is no text and model to look at.",
            'Write tslens look "Tom ran." --model NAME, or tslens look "Tom ran." --labels.',
        )
    say(f"tslens look: loading {model}")
    import numpy as np
    import torch

    from tslens.model.load import find_model, open_model
    from tslens.model.loss import loss_per_target
    from tslens.types import HeadId

    source = find_model(model)
    say(source.note)
    loaded = open_model(source, device=options.resolve_device(device))
    tokenizer = loaded._tokenizer()
    ids = [tokenizer.start_id, *tokenizer.encode(text)]
    if len(ids) < 3:
        raise UsageError("A text of fewer than two tokens has nothing to look at.", "Give a sentence.")
    if len(ids) > loaded.cfg.n_ctx:
        say(f"warning: the text is cut at {loaded.cfg.n_ctx} tokens, the context of the model.")
        ids = ids[: loaded.cfg.n_ctx]
    if neuron is not None:
        from tslens.cli.look_neuron import look_neuron

        if head is not None:
            raise UsageError("Both --head and --neuron were given.", "Give one of them.")
        look_neuron(loaded, source.label, ids, neuron, html, as_json)
        return
    chosen = _chosen(head, loaded.cfg.n_layers, loaded.cfg.n_heads)
    with torch.inference_mode():
        patterns = {
            HeadId(layer, index): pattern[0, index].cpu().numpy()
            for layer, pattern in enumerate(
                loaded.attention_patterns(torch.tensor([ids], device=loaded.device))
            )
            for index in range(loaded.cfg.n_heads)
        }
    tokens = tokenizer.token_strings(ids)
    losses = np.concatenate([[np.nan], loss_per_target(loaded, [np.array(ids)])[0]])
    if html is not None:
        from tslens.viz.look_page import write_look_page

        write_look_page(
            html,
            title=f"Where {source.label} looks",
            model=source.label,
            header={"command": command_line()},
            tokens=tokens,
            patterns=patterns,
            selected=chosen,
            losses=losses,
            cannot_tell=CANNOT_TELL,
        )
    if as_json:
        shown = {str(h): p.round(5).tolist() for h, p in patterns.items() if chosen in (None, h)}
        show_json({"schema": LOOK_SCHEMA, "model": source.label, "tokens": tokens, "patterns": shown})
        return
    if chosen is None:
        _show_all(tokens, patterns)
    else:
        _show_one(tokens, patterns[chosen], chosen)
    show(f"wrote {html}" if html is not None else "The picture: add --html look.html.")


def _chosen(head: str | None, n_layers: int, n_heads: int) -> HeadId | None:
    from tslens.errors import UsageError
    from tslens.types import HeadId

    if head is None:
        return None
    found = HeadId.parse(head)
    if found.layer >= n_layers or found.index >= n_heads:
        raise UsageError(
            f"There is no head {found}: the model has {counted(n_layers, 'layer')} of {counted(n_heads, 'head')}.",
            f"Choose one up to L{n_layers - 1}H{n_heads - 1}.",
        )
    return found


def _show_one(tokens: list[str], pattern: np.ndarray, head: HeadId) -> None:
    """Each token with the three that the head looks at most from there."""
    rows = []
    for query, row in enumerate(pattern):
        best = row[: query + 1].argsort()[::-1][:3]
        looks = "   ".join(f"{row[key]:.2f} {_name(tokens, key)}" for key in best)
        rows.append([str(query), tokens[query].replace("\n", "\\n"), looks])
    show_table(["pos", "<token>", f"<{head} looks at (share, position, token)>"], rows)


def _show_all(tokens: list[str], patterns: dict[HeadId, np.ndarray]) -> None:
    """Each head with the tokens it looks at most, and how much goes to itself, the previous and the first token."""
    rows = []
    for head, pattern in patterns.items():
        queries = pattern[1:]
        received = queries.mean(0)
        best = received.argsort()[::-1][:3]
        looks = "   ".join(f"{received[key]:.2f} {_name(tokens, key)}" for key in best)
        shares = (queries[:, 0].mean(), pattern.diagonal(-1).mean(), pattern.diagonal()[1:].mean())
        rows.append([str(head), *(f"{share:.2f}" for share in shares), looks])
    show_table(
        ["<head>", "first", "previous", "itself", "<looks most at (mean share, position, token)>"], rows
    )
    show("One head in full: add --head L0H0.")


def _name(tokens: list[str], position: int) -> str:
    text = tokens[position].replace("\n", "\\n")
    return f"{position}:{text.strip() or repr(text)}"
