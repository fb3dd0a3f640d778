"""What a live run does when it is asked over its control socket or HTTP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from pipeline.errors import ConfigError
from pipeline.live.cameras import CameraDesk
from pipeline.live.status import RunStatus

Verbs = dict[str, Callable[[Mapping[str, Any]], Mapping[str, Any] | None]]


class Commanded(Protocol):
    """A run that obeys."""

    @property
    def desk(self) -> CameraDesk | None:
        """Where cameras come and go; None where there are none."""
        ...

    def status(self) -> RunStatus:
        """Return what it does now."""
        ...

    def stop(self) -> None:
        """End soon."""
        ...


class Commands:
    """Answers one request after another; docs/live.md lists them.

    Args:
        run: Who obeys.
    """

    def __init__(self, run: Commanded) -> None:
        self._run = run
        self._verbs: Verbs = {
            "status": lambda request: run.status().model_dump(mode="json"),
            **({} if run.desk is None else _of_cameras(run.desk)),
            "stop": lambda request: run.stop(),
        }

    def __call__(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Do what is asked and return the answer.

        Raises:
            ConfigError: It cannot be done; the words are for whoever asked.
        """
        verb = request.get("do")
        if not isinstance(verb, str) or verb not in self._verbs:
            known = ", ".join(self._verbs)
            raise ConfigError(f"do: expected one of {known}, got {str(verb)[:64]!r}")
        return {"ok": True, **(self._verbs[verb](request) or {})}


def _of_cameras(desk: CameraDesk) -> Verbs:
    return {
        "add": lambda request: desk.add(_name(request), _camera(request)),
        "change": lambda request: desk.change(_name(request), _camera(request)),
        "remove": lambda request: desk.remove(_name(request)),
        "pause": lambda request: desk.pause(_name(request)),
        "resume": lambda request: desk.resume(_name(request)),
        "reload": lambda request: desk.reload(),
    }


def _name(request: Mapping[str, Any]) -> str:
    name = request.get("name")
    if not isinstance(name, str):
        raise ConfigError('name: expected the name of a camera, such as {"name": "gate"}')
    return name


def _camera(request: Mapping[str, Any]) -> object:
    if "camera" not in request:
        raise ConfigError('camera: expected an address or a block, such as {"url": "rtsp://..."}')
    return request["camera"]
