from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gait.errors import DataError
from gait.synthetic.ground_truth import decode_rle, encode_rle, tight_box


def naive_runs(mask: np.ndarray) -> list[int]:
    """Run lengths by the book: walk down the columns, the background's run first."""
    pixels = [bool(mask[row, col]) for col in range(mask.shape[1]) for row in range(mask.shape[0])]
    runs = [len([*same]) for _, same in groupby(pixels)]
    return [0, *runs] if pixels[0] else runs


def naive_decode(counts: str, hw: tuple[int, int]) -> np.ndarray:
    """What COCO's description says, a character and a pixel at a time."""
    runs: list[int] = []
    at = 0
    while at < len(counts):
        value, shift, more = 0, 0, True
        while more:
            code = ord(counts[at]) - 48
            value += (code % 32) * 2**shift
            more, shift, at = code >= 32, shift + 5, at + 1
            if not more and code >= 16:
                value -= 2**shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    flat = [bool(number % 2) for number, run in enumerate(runs) for _ in range(run)]
    return np.array([[flat[col * hw[0] + row] for col in range(hw[1])] for row in range(hw[0])])


@st.composite
def masks(draw: st.DrawFn) -> np.ndarray:
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    coarse = np.random.default_rng(draw(st.integers(0, 9999))).random((height, width))
    return np.kron(coarse < draw(st.floats(0, 1)), np.ones((3, 3), bool))


@settings(max_examples=60, deadline=None)
@given(mask=masks())
def test_any_mask_survives_the_encoding(mask: np.ndarray) -> None:
    counts = encode_rle(mask, 0, 0, mask.shape)
    assert (decode_rle(counts, mask.shape) == mask).all()
    assert (naive_decode(counts, mask.shape) == mask).all()


@settings(max_examples=30, deadline=None)
@given(mask=masks(), left=st.integers(0, 9), top=st.integers(0, 9))
def test_a_patch_is_encoded_like_the_frame_it_lies_in(
    mask: np.ndarray, left: int, top: int
) -> None:
    frame = np.zeros((mask.shape[0] + 12, mask.shape[1] + 9), bool)
    frame[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    assert encode_rle(mask, left, top, frame.shape) == encode_rle(frame, 0, 0, frame.shape)


def test_the_characters_are_those_pycocotools_writes() -> None:
    ring = np.zeros((5, 6), bool)
    ring[1:4, 2:5] = True
    ring[2, 3] = False
    assert encode_rle(ring, 0, 0, (5, 6)) == ";32NO0124"
    person = np.zeros((480, 640), bool)
    person[100:300, 200:260] = True
    person[150, 220:223] = False
    # recorded from pycocotools 2
    expected = "Tkm2X6h8" + "0" * 38 + "ZKYGS3g8mLYGS3g8mLYGS3g8c1" + "0" * 72 + "lPb5"
    assert encode_rle(person, 0, 0, (480, 640)) == expected
    assert naive_runs(ring) == [11, 3, 2, 1, 1, 1, 2, 3, 6]


def test_damaged_run_lengths_are_refused() -> None:
    counts = encode_rle(np.ones((4, 4), bool), 0, 0, (4, 4))
    with pytest.raises(DataError, match=r"expected 20 pixels \(4 x 5\), got 16"):
        decode_rle(counts, (4, 5))


def test_a_box_is_tight_and_nothing_has_none() -> None:
    mask = np.zeros((9, 9), bool)
    assert tight_box(mask) is None
    mask[2:5, 3] = mask[4, 3:8] = True
    assert tight_box(mask) == (3, 2, 5, 3)
