from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from gait.synthetic.curves import CURVES, NUM_COEFFICIENTS
from gait.synthetic.motion import Arms, ArmUse, Variation, walk
from gait.synthetic.paths import Pace, Path2D
from gait.synthetic.skeleton import INDEX, PARENTS, Motion
from gait.synthetic.style import Style

LEG_M = 0.88
NO_CHANGE = Variation(
    speed=0, fatigue=0, shape=0, posture_deg=0, cadence_drift=0, sway_deg=0, look_deg=0
)
LEGS = [INDEX[f"{joint}_{side}"] for side in ("left", "right") for joint in ("hip", "knee")]

# Joints of an average body in its rest pose, metres. It stands with the knees bent by 5 degrees and
# the thighs 2.5 degrees forward of what gait laboratories call 0.
PLACES = {
    "pelvis": (0.0, 0.0, 0.88),
    "hip": (0.0, 0.110, 0.88),
    "knee": (0.029, 0.100, 0.500),
    "ankle": (-0.003, 0.094, 0.078),
    "toe": (0.140, 0.105, 0.027),
}
SOLE = {"heel": ("ankle", (-0.045, 0.0, -0.078)), "ball": ("ankle", (0.14, 0.01, -0.078))}
REST_HIP, REST_KNEE, REST_ANKLE = 2.5, 5.0, 2.5


def steadily(
    style: Style | None = None, *, seconds: float = 8.0, fps: float = 100.0, seed: int = 0
) -> Motion:
    times = np.arange(int(seconds * fps)) / fps
    rng = np.random.default_rng(seed)
    return walk(style or Style(), leg_length_m=LEG_M, time_s=times, rng=rng, variation=NO_CHANGE)


def sole(motion: Motion, side: str) -> dict[str, NDArray[np.float64]]:
    """Places (T, 3) of heel and ball in the world, height still from the pelvis."""
    mirror = np.array([1.0, 1.0 if side == "left" else -1.0, 1.0])
    turn = Rotation.from_euler("z", motion.heading[:, None]).as_matrix() @ motion.rotations[:, 0]
    place = np.concatenate([motion.position, np.zeros((len(turn), 1))], axis=1)
    above = np.array(PLACES["pelvis"])
    found: dict[str, NDArray[np.float64]] = {}
    for joint in ("hip", "knee", "ankle", "toe"):
        here = np.array(PLACES[joint]) * mirror
        place = place + turn @ (here - above)
        turn = turn @ motion.rotations[:, INDEX[f"{joint}_{side}"]]
        found |= {
            name: place + turn @ np.array(at) for name, (on, at) in SOLE.items() if on == joint
        }
        above = here
    return found


def soles(motion: Motion) -> NDArray[np.float64]:
    """Places (T, 4, 3) of left heel and ball, right heel and ball, the lowest of them at 0."""
    points = np.stack(
        [p for side in ("left", "right") for p in sole(motion, side).values()], axis=1
    )
    points[..., 2] -= points[..., 2].min(axis=1, keepdims=True)
    return points


def bend(motion: Motion, joint: str) -> NDArray[np.float64]:
    """How far a joint is turned about y, degrees, shape (T,)."""
    return Rotation.from_matrix(motion.rotations[:, INDEX[joint]]).as_euler("XYZ", degrees=True)[
        :, 1
    ]


def contacts(motion: Motion, side: str) -> NDArray[np.int64]:
    """Frames at which a heel comes down."""
    down = soles(motion)[:, 0 if side == "left" else 2, 2] < 0.001
    starts = np.flatnonzero(down[1:] & ~down[:-1]) + 1
    ahead = sole(motion, side)["heel"][:, 0] - motion.position[:, 0]
    return starts[ahead[starts] > 0.15]


def one_cycle(motion: Motion, joint: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Percent of the cycle from the heel's contact, and the joint's bend there."""
    first, last = contacts(motion, joint.split("_")[1])[1:3]
    return np.linspace(0, 100, last - first), bend(motion, joint)[first:last]


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_mean_knee_bends_as_published(side: str) -> None:
    percent, turned = one_cycle(steadily(fps=500), f"knee_{side}")
    knee = turned + REST_KNEE
    assert 55 <= knee.max() <= 65
    assert 68 <= percent[knee.argmax()] <= 76
    assert 2 <= knee[0] <= 10
    assert 14 <= knee[(percent > 8) & (percent < 20)].max() <= 22
    assert knee[(percent > 33) & (percent < 47)].min() < 9


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_mean_hip_swings_as_published(side: str) -> None:
    percent, turned = one_cycle(steadily(fps=500), f"hip_{side}")
    hip = 10 + REST_HIP - turned  # published against a pelvis that is tilted by 10 degrees
    assert 35 <= np.ptp(hip) <= 45
    assert 27 <= hip[0] <= 35
    assert 45 <= percent[hip.argmin()] <= 57


def test_the_mean_ankle_bends_as_published() -> None:
    percent, turned = one_cycle(steadily(fps=500), "ankle_left")
    ankle = REST_ANKLE - turned
    assert -9 <= ankle[(percent > 3) & (percent < 12)].min() <= -3
    assert 8 <= ankle[(percent > 25) & (percent < 55)].max() <= 15
    assert -22 <= ankle.min() <= -11
    assert 57 <= percent[ankle.argmin()] <= 70


@pytest.mark.parametrize("seed", range(6))
def test_the_standing_foot_hardly_slides(seed: int) -> None:
    style = Style() if seed == 0 else Style.sample(np.random.default_rng(seed))
    points = soles(steadily(style, seconds=6))
    for point in range(4):
        down = points[:, point, 2] < 0.002
        starts = np.flatnonzero(np.diff(down.astype(int)) == 1) + 1
        ends = np.flatnonzero(np.diff(down.astype(int)) == -1) + 1
        slid = [
            np.linalg.norm(points[end - 1, point, :2] - points[start, point, :2])
            for start, end in zip(starts, ends[ends > starts[0]], strict=False)
        ]
        assert len(slid) >= 4
        assert max(slid) < 0.05


def test_the_foot_is_flat_while_it_stands_alone() -> None:
    motion = steadily(fps=500)
    first, last = contacts(motion, "left")[1:3]
    alone = np.arange(first + int(0.15 * (last - first)), first + int(0.3 * (last - first)))
    np.testing.assert_allclose(soles(motion)[alone, :2, 2], 0, atol=0.008)


def test_the_swinging_foot_clears_the_floor_whoever_walks() -> None:
    clear = []
    for seed in range(30):
        style = Style.sample(np.random.default_rng(seed))
        points = soles(steadily(style, seconds=4, seed=seed))
        speed = np.gradient(points[..., 0], 0.01, axis=0)
        swinging = speed > 1.5 * style.speed_m_s(LEG_M)
        clear.append(np.quantile(points[..., 2][swinging], 0.02))
    assert np.median(clear) > 0.008
    assert np.mean(np.array(clear) > 0.002) > 0.8


def test_left_and_right_are_half_a_cycle_apart() -> None:
    style = Style()
    motion = steadily(style, fps=240)
    half = round(240 * 60 / style.cadence)
    left, right = motion.rotations[:, INDEX["knee_left"]], motion.rotations[:, INDEX["knee_right"]]
    np.testing.assert_allclose(left[half:], right[:-half], atol=0.01)


def test_a_steady_walk_repeats_itself() -> None:
    style = replace(Style(), cadence=120.0)
    motion = steadily(style, fps=100)
    np.testing.assert_allclose(motion.rotations[100:], motion.rotations[:-100], atol=1e-5)


def test_arms_swing_against_the_legs() -> None:
    motion = steadily()
    for arm, leg in (("left", "right"), ("right", "left")):
        together = np.corrcoef(bend(motion, f"shoulder_{arm}"), bend(motion, f"hip_{leg}"))[0, 1]
        assert together > 0.7


@pytest.mark.parametrize("seed", range(5))
def test_speed_is_step_length_times_cadence(seed: int) -> None:
    style = Style.sample(np.random.default_rng(seed))
    motion = steadily(style, seconds=20)
    covered = np.linalg.norm(motion.position[-1] - motion.position[0]) / motion.time_s[-1]
    assert covered == pytest.approx(style.speed_m_s(LEG_M), rel=0.03)


@pytest.mark.parametrize("seed", range(8))
def test_knees_and_elbows_never_bend_the_wrong_way(seed: int) -> None:
    style = Style.sample(np.random.default_rng(seed))
    motion = walk(
        style, leg_length_m=LEG_M, time_s=np.arange(200) / 25, rng=np.random.default_rng(seed)
    )
    for side in ("left", "right"):
        assert bend(motion, f"knee_{side}").min() >= -REST_KNEE
        assert bend(motion, f"elbow_{side}").max() <= 0


def test_somebody_who_stands_does_not_move_the_legs() -> None:
    path = Path2D.straight().paced(Pace.stop_and_go(go_s=3, stop_s=4))
    times = np.arange(4.1, 8.0, 0.04)
    motion = walk(
        Style(), leg_length_m=LEG_M, time_s=times, rng=np.random.default_rng(0), path=path
    )
    still = motion.rotations[:, LEGS]
    np.testing.assert_array_equal(still, np.broadcast_to(still[:1], still.shape))
    assert np.ptp(motion.position, axis=0).max() < 0.02
    assert np.ptp(motion.rotations[:, INDEX["head"]], axis=0).max() > 0


def test_somebody_who_stops_walks_on() -> None:
    path = Path2D.straight().paced(Pace.stop_and_go(go_s=3, stop_s=2))
    times = np.arange(0, 12, 0.04)
    motion = walk(
        Style(), leg_length_m=LEG_M, time_s=times, rng=np.random.default_rng(0), path=path,
        variation=NO_CHANGE,
    )  # fmt: skip
    speed = np.gradient(motion.position[:, 0], times)
    usual = Style().speed_m_s(LEG_M)
    assert speed[times > 8].mean() == pytest.approx(usual, rel=0.05)
    assert abs(speed[(times > 4.2) & (times < 5.8)]).max() < 0.02
    assert speed.min() > -0.2, "nobody walks backwards, but a body may settle back"


def test_dropped_frames_leave_the_others_as_they_were() -> None:
    dense = np.arange(150) / 25
    kept = np.sort(np.random.default_rng(1).choice(150, 60, replace=False))
    path = Path2D.s_curve(length_m=5)
    style = Style.sample(np.random.default_rng(2))
    full = walk(style, leg_length_m=LEG_M, time_s=dense, rng=np.random.default_rng(3), path=path)
    some = walk(
        style, leg_length_m=LEG_M, time_s=dense[kept], rng=np.random.default_rng(3), path=path
    )
    np.testing.assert_array_equal(some.rotations, full.rotations[kept])
    np.testing.assert_array_equal(some.position, full.position[kept])
    np.testing.assert_array_equal(some.heading, full.heading[kept])


def test_the_same_seed_walks_the_same() -> None:
    one, other = (
        walk(
            Style.sample(np.random.default_rng(5)),
            leg_length_m=LEG_M,
            time_s=np.arange(50) / 25,
            rng=np.random.default_rng(6),
        )
        for _ in range(2)
    )
    np.testing.assert_array_equal(one.rotations, other.rotations)
    np.testing.assert_array_equal(one.position, other.position)


def test_what_the_motion_returns_is_a_motion() -> None:
    motion = walk(
        Style.sample(np.random.default_rng(5)),
        leg_length_m=LEG_M,
        time_s=np.arange(50) / 25,
        rng=np.random.default_rng(6),
        arms=Arms(ArmUse.HOLD_FRONT, ArmUse.RAISED),
    )
    assert motion.rotations.shape == (50, len(PARENTS), 3, 3)
    assert motion.rotations.dtype == motion.position.dtype == motion.heading.dtype == np.float32
    product = motion.rotations @ motion.rotations.swapaxes(-1, -2)
    np.testing.assert_allclose(product, np.broadcast_to(np.eye(3), product.shape), atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(motion.rotations), 1, atol=1e-5)


def features(style: Style, seed: int) -> NDArray[np.float64]:
    """Mean and spread of every joint's turn over a walk, and its speed."""
    motion = walk(
        style, leg_length_m=LEG_M, time_s=np.arange(250) / 25, rng=np.random.default_rng(seed)
    )
    turns = Rotation.from_matrix(motion.rotations.reshape(-1, 3, 3)).as_rotvec()
    turns = turns.reshape(len(motion.time_s), -1)
    return np.concatenate([turns.mean(axis=0), turns.std(axis=0), motion.position[-1:, 0] / 10])


def test_two_people_differ_more_than_one_does_from_day_to_day() -> None:
    rng = np.random.default_rng(0)
    people = [Style.sample(rng) for _ in range(30)]
    first = np.stack([features(style, 2 * n) for n, style in enumerate(people)])
    second = np.stack([features(style, 2 * n + 1) for n, style in enumerate(people)])
    spread = first.std(axis=0) + 1e-9
    apart = np.linalg.norm((first[:, None] - second[None]) / spread, axis=2)
    same = np.diag(apart)
    other = apart[~np.eye(len(people), dtype=bool)]
    assert np.median(other) > 1.5 * np.median(same)
    assert np.mean(apart.argmin(axis=1) == np.arange(len(people))) > 0.8
    assert same.min() > 0.5, "one person's two walks must not be the same"


def test_an_arm_that_carries_hardly_swings() -> None:
    times = np.arange(100) / 25
    swings = {}
    for use in ArmUse:
        motion = walk(
            Style(), leg_length_m=LEG_M, time_s=times, rng=np.random.default_rng(0),
            arms=Arms(right=use), variation=NO_CHANGE,
        )  # fmt: skip
        swings[use] = np.ptp(bend(motion, "shoulder_right"))
        assert np.ptp(bend(motion, "shoulder_left")) > 20
    assert swings.pop(ArmUse.SWING) > 20
    assert max(swings.values()) < 10


def test_the_way_follows_the_path_and_the_face_follows_the_way() -> None:
    path = Path2D.arc(radius_m=4, angle=np.pi, start=(1, 2), heading=0.5)
    motion = walk(
        Style(), leg_length_m=LEG_M, time_s=np.arange(150) / 25, rng=np.random.default_rng(0),
        path=path,
    )  # fmt: skip
    centre = np.array([1, 2]) + 4 * np.array([-np.sin(0.5), np.cos(0.5)])
    np.testing.assert_allclose(np.linalg.norm(motion.position - centre, axis=1), 4, atol=0.1)
    way = np.unwrap(np.arctan2(*np.gradient(motion.position, axis=0).T[::-1]))
    assert np.abs(np.median(way - motion.heading)) < 0.3


def test_somebody_slows_down_to_turn_round() -> None:
    path = Path2D.turn(before_m=3, angle=np.pi)
    motion = walk(
        Style(), leg_length_m=LEG_M, time_s=np.arange(200) / 25, rng=np.random.default_rng(0),
        path=path, variation=NO_CHANGE,
    )  # fmt: skip
    assert motion.heading[-1] == pytest.approx(np.pi, abs=0.05)
    speed = np.linalg.norm(np.diff(motion.position, axis=0), axis=1) * 25
    assert speed.min() < 0.6 * np.median(speed)
    assert motion.position[-1, 0] < 3


def test_waypoints_are_passed_through() -> None:
    waypoints = np.array([[0, 0], [3, 1], [5, 4], [4, 8]])
    path = Path2D.through(waypoints)
    dense = path.at(np.linspace(0, path.length_m, 2000))
    nearest = np.linalg.norm(waypoints[:, None] - dense[None], axis=2).min(axis=1)
    assert nearest.max() < 0.03


def test_thousands_of_frames_come_out_each_second() -> None:
    times, best = np.arange(500) / 25, np.inf
    steadily(seconds=1)
    for seed in range(3):
        start = time.process_time()
        walk(Style(), leg_length_m=LEG_M, time_s=times, rng=np.random.default_rng(seed))
        best = min(best, time.process_time() - start)
    assert len(times) / best > 5000


@pytest.mark.parametrize(
    ("times", "leg_m", "message"),
    [
        ([0.0, 0.2, 0.1], LEG_M, "sort them"),
        ([0.0, 0.1, 0.1], LEG_M, "rise"),
        ([-1.0, 0.0], LEG_M, "from the start of the walk"),
        ([1.7e9, 1.7e9 + 1], LEG_M, "subtract the time of the first frame"),
        ([], LEG_M, "time_s"),
        ([0.0, float("nan")], LEG_M, "finite"),
        ([0.0, 1.0], 0.0, "leg_length_m"),
        ([0.0, 1.0], float("nan"), "leg_length_m"),
    ],
)
def test_impossible_walks_are_refused(times: list[float], leg_m: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        walk(Style(), leg_length_m=leg_m, time_s=times, rng=np.random.default_rng(0))


def test_impossible_styles_paces_and_paths_are_refused() -> None:
    with pytest.raises(ValueError, match="cadence"):
        replace(Style(), cadence=0.0)
    with pytest.raises(ValueError, match="step_length"):
        replace(Style(), step_length=-1.0)
    with pytest.raises(ValueError, match="deviation_deg"):
        replace(Style(), deviation_deg=np.zeros((len(CURVES), NUM_COEFFICIENTS - 1)))
    with pytest.raises(ValueError, match="no running"):
        Pace(share=(3.0,))
    with pytest.raises(ValueError, match="rise"):
        Pace((1.0, 0.5), (1.0, 0.0))
    with pytest.raises(ValueError, match="two or more waypoints"):
        Path2D.through([[0, 0]])
    with pytest.raises(ValueError, match="same or not finite"):
        Path2D.through([[0, 0], [0, 0]])
    with pytest.raises(ValueError, match="positive length"):
        Path2D.straight(length_m=0)
    with pytest.raises(ValueError, match="radius"):
        Path2D.arc(radius_m=0, angle=1)
