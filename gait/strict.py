"""The base of every configuration: strict, frozen, no unknown keys.

Strict means that YAML's traps are errors instead of surprises: `1e-3` (text to PyYAML) is not a
number and `no` (False to PyYAML) is not a name.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class StrictModel(BaseModel):
    """A configuration block. Defaults live here and nowhere else; a YAML holds what differs."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())
