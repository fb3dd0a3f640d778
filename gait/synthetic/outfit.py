"""What people wear and carry, as geometry on a body.

Everyday clothes (`Clothes`) belong to a person's session and are put on in every condition, so that
nobody is known by a skirt alone; the `Condition` comes on top and says what the arms do.

Lengths are metres and suit a body of 1.7 m; they grow with the body.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from gait.synthetic.bodies import Body, Region
from gait.synthetic.garments import inflated, with_skirt
from gait.synthetic.motion import Arms, ArmUse
from gait.synthetic.shapes import Shape, dome, ellipsoid, rod, rounded_box
from gait.synthetic.skeleton import INDEX

_USUAL_HEIGHT_M = 1.7


class Condition(StrEnum):
    """What a person wears or carries; the values are the conditions of the data sets."""

    NORMAL = "nm"
    BAG = "bg"
    COAT = "cl"
    BACKPACK = "bp"
    HAT = "ht"
    BOX = "bx"
    UMBRELLA = "ub"
    TROLLEY = "tr"


class Side(StrEnum):
    """Of the body."""

    LEFT = "left"
    RIGHT = "right"

    @property
    def sign(self) -> float:
        """Of y: +1 on the left."""
        return 1.0 if self is Side.LEFT else -1.0


class Hair(StrEnum):
    """How hair is worn."""

    SHORT = "short"
    FULL = "full"
    LONG = "long"
    BUN = "bun"
    TAIL = "tail"


@dataclass(frozen=True, slots=True)
class Skirt:
    """Cloth around both legs.

    Attributes:
        hem: Where it ends between hip (0) and ankle (1).
        flare_m: How much further it stands off at the hem than at the hips.
    """

    hem: float
    flare_m: float


@dataclass(frozen=True, slots=True)
class Clothes:
    """What somebody wears on one day.

    Attributes:
        top_m: How far the shirt stands off the trunk.
        sleeves_m: How far the sleeves stand off the arms.
        trousers_m: How far the trousers stand off the legs.
        flare_m: How much further they do at the ankle.
        shoes_m: How far the shoes stand off the feet.
        hair: How the hair is worn.
        hair_m: How thick it is.
        skirt: Instead of trousers to be seen, or None.
        jacket_hem: Where a jacket ends between waist (0) and knee (1), or None for none.
    """

    top_m: float
    sleeves_m: float
    trousers_m: float
    flare_m: float
    shoes_m: float
    hair: Hair
    hair_m: float
    skirt: Skirt | None = None
    jacket_hem: float | None = None

    @classmethod
    def sample(cls, habits: Habits, rng: np.random.Generator) -> Clothes:
        """Return what a person of these habits wears on some day."""
        warm = rng.random() < habits.warmth
        skirted = rng.random() < habits.skirts
        return cls(
            top_m=float(rng.uniform(0.015, 0.05) if warm else rng.uniform(0.002, 0.015)),
            sleeves_m=float(rng.uniform(0.01, 0.032) if warm else rng.uniform(0.001, 0.01)),
            trousers_m=float(rng.gamma(2.0, 0.5) * 0.006 * habits.looseness),
            flare_m=float(rng.uniform(0.004, 0.026) * habits.looseness),
            shoes_m=float(rng.uniform(0.002, 0.012)),
            hair=habits.hair if rng.random() < 0.8 else Hair(str(rng.choice(list(Hair)))),
            hair_m=habits.hair_m * float(rng.uniform(0.8, 1.2)),
            skirt=_skirt(rng) if skirted else None,
            jacket_hem=float(rng.uniform(0.2, 0.55)) if warm else None,
        )


@dataclass(frozen=True, slots=True)
class Habits:
    """What stays the same in how a person dresses.

    Attributes:
        looseness: Around 1; higher wears wider trousers.
        warmth: Chance of a jacket on a day.
        skirts: Chance of a skirt or dress on a day.
        hair: The usual way of wearing it.
        hair_m: How thick it is.
        side: Which hand carries things.
    """

    looseness: float
    warmth: float
    skirts: float
    hair: Hair
    hair_m: float
    side: Side

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Habits:
        """Return the habits of somebody."""
        wears_skirts = rng.random() < 0.22
        return cls(
            looseness=float(rng.uniform(0.5, 1.5)),
            warmth=float(rng.uniform(0.2, 0.9)),
            skirts=float(rng.uniform(0.1, 0.6)) if wears_skirts else 0.0,
            hair=Hair(str(rng.choice(list(Hair), p=[0.56, 0.12, 0.18, 0.07, 0.07]))),
            hair_m=float(rng.uniform(0.003, 0.018)),
            side=Side.LEFT if rng.random() < 0.35 else Side.RIGHT,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Dressed:
    """A body with everything on it.

    Attributes:
        body: The mesh.
        arms: What the arms do with it.
    """

    body: Body
    arms: Arms = field(default_factory=Arms)


def dressed(
    body: Body,
    clothes: Clothes,
    condition: Condition,
    rng: np.random.Generator,
    side: Side = Side.RIGHT,
) -> Dressed:
    """Return `body` in everyday clothes and with what the condition adds.

    Args:
        body: Without clothes.
        clothes: Of the session.
        condition: What comes on top.
        rng: Draws the very bag, coat or hat.
        side: Which hand carries it.
    """
    wearing = _in_coat(clothes, rng) if condition is Condition.COAT else clothes
    clad = _clad(body, wearing)
    match condition:
        case Condition.BAG:
            return _with_bag(clad, rng, side)
        case Condition.BACKPACK:
            return Dressed(_with_backpack(clad, rng))
        case Condition.HAT:
            return Dressed(_with_hat(clad, rng))
        case Condition.BOX:
            return _with_box(clad, rng)
        case Condition.UMBRELLA:
            return _with_umbrella(clad, rng, side)
        case Condition.TROLLEY:
            return _with_trolley(clad, rng, side)
        case _:
            return Dressed(clad, _idle(rng, side))


def _skirt(rng: np.random.Generator) -> Skirt:
    return Skirt(float(rng.uniform(0.25, 0.9)), float(rng.uniform(0.01, 0.12)))


def _in_coat(clothes: Clothes, rng: np.random.Generator) -> Clothes:
    """Return the clothes below a thick jacket or a coat of any length to below the knee."""
    return replace(
        clothes,
        top_m=clothes.top_m + float(rng.uniform(0.015, 0.045)),
        sleeves_m=clothes.sleeves_m + float(rng.uniform(0.012, 0.035)),
        jacket_hem=float(rng.uniform(0.35, 1.25)),
    )


def _clad(body: Body, clothes: Clothes) -> Body:
    scale = body.height_m / _USUAL_HEIGHT_M
    thickness = {
        Region.TOP: clothes.top_m,
        Region.SLEEVES: clothes.sleeves_m,
        Region.TROUSERS: clothes.trousers_m,
        Region.SHOES: clothes.shoes_m,
        Region.HAIR: clothes.hair_m,
    }
    clad = inflated(body, {part: each * scale for part, each in thickness.items()}, clothes.flare_m)
    z = body.joints[:, 2]
    waist, hip, knee, ankle = (
        float(z[INDEX[each]]) for each in ("spine", "hip_left", "knee_left", "ankle_left")
    )
    if clothes.skirt is not None:
        hem = hip + clothes.skirt.hem * (ankle - hip)
        clad = with_skirt(
            clad, waist, hem, flare_m=clothes.skirt.flare_m * scale, region=Region.TROUSERS
        )
    if clothes.jacket_hem is not None:
        hem = waist + clothes.jacket_hem * (knee - waist)
        clad = with_skirt(
            clad, waist, hem, flare_m=0.015 * scale, region=Region.TOP, ease_m=clothes.top_m * scale
        )
    return _with_hair(clad, clothes)


def _with(body: Body, shape: Shape, joint: str, region: Region = Region.THING) -> Body:
    return body.with_thing(shape.vertices, shape.faces, joint, region)


@dataclass(frozen=True, slots=True, eq=False)
class _Box:
    """Of the head or trunk: its middle and half its size, shape (3,) each."""

    middle: NDArray[np.float32]
    half: NDArray[np.float32]

    @classmethod
    def around(cls, body: Body, *joints: str) -> _Box:
        """Return the box around what mostly follows the joints."""
        share = body.weights[:, [INDEX[each] for each in joints]].sum(axis=1)
        own = body.vertices[share > 0.5]
        low, high = own.min(axis=0), own.max(axis=0)
        return cls((low + high) / 2, (high - low) / 2)


def _with_hair(body: Body, clothes: Clothes) -> Body:
    head = _Box.around(body, "head")
    (x, y, z), (dx, dy, dz) = head.middle, head.half
    thick = clothes.hair_m
    match clothes.hair:
        case Hair.FULL:
            return _with(
                body,
                ellipsoid(
                    (x - 0.12 * dx, y, z + 0.3 * dz),
                    (dx + thick, dy + 0.5 * thick, 0.75 * dz + thick),
                ),
                "head",
                Region.HAIR,
            )
        case Hair.LONG:
            centre, size = (x - 0.45 * dx, y, z - 0.35 * dz), (0.7 * dx, 1.05 * dy, 1.35 * dz)
            return _with(body, ellipsoid(centre, size), "head", Region.HAIR)
        case Hair.BUN:
            bun = 0.035 + thick
            centre = (x - dx - 0.5 * bun, y, z + 0.3 * dz)
            return _with(body, ellipsoid(centre, (bun, bun, bun)), "head", Region.HAIR)
        case Hair.TAIL:
            tail = rod((x - 0.95 * dx, y, z + 0.2 * dz), (x - 1.3 * dx, y, z - 1.6 * dz), 0.025)
            return _with(body, tail, "head", Region.HAIR)
        case _:
            return body


def _with_hat(body: Body, rng: np.random.Generator) -> Body:
    """Return the body with a cap, a hat with a brim, or a hood."""
    head = _Box.around(body, "head")
    (x, y, z), (dx, dy, dz) = head.middle, head.half
    kind = rng.choice(["cap", "brim", "hood"])
    crown = ellipsoid((x, y, z + 0.55 * dz), (1.12 * dx, 1.15 * dy, 0.6 * dz))
    if kind == "cap":
        visor = ellipsoid((x + 1.1 * dx, y, z + 0.5 * dz), (0.6 * dx, 0.8 * dy, 0.012))
        return _with(_with(body, crown, "head"), visor, "head")
    if kind == "brim":
        wide = float(rng.uniform(1.5, 2.1))
        brim = ellipsoid((x, y, z + 0.4 * dz), (wide * dx, wide * dx, 0.02))
        high = crown.moved((0.0, 0.0, float(rng.uniform(0.0, 0.04))))
        return _with(_with(body, high, "head"), brim, "head")
    puff = float(rng.uniform(1.15, 1.4))
    hood = ellipsoid((x - 0.15 * dx, y, z - 0.1 * dz), (puff * dx, puff * dy, 1.15 * dz))
    return _with(body, hood, "head")


def _with_backpack(body: Body, rng: np.random.Generator) -> Body:
    trunk = _Box.around(body, "chest", "spine")
    depth, breadth = float(rng.uniform(0.06, 0.14)), float(rng.uniform(0.12, 0.19))
    height = float(rng.uniform(0.17, 0.30))
    back = float(trunk.middle[0] - trunk.half[0])
    top = float(body.joints[INDEX["shoulder_left"], 2])
    centre = (back - 0.75 * depth, 0.0, top - 0.9 * height)
    return _with(body, rounded_box(centre, (depth, breadth, height), 0.5), "chest")


def _with_bag(body: Body, rng: np.random.Generator, side: Side) -> Dressed:
    """Return the body with a bag in the hand, at the hip, or under the arm on a long strap."""
    if rng.random() < 0.45:
        return _holding(body, _hand_bag(body, rng, side), f"wrist_{side}", side, ArmUse.HOLD_SIDE)
    hip = body.joints[INDEX[f"hip_{side}"]]
    trunk = _Box.around(body, "pelvis")
    half = (rng.uniform(0.12, 0.2), rng.uniform(0.04, 0.08), rng.uniform(0.1, 0.18))
    outside = side.sign * (float(trunk.half[1]) + 0.7 * half[1])
    behind = float(rng.uniform(-0.12, 0.03))
    centre = (float(hip[0]) + behind, outside, float(hip[2]) + float(rng.uniform(-0.05, 0.15)))
    bag = rounded_box(centre, half, 0.4)
    over = Side.RIGHT if side is Side.LEFT and rng.random() < 0.5 else side
    shoulder = body.joints[INDEX[f"shoulder_{over}"]] * (1, 0.7, 1) + (0, 0, 0.05)
    strapped = _with(body, rod(shoulder, centre, 0.015), "spine")
    use = ArmUse.HOLD_SIDE if rng.random() < 0.5 else ArmUse.SWING
    return _holding(strapped, bag, "spine", side, use)


def _hand_bag(body: Body, rng: np.random.Generator, side: Side) -> Shape:
    wrist = body.joints[INDEX[f"wrist_{side}"]]
    half = (rng.uniform(0.1, 0.24), rng.uniform(0.04, 0.09), rng.uniform(0.1, 0.2))
    below = 0.1 + half[2] + float(rng.uniform(0.0, 0.12))
    lowest = 0.05 + half[2]
    centre = (float(wrist[0]), float(wrist[1]), max(float(wrist[2]) - below, lowest))
    return rounded_box(centre, half, float(rng.uniform(0.25, 0.6)))


def _with_box(body: Body, rng: np.random.Generator) -> Dressed:
    trunk = _Box.around(body, "chest", "spine")
    half = (rng.uniform(0.1, 0.18), rng.uniform(0.14, 0.25), rng.uniform(0.08, 0.18))
    front = float(trunk.middle[0] + trunk.half[0]) + half[0] + 0.02
    height = float(body.joints[INDEX["elbow_left"], 2]) + float(rng.uniform(0.0, 0.12))
    box = rounded_box((front, 0.0, height), half, 0.15)
    return Dressed(_with(body, box, "spine"), Arms(ArmUse.HOLD_FRONT, ArmUse.HOLD_FRONT))


def _with_umbrella(body: Body, rng: np.random.Generator, side: Side) -> Dressed:
    top = float(body.vertices[:, 2].max()) + float(rng.uniform(0.15, 0.3))
    radius = float(rng.uniform(0.42, 0.58))
    ahead, aside = 0.12, side.sign * 0.12
    cover = dome((ahead, aside, top), radius, float(rng.uniform(0.18, 0.3)))
    hand = float(body.joints[INDEX["elbow_left"], 2]) + 0.12
    stick = rod((ahead + 0.1, aside, hand), (ahead, aside, top), 0.012)
    return _holding(_with(body, stick, "chest"), cover, "chest", side, ArmUse.RAISED)


def _with_trolley(body: Body, rng: np.random.Generator, side: Side) -> Dressed:
    half = (rng.uniform(0.1, 0.16), rng.uniform(0.15, 0.24), rng.uniform(0.24, 0.36))
    behind, aside = -float(rng.uniform(0.5, 0.65)), side.sign * 0.25
    case = rounded_box((behind, aside, half[2] + 0.04), half, 0.2)
    wrist = body.joints[INDEX[f"wrist_{side}"]]
    handle = rod((behind, aside, 2 * half[2]), wrist, 0.02)
    return _holding(_with(body, handle, "pelvis"), case, "pelvis", side, ArmUse.HOLD_SIDE)


def _holding(body: Body, thing: Shape, joint: str, side: Side, use: ArmUse) -> Dressed:
    held = _with(body, thing, joint)
    return Dressed(held, _arms(side, use))


def _arms(side: Side, use: ArmUse) -> Arms:
    return Arms(left=use) if side is Side.LEFT else Arms(right=use)


def _idle(rng: np.random.Generator, side: Side) -> Arms:
    """Return what arms do that carry nothing: mostly swing, now and then a pocket or a phone."""
    use = rng.choice(["swing", "pocket", "raised"], p=[0.88, 0.08, 0.04])
    return _arms(side, ArmUse(str(use)))
