"""Places people walk through: a square between walls, with things that stand in the way.

Axes: x and y over the ground, z up, metres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Colour = tuple[float, float, float]
"""Blue, green, red in 0..1."""

_WOOD: Colour = (0.26, 0.38, 0.52)
_STEEL: Colour = (0.36, 0.35, 0.33)
_CONCRETE: Colour = (0.60, 0.63, 0.65)
_LEAVES: Colour = (0.17, 0.36, 0.24)
_FROM_CAMERA_M = 4.5


class Paving(IntEnum):
    """What the ground is made of."""

    SLABS = 0
    BRICKS = 1
    ASPHALT = 2


@dataclass(frozen=True, slots=True)
class Block:
    """An upright box, its sides along the axes.

    Attributes:
        low: Its least x, y, z.
        high: Its greatest x, y, z.
        colour: Of its surface.
    """

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    colour: Colour


@dataclass(frozen=True, slots=True)
class Post:
    """An upright round post.

    Attributes:
        x: Of its axis.
        y: Of its axis.
        radius: Metres.
        height: Metres.
        colour: Of its surface.
    """

    x: float
    y: float
    radius: float
    height: float
    colour: Colour


@dataclass(frozen=True, slots=True)
class Ball:
    """A round bush.

    Attributes:
        centre: Its x, y, z.
        radius: Metres.
        colour: Of its surface.
    """

    centre: tuple[float, float, float]
    radius: float
    colour: Colour


Shape = Block | Post | Ball


@dataclass(frozen=True, slots=True)
class Thing:
    """Something that stands there: shapes, and the circle on the ground nobody walks through."""

    x: float
    y: float
    radius: float
    shapes: tuple[Shape, ...]


@dataclass(frozen=True, slots=True)
class Light:
    """The light of a place.

    Attributes:
        to_sun: Unit vector towards the sun.
        sunshine: Share of the light that comes from the sun, 0..1; the rest comes from the sky.
            Higher makes shadows darker.
    """

    to_sun: tuple[float, float, float]
    sunshine: float


@dataclass(frozen=True, slots=True)
class Place:
    """One square.

    Attributes:
        x: Of its middle.
        y: Of its middle.
        half_size: From its middle to its walls.
        light: Its light.
        things: What stands there.
        paving: What its ground is made of.
        ground: Mean colour of the ground.
        walls: Mean colour of each wall, in the order +x, -x, +y, -y.
        wall_height: Metres.
        texture_seed: Of its patterns.
    """

    x: float
    y: float
    half_size: float
    light: Light
    things: tuple[Thing, ...]
    paving: Paving
    ground: Colour
    walls: tuple[Colour, Colour, Colour, Colour]
    wall_height: float
    texture_seed: int


def draw_place(
    x: float,
    y: float,
    half_size: float,
    rng: np.random.Generator,
    *,
    clear: Sequence[tuple[float, float]] = (),
    furnished: bool = True,
) -> Place:
    """Return a place drawn at random around (x, y).

    Args:
        x: Of its middle, metres.
        y: Of its middle, metres.
        half_size: From its middle to its walls, metres.
        rng: Draws it.
        clear: Points where cameras are: nothing stands near below them.
        furnished: Whether things stand there; on a real background there must not be any.
    """
    paving = Paving(int(rng.integers(len(Paving))))
    walls = tuple(_wall_colour(rng) for _ in range(4))
    assert len(walls) == 4
    light = _draw_light(rng)
    height, seed = float(rng.uniform(5.5, 9.0)), int(rng.integers(2**31))
    ground = _ground_colour(paving, rng)
    things = _draw_things(x, y, rng) if furnished else ()
    kept = tuple(each for each in things if all(_is_far(each, *point) for point in clear))
    return Place(x, y, half_size, light, kept, paving, ground, walls, height, seed)


def _is_far(thing: Thing, x: float, y: float) -> bool:
    return bool(np.hypot(thing.x - x, thing.y - y) > _FROM_CAMERA_M)


def _draw_light(rng: np.random.Generator) -> Light:
    azimuth, elevation = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(38, 62))
    to_sun = (
        float(np.cos(azimuth) * np.cos(elevation)),
        float(np.sin(azimuth) * np.cos(elevation)),
        float(np.sin(elevation)),
    )
    return Light(to_sun, float(rng.uniform(0.25, 0.6)))


def _ground_colour(paving: Paving, rng: np.random.Generator) -> Colour:
    bright = float(rng.uniform(0.85, 1.1))
    base = {
        Paving.SLABS: (0.60, 0.64, 0.66),
        Paving.BRICKS: (0.46, 0.52, 0.60),
        Paving.ASPHALT: (0.47, 0.47, 0.46),
    }[paving]
    return base[0] * bright, base[1] * bright, base[2] * bright


def _wall_colour(rng: np.random.Generator) -> Colour:
    plasters = ((0.62, 0.70, 0.74), (0.48, 0.60, 0.70), (0.66, 0.66, 0.66), (0.38, 0.44, 0.62))
    blue, green, red = plasters[int(rng.integers(len(plasters)))]
    bright = float(rng.uniform(0.8, 1.1))
    return blue * bright, green * bright, red * bright


def _draw_things(x: float, y: float, rng: np.random.Generator) -> tuple[Thing, ...]:
    """Place things in a ring, well apart, so that there is room to walk between them."""
    makers = (_lamp, _bench, _planter, _bollard, _bench, _lamp)
    angles = rng.uniform(0, 2 * np.pi) + 2 * np.pi * (
        np.arange(len(makers)) + rng.uniform(-0.15, 0.15, len(makers))
    ) / len(makers)
    radii = rng.uniform(3.5, 7.5, len(makers))
    xs, ys = (x + radii * np.cos(angles)).tolist(), (y + radii * np.sin(angles)).tolist()
    order = rng.permutation(len(makers)).tolist()
    return tuple(makers[at](xs[i], ys[i], rng) for i, at in enumerate(order))


def _lamp(x: float, y: float, rng: np.random.Generator) -> Thing:
    height = float(rng.uniform(3.6, 4.4))
    head = Block((x - 0.16, y - 0.16, height), (x + 0.16, y + 0.16, height + 0.3), _CONCRETE)
    shapes = (Post(x, y, 0.06, height, _STEEL), Post(x, y, 0.11, 0.45, _STEEL), head)
    return Thing(x, y, 0.15, shapes)


def _bench(x: float, y: float, rng: np.random.Generator) -> Thing:
    is_along_x = bool(rng.integers(2))
    back_side = 1 if rng.integers(2) else -1

    def block(u0: float, u1: float, v0: float, v1: float, z0: float, z1: float) -> Block:
        v0, v1 = sorted((v0 * back_side, v1 * back_side))
        low, high = ((u0, v0), (u1, v1)) if is_along_x else ((v0, u0), (v1, u1))
        colour = _STEEL if z0 == 0 else _WOOD
        return Block((x + low[0], y + low[1], z0), (x + high[0], y + high[1], z1), colour)

    legs = [block(u, u + 0.08, -0.2, 0.22, 0, 0.42) for u in (-0.72, 0.64)]
    seat = [block(-0.85, 0.85, v, v + 0.13, 0.42, 0.46) for v in (-0.25, -0.1, 0.05)]
    back = [block(-0.85, 0.85, 0.22, 0.26, z, z + 0.12) for z in (0.55, 0.72)]
    return Thing(x, y, 0.95, (*legs, *seat, *back))


def _planter(x: float, y: float, rng: np.random.Generator) -> Thing:
    half = float(rng.uniform(0.4, 0.6))
    box = Block((x - half, y - half, 0), (x + half, y + half, 0.5), _CONCRETE)
    offsets: NDArray[np.float64] = rng.uniform(-0.45, 0.45, (6, 2)) * half
    bushes = [
        Ball((x + dx, y + dy, float(rng.uniform(0.5, 0.72))), float(half * 0.55), _LEAVES)
        for dx, dy in offsets.tolist()
    ]
    return Thing(x, y, half * 1.45, (box, *bushes))


def _bollard(x: float, y: float, rng: np.random.Generator) -> Thing:
    return Thing(x, y, 0.15, (Post(x, y, 0.1, float(rng.uniform(0.85, 1.0)), _STEEL),))
