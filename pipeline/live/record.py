"""run.json of a live run: what ran, without its secrets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal

from pipeline.errors import ConfigError
from pipeline.file_run import versions_used
from pipeline.identity import Identity
from pipeline.live.config import LiveConfig, hidden
from pipeline.perception import Perception
from pipeline.sinks.folder import ResultsFolder
from pipeline.sinks.run import ModelFile, RunRecord, StageSpeed, write_run
from pipeline.sources.address import HIDDEN, Address
from pipeline.telemetry import StageTime


class LiveRecord:
    """Writes run.json at the beginning and at the end.

    Args:
        folder: Where; None writes nothing.
        config: Of the run.
        command: The command line.
        perception: Whose models are named; None where another process perceives.
        identity: Likewise.
    """

    def __init__(
        self,
        folder: ResultsFolder | None,
        config: LiveConfig,
        command: Sequence[str],
        perception: Perception | None,
        identity: Identity | None,
    ) -> None:
        self._folder = folder
        self._config = config.shown()
        secrets = config.secrets()
        self._command = tuple(hidden(_shown(word), secrets) for word in command)
        self._perception = perception
        self._identity = identity
        self._started = datetime.now(UTC)

    def write(
        self,
        status: Literal["running", "finished", "failed"],
        *,
        problem: str | None = None,
        stages: Mapping[str, StageTime] | None = None,
    ) -> None:
        """Write what is known.

        Raises:
            OutputError: It cannot be written; a former run.json is still whole.
        """
        if self._folder is None:
            return
        encoder = None if self._identity is None else self._identity.encoder
        record = RunRecord(
            status=status,
            problem=problem,
            started=self._started,
            finished=None if status == "running" else datetime.now(UTC),
            command=self._command,
            config=self._config,
            versions=versions_used(),
            models=tuple(self._models()),
            encoder="another process's" if encoder is None else encoder.description,
            encoder_is_trained=encoder is None or encoder.is_trained,
            gallery=None if self._identity is None else self._identity.gallery.store.uid,
            stages=tuple(_speed(name, spent) for name, spent in (stages or {}).items()),
        )
        write_run(self._folder, record)

    def _models(self) -> Iterator[ModelFile]:
        stages: Mapping[str, object] = {
            "detector": getattr(self._perception, "detector", None),
            "appearance": getattr(self._perception, "appearance", None),
            "segmenter": getattr(self._perception, "segmenter", None),
            "encoder": getattr(self._identity, "encoder", None),
        }
        for role, stage in stages.items():
            if stage is not None:
                name = getattr(stage, "description", type(stage).__name__)
                yield ModelFile(role=role, name=name, sha256=getattr(stage, "model_hash", None))


def _shown(word: str) -> str:
    """Return a word of the command line as it may be seen."""
    if "://" not in word:
        return word
    try:
        return Address.parse(word).shown
    except ConfigError:
        return HIDDEN


def _speed(name: str, spent: StageTime) -> StageSpeed:
    return StageSpeed(
        name=name,
        calls=spent.calls,
        items=spent.items,
        seconds=spent.seconds,
        items_per_s=spent.items / spent.seconds if spent.seconds else None,
    )
