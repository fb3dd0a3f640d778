from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest

from gait.errors import ConfigError
from gait.synthetic.place import Ball, Block, Post
from gait.synthetic.routes import in_view
from gait.synthetic.scene import Scene, draw_scene
from gait.synthetic.scene_config import FIRST_PERSON, Colours, Layout, SceneConfig
from gait.synthetic.schedule import Visit
from gait.synthetic.wardrobe import draw_palettes
from gait.yaml_config import validate


@pytest.fixture(scope="module")
def apart() -> Scene:
    return draw_scene(
        SceneConfig(
            seed=3,
            people=6,
            layout=Layout.APART,
            duration_s=45,
            fps=10,
            colours=Colours.CHANGING,
            pairs=0.4,
            stops=0.5,
        )
    )


@pytest.fixture(scope="module")
def overlap() -> Scene:
    return draw_scene(SceneConfig(seed=4, people=4, duration_s=20, fps=10))


def position(visit: Visit, frame: int) -> np.ndarray:
    return visit.motion.position[frame - visit.first_frame]


def test_the_same_seed_draws_the_same_scene(overlap: Scene) -> None:
    again = draw_scene(overlap.config)
    for one, other in zip(overlap.visits, again.visits, strict=True):
        assert (one.extra, one.first_frame) == (other.extra, other.first_frame)
        np.testing.assert_array_equal(one.motion.rotations, other.motion.rotations)
    assert overlap.places == again.places
    assert overlap.places != draw_scene(overlap.config.model_copy(update={"seed": 5})).places


def test_people_are_none_that_were_trained_on(apart: Scene) -> None:
    assert [each.person.index for each in apart.extras] == [FIRST_PERSON + at for at in range(6)]
    assert len({each.identity for each in apart.extras}) == 6


def test_nobody_walks_through_anybody(apart: Scene) -> None:
    for frame in range(apart.config.num_frames):
        there = [each for each in apart.visits if each.first_frame <= frame < each.end_frame]
        for one, other in combinations(there, 2):
            if one.place == other.place:
                gap = np.linalg.norm(position(one, frame) - position(other, frame))
                assert gap > 0.45, f"{one.extra} and {other.extra} in frame {frame}"


def test_people_come_into_view_and_leave_it(apart: Scene) -> None:
    for visit in apart.visits:
        (outlook,) = (each for each in apart.outlooks if each.place == visit.place)
        seen = in_view(outlook.camera, visit.motion.position.astype(np.float64))
        assert not seen[0]
        assert not seen[-1]
        assert seen.any()


def test_everybody_comes_to_every_place(apart: Scene) -> None:
    for extra in range(6):
        assert {each.place for each in apart.visits if each.extra == extra} == {0, 1}


def test_it_takes_the_time_of_the_way_to_come_to_the_next_place(apart: Scene) -> None:
    shortest, longest = apart.config.transit_s
    for extra in range(6):
        visits = [each for each in apart.visits if each.extra == extra]
        for before, after in pairwise(visits):
            away_s = (after.first_frame - before.end_frame) / apart.config.fps
            # the slower of a pair leaves the view up to some seconds later
            assert shortest - 0.2 <= away_s <= longest + 4


def test_two_who_walk_together_stay_side_by_side(apart: Scene) -> None:
    starts: dict[tuple[int, int], list[Visit]] = {}
    for visit in apart.visits:
        starts.setdefault((visit.place, visit.first_frame), []).append(visit)
    pairs = [each for each in starts.values() if len(each) == 2]
    assert pairs
    for one, other in pairs:
        frames = min(len(one.motion.position), len(other.motion.position)) * 3 // 4
        gaps = np.linalg.norm(one.motion.position[:frames] - other.motion.position[:frames], axis=1)
        assert 0.45 < np.median(gaps) < 1.5


def test_some_stop_on_their_way(apart: Scene) -> None:
    def slowest(visit: Visit) -> float:
        steps = np.linalg.norm(np.diff(visit.motion.position, axis=0), axis=1)
        second = round(apart.config.fps)
        return float(np.convolve(steps, np.ones(second), "valid").min())

    stops = [slowest(each) < 0.15 for each in apart.visits]
    assert any(stops)
    assert not all(stops)


def test_cameras_hang_where_surveillance_cameras_do(apart: Scene, overlap: Scene) -> None:
    for outlook in (*apart.outlooks, *overlap.outlooks):
        assert 3 <= outlook.camera.position[2] <= 6
        assert 10 <= np.degrees(outlook.camera.pitch) <= 35
    assert [each.place for each in overlap.outlooks] == [0, 0]
    assert [each.place for each in apart.outlooks] == [0, 1]


def test_overlapping_cameras_see_the_same_people_at_once(overlap: Scene) -> None:
    a, b = (each.camera for each in overlap.outlooks)
    points = np.concatenate([each.motion.position for each in overlap.visits]).astype(np.float64)
    both = in_view(a, points) & in_view(b, points)
    assert both.mean() > 0.2


def test_changing_clothes_leave_only_skin_and_hair(apart: Scene) -> None:
    for extra in apart.extras:
        here, there = (each.palette for each in extra.outfits)
        assert (here.skin, here.hair) == (there.skin, there.hair)
    tops = [[each.palette.top for each in extra.outfits] for extra in apart.extras]
    assert sum(here != there for here, there in tops) >= 5


def test_alike_clothes_are_nearly_the_same_and_distinct_ones_are_not() -> None:
    def spread(colours: Colours) -> float:
        palettes = draw_palettes(colours, 8, 1, np.random.default_rng(0))
        tops = np.array([each[0].top for each in palettes])
        return float(tops.std(axis=0).max())

    assert spread(Colours.ALIKE) < 12 < 30 < spread(Colours.DISTINCT)


def test_things_stand_on_the_ground_and_not_before_a_lens(overlap: Scene) -> None:
    (place,) = overlap.places
    for thing in place.things:
        for outlook in overlap.outlooks:
            gap = np.hypot(*(outlook.camera.position[:2] - (thing.x, thing.y)))
            assert gap > 4
        lows = []
        for shape in thing.shapes:
            match shape:
                case Block():
                    lows.append(shape.low[2])
                case Post():
                    lows.append(0.0)
                case Ball():
                    lows.append(shape.centre[2] - shape.radius)
        assert min(lows) == 0


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"people": 0}, "people: expected greater than or equal to 1"),
        ({"width": 641}, "width: expected a multiple of 2"),
        ({"duration_s": 0.01}, "fps: expected at least one frame"),
        ({"colours": Colours.CHANGING}, "choose layout apart"),
        ({"transit_s": (9.0, 2.0)}, "transit_s: expected the shortest and the longest"),
        ({"cameras": 27}, "cameras: expected less than or equal to 8"),
    ],
)
def test_impossible_scenes_are_refused(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        validate(SceneConfig, wrong, "scene")
