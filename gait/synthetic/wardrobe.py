"""The colours people wear."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gait.synthetic.bodies import Body, Region
from gait.synthetic.scene_config import Colours

Bgr = tuple[int, int, int]

_SKINS: tuple[Bgr, ...] = ((158, 184, 226), (128, 160, 208), (96, 130, 184), (56, 82, 128))
_HAIRS: tuple[Bgr, ...] = (
    (22, 26, 30),
    (30, 42, 58),
    (46, 70, 98),
    (92, 128, 158),
    (120, 122, 124),
)
_TOPS: tuple[Bgr, ...] = (
    (48, 46, 44), (196, 198, 200), (52, 52, 168), (146, 92, 46), (70, 112, 62), (60, 168, 212),
    (148, 120, 96), (92, 62, 112), (170, 156, 108), (58, 40, 112),
)  # fmt: skip
_TROUSERS: tuple[Bgr, ...] = (
    (46, 42, 40), (102, 72, 48), (126, 104, 80), (84, 86, 88), (110, 146, 168), (48, 60, 62),
)  # fmt: skip
_SHOES: tuple[Bgr, ...] = ((34, 34, 36), (60, 74, 96), (196, 198, 198), (70, 52, 44))
_THINGS: tuple[Bgr, ...] = ((36, 36, 40), (52, 72, 112), (96, 60, 44), (54, 50, 138), (86, 96, 84))
_ALIKE_TOP: Bgr = (118, 106, 98)
_ALIKE_TROUSERS: Bgr = (84, 60, 46)
_BARE_ARMS = 0.35


@dataclass(frozen=True, slots=True)
class Palette:
    """The colour of each `Region`, blue, green, red in 0..255."""

    skin: Bgr
    hair: Bgr
    top: Bgr
    sleeves: Bgr
    trousers: Bgr
    shoes: Bgr
    thing: Bgr

    def of_faces(self, body: Body, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Return each face's colour, shape (F, 3), uint8, slightly uneven as cloth is."""
        table = np.zeros((max(Region) + 1, 3))
        table[Region.SKIN], table[Region.HAIR], table[Region.TOP] = self.skin, self.hair, self.top
        table[Region.SLEEVES], table[Region.TROUSERS] = self.sleeves, self.trousers
        table[Region.SHOES], table[Region.THING] = self.shoes, self.thing
        uneven = rng.normal(1, 0.025, (len(body.parts), 1))
        return np.clip(table[body.parts] * uneven, 1, 255).astype(np.uint8)


def draw_palettes(
    colours: Colours, num_people: int, num_places: int, rng: np.random.Generator
) -> list[list[Palette]]:
    """Return what each person (outer list) wears in each place (inner list)."""
    own = [_drawn(rng) for _ in range(num_people)]
    if colours is Colours.DISTINCT:
        own = _distinct(own, rng)
    if colours is Colours.CHANGING:
        return [[_changed(each, rng) for _ in range(num_places)] for each in own]
    if colours is Colours.ALIKE:
        own = [_alike(each, rng) for each in own]
    return [[each] * num_places for each in own]


def _drawn(rng: np.random.Generator) -> Palette:
    top = _dyed(_pick(_TOPS, rng), rng)
    skin = _dyed(_pick(_SKINS, rng), rng)
    return Palette(
        skin=skin,
        hair=_dyed(_pick(_HAIRS, rng), rng),
        top=top,
        sleeves=skin if rng.random() < _BARE_ARMS else top,
        trousers=_dyed(_pick(_TROUSERS, rng), rng),
        shoes=_dyed(_pick(_SHOES, rng), rng),
        thing=_dyed(_pick(_THINGS, rng), rng),
    )


def _distinct(people: list[Palette], rng: np.random.Generator) -> list[Palette]:
    """Deal tops and trousers in turn, so that no pair is worn twice while others are left."""
    pairs = [(top, trousers) for trousers in _TROUSERS for top in _TOPS]
    order = rng.permutation(len(pairs))
    dealt = [pairs[int(order[at % len(pairs)])] for at in range(len(people))]
    return [_wearing(each, *pair, rng) for each, pair in zip(people, dealt, strict=True)]


def _changed(person: Palette, rng: np.random.Generator) -> Palette:
    """Draw all but skin and hair anew."""
    other = _drawn(rng)
    bare = other.sleeves == other.skin
    return replace(
        other, skin=person.skin, hair=person.hair, sleeves=person.skin if bare else other.top
    )


def _alike(person: Palette, rng: np.random.Generator) -> Palette:
    dark = replace(person, sleeves=person.top, shoes=_SHOES[0])
    return _wearing(dark, _ALIKE_TOP, _ALIKE_TROUSERS, rng)


def _wearing(person: Palette, top: Bgr, trousers: Bgr, rng: np.random.Generator) -> Palette:
    dyed = _dyed(top, rng)
    sleeves = dyed if person.sleeves == person.top else person.sleeves
    return replace(person, top=dyed, sleeves=sleeves, trousers=_dyed(trousers, rng))


def _pick(choices: tuple[Bgr, ...], rng: np.random.Generator) -> Bgr:
    return choices[int(rng.integers(len(choices)))]


def _dyed(colour: Bgr, rng: np.random.Generator) -> Bgr:
    """Return the colour a little lighter or darker."""
    blue, green, red = (
        (np.array(colour) * rng.uniform(0.88, 1.12)).clip(1, 255).astype(int).tolist()
    )
    return blue, green, red
