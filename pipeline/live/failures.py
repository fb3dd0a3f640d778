"""What fails once is skipped; what fails the same way again and again ends the run."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable

from pipeline.errors import PipelineError

logger = logging.getLogger(__name__)

_MOST_IN_A_ROW = 10  # with nothing going well in between: the run does nothing any more
_LOG_EVERY_S = 10.0


class Failures:
    """The errors of one step of a live run.

    Args:
        step: What fails, in words: "perception".
        give_up: Called with an error that says why the run must end.
    """

    def __init__(self, step: str, give_up: Callable[[PipelineError], None]) -> None:
        self.count = 0
        self.step = step
        self.give_up = give_up
        self._lock = threading.Lock()
        self._last: tuple[type[BaseException], str] | None = None
        self._in_a_row = 0
        self._logged: tuple[type[BaseException], str] | None = None
        self._logged_s = 0.0

    def worked(self) -> None:
        """The step went well."""
        self._last = None

    def failed(self, error: Exception) -> None:
        """The step has failed; what it was given is skipped."""
        kind = type(error), _place(error)
        with self._lock:
            self.count += 1
            is_new = kind != self._last
            self._last, self._in_a_row = kind, 1 if is_new else self._in_a_row + 1
        words = f"{type(error).__name__}: {error}"
        self._log(kind, words)
        if self._in_a_row == _MOST_IN_A_ROW:
            self.give_up(
                PipelineError(
                    f"{self.step} failed {self._in_a_row} times in a row at {kind[1]}; the last "
                    f"time with {words}"
                )
            )

    def _log(self, kind: tuple[type[BaseException], str], words: str) -> None:
        """Log now and then: at the cameras' pace the log would fill the disk."""
        now_s = time.monotonic()
        is_new = kind != self._logged
        if is_new or now_s - self._logged_s >= _LOG_EVERY_S:
            self._logged, self._logged_s = kind, now_s
            logger.error(
                "%s failed and what it was given is skipped, for the %d. time: %s",
                *(self.step, self.count, words),
                exc_info=is_new,
            )


def _place(error: BaseException) -> str:
    """Return where it was raised: the words of one error may differ every time."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return "an unknown place"
    name = frames[-1].filename.replace("\\", "/").rsplit("/", 1)[-1]
    return f"{name}:{frames[-1].lineno}"
