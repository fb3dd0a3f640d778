"""Write docs/configuration.md from the configuration classes: `python scripts/config_page.py`.

The classes are the one place where keys, defaults and their meaning are written; a test holds the
page to them.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from pipeline.config import PipelineConfig

PAGE = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"

HEAD = """\
# Configuration

Written from the configuration classes by `scripts/config_page.py`; do not edit by hand.

    trackletgait process entrance.mp4 --config my.yaml --set detector.confidence=0.2

A YAML file holds only what differs from the defaults below. Unknown keys and wrong types are
errors that name the place. Where there is a choice of `kind`, `segmenter: sam` is short for
`segmenter: {kind: sam}`. `${NAME}` in a text is replaced by the environment variable. PyYAML reads
`1e-3` as text (write `0.001` or `1.0e-3`) and `no` as false (write `"no"`); both are caught.
"""


def page() -> str:
    """Return the page as Markdown."""
    sections = [HEAD]
    for name, field in PipelineConfig.model_fields.items():
        for model in models_in(field.annotation):
            sections.append(_section(name, model))
    return "\n".join(sections)


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the configuration classes that an annotation admits."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in models_in(inner)]


def _section(name: str, model: type[BaseModel]) -> str:
    kind = model.model_fields.get("kind")
    title = f"`{name}`" if kind is None else f"`{name}`, kind `{kind.default}`"
    meanings = _meanings(model)
    lines = [f"## {title}", "", _summary(model), "", "| key | default | meaning |", "|---|---|---|"]
    for key, field in model.model_fields.items():
        inner = models_in(field.annotation)
        if key == "kind":
            continue
        if inner:
            lines += _rows(f"{key}.", inner[0])
        else:
            lines.append(f"| `{key}` | `{_default(field)}` | {meanings.get(key, '')} |")
    return "\n".join([*lines, ""])


def _rows(prefix: str, model: type[BaseModel]) -> list[str]:
    meanings = _meanings(model)
    return [
        f"| `{prefix}{key}` | `{_default(field)}` | {meanings.get(key, '')} |"
        for key, field in model.model_fields.items()
    ]


def _default(field: Any) -> str:
    if field.default is PydanticUndefined:
        return "required"
    return yaml.safe_dump(field.default, default_flow_style=True).removesuffix("...\n").strip()


def _summary(model: type[BaseModel]) -> str:
    return (inspect.getdoc(model) or "").partition("\n\nAttributes:")[0]


def _meanings(model: type[BaseModel]) -> dict[str, str]:
    """Read the `Attributes:` of a Google docstring: key to one line of text."""
    _, _, attributes = (inspect.getdoc(model) or "").partition("Attributes:\n")
    entries = re.split(r"\n(?=    \w)", "\n" + attributes)
    meanings = {}
    for entry in entries:
        key, colon, text = entry.strip().partition(":")
        if colon:
            meanings[key] = re.sub(r"\s+", " ", text).strip().replace("|", "\\|")
            meanings[key] = re.sub(r"\bNone\b", "`null`", meanings[key])
    return meanings


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
