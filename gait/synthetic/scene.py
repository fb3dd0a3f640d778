"""A scene: people with bodies, styles and clothes who walk through places cameras look at.

Everything follows from the seed; `video` renders it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gait.synthetic.camera import Camera
from gait.synthetic.extras import Extra, draw_extras
from gait.synthetic.place import Place, draw_place
from gait.synthetic.scene_config import Layout, SceneConfig
from gait.synthetic.schedule import Visit, draw_visits

_APART_M = 60.0
_USUAL_HALF_SIZE_M = 16.0
_USUAL_VIEW = 0.47  # tangent of half the angle of view that suits that size
_FOCAL_PX_480 = 700.0
_NAMES = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True, eq=False)
class Outlook:
    """A camera of the scene.

    Attributes:
        name: Of its video.
        place: Index of the place it looks at.
        camera: Where it is.
        gains: What its sensor and white balance make of blue, green and red.
    """

    name: str
    place: int
    camera: Camera
    gains: tuple[float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """Everything there is to render.

    Attributes:
        config: What it was drawn from.
        places: Where.
        outlooks: The cameras.
        extras: The people.
        visits: Who is in which place when, in the order of their beginning.
    """

    config: SceneConfig
    places: tuple[Place, ...]
    outlooks: tuple[Outlook, ...]
    extras: tuple[Extra, ...]
    visits: tuple[Visit, ...]


def draw_scene(config: SceneConfig) -> Scene:
    """Return the scene of a configuration: the same numbers on every run.

    Raises:
        DataError: The baked bodies cannot be read.
    """
    rng_places, rng_people, rng_visits = (
        np.random.default_rng([config.seed, purpose]) for purpose in range(3)
    )
    outlooks = _draw_outlooks(config, rng_places)
    num_places = outlooks[-1].place + 1
    places = tuple(_draw_place(config, at, outlooks, rng_places) for at in range(num_places))
    extras = draw_extras(config, num_places, rng_people)
    cameras = [[each.camera for each in outlooks if each.place == at] for at in range(num_places)]
    visits = draw_visits(config, list(zip(places, cameras, strict=True)), extras, rng_visits)
    return Scene(config, places, outlooks, extras, visits)


def _middle(place: int) -> tuple[float, float]:
    return place * _APART_M, 0.0


def _draw_outlooks(config: SceneConfig, rng: np.random.Generator) -> tuple[Outlook, ...]:
    first = rng.uniform(0, 2 * np.pi)
    turn = 2 * np.pi / max(config.cameras, 3)
    outlooks = []
    for at in range(config.cameras):
        is_apart = config.layout is Layout.APART
        azimuth = rng.uniform(0, 2 * np.pi) if is_apart else first + at * turn
        place = at if is_apart else 0
        camera = _draw_camera(config, _middle(place), azimuth + rng.uniform(-0.2, 0.2), rng)
        gains = rng.uniform(0.93, 1.07) * rng.normal(1, 0.025, 3)
        outlooks.append(Outlook(_NAMES[at], place, camera, tuple(gains.tolist())))
    return tuple(outlooks)


def _draw_camera(
    config: SceneConfig, middle: tuple[float, float], azimuth: float, rng: np.random.Generator
) -> Camera:
    """A surveillance camera: 3.2 to 5.5 m up, 8.5 to 10.5 m from the middle, 15 to 30 degrees down.

    At 480 rows people are 80 to 220 pixels high.
    """
    distance, height = rng.uniform(8.5, 10.5), rng.uniform(3.2, 5.5)
    x, y = middle[0] + distance * np.cos(azimuth), middle[1] + distance * np.sin(azimuth)
    target = (middle[0] + rng.uniform(-0.6, 0.6), middle[1] + rng.uniform(-0.6, 0.6), 0.75)
    focal = _FOCAL_PX_480 * (config.height / 480) ** 0.75 * rng.uniform(0.95, 1.08)
    roll = float(np.radians(np.clip(rng.normal(0, 0.7), -1.5, 1.5)))
    return Camera.looking_at(
        (x, y, height), target, float(focal), config.width, config.height, roll
    )


def _draw_place(
    config: SceneConfig, at: int, outlooks: tuple[Outlook, ...], rng: np.random.Generator
) -> Place:
    cameras = [each.camera for each in outlooks if each.place == at]
    widest = max(each.width / 2 / each.focal_px for each in cameras)
    half_size = _USUAL_HALF_SIZE_M * max(1.0, widest / _USUAL_VIEW)
    below = [(float(each.position[0]), float(each.position[1])) for each in cameras]
    return draw_place(*_middle(at), half_size, rng, clear=below, furnished=config.furnished)
