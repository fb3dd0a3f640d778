"""A scene as video: frames of each camera, and the ground truth beside them.

    for shot in shoot(scene, outlook, background):
        shot.image, shot.appearances

`write_scene` makes the folder:

    OUT/scene.json         what was drawn: seed, cameras, people
    OUT/NAME.mp4           one a camera, H.264
    OUT/NAME/gt/gt.txt     boxes and track ids, MOTChallenge
    OUT/NAME/seqinfo.ini   MOTChallenge
    OUT/NAME/masks.json    masks, track ids and identities, COCO
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gait.data.atomic import write_atomically
from gait.errors import DataError
from gait.synthetic.background import Background, from_file, traced
from gait.synthetic.ground_truth import Appearance, CameraTruth, encode_rle
from gait.synthetic.mp4 import Mp4
from gait.synthetic.scene import Outlook, Scene
from gait.synthetic.schedule import Visit
from gait.synthetic.staging import Actor, Image, Visible, stage

_BLUR_SIGMA_PX = 0.55
_NOISE_ROOM_PX = 64
_BACK_AFTER_S = 1.0
_FEWEST_PIXELS = 12
"""Somebody of whom fewer pixels are visible is not in the ground truth."""
_PURPOSE_BACKGROUND, _PURPOSE_FILM, _PURPOSE_CLOTH = 10, 11, 12


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """One frame of one camera.

    Attributes:
        frame: Counted from 0.
        image: Shape (H, W, 3), uint8, BGR.
        appearances: Everybody visible, from far to near.
    """

    frame: int
    image: Image
    appearances: tuple[Appearance, ...]


def backgrounds(scene: Scene, files: Sequence[Path] = ()) -> list[Background]:
    """Return what each camera sees when nobody is there.

    Args:
        scene: Its places are traced where there are no files.
        files: Pictures or videos: one for all cameras, or one a camera.

    Raises:
        DataError: There is another number of files, or one cannot be read.
    """
    outlooks, config = scene.outlooks, scene.config
    if not files:
        rngs = [
            np.random.default_rng([config.seed, _PURPOSE_BACKGROUND, at])
            for at in range(len(outlooks))
        ]
        return [
            traced(scene.places[each.place], each.camera, rng)
            for each, rng in zip(outlooks, rngs, strict=True)
        ]
    if len(files) not in (1, len(outlooks)):
        raise DataError(
            f"backgrounds: expected one file or one for each of {len(outlooks)} cameras, "
            f"got {len(files)}"
        )
    read = [from_file(path, config.width, config.height) for path in files]
    return read * len(outlooks) if len(read) == 1 else read


def shoot(
    scene: Scene, outlook: Outlook, background: Background, noise: float = 1.5
) -> Iterator[Shot]:
    """Yield the frames of one camera.

    Args:
        scene: What happens.
        outlook: One of the scene's cameras.
        background: What it sees when nobody is there.
        noise: Standard deviation of the sensor's noise in grey levels. Higher looks more like a
            camera at dusk, at the price of larger files.
    """
    at = scene.outlooks.index(outlook)
    film = _Film(outlook, noise, np.random.default_rng([scene.config.seed, _PURPOSE_FILM, at]))
    cast = _Cast(scene, outlook.place)
    tracks = _Tracks(round(_BACK_AFTER_S * scene.config.fps))
    light = scene.places[outlook.place].light
    for frame in range(scene.config.num_frames):
        image = background.image.copy()
        seen = stage(image, background, outlook.camera, light, cast.actors(frame))
        found = (_appearance(frame, tracks, scene, each, image.shape[:2]) for each in seen)
        yield Shot(frame, film.exposed(image), tuple(each for each in found if each))


def _appearance(
    frame: int, tracks: _Tracks, scene: Scene, seen: Visible, hw: tuple[int, int]
) -> Appearance | None:
    tracks.present(seen.key, frame)
    if seen.box is None or seen.area < _FEWEST_PIXELS:
        return None
    return Appearance(
        frame=frame,
        track_id=tracks.id_of(seen.key),
        identity=scene.extras[seen.key].identity,
        box=seen.box,
        full_box=seen.full_box,
        area=seen.area,
        visible=seen.share,
        counts=encode_rle(seen.mask, seen.left, seen.top, hw),
    )


class _Cast:
    """Who is in a place, frame after frame; a walk is posed when it begins and then forgotten."""

    def __init__(self, scene: Scene, place: int) -> None:
        self._scene, self._place = scene, place
        self._visits = [each for each in scene.visits if each.place == place]
        self._posed: dict[int, NDArray[np.float32]] = {}
        self._colours: dict[int, Image] = {}

    def actors(self, frame: int) -> list[Actor]:
        """Return everybody who is in the place."""
        present = [
            at for at, each in enumerate(self._visits) if each.first_frame <= frame < each.end_frame
        ]
        for at in set(self._posed) - set(present):
            del self._posed[at]
        return [self._actor(at, self._visits[at], frame) for at in present]

    def _actor(self, at: int, visit: Visit, frame: int) -> Actor:
        outfit = self._scene.extras[visit.extra].outfits[self._place]
        body = outfit.dressed.body
        if at not in self._posed:
            self._posed[at] = body.posed(visit.motion)
        if visit.extra not in self._colours:
            seed = [self._scene.config.seed, _PURPOSE_CLOTH, visit.extra, self._place]
            rng = np.random.default_rng(seed)
            self._colours[visit.extra] = outfit.palette.of_faces(body, rng)
        step = frame - visit.first_frame
        x, y = visit.motion.position[step].tolist()
        return Actor(
            visit.extra, self._posed[at][step], body.faces, self._colours[visit.extra], (x, y)
        )


class _Tracks:
    """Track ids of one camera; who comes back into its view after a second gets a new one."""

    def __init__(self, longest_gap: int) -> None:
        self._longest_gap = longest_gap
        self._last: dict[int, int] = {}
        self._ids: dict[int, int] = {}
        self._count = 0

    def present(self, key: int, frame: int) -> None:
        """Note that somebody is within the frame, hidden or not; frames must rise."""
        if frame - self._last.get(key, frame) > self._longest_gap:
            self._ids.pop(key, None)
        self._last[key] = frame

    def id_of(self, key: int) -> int:
        """Return the id of somebody who is visible."""
        if key not in self._ids:
            self._count += 1
            self._ids[key] = self._count
        return self._ids[key]


class _Film:
    """What lens and sensor make of the light: a little blur, a cast of colour, noise."""

    def __init__(self, outlook: Outlook, noise: float, rng: np.random.Generator) -> None:
        self._rng = rng
        levels = np.arange(256)[:, None] * np.array(outlook.gains)
        self._curve = np.clip(levels, 0, 255).astype(np.uint8).reshape(256, 1, 3)
        self._hw = outlook.camera.height, outlook.camera.width
        room = (self._hw[0] + _NOISE_ROOM_PX, self._hw[1] + _NOISE_ROOM_PX, 3)
        grain = np.rint(rng.normal(0, noise, room))
        self._more = np.clip(grain, 0, 255).astype(np.uint8)
        self._less = np.clip(-grain, 0, 255).astype(np.uint8)

    def exposed(self, image: Image) -> Image:
        """Return the frame as the camera gives it."""
        x, y = self._rng.integers(0, _NOISE_ROOM_PX, 2).tolist()
        window = (slice(y, y + self._hw[0]), slice(x, x + self._hw[1]))
        soft = cv2.LUT(cv2.GaussianBlur(image, (3, 3), _BLUR_SIGMA_PX), self._curve)
        noisy = cv2.subtract(cv2.add(soft, self._more[window]), self._less[window])
        return np.asarray(noisy, dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """How a scene is written.

    Attributes:
        backgrounds: Pictures or videos for the cameras; none traces the places.
        calibrated: Whether scene.json says where the cameras are.
        noise: As for `shoot`.
        crf: H.264's constant rate factor, 0..51. Higher makes smaller files, at the price of
            detail.
    """

    backgrounds: tuple[Path, ...] = field(default=())
    calibrated: bool = True
    noise: float = 1.5
    crf: int = 23


def write_scene(
    scene: Scene,
    out: Path,
    options: WriteOptions | None = None,
    on_frame: Callable[[str], None] = lambda camera: None,
) -> list[CameraTruth]:
    """Render a scene into a folder that is there whole or not at all.

    Args:
        scene: What happens.
        out: The folder; must not exist.
        options: How.
        on_frame: Called with a camera's name after each of its frames.

    Returns:
        The ground truth of each camera.

    Raises:
        DataError: The folder exists or cannot be written, or a background cannot be read.
    """
    options = options or WriteOptions()
    if out.exists():
        raise DataError(f"{out}: exists already; choose another folder, or remove this one")
    partial = out.with_name(f".{out.name}.part")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        truths = _write(scene, partial, options, on_frame)
        partial.rename(out)
        return truths
    except OSError as error:
        raise DataError(
            f"{out}: cannot write it ({error.strerror or error}); choose a folder that is "
            "writable and has room"
        ) from error
    finally:
        with suppress(OSError):
            shutil.rmtree(partial)


def _write(
    scene: Scene, folder: Path, options: WriteOptions, on_frame: Callable[[str], None]
) -> list[CameraTruth]:
    config = scene.config
    truths = []
    empty = backgrounds(scene, options.backgrounds)
    for outlook, background in zip(scene.outlooks, empty, strict=True):
        truth = CameraTruth(outlook.name, config.width, config.height, config.fps)
        size = config.width, config.height
        with Mp4(folder / f"{outlook.name}.mp4", size, config.fps, options.crf) as video:
            for shot in shoot(scene, outlook, background, options.noise):
                video.add(shot.image)
                truth.appearances.extend(shot.appearances)
                on_frame(outlook.name)
        truth.write(folder / outlook.name, config.num_frames)
        truths.append(truth)
    text = json.dumps(_described(scene, options), indent=1)
    write_atomically(folder / "scene.json", text.encode() + b"\n")
    return truths


def _described(scene: Scene, options: WriteOptions) -> dict[str, Any]:
    config = scene.config
    return {
        "seed": config.seed,
        "fps": config.fps,
        "num_frames": config.num_frames,
        "layout": config.layout.value,
        "colours": config.colours.value,
        "background": "file" if options.backgrounds else "procedural",
        "cameras": [_camera(each, calibrated=options.calibrated) for each in scene.outlooks],
        "people": [
            {"identity": each.identity, "index": each.person.index, "carries": each.condition.value}
            for each in scene.extras
        ],
        "visits": [
            {
                "identity": scene.extras[each.extra].identity,
                "place": each.place,
                "start_s": round(each.first_frame / config.fps, 3),
                "end_s": round(each.end_frame / config.fps, 3),
            }
            for each in scene.visits
        ],
    }


def _camera(outlook: Outlook, *, calibrated: bool) -> dict[str, Any]:
    return {
        "name": outlook.name,
        "file": f"{outlook.name}.mp4",
        "place": outlook.place,
        "width": outlook.camera.width,
        "height": outlook.camera.height,
        "calibration": outlook.camera.calibration() if calibrated else None,
    }
