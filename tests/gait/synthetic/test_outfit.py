from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from gait.synthetic.bodies import Bodies, Body, Region
from gait.synthetic.garments import inflated, normals, with_skirt
from gait.synthetic.motion import ArmUse, walk
from gait.synthetic.outfit import Clothes, Condition, Habits, Hair, Side, Skirt, dressed
from gait.synthetic.shapes import ellipsoid
from gait.synthetic.skeleton import INDEX
from gait.synthetic.style import Style

PLAIN = Clothes(
    top_m=0.0,
    sleeves_m=0.0,
    trousers_m=0.0,
    flare_m=0.0,
    shoes_m=0.0,
    hair=Hair.SHORT,
    hair_m=0.0,
)


@pytest.fixture(scope="module")
def body() -> Body:
    return Bodies.load().sample(np.random.default_rng(1))


def extent(body: Body, axis: int, low: float = -9.0, high: float = 9.0) -> float:
    """Return the size along an axis of what lies between two heights."""
    z = body.vertices[:, 2]
    return float(np.ptp(body.vertices[(z > low) & (z < high), axis]))


def part(body: Body, region: Region) -> NDArray[np.float32]:
    return body.vertices[np.unique(body.faces[body.parts == region])]


def test_plain_clothes_leave_the_body_as_it_is(body: Body) -> None:
    clad = dressed(body, PLAIN, Condition.HAT, np.random.default_rng(0)).body
    np.testing.assert_array_equal(clad.vertices[: len(body.vertices)], body.vertices)


def test_normals_point_outwards_whichever_way_the_faces_wind() -> None:
    ball = ellipsoid((0.0, 0.0, 1.0), (0.3, 0.3, 0.3))
    outwards = ball.vertices - (0.0, 0.0, 1.0)
    for faces in (ball.faces, ball.faces[:, ::-1]):
        assert ((normals(ball.vertices, faces) * outwards).sum(axis=1) > 0.2).all()


def test_cloth_stands_off_by_its_thickness(body: Body) -> None:
    thick = inflated(body, {Region.TOP: 0.03})
    moved = np.linalg.norm(thick.vertices - body.vertices, axis=1)
    assert moved.max() == pytest.approx(0.03, rel=1e-3)
    only_top = np.setdiff1d(body.faces[body.parts == Region.TROUSERS], body.faces[body.parts == 2])
    assert moved[only_top].max() == 0.0


def test_a_coat_covers_the_thighs_and_follows_them(body: Body) -> None:
    waist = float(body.joints[INDEX["spine"], 2])
    hem = float(body.joints[INDEX["knee_left"], 2])
    coat = with_skirt(body, waist, hem, flare_m=0.02, region=Region.TOP)
    rest = coat.vertices[len(body.vertices) :]
    assert rest[:, 2].min() == pytest.approx(hem, abs=1e-5)
    assert extent(coat, 1, hem + 0.05, waist - 0.3) >= extent(body, 1, hem + 0.05, waist - 0.3)
    motion = walk(
        Style(), leg_length_m=0.9, time_s=np.arange(20) / 20, rng=np.random.default_rng(0)
    )
    points = coat.posed(motion)
    points[..., 0] -= motion.position[:, :1]
    hem_ring = points[:, -20:]  # the last ring of the tube
    swing = hem_ring[..., 0].max(axis=1) - hem_ring[..., 0].min(axis=1)
    assert swing.max() > 1.15 * swing.min()  # opens and closes with the step
    np.testing.assert_allclose(coat.weights.sum(axis=1), 1.0, atol=1e-5)


@pytest.mark.parametrize("condition", list(Condition))
def test_every_condition_can_be_worn_by_anybody_and_walked_in(condition: Condition) -> None:
    bodies = Bodies.load()
    for seed in range(3):
        rng = np.random.default_rng(seed)
        body, habits = bodies.sample(rng), Habits.sample(rng)
        clothes = replace(Clothes.sample(habits, rng), skirt=Skirt(0.8, 0.05))
        clad = dressed(body, clothes, condition, rng, habits.side)
        motion = walk(
            Style.sample(rng),
            leg_length_m=clad.body.leg_length_m,
            time_s=np.arange(5) / 10,
            rng=rng,
            arms=clad.arms,
        )
        points = clad.body.posed(motion)
        assert np.isfinite(points).all()
        assert points[..., 2].min() > -0.1  # nothing carried is dragged below the ground
        assert clad.body.height_m == pytest.approx(body.height_m, abs=0.06)


def test_what_is_carried_is_where_it_belongs(body: Body) -> None:
    def things(condition: Condition) -> NDArray[np.float32]:
        return part(
            dressed(body, PLAIN, condition, np.random.default_rng(3)).body, Region.THING
        ).mean(axis=0)

    back = part(body, Region.TOP)[:, 0].min()
    assert things(Condition.BACKPACK)[0] < back
    assert things(Condition.BOX)[0] > 0.1
    assert things(Condition.UMBRELLA)[2] > body.height_m
    assert things(Condition.TROLLEY)[0] < -0.3
    assert things(Condition.HAT)[2] > 0.85 * body.height_m


def test_the_arm_on_the_side_that_carries_does_not_swing(body: Body) -> None:
    for side in Side:
        arms = dressed(body, PLAIN, Condition.TROLLEY, np.random.default_rng(0), side).arms
        uses = {Side.LEFT: arms.left, Side.RIGHT: arms.right}
        assert uses[side] is ArmUse.HOLD_SIDE
        assert list(uses.values()).count(ArmUse.SWING) == 1


def test_clothes_differ_between_sessions_and_people_keep_their_habits() -> None:
    habits = Habits.sample(np.random.default_rng(5))
    days = [Clothes.sample(habits, np.random.default_rng(day)) for day in range(40)]
    assert len({day.trousers_m for day in days}) == 40
    usual = sum(day.hair is habits.hair for day in days)
    assert usual > 25
