"""What gives way when cameras send more than the machine can take.

In this order, and back in the opposite one:

1. identity lags: it rests after each piece of work, so that perception has the cores, and its queue
   (`pipeline.transport.superseding`) lets new windows take the room of old ones;
2. cameras are looked at less often: every n-th frame, the camera with the most frames first, until
   what is left fits what the machine was seen to do;
3. frames drop unevenly: the newest wins, which each camera does by itself. What goes through
   perception together is held so small that it is not late when it comes out.

    policy = OverloadPolicy(OverloadConfig(), observer)
    frames = policy.choose(batch.frames)                                   # before detection
    policy.processed(frame, age_s=time.time() - frame.captured_s)          # after perception
    policy.tracklets_wait(queue.age_s)                                     # now and then
    time.sleep(policy.identity_rest_s(worked_s))                           # after identity's work
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from pydantic import Field, model_validator

from gait.strict import StrictModel
from pipeline.live.overload_camera import CameraLoad
from pipeline.values import Frame

_BATCH_SHARE = 0.75  # of the time after which frames are late, for one batch
_FIT = 0.9  # share of the measured throughput that strides are chosen for
_MOST_GROWTH = 1.25  # how much more a step back asks for
_LATE_SHARE = 0.1  # this share of late frames makes a period late
_HOLD_GROWTH = 2.0
_LONGEST_REST = 5  # periods
_FORGIVEN_HOLDS = 4.0  # after so many calm holds in a row the next overload is a new one


class Level(StrEnum):
    """How far the machine has gone to keep up; each level includes those before it."""

    CALM = "calm"
    IDENTITY_LAGS = "identity lags"
    FEWER_FRAMES = "fewer frames"
    FRAMES_DROP = "frames drop"


@dataclass(frozen=True, slots=True)
class Step:
    """One camera is looked at less often, or more often again.

    Attributes:
        camera: Its name.
        from_stride: Of how many frames one was taken.
        to_stride: Of how many frames one is taken from now on.
        reason: Why, in words.
    """

    camera: str
    from_stride: int
    to_stride: int
    reason: str


class OverloadObserver(Protocol):
    """Who is told what gives way. Called in the thread that asks the policy; must be quick."""

    def reached(self, level: Level, before: Level, reason: str) -> None:
        """The machine went to another level."""
        ...

    def stepped(self, step: Step) -> None:
        """A camera's stride changed."""
        ...


class OverloadConfig(StrictModel):
    """When something gives way, and when it comes back.

    Attributes:
        late_s: Age of frames that have been through perception at which the machine counts as
            overloaded, when a tenth of a period's frames reach it. Higher looks at more frames, at
            the price of a lag.
        calm_s: Age below which it may count as calm, likewise. The nearer to `late_s`, the sooner
            frames come back, at the price of more steps up and down.
        most_missed: Share of the wanted frames that may drop, 0..1; with more the machine counts
            as overloaded too. Higher looks at more frames, at the price of uneven gaps.
        calm_missed: Share below which it may count as calm.
        period_s: How often it is judged. Lower reacts sooner, at the price of judging by few
            frames.
        hold_s: How long it must have been calm before something comes back. Doubled, up to
            `longest_hold_s`, when the overload comes again right after. Higher is steadier, at the
            price of a slower recovery.
        longest_hold_s: Bound of that.
        min_fps: No camera is asked for fewer frames a second than this. Higher follows people
            better, at the price of frames that drop unevenly.
        identity_late_s: Time that tracklets have waited at which identity counts as lagging, which
            is told and costs no camera anything; half of it ends that. Higher tells less often.
        identity_rest: How long identity rests when frames are late, as a multiple of the time it
            worked. Higher leaves more of the machine to perception, at the price of later
            sightings.
    """

    late_s: float = Field(default=0.4, gt=0)
    calm_s: float = Field(default=0.25, gt=0)
    most_missed: float = Field(default=0.4, gt=0, le=1)
    calm_missed: float = Field(default=0.15, ge=0, lt=1)
    period_s: float = Field(default=2.0, gt=0)
    hold_s: float = Field(default=6.0, gt=0)
    longest_hold_s: float = Field(default=60.0, gt=0)
    min_fps: float = Field(default=2.0, gt=0)
    identity_late_s: float = Field(default=10.0, gt=0)
    identity_rest: float = Field(default=3.0, ge=0)

    @model_validator(mode="after")
    def _calm_is_less(self) -> OverloadConfig:
        for calm, late in (("calm_s", "late_s"), ("calm_missed", "most_missed")):
            if getattr(self, calm) >= getattr(self, late):
                raise ValueError(
                    f"{calm} must be less than {late}: "
                    f"got {getattr(self, calm)} and {getattr(self, late)}"
                )
        return self


class OverloadPolicy:
    """Decides what gives way, from the age of frames that come out of perception.

    Judged once a period, by whatever call comes first after its end. To be called from any thread.

    Args:
        config: When something gives way.
        observer: Told of every change.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        config: OverloadConfig,
        observer: OverloadObserver,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._observer = observer
        self._clock = clock
        self._lock = threading.Lock()
        self._cameras: dict[str, CameraLoad] = {}
        self._level = Level.CALM
        self._ages_s: list[float] = []
        self._began_s = clock()
        self._hold_s = config.hold_s
        self._calm_since_s: float | None = None
        self._returned_s: float | None = None  # when something last came back
        self._queue_age_s = 0.0
        self._rests = False
        self._capacity_fps: float | None = None  # what the machine can do, known when it is late
        self._news: list[Step | tuple[Level, Level, str]] = []

    @property
    def level(self) -> Level:
        """How far the machine has gone."""
        with self._lock:
            return self._level

    @property
    def strides(self) -> Mapping[str, int]:
        """Of how many frames one is taken, a camera each."""
        with self._lock:
            return {name: camera.stride for name, camera in self._cameras.items()}

    def choose(self, frames: Sequence[Frame]) -> list[Frame]:
        """Return which of the newest frames shall be looked at now, and note that they came.

        Strides count the frames a camera made, dropped ones included, so that what is looked at
        is evenly spaced. The first frame of an epoch is always due. When not all that are due can
        be looked at in time, the camera that has waited longest goes first.
        """
        with self._lock:
            due = {place: self._camera(f).due(f) for place, f in enumerate(frames)}
            wanted = sorted((p for p in due if due[p]), key=lambda p: -due[p])
            chosen = [frames[place] for place in sorted(wanted[: self._room(len(frames))])]
            for frame in chosen:
                self._cameras[frame.stream].admit(frame)
        self._judge_when_due()
        return chosen

    def admits(self, frame: Frame) -> bool:
        """Return whether a frame shall be looked at, by its camera's stride alone."""
        return bool(self.choose([frame]))

    def processed(self, frame: Frame, age_s: float) -> None:
        """Note that a frame has been through perception.

        Args:
            frame: The frame.
            age_s: Seconds since it was captured.
        """
        with self._lock:
            self._ages_s.append(age_s)
        self._judge_when_due()

    def tracklets_wait(self, age_s: float) -> None:
        """Note how long the oldest tracklet has waited for identity (`SupersedingQueue.age_s`)."""
        with self._lock:
            self._queue_age_s = age_s
        self._judge_when_due()

    def identity_rest_s(self, worked_s: float) -> float:
        """Return how long identity shall rest after having worked for so long, in seconds.

        At most five periods, since it may be calm again by then.
        """
        with self._lock:
            if not self._rests:
                return 0.0
            longest_s = _LONGEST_REST * self._config.period_s
            return min(worked_s * self._config.identity_rest, longest_s)

    def forget(self, camera: str) -> None:
        """Forget a camera that was removed, known or not."""
        with self._lock:
            self._cameras.pop(camera, None)

    def _camera(self, frame: Frame) -> CameraLoad:
        camera = self._cameras.get(frame.stream)
        if camera is None or frame.index < camera.last_index:  # the name is in use again
            # an epoch that no frame has makes this one the first of its own
            camera = CameraLoad(frame.index, frame.index, -1, frame.index)
            self._cameras[frame.stream] = camera
        return camera

    def _room(self, wanted: int) -> int:
        """Return how many frames may go through together."""
        if self._capacity_fps is None:
            return wanted
        return max(1, int(_BATCH_SHARE * self._config.late_s * self._capacity_fps))

    def _judge_when_due(self) -> None:
        with self._lock:
            now_s = self._clock()
            elapsed_s = now_s - self._began_s
            if elapsed_s < self._config.period_s:
                return
            ages_s, self._ages_s, self._began_s = sorted(self._ages_s), [], now_s
            missed = self._missed_share()
            for camera in self._cameras.values():
                camera.end_period(elapsed_s)
            if ages_s:
                oldest_s = ages_s[int((1 - _LATE_SHARE) * (len(ages_s) - 1))]
                self._judge(now_s, oldest_s, missed, len(ages_s) / elapsed_s)
            self._judge_identity()
            news, self._news = self._news, []
        for item in news:
            if isinstance(item, Step):
                self._observer.stepped(item)
            else:
                self._observer.reached(*item)

    def _missed_share(self) -> float:
        missed = sum(camera.missed for camera in self._cameras.values())
        admitted = sum(camera.admitted for camera in self._cameras.values())
        return missed / (missed + admitted) if admitted else 0.0

    def _judge(self, now_s: float, oldest_s: float, missed: float, processed_fps: float) -> None:
        config = self._config
        if self._capacity_fps is not None:
            self._capacity_fps = max(self._capacity_fps, processed_fps)
        reason = f"frames are {oldest_s:.2f} s old, {100 * missed:.0f} % drop"
        if oldest_s >= config.late_s or missed >= config.most_missed:
            self._calm_since_s, self._capacity_fps = None, processed_fps
            self._wait_longer(now_s)
            self._give_way(reason, processed_fps)
        elif oldest_s > config.calm_s or missed > config.calm_missed:
            self._calm_since_s = None
        else:
            self._calm_since_s = now_s if self._calm_since_s is None else self._calm_since_s
            if now_s - self._calm_since_s >= self._hold_s:
                self._calm_since_s = now_s
                self._come_back(now_s, reason)
            self._forgive(now_s)

    @property
    def _is_queue_short(self) -> bool:
        return self._queue_age_s < self._config.identity_late_s / 2

    def _judge_identity(self) -> None:
        """Tell when identity lags by itself: frames are in time, but there are many people."""
        reason = f"tracklets wait {self._queue_age_s:.1f} s"
        if self._level is Level.CALM and self._queue_age_s >= self._config.identity_late_s:
            self._reach(Level.IDENTITY_LAGS, reason)
        if self._level is Level.IDENTITY_LAGS and not self._rests and self._is_queue_short:
            self._reach(Level.CALM, reason)

    def _wait_longer(self, now_s: float) -> None:
        """Hold longer next time if what came back last is why it is late again."""
        if self._returned_s is not None and now_s - self._returned_s <= 2 * self._hold_s:
            self._hold_s = min(self._hold_s * _HOLD_GROWTH, self._config.longest_hold_s)
        self._returned_s = None

    def _forgive(self, now_s: float) -> None:
        is_whole = self._level is Level.CALM
        since_s = self._returned_s
        if is_whole and since_s is not None and now_s - since_s > _FORGIVEN_HOLDS * self._hold_s:
            self._hold_s, self._returned_s = self._config.hold_s, None

    def _give_way(self, reason: str, processed_fps: float) -> None:
        if not self._rests:
            self._rests = True
            self._reach(Level.IDENTITY_LAGS, reason)
            return
        has_stepped = False
        room_fps = processed_fps * _FIT
        while not has_stepped or self._wanted_fps() > room_fps:
            if not self._lengthen_a_stride(f"{reason}, room for {room_fps:.1f} frames/s"):
                break
            has_stepped = True
        if has_stepped:
            self._reach(Level.FEWER_FRAMES, reason)
        else:
            self._reach(Level.FRAMES_DROP, reason)

    def _come_back(self, now_s: float, reason: str) -> None:
        """Undo one step, or as many small ones as ask for a quarter more."""
        if not self._rests:
            return
        self._returned_s = now_s
        if all(camera.stride == 1 for camera in self._cameras.values()):
            self._rests, self._capacity_fps = False, None
            self._reach(Level.CALM if self._is_queue_short else Level.IDENTITY_LAGS, reason)
            return
        room_fps = self._wanted_fps() * _MOST_GROWTH
        has_stepped = False
        while self._shorten_a_stride(reason, None if not has_stepped else room_fps):
            has_stepped = True
        is_full = all(camera.stride == 1 for camera in self._cameras.values())
        self._reach(Level.IDENTITY_LAGS if is_full else Level.FEWER_FRAMES, reason)

    def _wanted_fps(self) -> float:
        return sum(camera.wanted_fps() for camera in self._cameras.values())

    def _lengthen_a_stride(self, reason: str) -> bool:
        """Take fewer frames of the camera of which most are taken; False when none has more."""
        least = self._config.min_fps
        able = [
            (camera.wanted_fps(), name)
            for name, camera in self._cameras.items()
            if camera.wanted_fps(camera.stride + 1) >= least
        ]
        if not able:
            return False
        name = max(able)[1]
        self._set_stride(name, self._cameras[name].stride + 1, reason)
        return True

    def _shorten_a_stride(self, reason: str, room_fps: float | None) -> bool:
        """Take more frames of the camera of which fewest would be; False if there is no room."""
        able = [
            (camera.wanted_fps(camera.stride - 1), name)
            for name, camera in self._cameras.items()
            if camera.stride > 1
        ]
        if not able:
            return False
        more_fps, name = min(able)
        camera = self._cameras[name]
        if room_fps is not None and self._wanted_fps() - camera.wanted_fps() + more_fps > room_fps:
            return False
        self._set_stride(name, camera.stride - 1, reason)
        return True

    def _set_stride(self, name: str, stride: int, reason: str) -> None:
        camera = self._cameras[name]
        first = next((s for s in self._news if isinstance(s, Step) and s.camera == name), None)
        if first is None:
            self._news.append(Step(name, camera.stride, stride, reason))
        else:  # several steps at once are one
            place = self._news.index(first)
            self._news[place] = Step(name, first.from_stride, stride, reason)
        camera.stride = stride

    def _reach(self, level: Level, reason: str) -> None:
        if level is not self._level:
            self._news.append((level, self._level, reason))
            self._level = level
