"""The last seconds of every camera, compressed, in bounded memory."""

from __future__ import annotations

import dataclasses
import logging
from collections import deque
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.recording.moment import Moment

logger = logging.getLogger(__name__)

_QUALITY = 88
_EMPTY = np.zeros((0, 0, 3), dtype=np.uint8)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    moment: Moment  # without its picture
    jpeg: NDArray[np.uint8]


class PreRoll:
    """Remembers what every camera showed while nobody was there.

    Args:
        before_s: Seconds to remember; 0 remembers nothing.
        most_bytes: That all cameras' pictures may take together; beyond it the oldest go.
    """

    def __init__(self, before_s: float, most_bytes: float) -> None:
        self.num_bytes = 0
        self._before_s = before_s
        self._most_bytes = most_bytes
        self._kept: dict[str, deque[_Kept]] = {}
        self._has_warned = False

    def add(self, moment: Moment) -> None:
        """Remember a moment, and forget those that are too old."""
        if self._before_s == 0:
            return
        _, jpeg = cv2.imencode(".jpg", moment.picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
        kept = self._kept.setdefault(moment.camera, deque())
        kept.append(
            _Kept(dataclasses.replace(moment, picture=_EMPTY), np.asarray(jpeg, dtype=np.uint8))
        )
        self.num_bytes += kept[-1].jpeg.nbytes
        oldest_s = moment.at_unix_s - self._before_s
        # A clock that was set back would else keep its old moments for ever.
        while kept and not oldest_s <= kept[0].moment.at_unix_s <= moment.at_unix_s:
            self._forget(kept)
        self._fit()

    def before(self, moment: Moment) -> Iterator[Moment]:
        """Yield what came shortly before a moment, the oldest first, and forget it.

        Pictures of another size are left out.
        """
        kept = self._kept.pop(moment.camera, deque())
        while kept:
            each = self._forget(kept)
            is_recent = 0 < moment.at_unix_s - each.moment.at_unix_s <= self._before_s
            if is_recent and each.moment.placement.canvas == moment.placement.canvas:
                yield dataclasses.replace(each.moment, picture=_decoded(each.jpeg))

    def forget(self, camera: str) -> None:
        """Forget a camera's moments."""
        kept = self._kept.pop(camera, deque())
        while kept:
            self._forget(kept)

    def _forget(self, kept: deque[_Kept]) -> _Kept:
        each = kept.popleft()
        self.num_bytes -= each.jpeg.nbytes
        return each

    def _fit(self) -> None:
        if self.num_bytes > self._most_bytes and not self._has_warned:
            self._has_warned = True
            logger.warning(
                "recording: %g s before people come need more than memory_mb has for them: clips "
                "begin later; raise recording.memory_mb, or lower height or before_s",
                self._before_s,
            )
        while self.num_bytes > self._most_bytes:
            cameras = (kept for kept in self._kept.values() if kept)
            self._forget(min(cameras, key=lambda kept: kept[0].moment.at_unix_s))


def _decoded(jpeg: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), dtype=np.uint8)
