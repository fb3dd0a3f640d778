from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gait.errors import RuntimeUnavailable
from gait.runtimes.session import Port, Profile
from gait.runtimes.tensorrt_profiles import (
    check_ranges,
    default_ranges,
    fit,
    ranges_from_json,
    ranges_to_json,
)

FLOAT = np.dtype(np.float32)
SILHOUETTES = Port("silhouettes", ("batch", "frames", 4, 3), FLOAT)
LENGTHS = Port("lengths", ("batch",), np.dtype(np.int64))


def walks(batch: int, frames: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).random((batch, frames, 4, 3), np.float32)


def test_our_graphs_are_built_for_the_batches_and_lengths_that_are_served() -> None:
    usual, long = default_ranges((SILHOUETTES, LENGTHS))
    assert usual["silhouettes"] == Profile((1, 8, 4, 3), (8, 30, 4, 3), (64, 128, 4, 3))
    assert usual["lengths"] == Profile((1,), (8,), (64,))
    assert long["silhouettes"].most == (8, 1024, 4, 3)
    short = default_ranges((SILHOUETTES,))[2]
    assert (short["silhouettes"].least[1], short["silhouettes"].most[1]) == (1, 8)


def test_a_free_first_axis_of_any_graph_is_its_batch_and_fixed_graphs_need_nothing() -> None:
    (ranges,) = default_ranges((Port("images", ("n", 3, 640, 640), FLOAT),))
    assert ranges["images"] == Profile((1, 3, 640, 640), (8, 3, 640, 640), (64, 3, 640, 640))
    assert default_ranges((Port("images", (1, 3, 640, 640), FLOAT),)) == ({},)


def test_another_free_axis_has_to_be_explained() -> None:
    with pytest.raises(RuntimeUnavailable, match=r"images: axis 2 \(height\) is free"):
        default_ranges((Port("images", (1, 3, "height", "width"), FLOAT),))


@pytest.mark.parametrize(
    ("profiles", "message"),
    [
        ((), "at least one"),
        (({"other": Profile((1,), (1,), (1,))},), "got other"),
        (({"lengths": Profile((1,), (1,), (1,))},), "silhouettes: has free axes"),
        (
            (
                {
                    "silhouettes": Profile((1, 9, 4, 3), (1, 8, 4, 3), (1, 9, 4, 3)),
                    "lengths": Profile((1,), (1,), (1,)),
                },
            ),
            "least <= usual",
        ),
    ],
)
def test_profiles_that_do_not_fit_the_graph_are_refused(profiles: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_ranges(profiles, (SILHOUETTES, LENGTHS))


def test_ranges_survive_being_written_down() -> None:
    ranges = default_ranges((SILHOUETTES, LENGTHS))
    assert ranges_from_json(ranges_to_json(ranges)) == ranges


def test_of_several_ranges_that_hold_an_input_the_first_is_taken() -> None:
    ranges = default_ranges((SILHOUETTES,))
    indices = [
        fit({"silhouettes": walks(2, frames)}, (SILHOUETTES,), ranges)[0].index
        for frames in (1, 7, 8, 128, 129, 1024)
    ]
    assert indices == [2, 2, 0, 0, 1, 1]


def test_without_lengths_nothing_is_padded_and_the_refusal_names_the_ranges() -> None:
    ranges = default_ranges((SILHOUETTES,))[:1]
    with pytest.raises(ValueError, match=r"frames 8 to 128\), got batch 2, frames 7; split"):
        fit({"silhouettes": walks(2, 7)}, (SILHOUETTES,), ranges)


def test_a_batch_is_cut_into_as_few_calls_as_hold_it() -> None:
    ranges = default_ranges((SILHOUETTES,))
    calls = [
        [len(call.feeds["silhouettes"]) for call in fit({"silhouettes": x}, (SILHOUETTES,), ranges)]
        for x in (walks(64, 8), walks(130, 8), walks(20, 200))
    ]
    assert calls == [[64], [64, 64, 2], [8, 8, 4]]
