"""What a run and a camera's process tell each other: JSON messages over a socket without a name."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, TypeAdapter, model_validator

from gait.closing import Closing
from gait.strict import StrictModel
from pipeline.sources.camera import CameraConfig, CameraCounts
from pipeline.sources.camera_memory import check_place
from pipeline.sources.camera_state import CameraState

_MOST_BYTES = 64 * 1024
LONGEST_TEXT = 8 * 1024


class Begin(StrictModel):
    """First to the process: what to read. Sent, so that no list of processes shows a password.

    Attributes:
        name: Of the camera.
        url: Its address, filled in.
        shown: The same without secrets.
        secrets: Every spelling of them.
        config: How patient to be.
        is_paused: Whether to wait for `resume`.
    """

    name: str
    url: str
    shown: str
    secrets: tuple[str, ...]
    config: CameraConfig
    is_paused: bool


class Order(StrictModel):
    """Later to the process."""

    order: Literal["pause", "resume"]


class Pictured(StrictModel):
    """From the process: a picture lies in a slot.

    Attributes:
        kind: "picture".
        slot: Which.
        height: Pixels.
        width: Pixels.
        index: As of the `Frame`, counted from the process's beginning, like the epoch and time.
        epoch: Likewise.
        time_s: Likewise.
        captured_s: Unix time.
        arrived_s: On the monotonic clock, which processes share.
        counts: What it has done.
    """

    kind: Literal["picture"] = "picture"
    slot: NonNegativeInt
    height: NonNegativeInt
    width: NonNegativeInt
    index: NonNegativeInt
    epoch: NonNegativeInt
    time_s: float = Field(ge=0, allow_inf_nan=False)
    captured_s: float | None = Field(allow_inf_nan=False)
    arrived_s: float = Field(allow_inf_nan=False)
    counts: CameraCounts

    @model_validator(mode="after")
    def _lies_in_a_slot(self) -> Pictured:
        check_place(self.slot, self.height, self.width)
        return self


class Counted(StrictModel):
    """From the process, every second without a picture: what it has done."""

    kind: Literal["counts"] = "counts"
    counts: CameraCounts


class Changed(StrictModel):
    """From the process: the camera is in another state."""

    kind: Literal["state"] = "state"
    state: CameraState
    reason: str | None
    retry_in_s: float | None


class Said(StrictModel):
    """From the process: a line for the log, without secrets."""

    kind: Literal["log"] = "log"
    logger: str = Field(pattern=r"^(pipeline|gait)\.[\w.]+$", max_length=100)
    level: int = Field(ge=0, le=50)
    text: str = Field(max_length=LONGEST_TEXT)


Told = Pictured | Counted | Changed | Said
_TOLD: TypeAdapter[Told] = TypeAdapter(Annotated[Told, Field(discriminator="kind")])


def told(data: bytes) -> Told:
    """Return what a process has told.

    Raises:
        ValueError: It is nothing a reader says.
    """
    return _TOLD.validate_json(data)


class Line(Closing):
    """One end of the socket; messages arrive whole or not at all, from any thread.

    Args:
        end: Of a pair of SOCK_SEQPACKET.
        silent_s: Longest wait for a message, or for room for one; None waits for ever.
    """

    def __init__(self, end: socket.socket, silent_s: float | None = None) -> None:
        self._socket = end
        self._socket.settimeout(silent_s)

    def send(self, message: StrictModel) -> None:
        """Send a message; OSError when the other end is gone."""
        self._socket.sendall(message.model_dump_json().encode())

    def receive(self) -> bytes:
        """Return the next message; empty when the other end is gone.

        Raises:
            TimeoutError: There was none for too long.
        """
        try:
            return self._socket.recv(_MOST_BYTES)
        except ConnectionError:
            return b""

    def hang_up(self) -> None:
        """Let both ends know that this is over; also from another thread."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close this end."""
        self.hang_up()
        self._socket.close()


def added(base: CameraCounts, more: CameraCounts) -> CameraCounts:
    """Return two counts together."""
    fields: Mapping[str, int] = {
        name: getattr(base, name) + getattr(more, name) for name in CameraCounts.__slots__
    }
    return CameraCounts(**fields)
