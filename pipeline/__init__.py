"""Cameras and files in, sightings out: the machine around `gait` and `trackers`.

import pipeline

for sighting in pipeline.process("entrance.mp4", out="results"):
    print(sighting.identity, sighting.stream, sighting.start_s, sighting.end_s)
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# Stages overlap: a thread that spins while it waits for its fellows takes a core from another
# stage (a tenth of the whole run on two cores). OpenMP reads this when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from pipeline.config import PipelineConfig, load_config
    from pipeline.file_run import FileRun, process
    from pipeline.values import Frame, Match, Sighting

__all__ = [
    "FileRun",
    "Frame",
    "Match",
    "PipelineConfig",
    "Sighting",
    "load_config",
    "process",
]

_HOMES = {
    "FileRun": "pipeline.file_run",
    "Frame": "pipeline.values",
    "Match": "pipeline.values",
    "PipelineConfig": "pipeline.config",
    "Sighting": "pipeline.values",
    "load_config": "pipeline.config",
    "process": "pipeline.file_run",
}


def __getattr__(name: str) -> Any:
    # torch and the models take seconds to import: `trackletgait --help` must not wait for them
    if name not in _HOMES:
        raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
