"""The metrics and the health of a live run, kept up to date once a second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gait.closing import Closing
from pipeline.latency import Latencies
from pipeline.live.config import MetricsConfig
from pipeline.live.overload import OverloadPolicy
from pipeline.live.status import CameraStatus, LinkStatus
from pipeline.sinks.live import Outlet
from pipeline.sources.camera_state import CameraState, Change
from pipeline.sources.cameras import AnyCamera
from pipeline.transport.superseding import SupersedingQueue
from pipeline.web.control import HttpControl
from pipeline.web.health import Health
from pipeline.web.metrics import LiveMetrics, MetricsServer


class Instruments(Closing):
    """What Prometheus and whoever watches over the process are shown.

    Args:
        config: Where to serve it; None serves nothing.
        latencies: Of the stages.
        has_cameras: Whether the run is ready only when a camera is live.

    Raises:
        OutputError: The port cannot be used.
    """

    def __init__(
        self, config: MetricsConfig | None, latencies: Latencies, *, has_cameras: bool = True
    ) -> None:
        self.metrics = LiveMetrics(latencies)
        self.health = Health(has_cameras=has_cameras)
        self._cameras: frozenset[str] = frozenset()
        self.server = (
            MetricsServer(config.host, config.port, self.metrics.registry, self.health)
            if config is not None
            else None
        )

    def obey(self, control: HttpControl) -> None:
        """Answer commands from now on."""
        if self.server is not None:
            self.server.obey(control)

    def changed(self, change: Change) -> None:
        """A camera is in another state."""
        if change.state is not CameraState.CLOSED:
            self.metrics.camera_changed(change)
            self.health.camera_changed(change)

    def show_cameras(
        self,
        cameras: Mapping[str, AnyCamera],
        statuses: Sequence[CameraStatus],
        overload: OverloadPolicy,
    ) -> None:
        """Show what the cameras do now, and no more those that are gone."""
        strides = overload.strides
        for status in statuses:
            self.metrics.camera_counts(status.name, cameras[status.name].counts)
            self.metrics.camera_stride(status.name, strides.get(status.name, 1))
            if status.age_s is not None:
                self.metrics.camera_frame(status.name, status.age_s, status.people)
        for name in self._cameras - set(cameras):
            self.metrics.camera_removed(name)
            self.health.camera_removed(name)
        self._cameras = frozenset(cameras)
        self.metrics.overload(overload.level)

    def show_rest(
        self, queue: SupersedingQueue, sinks: Sequence[Outlet], link: LinkStatus | None
    ) -> None:
        """Show what waits."""
        self.health.turned()
        if link is not None:
            self.metrics.link(link)
        self.metrics.queue(queue.depth, queue.counts)
        for sink in sinks:
            self.metrics.sink(sink.name, sink.counts)

    def close(self) -> None:
        """Serve nothing any more."""
        if self.server is not None:
            self.server.close()
            self.server = None
