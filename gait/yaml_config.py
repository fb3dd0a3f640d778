"""YAML to strict configuration models, with errors a person can act on.

A file may name another, relative to itself, as `base:`; it then holds only what differs.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from gait.errors import ConfigError
from gait.strict import StrictModel

M = TypeVar("M", bound=StrictModel)

_MAX_BASES = 8
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def load_yaml(
    model: type[M],
    path: Path | None,
    overrides: Sequence[str] = (),
    *,
    not_inherited: Collection[str] = (),
) -> M:
    """Return the configuration in the YAML file at `path`, changed by `overrides`.

    Args:
        model: The configuration to read into.
        path: The file; None for the defaults.
        overrides: Entries such as `detector.confidence=0.3`; the value is read as YAML.
        not_inherited: Top-level keys that a file's `base` does not pass on.

    Raises:
        ConfigError: Naming the place, what was expected, what came and what is known.
    """
    data = {} if path is None else read_with_bases(path, not_inherited)
    for override in overrides:
        apply_override(data, override)
    where = "configuration" if path is None else str(path)
    return validate(model, expand_variables(data, where), where)


def validate(model: type[M], data: Mapping[str, Any], where: str) -> M:
    """Return `data` as a `model`.

    Raises:
        ConfigError: One line a problem; `where` stands before each.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = [_explain(model, problem) for problem in error.errors()]
        raise ConfigError("\n".join(f"{where}: {problem}" for problem in problems)) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(f"{path}: cannot read the configuration: {why}") from error
    except yaml.YAMLError as error:
        # its own words span five lines, and call the file "<unicode string>"
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        why = getattr(error, "problem", None) or error
        raise ConfigError(f"{path}: not valid YAML{where}: {why}") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected `key: value` lines, got {type(data).__name__}")
    return data


def read_with_bases(path: Path, not_inherited: Collection[str]) -> dict[str, Any]:
    """Return the file's content on top of its base's, and so on down.

    Raises:
        ConfigError: A file cannot be read, or the bases go round in a circle.
    """
    files = [(path, _read(path))]
    while "base" in files[-1][1]:
        where, content = files[-1]
        base = content.pop("base")
        if not isinstance(base, str):
            raise ConfigError(f"{where}: base: expected the name of a YAML file, got {base!r}")
        if len(files) > _MAX_BASES:
            raise ConfigError(f"{path}: base: expected at most {_MAX_BASES} files, got a circle?")
        files.append((where.parent / base, _read(where.parent / base)))
    data: dict[str, Any] = {}
    for _, content in reversed(files):
        inherited = {key: value for key, value in data.items() if key not in not_inherited}
        data = _merged(inherited, content)
    return data


def _merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Return `base` changed by `own`, block by block; a block of another kind starts afresh."""
    merged = dict(base)
    for key, value in own.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            is_same_kind = value.get("kind", old.get("kind")) == old.get("kind")
            value = _merged(old, value) if is_same_kind else value
        merged[key] = value
    return merged


def apply_override(data: dict[str, Any], override: str) -> None:
    """Change one place of a file's content by a text such as `detector.confidence=0.3`.

    Raises:
        ConfigError: It is no such text.
    """
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"expected key=value such as detector.confidence=0.3, got {override!r}")
    *parents, last = key.split(".")
    for parent in parents:
        inner = data.setdefault(parent, {})
        if not isinstance(inner, dict):
            # `segmenter: sam` is short for `segmenter: {kind: sam}`
            inner = data[parent] = {"kind": inner}
        data = inner
    try:
        data[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{key}: not valid YAML after '=': {text!r}") from error


def expand_variables(value: Any, where: str) -> Any:
    """Replace `${NAME}` in every text by the environment variable of that name.

    Raises:
        ConfigError: A variable is not set; `where` is named.
    """
    if isinstance(value, dict):
        return {key: expand_variables(inner, f"{where}: {key}") for key, inner in value.items()}
    if isinstance(value, list):
        return [expand_variables(inner, where) for inner in value]
    if not isinstance(value, str):
        return value

    def variable(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise ConfigError(f"{where}: the environment variable {match[1]} is not set")
        return os.environ[match[1]]

    return _VARIABLE.sub(variable, value)


def _explain(model: type[BaseModel], problem: Any) -> str:
    # Pydantic puts the chosen `kind` into the path of a union: a person never wrote it there.
    owner, path = _owner(model, problem["loc"])
    place = ".".join(path)
    came = problem.get("input")
    if problem["type"] == "extra_forbidden":
        known = sorted(owner.model_fields)
        near = difflib.get_close_matches(path[-1], known, n=1) or _deeper(owner, path[-1])
        hint = f" (did you mean {near[0]}?)" if near else ""
        return f"{place}: unknown key{hint}; known here: {', '.join(known)}"
    if problem["type"] == "union_tag_invalid":
        context = problem["ctx"]
        near = difflib.get_close_matches(
            str(context["tag"]), context["expected_tags"].replace("'", "").split(", "), n=1
        )
        hint = f" (did you mean {near[0]}?)" if near else ""
        return (
            f"{place}.kind: expected one of {context['expected_tags']}, "
            f"got {context['tag']!r}{hint}"
        )
    message = problem["msg"].replace("Input should be", "expected").replace("Value error, ", "")
    where = f"{place}: " if place else ""
    if problem["type"] == "value_error" and (", got " in message or isinstance(came, Mapping)):
        return f"{where}{message}"
    return f"{where}{message}, got {came!r}{_yaml_hint(problem['type'], came)}"


def _yaml_hint(kind: str, came: object) -> str:
    """Say what YAML made of the text when that is the likely surprise."""
    if kind in {"float_type", "int_type"} and isinstance(came, str):
        return " (text; YAML reads numbers such as 0.001 or 1.0e-3, not 1e-3)"
    if kind == "string_type" and isinstance(came, bool):
        return " (YAML reads yes, no, on and off as true and false: put it in quotes)"
    return ""


def _deeper(owner: type[BaseModel], key: str) -> list[str]:
    """Return where a key that is unknown in a block would be known one block down."""
    return [
        f"{name}.{key}"
        for name, field in owner.model_fields.items()
        if any(key in model.model_fields for model in _models_in(field.annotation))
    ]


def _owner(
    model: type[BaseModel], location: tuple[int | str, ...]
) -> tuple[type[BaseModel], list[str]]:
    """Follow `location` down to the block that holds the bad key; drop union tags on the way."""
    path: list[str] = []
    candidates: list[type[BaseModel]] = [model]
    for step in location:
        kinds = {_kind(c): c for c in candidates}
        if len(candidates) > 1 and step in kinds:
            candidates = [kinds[str(step)]]
            continue
        path.append(str(step))
        field = candidates[0].model_fields.get(str(step))
        if field is not None:
            candidates = _models_in(field.annotation) or candidates
    return candidates[0], path


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models_in(inner)]


def _kind(model: type[BaseModel]) -> str:
    field = model.model_fields.get("kind")
    return "" if field is None else str(field.default)
