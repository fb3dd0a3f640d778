"""The people of a scene: who they are, what they wear and carry, how they hold their arms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gait.synthetic.outfit import Condition, Dressed, dressed
from gait.synthetic.scene_config import Colours, SceneConfig
from gait.synthetic.walkers import Person, person
from gait.synthetic.wardrobe import Palette, draw_palettes

_LUGGAGE = (Condition.BAG, Condition.BACKPACK, Condition.COAT, Condition.HAT)


@dataclass(frozen=True, slots=True, eq=False)
class Outfit:
    """How a person looks in one place.

    Attributes:
        dressed: Body, clothes and luggage.
        palette: Their colours.
    """

    dressed: Dressed
    palette: Palette


@dataclass(frozen=True, slots=True, eq=False)
class Extra:
    """Somebody in the scene.

    Attributes:
        identity: Name, the same on every camera.
        person: Who.
        condition: What they carry.
        outfits: How they look in each place.
    """

    identity: str
    person: Person
    condition: Condition
    outfits: tuple[Outfit, ...]

    @property
    def leg_length_m(self) -> float:
        """Of the person, metres."""
        return self.person.body.leg_length_m

    @property
    def speed_m_s(self) -> float:
        """Usual, metres per second."""
        return self.person.style.speed_m_s(self.leg_length_m)


def draw_extras(
    config: SceneConfig, num_places: int, rng: np.random.Generator
) -> tuple[Extra, ...]:
    """Return the people of a scene.

    Who they are follows from seed and index alone; `rng` draws what they carry and their colours.

    Raises:
        DataError: The baked bodies cannot be read.
    """
    palettes = draw_palettes(config.colours, config.people, num_places, rng)
    return tuple(
        _draw_extra(config, number, palettes[number], rng) for number in range(config.people)
    )


def _draw_extra(
    config: SceneConfig, number: int, palettes: list[Palette], rng: np.random.Generator
) -> Extra:
    who = person(config.seed, config.first_person + number)
    carries = rng.random() < config.luggage
    kind = int(rng.integers(len(_LUGGAGE)))
    condition = _LUGGAGE[kind] if carries else Condition.NORMAL
    seed = int(rng.integers(2**32))
    outfits = []
    for place, palette in enumerate(palettes):
        session = place if config.colours is Colours.CHANGING else 0
        # The same bag everywhere, whatever is worn with it.
        own = np.random.default_rng(seed)
        clad = dressed(who.body, who.clothes(session), condition, own, who.habits.side)
        outfits.append(Outfit(clad, palette))
    return Extra(f"p{number + 1:03d}", who, condition, tuple(outfits))
