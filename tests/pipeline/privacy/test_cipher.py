"""What is sealed is secret, whole, and opens only with its key and in its place."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import ConfigError, PrivacyError
from pipeline.privacy.cipher import OVERHEAD_BYTES, Cipher, is_sealed
from pipeline.privacy.keys import KeyConfig, derived, make_key_file, read_keys

OLD, NEW, OTHER = (bytes([number]) * 32 for number in range(3))


@settings(deadline=None)
@given(plain=st.binary(max_size=300), of=st.binary(max_size=40))
def test_what_was_sealed_opens_again(plain: bytes, of: bytes) -> None:
    sealed = Cipher([OLD]).seal(plain, of=of)
    assert is_sealed(sealed)
    assert len(sealed) == len(plain) + OVERHEAD_BYTES
    assert Cipher([OLD]).open(sealed, of=of) == plain


@settings(deadline=None)
@given(data=st.data(), plain=st.binary(max_size=60))
def test_one_changed_bit_anywhere_is_noticed(data: st.DataObject, plain: bytes) -> None:
    sealed = bytearray(Cipher([OLD]).seal(plain, of=b"row 1"))
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(PrivacyError):
        Cipher([OLD]).open(bytes(sealed), of=b"row 1")


@settings(deadline=None)
@given(data=st.data())
def test_what_was_cut_or_is_anything_else_is_refused(data: st.DataObject) -> None:
    sealed = Cipher([OLD]).seal(b"walk", of=b"row 1")
    cut = sealed[: data.draw(st.integers(0, len(sealed) - 1))]
    for blob in (cut, data.draw(st.binary(max_size=100))):
        with pytest.raises(PrivacyError):
            Cipher([OLD]).open(blob, of=b"row 1")


def test_it_does_not_open_in_another_place() -> None:
    sealed = Cipher([OLD]).seal(b"walk", of=b"row 1")
    with pytest.raises(PrivacyError, match="moved from another place"):
        Cipher([OLD]).open(sealed, of=b"row 2")


def test_sealing_twice_gives_nothing_away() -> None:
    cipher = Cipher([OLD])
    first, second = (cipher.seal(b"the same walk", of=b"row 1") for _ in range(2))
    assert first != second
    assert b"walk" not in first


def test_another_key_is_named_as_what_is_missing() -> None:
    sealed = Cipher([OLD]).seal(b"walk", of=b"row 1")
    with pytest.raises(PrivacyError, match="not among the 1 given; add the key"):
        Cipher([OTHER]).open(sealed, of=b"row 1")


def test_after_a_rotation_old_seals_open_and_are_told_from_new_ones() -> None:
    old = Cipher([OLD]).seal(b"walk", of=b"row 1")
    rotated = Cipher([NEW, OLD])
    assert rotated.open(old, of=b"row 1") == b"walk"
    assert not rotated.is_current(old)
    new = rotated.seal(b"walk", of=b"row 1")
    assert rotated.is_current(new)
    assert Cipher([NEW]).open(new, of=b"row 1") == b"walk"


@pytest.mark.parametrize("keys", [[], [b"short"], [OLD, b"x" * 33]])
def test_keys_of_another_length_are_refused(keys: list[bytes]) -> None:
    with pytest.raises(ValueError, match="each of 32 bytes"):
        Cipher(keys)


def test_each_use_of_a_key_has_its_own() -> None:
    assert len({derived(OLD, "seal"), derived(OLD, "name"), derived(OLD, "sign"), OLD}) == 4


def test_a_key_file_is_its_owners_alone_and_rotation_puts_the_new_key_first(tmp_path: Path) -> None:
    path = tmp_path / "new" / "site.key"
    config = KeyConfig(file=str(path))
    assert make_key_file(path) == 1
    assert path.stat().st_mode & 0o777 == 0o600
    (first,) = read_keys(config)
    assert make_key_file(path, rotate=True) == 2
    assert path.stat().st_mode & 0o777 == 0o600
    new, old = read_keys(config)
    assert old == first != new
    assert [each.name for each in path.parent.iterdir()] == ["site.key"]


def test_a_key_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "site.key"
    make_key_file(path)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="a key is there already"):
        make_key_file(path)
    assert path.read_bytes() == before


def test_rotating_what_is_not_there_or_no_key_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "site.key"
    with pytest.raises(ConfigError, match="cannot be read"):
        make_key_file(path, rotate=True)
    path.write_text("dear diary")
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="expected 32 bytes in base64"):
        make_key_file(path, rotate=True)
    assert path.read_text() == "dear diary"


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "site.key"
    make_key_file(path)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        Cipher.load(KeyConfig(file=str(path)))


def test_keys_may_be_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    words = [base64.b64encode(key).decode() for key in (NEW, OLD)]
    monkeypatch.setenv("SITE_KEY", " ".join(words))
    assert read_keys(KeyConfig(variable="SITE_KEY")) == (NEW, OLD)


@pytest.mark.parametrize(
    "text", ["", "  ", "hunter2hunter2", base64.b64encode(b"too short: hunter2").decode(), "ä" * 44]
)
def test_what_is_no_key_is_refused_without_showing_it(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SITE_KEY", text)
    with pytest.raises(ConfigError) as caught:
        read_keys(KeyConfig(variable="SITE_KEY"))
    assert "SITE_KEY" in str(caught.value)
    assert not text.strip() or text not in str(caught.value)


def test_the_key_is_either_in_the_environment_or_in_a_file() -> None:
    for given_ in ({}, {"variable": "A", "file": "b"}):
        with pytest.raises(ValueError, match="either variable or file"):
            KeyConfig(**given_)
