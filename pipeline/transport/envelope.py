"""What two links say to each other around a tracklet: who sends, which number, how far we are."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.transport.keys import NAME_PATTERN
from pipeline.transport.message import Count, WireModel, read_json

SCHEMA = "trackletgait.link"
VERSION = 1


class Envelope(WireModel):
    """The first frame of what a sender sends; the tracklet's frames follow.

    Attributes:
        sender: Name of the machine or site.
        spool: Id of the sender's spool; with `seq` it names the message uniquely.
        seq: Number of the message in the spool.
        follows: Number of the message sent before it; 0 when none before it is waiting.
    """

    schema_name: Literal["trackletgait.link"] = Field(default="trackletgait.link", alias="schema")
    version: Literal[1] = 1
    kind: Literal["tracklet"] = "tracklet"
    sender: str = Field(pattern=NAME_PATTERN)
    spool: str = Field(pattern=r"^[0-9a-f]{32}$")
    seq: Count
    follows: Count


class Answer(WireModel):
    """The only frame of what a receiver sends.

    Attributes:
        spool: Whose messages it is about.
        done: All messages up to this number are acknowledged: the sender may forget them.
        received: All messages up to this number have arrived.
        refused: Why a message was refused; None when none was.
        is_final: Whether the refused message counts as done, or is to be sent again later.
    """

    schema_name: Literal["trackletgait.link"] = Field(default="trackletgait.link", alias="schema")
    version: Literal[1] = 1
    kind: Literal["answer"] = "answer"
    spool: str = Field(pattern=r"^[0-9a-f]{32}$")
    done: Count
    received: Count
    refused: str | None = Field(default=None, max_length=500)
    is_final: bool = True


def write_frame(said: Envelope | Answer) -> bytes:
    """Return the JSON frame."""
    return said.model_dump_json(by_alias=True).encode()


def read_envelope(frame: bytes) -> Envelope:
    """Return the envelope of a frame.

    Raises:
        MessageError: It is none, or of another version.
    """
    return read_json(Envelope, frame, SCHEMA, VERSION)


def read_answer(frame: bytes) -> Answer:
    """Return the answer of a frame.

    Raises:
        MessageError: It is none, or of another version.
    """
    return read_json(Answer, frame, SCHEMA, VERSION)
