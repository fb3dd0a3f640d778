from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file
from scipy.spatial.transform import Rotation

from gait.errors import DataError
from gait.synthetic.bodies import BAKE, Bodies, Body, Region
from gait.synthetic.skeleton import INDEX, JOINTS, PARENTS, Motion


@pytest.fixture(scope="module")
def bodies() -> Bodies:
    return Bodies.load()


@pytest.fixture(scope="module")
def crowd(bodies: Bodies) -> list[Body]:
    rng = np.random.default_rng(11)
    return [bodies.sample(rng) for _ in range(300)]


def motion(
    turns_deg: dict[str, tuple[str, float]] | None = None,
    position: tuple[float, float] = (0, 0),
    heading: float = 0,
    frames: int = 1,
) -> Motion:
    """Return a motion of equal frames with joints turned about an axis by degrees."""
    rotations = np.tile(np.eye(3, dtype=np.float32), (frames, len(JOINTS), 1, 1))
    for joint, (axis, angle) in (turns_deg or {}).items():
        rotations[:, INDEX[joint]] = Rotation.from_euler(axis, angle, degrees=True).as_matrix()
    return Motion(
        np.arange(frames) / 25,
        rotations,
        np.tile(np.array(position, np.float32), (frames, 1)),
        np.full(frames, heading, np.float32),
    )


def posed_naively(body: Body, moves: Motion, frame: int) -> NDArray[np.float64]:
    """Skin a frame vertex by vertex with 4 x 4 matrices, as a textbook writes it."""
    matrices: list[NDArray[np.float64]] = []
    for joint, parent in enumerate(PARENTS):
        about = np.eye(4)
        about[:3, :3] = moves.rotations[frame, joint]
        about[:3, 3] = body.joints[joint] - about[:3, :3] @ body.joints[joint]
        if parent < 0:
            world = np.eye(4)
            world[:3, :3] = Rotation.from_euler("z", moves.heading[frame]).as_matrix()
            root = body.joints[0]
            world[:3, 3] = [*moves.position[frame], 0] - world[:3, :3] @ [root[0], root[1], 0]
            matrices.append(world @ about)
        else:
            matrices.append(matrices[parent] @ about)
    points = [
        sum(w * (m @ [*vertex, 1.0]) for w, m in zip(weights, matrices, strict=True) if w)
        for vertex, weights in zip(body.vertices, body.weights, strict=True)
    ]
    out = np.array(points)[:, :3]
    out[:, 2] -= out[:, 2].min()
    return out


def volume(body: Body) -> float:
    corners = body.vertices[body.faces].astype(np.float64)
    return float(np.sum(corners[:, 0] * np.cross(corners[:, 1], corners[:, 2])) / 6)


def test_bake_is_the_file_its_notice_names() -> None:
    notice = BAKE.with_name("NOTICE.md").read_text()
    stated = re.search(r"sha256: `([0-9a-f]{64})`", notice)
    assert stated
    assert hashlib.sha256(BAKE.read_bytes()).hexdigest() == stated[1]
    assert BAKE.stat().st_size < 10e6


def test_everybody_stands_on_the_floor_above_the_origin(crowd: list[Body]) -> None:
    for body in crowd:
        assert abs(body.vertices[:, 2].min()) < 1e-6
        assert np.abs(body.joints[0, :2]).max() < 0.01
        toes = body.joints[[INDEX["toe_left"], INDEX["toe_right"]]]
        ankles = body.joints[[INDEX["ankle_left"], INDEX["ankle_right"]]]
        assert np.all(toes[:, 0] > ankles[:, 0] + 0.05), "toes point forward"
        assert ankles[0, 1] > 0 > ankles[1, 1], "left is left"


def test_arms_hang_at_the_sides(crowd: list[Body]) -> None:
    for body in crowd:
        for side in ("left", "right"):
            shoulder = body.joints[INDEX[f"shoulder_{side}"]]
            wrist = body.joints[INDEX[f"wrist_{side}"]]
            down = shoulder[2] - wrist[2]
            assert np.hypot(*(wrist - shoulder)[:2]) < 0.5 * down
            assert abs(wrist[1]) > abs(shoulder[1]) - 0.03


def test_weights_are_shares_of_one(bodies: Bodies) -> None:
    assert bodies.weights.min() >= 0
    np.testing.assert_allclose(bodies.weights.sum(1), 1, atol=1e-6)
    assert np.all((bodies.weights > 0).sum(1) <= 4)
    assert np.all(bodies.weights.sum(0) > 0), "every joint moves something"


def test_surface_is_closed_and_faces_outward(bodies: Bodies, crowd: list[Body]) -> None:
    edges = np.concatenate([bodies.faces[:, [i, (i + 1) % 3]] for i in range(3)])
    there = {tuple(edge) for edge in edges.tolist()}
    assert len(there) == len(edges), "no edge twice in one direction"
    assert all((b, a) in there for a, b in there), "a face on both sides of every edge"
    assert 0.015 < min(map(volume, crowd)) < max(map(volume, crowd)) < 0.15


def test_every_region_of_a_person_is_where_it_is_worn(bodies: Bodies, crowd: list[Body]) -> None:
    body = crowd[0]
    height = body.vertices[body.faces].mean(1)[:, 2] / body.height_m
    worn = {region: height[body.parts == region] for region in Region}
    assert len(worn[Region.THING]) == 0
    assert worn[Region.SHOES].max() < 0.08
    assert worn[Region.TROUSERS].max() < worn[Region.TOP].max() < 0.9
    assert worn[Region.HAIR].min() > 0.85
    assert np.ptp(worn[Region.SKIN]) > 0.3, "hands and face"


def test_heights_are_those_of_men_and_women(bodies: Bodies) -> None:
    grown = (bodies.years >= 18) & (bodies.years < 65)
    for chosen, mean, spread in (
        (bodies.gender < 0.5, 1.75, 0.07),
        (bodies.gender > 0.5, 1.62, 0.065),
    ):
        some = bodies.coefficients[grown & chosen][:200]
        heights = [bodies.body(each).height_m for each in some]
        assert np.mean(heights) == pytest.approx(mean, abs=0.015)
        assert np.std(heights) == pytest.approx(spread, abs=0.012)


def test_children_are_smaller_and_have_shorter_legs_for_it(bodies: Bodies) -> None:
    young, grown = bodies.years < 11, (bodies.years > 20) & (bodies.years < 60)
    children = [bodies.body(c) for c in bodies.coefficients[young][:30]]
    adults = [bodies.body(c) for c in bodies.coefficients[grown][:30]]
    assert np.mean([b.height_m for b in children]) < 1.42
    share = [[b.leg_length_m / b.height_m for b in some] for some in (children, adults)]
    assert np.mean(share[0]) < np.mean(share[1])


def test_thousands_of_different_people_can_be_drawn(crowd: list[Body]) -> None:
    shapes = np.stack([body.vertices[::20].ravel() for body in crowd])
    apart = np.sqrt(((shapes[:, None] - shapes[None]) ** 2).mean(-1))
    assert apart[~np.eye(len(crowd), dtype=bool)].min() > 2e-3


def test_same_generator_draws_the_same_person(bodies: Bodies) -> None:
    one, again, other = (bodies.sample(np.random.default_rng(seed)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one.vertices, again.vertices)
    np.testing.assert_array_equal(one.joints, again.joints)
    assert not np.array_equal(one.vertices, other.vertices)


def test_rest_motion_gives_the_rest_shape(crowd: list[Body]) -> None:
    posed = crowd[0].posed(motion(frames=3))
    assert posed.dtype == np.float32
    assert posed.flags.c_contiguous
    np.testing.assert_allclose(posed[2], crowd[0].vertices, atol=1e-5)


def test_heading_and_position_move_everything_alike(crowd: list[Body]) -> None:
    body = crowd[1]
    posed = body.posed(motion(position=(3, -2), heading=np.pi / 2))[0]
    x, y, z = (body.vertices - [*body.joints[0, :2], 0]).T
    np.testing.assert_allclose(posed, np.stack((3 - y, -2 + x, z), axis=1), atol=1e-5)


def test_posing_all_frames_at_once_agrees_with_a_loop(crowd: list[Body]) -> None:
    body, rng = crowd[2], np.random.default_rng(0)
    turns = Rotation.from_rotvec(rng.normal(0, 0.3, (4 * len(JOINTS), 3))).as_matrix()
    moves = Motion(
        np.arange(4) / 25,
        turns.reshape(4, len(JOINTS), 3, 3).astype(np.float32),
        rng.normal(0, 2, (4, 2)).astype(np.float32),
        rng.normal(0, 2, 4).astype(np.float32),
    )
    posed = body.posed(moves)
    for frame in (0, 3):
        np.testing.assert_allclose(posed[frame], posed_naively(body, moves, frame), atol=2e-5)


def test_lowest_vertex_touches_the_ground_in_every_frame(crowd: list[Body]) -> None:
    moves = motion({"hip_left": ("y", -40), "hip_right": ("y", 30), "knee_right": ("y", 20)})
    assert crowd[0].posed(moves)[0, :, 2].min() == pytest.approx(0, abs=1e-6)


def test_bent_knee_moves_only_what_is_below_it_and_backward(crowd: list[Body]) -> None:
    body = crowd[3]
    posed = body.posed(motion({"knee_left": ("y", 60)}))[0]
    below = [INDEX[f"{joint}_left"] for joint in ("knee", "ankle", "toe")]
    share = body.weights[:, below].sum(1)
    moved = np.linalg.norm(posed - body.vertices, axis=1)
    assert moved[share == 0].max() < 1e-5
    foot = share > 0.99
    assert moved[foot].min() > 0.01
    knee_m = body.joints[INDEX["knee_left"], 2]
    shin = foot & (body.vertices[:, 2] < 0.5 * knee_m)
    assert np.all(posed[shin, 0] < body.vertices[shin, 0])


@pytest.mark.parametrize("joint", ["elbow_left", "knee_right", "shoulder_left", "hip_right"])
def test_bent_limbs_keep_their_volume(crowd: list[Body], joint: str) -> None:
    body = crowd[4]
    angle = -40 if joint.startswith(("elbow", "hip")) else 40
    posed = body.posed(motion({joint: ("y", angle)}))[0]
    bent = Body(posed, body.joints, body.weights, body.faces, body.parts, body.treads)
    assert volume(bent) == pytest.approx(volume(body), rel=0.02)


def test_thing_follows_its_joint(crowd: list[Body]) -> None:
    body = crowd[5]
    wrist = body.joints[INDEX["wrist_left"]]
    corners = wrist + np.array([[0, 0, -0.1], [0.1, 0, -0.1], [0, 0.1, -0.3], [0, 0, -2]])
    loaded = body.with_thing(corners, np.array([[0, 1, 2], [0, 2, 3]]), "wrist_left")
    assert loaded.faces[-1].tolist() == [len(body.vertices) + i for i in (0, 2, 3)]
    assert loaded.parts[-2:].tolist() == [Region.THING] * 2
    assert loaded.height_m == body.height_m
    moves = motion({"shoulder_left": ("y", -50)})
    bare, posed = body.posed(moves)[0], loaded.posed(moves)[0]
    np.testing.assert_allclose(posed[: len(bare)], bare, atol=1e-5)
    turn = Rotation.from_euler("y", -50, degrees=True).as_matrix()
    shoulder = body.joints[INDEX["shoulder_left"]]
    np.testing.assert_allclose(posed[-4:], shoulder + (corners - shoulder) @ turn.T, atol=1e-4)


def test_heel_lifts_the_body_and_a_dragged_bag_does_not(crowd: list[Body]) -> None:
    body, moves = crowd[5], motion()
    point = np.array([[0, 0.1, -0.05]] * 3)
    for joint, height in (("ankle_left", 0.05), ("wrist_left", 0)):
        posed = body.with_thing(point, np.array([[0, 1, 2]]), joint).posed(moves)[0]
        assert posed[: len(body.vertices), 2].min() == pytest.approx(height, abs=1e-5)


def test_thing_on_no_joint_is_refused(crowd: list[Body]) -> None:
    with pytest.raises(ValueError, match=r"no joint 'tail'.*wrist_left"):
        crowd[0].with_thing(np.zeros((3, 3)), np.array([[0, 1, 2]]), "tail")


def damaged(path: Path, what: str) -> None:
    with safe_open(BAKE, framework="numpy") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if what == "lacks":
        del tensors["basis"]
    elif what == "shape":
        tensors["years"] = tensors["years"][:-1]
    elif what == "finite":
        tensors["mean"][5] = np.nan
    elif what == "faces":
        tensors["faces"][7, 1] = len(tensors["weights"])
    elif what == "people":
        tensors |= {name: tensors[name][:9] for name in ("gender", "years", "coefficients")}
    else:
        metadata["joints"] = '["tail"]'
    save_file(tensors, path, metadata)


@pytest.mark.parametrize("what", ["lacks", "shape", "joints", "finite", "faces", "people"])
def test_bake_that_does_not_fit_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "bodies.safetensors"
    damaged(path, what)
    with pytest.raises(DataError, match=rf"bodies.safetensors: .*{what}.*bake_bodies.py --out"):
        Bodies.load(path)


@pytest.mark.parametrize("content", [None, b"", b"\x80\x04K\x01."])
def test_missing_or_damaged_bake_says_how_to_rebuild_it(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "bodies.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"bodies.safetensors: cannot read .*bake_bodies.py --out"):
        Bodies.load(path)


def test_truncated_bake_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bodies.safetensors"
    path.write_bytes(BAKE.read_bytes()[:-100])
    with pytest.raises(DataError, match="rebuild it"):
        Bodies.load(path)
