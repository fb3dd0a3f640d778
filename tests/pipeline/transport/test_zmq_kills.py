"""Either end of a link killed at any moment."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time

from tests.pipeline.transport.conftest import (
    Place,
    number_of,
    settle,
    tracklet,
)

_HEAD = """
import sys, time
from pathlib import Path
import numpy as np
from gait.tracklet import Tracklet
from pipeline.transport.spool import Spool
from pipeline.transport.zmq_link import ReceivingLink, SendingLink
folder, endpoint, start = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
"""
_SENDER = """
with SendingLink(endpoint, Spool(folder / "gate.spool"), sender="gate", resend_s=0.3) as link:
    for number in range(start, 10**9):
        link.send([Tracklet("door", 1, np.zeros((1, 64, 44), np.uint8), np.array([number]),
                            np.array([number / 10]), (0.0, 1.0))])
        print(number, flush=True)
"""
_RECEIVER = """
with ReceivingLink(endpoint, folder / "hub.marks", batch=5) as link:
    while tracklets := link.receive():
        for one in tracklets:
            print("took", one.frame_indices[0], flush=True)
        time.sleep(0.002)
        link.acknowledge()
        for one in tracklets:
            print("done", one.frame_indices[0], flush=True)
"""


class Child:
    """One side of the link in a process of its own, that is killed at some moment."""

    def __init__(self, code: str, place: Place, start: int = 0) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _HEAD + code, str(place.folder), place.endpoint, str(start)],
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        self._said = [self._process.stdout.readline()]  # it is at work

    def kill(self) -> list[str]:
        """Kill it and return the whole lines it had said."""
        assert self._process.stdout is not None
        self._process.send_signal(signal.SIGKILL)
        self._said += self._process.stdout.readlines()
        self._process.stdout.close()
        self._process.wait()
        return [line.decode().strip() for line in self._said if line.endswith(b"\n")]


def test_killing_the_sender_at_any_moment_loses_and_repeats_nothing(place: Place) -> None:
    receiver = place.receiver()
    moment = random.Random(1)
    received: list[int] = []
    start = 0
    for turn in range(1, 5):
        child = Child(_SENDER, place, start)
        end_s = time.monotonic() + moment.uniform(0.05, 0.3)
        while time.monotonic() < end_s or len(received) < 6 * turn:
            received += [number_of(each) for each in receiver.receive(0.01) if len(each)]
            receiver.acknowledge()
        said = child.kill()
        start = int(said[-1]) + 2  # the next may be on disk though it was not said
    sender = place.sender()
    sender.send([tracklet(start)])
    while not received or received[-1] != start:
        received += [number_of(each) for each in receiver.receive(0.1) if len(each)]
        receiver.acknowledge()
    settle(receiver, sender)
    assert received == sorted(set(received))
    missing = set(range(start)) - set(received)
    assert len(missing) <= 4  # those that may have been on disk, and were not
    assert len(received) > 20


def test_killing_the_receiver_at_any_moment_loses_nothing_and_repeats_nothing_done(
    place: Place,
) -> None:
    moment = random.Random(2)
    sender = place.sender(resend_s=0.3)
    said: list[str] = []
    number = 0
    for _ in range(4):
        sender.send([tracklet(number + each) for each in range(60)])
        number += 60
        child = Child(_RECEIVER, place)
        time.sleep(moment.uniform(0.0, 0.05))
        said += child.kill()
    receiver = place.receiver()
    while sender.num_waiting:
        for one in receiver.receive(0.1):
            said.append(f"took {number_of(one)}")
        receiver.acknowledge()
    done: set[str] = set()
    taken: list[int] = []
    for verb, which in (line.split() for line in said):
        if verb == "done":
            done.add(which)
        else:
            assert which not in done, f"{which} was acknowledged and came again"
            taken.append(int(which))
    assert sorted(set(taken)) == list(range(number))
    assert len(taken) - number <= 4 * 5  # only what was under way at a kill comes twice
