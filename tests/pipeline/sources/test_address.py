import logging
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from pipeline.sources.address import Address, read_password

HARD = "p@s:s/w#o?r%d%40&=+ ü"


def test_an_address_without_credentials_stays_as_it_is() -> None:
    address = Address.parse("rtsp://10.0.0.7:554/axis-media/media.amp?videocodec=h264")
    assert address.url == str(address) == "rtsp://10.0.0.7:554/axis-media/media.amp?videocodec=h264"


@pytest.mark.parametrize("text", ["/dev/video0", "clip.mp4", "C:@host"])
def test_a_path_is_no_address_of_a_host(text: str) -> None:
    assert Address.parse(text).url == text


@pytest.mark.parametrize("password", [HARD, "a", "@", "/", "%", "#?", "p%zz", "${X}"])
def test_a_password_from_a_variable_reaches_the_camera_whatever_it_holds(password: str) -> None:
    address = Address.parse("rtsp://guard:${PW}@cam:554/s?x=1", {"PW": password})
    parts = urlsplit(address.url)
    assert (parts.hostname, parts.port, parts.path) == ("cam", 554, "/s")
    assert unquote(parts.password or "") == password
    assert str(address) == "rtsp://guard:***@cam:554/s?x=1"


@pytest.mark.parametrize(
    ("written", "password"),
    [
        ("p@ss", "p@ss"),
        ("a:b", "a:b"),
        ("a#b?c", "a#b?c"),
        ("a/b", "a/b"),
        ("a%40b", "a@b"),
        ("100%", "100%"),
    ],
)
def test_a_password_that_is_written_out_may_hold_what_urls_use(written: str, password: str) -> None:
    address = Address.parse(f"rtsp://guard:{written}@cam/s")
    parts = urlsplit(address.url)
    assert parts.hostname == "cam"
    assert unquote(parts.password or "") == password


def test_an_at_sign_in_the_path_is_no_sign_of_credentials() -> None:
    assert Address.parse("rtsp://cam:554/live@1").secrets == ()
    assert Address.parse("rtsp://cam/live@1").url == "rtsp://cam/live@1"


def test_a_token_in_the_query_is_hidden_too() -> None:
    address = Address.parse("http://cam/stream.m3u8?user=a&token=s3cret&x=1")
    assert str(address) == "http://cam/stream.m3u8?user=a&token=***&x=1"
    assert "s3cret" not in address.without_secrets("GET /stream.m3u8?token=s3cret failed")


@given(st.text(alphabet=st.characters(exclude_categories=["C"]), min_size=1, max_size=20))
def test_no_spelling_of_a_password_is_ever_printed(password: str) -> None:
    address = Address.parse("rtsp://guard:${PW}@cam/s", {"PW": password})
    assert f"guard:{password}@" not in f"{address} {address!r}" or password == "***"
    quoted = f"cannot open {address.url}: 401 for guard with password [{password}]"
    cleaned = address.without_secrets(quoted)
    assert address.url not in cleaned
    assert password not in cleaned.replace("***", "") or password in (
        "cannot open rtsp://guard:@cam/s: 401 for guard with password []"
    )


def test_a_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(ConfigError, match="GATE_PASSWORD"):
        Address.parse("rtsp://guard:${GATE_PASSWORD}@cam/s", {})


def test_an_address_without_a_host_is_refused_without_quoting_it() -> None:
    with pytest.raises(ConfigError, match="expected a host") as caught:
        Address.parse("rtsp://guard:hunter2@/s")
    assert "hunter2" not in str(caught.value)


@given(st.text(st.characters(codec="utf-8"), min_size=1))
def test_a_password_from_elsewhere_reaches_the_camera_and_is_hidden(password: str) -> None:
    address = Address.parse("rtsp://guard@cam:554/s?token=t0ken").with_password(password)
    parts = urlsplit(address.url)
    assert (parts.username, parts.hostname, parts.path) == ("guard", "cam", "/s")
    assert unquote(parts.password or "") == password
    assert str(address) == "rtsp://guard:***@cam:554/s?token=***"
    assert {password, "t0ken"} <= set(address.secrets)


def test_a_password_from_elsewhere_replaces_the_one_before() -> None:
    address = Address.parse("rtsp://guard@cam/s").with_password("old").with_password("n/e@w")
    assert unquote(urlsplit(address.url).password or "") == "n/e@w"
    assert str(address) == "rtsp://guard:***@cam/s"


@pytest.mark.parametrize("text", ["rtsp://cam/s", "clip.mp4"])
def test_a_password_without_a_user_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected a user"):
        Address.parse(text).with_password("hunter2")


def test_a_password_is_the_first_line_of_its_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "secret"
    file.write_text("p@ss word \r\nnot this\n", encoding="utf-8", newline="")
    file.chmod(0o600)
    with caplog.at_level(logging.WARNING):
        assert read_password(file) == "p@ss word "
        assert not caplog.records
        file.chmod(0o644)
        assert read_password(file) == "p@ss word "
    assert "chmod 600" in caplog.text
    assert "p@ss" not in caplog.text


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe"])
def test_a_file_without_a_password_is_refused_in_words(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="password_file"):
        read_password(file)
    with pytest.raises(ConfigError, match="No such file"):
        read_password(tmp_path / "nowhere")
