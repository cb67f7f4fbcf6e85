"""JSON schemas as structured output takes them, and replies held against them."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel

# Keywords that the strict mode of OpenAI refuses; the model still checks them when the reply is there.
_REFUSED = frozenset(
    {"default", "minLength", "maxLength", "uniqueItems", "discriminator", "title", "examples"}
)


@cache
def strict_schema(answer: type[BaseModel]) -> dict[str, Any]:
    """The schema of a model for ``json_schema`` with ``strict``: nothing further allowed, all fields required.

    Keywords that the strict mode does not know are left out, so a reply may fit the schema and not the model.
    Source: OpenAI's guide to structured outputs, "Supported schemas".
    """
    schema = answer.model_json_schema()
    strict: dict[str, Any] = _strict(schema, schema.get("$defs", {}))
    return strict


def _strict(node: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(node, list):
        return [_strict(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node and len(node) > 1:  # no other keyword may stand beside a reference
        rest = {name: value for name, value in node.items() if name != "$ref"}
        return _strict({**definitions[node["$ref"].removeprefix("#/$defs/")], **rest}, definitions)
    kept = {name: value for name, value in node.items() if name not in _REFUSED}
    if "oneOf" in kept:
        kept["anyOf"] = kept.pop("oneOf")
    for name in ("items", "anyOf", "allOf", "prefixItems"):
        if name in kept:
            kept[name] = _strict(kept[name], definitions)
    for name in ("properties", "$defs"):  # the names in here are fields, not keywords
        if name in node:
            kept[name] = {field: _strict(value, definitions) for field, value in node[name].items()}
    if kept.get("type") == "object":
        kept["additionalProperties"] = False
        kept["required"] = list(kept.get("properties", {}))
    return kept


def misfit(answer: type[BaseModel], text: str) -> str | None:
    """What is wrong with a reply, None if it fits the model."""
    from pydantic import ValidationError

    try:
        answer.model_validate_json(text)
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, p['loc'])) or 'reply'}: {p['msg']}"
            for p in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        return "; ".join(problems[:5])
    return None


def bare_json(text: str) -> str:
    """The JSON object of a reply in plain JSON mode, without the fence that many models set around it."""
    found = re.fullmatch(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", text, re.DOTALL)
    return found[1] if found else text.strip()
