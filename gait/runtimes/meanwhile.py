"""A runtime that answers at once, and gives way to a better one when that has been built."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gait.errors import GaitError
from gait.runtimes.runtime import Precision, Runtime, RuntimeName

logger = logging.getLogger(__name__)

OnStep = Callable[[], None]
Build = Callable[[OnStep], Runtime]


class Cancelled(Exception):
    """Raised into a build whose result nobody waits for."""


class Meanwhile:
    """Serves by one runtime while a thread builds another, then by that.

    It owns both. Calls wait for each other. A build that fails leaves things as they are and is
    logged; an exception that is none of ours is raised from the next call.

    Attributes:
        takes_padding: Of the runtime that serves first; the other must not take less.
    """

    def __init__(self, first: Runtime, build: Build, *, after_s: float = 0.0) -> None:
        """Serve by `first`.

        Args:
            first: Ready to run.
            build: Returns the better runtime, or raises a GaitError. It is called in a thread and
                calls what it is given every now and then, which raises `Cancelled` when the
                result is not wanted any more.
            after_s: Seconds of computing after which the build begins. Higher spares short runs a
                build that does not pay, at the price of long ones.
        """
        self._runtime = first
        self._build = build
        self._after_s = after_s
        self._spent_s = 0.0
        self._lock = threading.Lock()
        self._is_closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self.takes_padding = first.takes_padding
        if after_s <= 0:
            self._begin()

    @property
    def name(self) -> RuntimeName:
        """Whose the runtime is that serves now."""
        return self._runtime.name

    @property
    def precision(self) -> Precision | Literal["float64"]:
        """What it computes in."""
        return self._runtime.precision

    @property
    def description(self) -> str:
        """Of the runtime that serves now, and whether another is being built."""
        is_building = self._thread is not None and self._thread.is_alive()
        return self._runtime.description + (" while a faster one is built" if is_building else "")

    def run(
        self, silhouettes_NTHW: NDArray[np.floating[Any]], lengths_N: NDArray[np.int64] | None
    ) -> NDArray[np.floating[Any]]:
        """Return the embeddings; see `gait.runtimes.runtime.Runtime.run`."""
        with self._lock:
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            start = time.monotonic()
            embeddings = self._runtime.run(silhouettes_NTHW, lengths_N)
            self._spent_s += time.monotonic() - start
            if self._thread is None and self._spent_s >= self._after_s:
                self._begin()
        return embeddings

    def wait(self, timeout_s: float | None = None) -> bool:
        """Return whether the build, if it has begun, is over, waiting for it if need be."""
        if self._thread is not None:
            self._thread.join(timeout_s)
            return not self._thread.is_alive()
        return True

    def close(self) -> None:
        """Stop the build, which takes as long as its present step, and close the runtime."""
        self._is_closed.set()
        self.wait()
        with self._lock:
            self._runtime.close()

    def _begin(self) -> None:
        self._thread = threading.Thread(target=self._work, name="build-runtime")
        self._thread.start()

    def _work(self) -> None:
        try:
            built = self._build(self._check_wanted)
        except Cancelled:
            return
        except GaitError as error:
            logger.warning("encoder: %s keeps serving (%s)", self._runtime.description, error)
        except BaseException as error:  # reaches the main thread with its next call
            self._error = error
        else:
            self._swap(built)

    def _swap(self, built: Runtime) -> None:
        with self._lock:
            if self._is_closed.is_set():
                built.close()
                return
            before, self._runtime = self._runtime, built
            before.close()
        logger.info("encoder: from now on %s", built.description)

    def _check_wanted(self) -> None:
        # An interpreter that ends waits for this thread before anybody can close us.
        if self._is_closed.is_set() or not threading.main_thread().is_alive():
            raise Cancelled
