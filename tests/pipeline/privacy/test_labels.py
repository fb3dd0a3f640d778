"""A pseudonym names somebody only where its gallery gave it."""

from __future__ import annotations

import pytest

from pipeline.privacy.labels import Labels, UnclearGallery

ANNA = Labels(frozenset({"Anna"}), {"a": frozenset({"person-1"}), "b": frozenset({"person-7"})})


@pytest.mark.parametrize(
    ("values", "gallery", "is_theirs"),
    [
        (["Anna"], "elsewhere", True),
        (["Anna"], None, True),
        (["person-1", 3, None], "a", True),
        (["person-7"], "a", False),
        (["person-7"], "b", True),
        (["person-1"], "elsewhere", False),
        (["person-2"], None, False),
    ],
)
def test_names_count_everywhere_and_pseudonyms_in_their_gallery(
    values: list[object], gallery: str | None, is_theirs: bool
) -> None:
    assert ANNA.are_among(values, gallery) is is_theirs


def test_what_does_not_say_whose_it_is_counts_only_while_there_is_no_doubt() -> None:
    with pytest.raises(UnclearGallery, match="of which gallery person-7 is"):
        ANNA.are_among(["person-7"], None)
    assert Labels(pseudonyms={"b": frozenset({"person-7"})}).are_among(["person-7"], None)
