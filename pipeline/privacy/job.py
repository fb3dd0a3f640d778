"""Keeping a live run's data no longer than its configuration says, while it runs."""

from __future__ import annotations

import logging
import threading

from gait.closing import Closing
from pipeline.errors import PipelineError
from pipeline.privacy.limits import RetentionConfig
from pipeline.privacy.retention import Remover

logger = logging.getLogger(__name__)

_EVERY_S = 3600.0
_CLOSING_S = 0.3  # of the 5 s in which a run ends


class PurgeJob(Closing):
    """Purges when it is made, and every hour after, in a thread of its own.

        with PurgeJob(Remover(places, log, "live run"), config.retention):
            ...

    What it removed, and what it could not, is logged; it never ends what it runs beside. A run
    that is killed in between is what `Remover` is made for.

    Args:
        remover: Where to look, and who records it.
        config: How long data are kept.
        every_s: Seconds from one purge to the next.
    """

    def __init__(
        self, remover: Remover, config: RetentionConfig, *, every_s: float = _EVERY_S
    ) -> None:
        self._remover = remover
        self._config = config
        self._every_s = every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="purge", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End; what is being removed just now goes on to its end unless the process ends first."""
        self._ended.set()
        self._thread.join(_CLOSING_S)

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                removal = self._remover.purge(self._config)
                if removal.removed:
                    count = sum(each.count for each in removal.removed)
                    logger.info("purge: removed %d rows, lines and files that were too old", count)
            except Exception as error:
                # At the end the gallery is closed under it. Before that nothing may end it for
                # months, not even a bug.
                if not self._ended.is_set():
                    is_known = isinstance(error, PipelineError)
                    logger.warning("purge: %s", error, exc_info=not is_known)
            self._ended.wait(self._every_s)
