"""Write the pages of all keys from the configuration classes: `python scripts/config_page.py`.

docs/configuration.md is of recorded files and the models, docs/configuration-live.md of live runs.
The classes are the one place where keys, defaults, ranges and meanings are written; a test holds
the pages to them.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipeline.config import PipelineConfig
from pipeline.live.config import LiveConfig

DOCS = Path(__file__).resolve().parent.parent / "docs"

HEAD = """\
# Configuration

Written from the configuration classes by `scripts/config_page.py`; do not edit by hand.

    trackletgait process entrance.mp4 --config my.yaml --set detector.confidence=0.2

A YAML file holds only what differs from the defaults below. Unknown keys and wrong types are
errors that name the place. Where there is a choice of `kind`, `segmenter: detector` is short for
`segmenter: {kind: detector}`. `${NAME}` in a text is replaced by the environment variable. PyYAML
reads `1e-3` as text (write `0.001` or `1.0e-3`) and `no` as false (write `"no"`); both are caught.
"""


LIVE_HEAD = """\
# Configuration of a live run

Written from the configuration classes by `scripts/config_page.py`; do not edit by hand. How the
parts play together is said in docs/live.md.

    trackletgait run cameras.yaml --set batching.window_s=0.02

A YAML file holds only what differs from the defaults below; unknown keys and wrong types are errors
that name the place. `gate: rtsp://...` is short for `gate: {url: "rtsp://..."}`. `${NAME}` in a
text is replaced by the environment variable.
"""

PIPELINE = """\
## `pipeline`

The models, with every key of docs/configuration.md; `read`, `runtime` and `output` do not apply.
"""


def pages() -> dict[Path, str]:
    """Return every page as Markdown."""
    return {DOCS / "configuration.md": page(), DOCS / "configuration-live.md": live_page()}


def page() -> str:
    """Return the page of recorded files and the models."""
    return "\n".join([HEAD, *_sections(PipelineConfig)])


def live_page() -> str:
    """Return the page of live runs."""
    own = {key for key, field in LiveConfig.model_fields.items() if not models_in(field.annotation)}
    top = ["## Keys that stand alone", "", *_table(LiveConfig, own), ""]
    return "\n".join([LIVE_HEAD, "\n".join(top), *_sections(LiveConfig)])


def _sections(model: type[BaseModel]) -> list[str]:
    sections = []
    for name, field in model.model_fields.items():
        if field.annotation is PipelineConfig:
            sections.append(PIPELINE)
            continue
        title = f"{name}.NAME" if _schema(model)[name].get("type") == "object" else name
        default = field.get_default(call_default_factory=True)
        for inner in models_in(field.annotation):
            sections.append(_section(title, inner, default))
    return sections


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the configuration classes that an annotation admits."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in models_in(inner)]


def _section(name: str, model: type[BaseModel], default: Any) -> str:
    kind = model.model_fields.get("kind")
    title = f"`{name}`" if kind is None else f"`{name}`, kind `{kind.default}`"
    summary = _summary(model)
    if default is None:
        summary += " Off (`null`) by default."
    elif kind is not None and default == {"kind": kind.default}:
        summary += " The default."
    keys = {key for key in model.model_fields if key != "kind"}
    table = _table(model, keys) if keys else ["It has no keys."]
    return "\n".join([f"## {title}", "", summary, "", *table, ""])


def _table(model: type[BaseModel], keys: set[str]) -> list[str]:
    return ["| key | default | range | meaning |", "|---|---|---|---|", *_rows("", model, keys)]


def _rows(prefix: str, model: type[BaseModel], keys: set[str]) -> list[str]:
    rows, meanings, schema = [], _meanings(model), _schema(model)
    for key, field in model.model_fields.items():
        if key not in keys:
            continue
        for inner in models_in(field.annotation)[:1]:
            rows += _rows(f"{prefix}{key}.", inner, set(inner.model_fields))
        if not models_in(field.annotation):
            cells = f"`{_default(field)}`", _range(schema[key]), meanings.get(key, "")
            rows.append(f"| `{prefix}{key}` | {' | '.join(cells)} |")
    return rows


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    text = yaml.safe_dump(default, default_flow_style=True, width=10_000)
    return text.removesuffix("...\n").strip()


def _schema(model: type[BaseModel]) -> Mapping[str, Mapping[str, Any]]:
    properties: Mapping[str, Mapping[str, Any]] = model.model_json_schema()["properties"]
    return properties


def _range(schema: Mapping[str, Any]) -> str:
    """Return in words what a value may be."""
    if choices := schema.get("anyOf", schema.get("oneOf")):
        return " or ".join(_range(choice) for choice in choices)
    if "const" in schema or "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type")
    if kind == "array":
        return f"list of {_range(schema.get('items', {}))}"
    if kind in ("number", "integer"):
        return _bounds(schema) or ("whole number" if kind == "integer" else "number")
    words = {"boolean": "`true`, `false`", "null": "`null`", "object": "mapping"}
    return words.get(str(kind), "text")


def _bounds(schema: Mapping[str, Any]) -> str:
    words = {
        "exclusiveMinimum": "above",
        "minimum": "at least",
        "exclusiveMaximum": "below",
        "maximum": "at most",
    }
    return ", ".join(f"{word} {schema[key]:.10g}" for key, word in words.items() if key in schema)


def _summary(model: type[BaseModel]) -> str:
    return (inspect.getdoc(model) or "").partition("\n\nAttributes:")[0]


def _meanings(model: type[BaseModel]) -> dict[str, str]:
    """Return what each key means, also those that the class has from another."""
    meanings: dict[str, str] = {}
    for each in reversed(model.__mro__):
        if issubclass(each, BaseModel):
            meanings |= _own_meanings(each)
    return meanings


def _own_meanings(model: type[BaseModel]) -> dict[str, str]:
    """Read the `Attributes:` of a Google docstring: key to one line of text."""
    _, _, attributes = inspect.cleandoc(model.__doc__ or "").partition("Attributes:\n")
    entries = re.split(r"\n(?=    \w)", "\n" + attributes)
    meanings = {}
    for entry in entries:
        key, colon, text = entry.strip().partition(":")
        if colon:
            meanings[key] = re.sub(r"\s+", " ", text).strip().replace("|", "\\|")
            meanings[key] = re.sub(r"\b(None|null)\b", "`null`", meanings[key])
    return meanings


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
