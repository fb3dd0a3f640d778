"""A simulated machine: cameras that replace their frames, and one worker of known speed."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from pydantic import ValidationError

from pipeline.live.overload import Level, OverloadConfig, OverloadPolicy, Step
from pipeline.values import Frame

IMAGE = np.zeros((2, 2, 3), np.uint8)


def frame(stream="gate", index=0, epoch=0, captured_s=0.0):
    return Frame(IMAGE, stream, index, index / 25, epoch, captured_s)


class Diary:
    def __init__(self):
        self.levels = []
        self.steps = []

    def reached(self, level, before, reason):
        self.levels.append((level, before, reason))

    def stepped(self, step):
        self.steps.append(step)


class Machine:
    """Cameras of given rates, and a worker that takes the newest frame of each at a time."""

    def __init__(self, rates, **changes):
        self.now_s = 1000.0
        self.rates = dict(rates)
        self.diary = Diary()
        self.policy = OverloadPolicy(
            OverloadConfig(**changes), self.diary, clock=lambda: self.now_s
        )
        self.begun_s = dict.fromkeys(rates, self.now_s)
        self.taken = dict.fromkeys(rates, -1)
        self.processed = Counter()
        self.gaps = []
        self.ages = []
        self.steps_at = []

    def run(self, seconds, capacity_fps):
        """Work for so long at so many frames a second."""
        self.processed.clear()
        self.ages, self.gaps = [], []
        until = self.now_s + seconds
        while self.now_s < until:
            frames = self.policy.choose(list(self._newest()))
            self.now_s += len(frames) / capacity_fps + 0.002
            for f in frames:
                self.ages.append(self.now_s - f.captured_s)
                self.processed[f.stream] += 1
                self.policy.processed(f, self.ages[-1])
            self.steps_at += [self.now_s] * (len(self.diary.steps) - len(self.steps_at))

    def _newest(self):
        for name, rate in self.rates.items():
            index = int((self.now_s - self.begun_s[name]) * rate)
            if index > self.taken[name]:
                self.taken[name] = index
                yield frame(name, index, captured_s=self.begun_s[name] + index / rate)


def test_a_machine_that_keeps_up_changes_nothing():
    machine = Machine({"gate": 25, "yard": 10})
    machine.run(120, capacity_fps=60)
    assert machine.policy.level is Level.CALM
    assert machine.diary.steps == machine.diary.levels == []
    assert machine.processed["gate"] == pytest.approx(25 * 120, rel=0.01)


def test_identity_lags_before_any_camera_loses_a_frame_and_is_the_last_to_be_whole_again():
    machine = Machine({"gate": 25, "yard": 25})
    machine.run(60, capacity_fps=5)
    machine.run(300, capacity_fps=200)
    levels = [level for level, _, _ in machine.diary.levels]
    assert levels[:2] == [Level.IDENTITY_LAGS, Level.FEWER_FRAMES]
    assert levels[-2:] == [Level.IDENTITY_LAGS, Level.CALM]
    for (level, _, _), (_, before, _) in itertools.pairwise(machine.diary.levels):
        assert level is before


def test_ten_times_too_much_for_minutes_is_looked_at_evenly_and_comes_back_when_it_is_calm():
    rates = {f"camera {n}": 25 for n in range(4)}
    machine = Machine(rates)
    machine.run(30, capacity_fps=10)
    machine.run(300, capacity_fps=10)
    assert machine.policy.level in (Level.FEWER_FRAMES, Level.FRAMES_DROP)
    assert min(machine.policy.strides.values()) >= 6
    assert np.percentile(machine.ages, 99) <= 0.5
    counts = machine.processed.values()
    assert max(counts) <= 1.2 * min(counts)
    machine.run(180, capacity_fps=200)
    assert machine.policy.level is Level.CALM
    assert set(machine.policy.strides.values()) == {1}
    machine.run(10, capacity_fps=200)
    assert machine.processed["camera 0"] == pytest.approx(250, rel=0.02)


def test_every_step_is_told_with_its_reason_and_they_chain():
    machine = Machine({"gate": 25, "yard": 25})
    machine.run(60, capacity_fps=5)
    machine.run(300, capacity_fps=200)
    stride = {"gate": 1, "yard": 1}
    for step in machine.diary.steps:
        assert isinstance(step, Step)
        assert step.from_stride == stride[step.camera] != step.to_stride
        assert "s old" in step.reason
        stride[step.camera] = step.to_stride
    assert stride == {"gate": 1, "yard": 1} == dict(machine.policy.strides)


def test_the_camera_with_the_most_frames_gives_way_first():
    machine = Machine({"fast": 30, "slow": 5})
    machine.run(30, capacity_fps=12)
    machine.run(120, capacity_fps=12)
    strides = machine.policy.strides
    assert strides["slow"] == 1
    assert strides["fast"] >= 3
    assert machine.processed["slow"] / 120 == pytest.approx(5, rel=0.1)


def test_under_more_load_both_are_looked_at_about_equally_often():
    machine = Machine({"fast": 30, "slow": 5}, min_fps=1.0)
    machine.run(60, capacity_fps=4)
    machine.run(120, capacity_fps=4)
    fast, slow = machine.processed["fast"], machine.processed["slow"]
    assert 0.5 <= fast / slow <= 2.0


@pytest.mark.parametrize("capacity_fps", [5, 9, 12, 15, 20, 25, 33, 45])
def test_it_never_goes_up_and_down_more_than_twice_a_minute(capacity_fps):
    machine = Machine({"a": 25, "b": 25, "c": 12, "d": 5})
    machine.run(60, capacity_fps)
    machine.run(600, capacity_fps)
    began_s = machine.now_s - 600
    moves = [
        (at, np.sign(step.to_stride - step.from_stride))
        for at, step in zip(machine.steps_at, machine.diary.steps, strict=True)
        if at >= began_s
    ]
    turns = [at for (_, was), (at, now) in itertools.pairwise(moves) if was != now]
    for begin in np.arange(began_s, machine.now_s, 10):
        assert sum(begin <= at < begin + 60 for at in turns) <= 2, turns


def test_a_load_just_above_what_the_machine_can_do_settles():
    machine = Machine({"gate": 25})
    machine.run(120, capacity_fps=20)
    settled = len(machine.diary.steps)
    machine.run(300, capacity_fps=20)
    assert len(machine.diary.steps) == settled


def test_no_camera_is_asked_for_less_than_its_least_and_then_frames_drop():
    machine = Machine({"gate": 20, "yard": 20}, min_fps=4.0)
    machine.run(60, capacity_fps=3)
    assert machine.policy.level is Level.FRAMES_DROP
    assert set(machine.policy.strides.values()) == {5}


def test_what_a_stride_admits_is_evenly_spaced_whatever_dropped_before():
    policy = OverloadPolicy(OverloadConfig(), Diary(), clock=lambda: 0.0)
    policy.admits(frame(index=0))
    policy._cameras["gate"].stride = 3
    indices = [1, 2, 3, 4, 7, 8, 9, 10, 13]
    assert [i for i in indices if policy.admits(frame(index=i))] == [3, 7, 10, 13]


def test_the_first_frame_of_an_epoch_is_looked_at():
    policy = OverloadPolicy(OverloadConfig(), Diary(), clock=lambda: 0.0)
    policy.admits(frame(index=0))
    policy._cameras["gate"].stride = 10
    assert not policy.admits(frame(index=1))
    assert policy.admits(frame(index=2, epoch=1))


def test_a_camera_that_was_forgotten_or_counts_from_0_again_begins_anew():
    policy = OverloadPolicy(OverloadConfig(), Diary(), clock=lambda: 0.0)
    policy.admits(frame(index=50))
    policy._cameras["gate"].stride = 10
    assert policy.admits(frame(index=0))
    assert policy.strides == {"gate": 1}
    policy.forget("gate")
    policy.forget("gate")
    assert policy.strides == {}


def test_identity_rests_only_while_it_lags():
    machine = Machine({"gate": 25}, identity_rest=3.0)
    assert machine.policy.identity_rest_s(0.2) == 0.0
    machine.run(20, capacity_fps=2)
    assert machine.policy.identity_rest_s(0.2) == pytest.approx(0.6)
    assert machine.policy.identity_rest_s(60.0) == 10.0


def test_a_dead_camera_costs_the_others_nothing():
    machine = Machine({"gate": 10, "dead": 25})
    machine.run(30, capacity_fps=60)
    machine.rates["dead"] = 0
    machine.run(60, capacity_fps=15)
    assert machine.policy.level is Level.CALM
    assert machine.policy.strides["gate"] == 1


@pytest.mark.parametrize("wrong", [{"calm_s": 0.5}, {"calm_missed": 0.5}])
def test_calm_must_be_less_than_late(wrong):
    with pytest.raises(ValidationError, match="must be less than"):
        OverloadConfig(**wrong)


@pytest.mark.parametrize("capacity_fps", [3, 5, 8, 12])
def test_frames_come_out_fresh_however_slow_the_machine_and_many_the_cameras(capacity_fps):
    machine = Machine({f"camera {n}": 25 for n in range(8)})
    machine.run(20, capacity_fps)
    machine.run(60, capacity_fps)
    assert np.percentile(machine.ages, 99) <= 0.5 + 1 / 25
    counts = machine.processed.values()
    assert max(counts) <= 1.5 * min(counts) + 2
    assert sum(counts) >= 0.8 * 60 * capacity_fps


def test_when_not_all_that_are_due_have_room_who_waited_longest_goes_first():
    policy = OverloadPolicy(OverloadConfig(), Diary(), clock=lambda: 0.0)
    for name in ("gate", "yard", "door"):
        policy.admits(frame(name, 0))
    policy._capacity_fps = 7.0  # room for two
    chosen = policy.choose([frame("gate", 3), frame("yard", 9), frame("door", 5)])
    assert [f.stream for f in chosen] == ["yard", "door"]
    chosen = policy.choose([frame("gate", 4), frame("yard", 10), frame("door", 6)])
    assert "gate" in [f.stream for f in chosen]


def test_identity_that_lags_by_itself_is_told_of_and_neither_rests_nor_costs_a_frame():
    machine = Machine({"gate": 25})
    machine.run(10, capacity_fps=60)
    machine.policy.tracklets_wait(12.0)
    machine.run(5, capacity_fps=60)
    assert machine.policy.level is Level.IDENTITY_LAGS
    assert machine.policy.identity_rest_s(1.0) == 0.0
    machine.policy.tracklets_wait(7.0)
    machine.run(30, capacity_fps=60)
    assert machine.policy.level is Level.IDENTITY_LAGS
    machine.policy.tracklets_wait(1.0)
    machine.run(5, capacity_fps=60)
    assert machine.policy.level is Level.CALM
    assert machine.diary.steps == []
    assert [reason for _, _, reason in machine.diary.levels] == [
        "tracklets wait 12.0 s",
        "tracklets wait 1.0 s",
    ]


def test_it_is_calm_again_also_when_no_camera_could_give_way_or_the_one_that_did_is_gone():
    machine = Machine({"gate": 2})
    machine.run(60, capacity_fps=0.8)
    assert machine.policy.level is Level.FRAMES_DROP
    machine.run(60, capacity_fps=100)
    assert machine.policy.level is Level.CALM
    machine = Machine({"gate": 2, "yard": 25})
    machine.run(60, capacity_fps=3)
    assert machine.policy.strides["yard"] > 1
    del machine.rates["yard"]
    machine.policy.forget("yard")
    machine.run(120, capacity_fps=100)
    assert machine.policy.level is Level.CALM
