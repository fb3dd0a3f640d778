"""What `trackletgait run` can be told: cameras, models, where events go. Passwords stay hidden."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, JsonValue, SecretStr, field_validator, model_validator

from gait.strict import StrictModel
from gait.yaml_config import apply_override, expand_variables, read_with_bases, validate
from pipeline.config import PipelineConfig
from pipeline.errors import ConfigError
from pipeline.live.overload import OverloadConfig
from pipeline.privacy.limits import RetentionConfig
from pipeline.recording.config import PublishSetting, RecordingConfig, address_alone
from pipeline.sinks.live import is_loopback
from pipeline.sinks.live_config import LiveSinkConfig
from pipeline.sources.address import HIDDEN, Address, read_password
from pipeline.sources.camera import CameraConfig
from pipeline.sources.cameras import BatchingConfig

_NAME = re.compile(r"\w[\w .:-]{0,63}")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SECRET_KEY = re.compile(
    r"(pass|secret|token|api_?key|headers|authorization)(?!\w*_(file|key)$)", re.IGNORECASE
)
_SHORTEST_SECRET = 4
_SHORTEST_TOKEN = 16
_OWN_SINKS = ("sightings.jsonl", "events.jsonl", "console")  # what every run may have
_KEEPS_NOTHING = ("cameras", "publish", "metrics", "control_http")
_SENDS_AWAY = ("mqtt", "webhook", "zmq")
_SCHEMES = ("rtsp", "rtsps", "http", "https", "rtmp", "rtmps", "srt", "udp", "rtp", "tcp", "file")


class MetricsConfig(StrictModel):
    """Where metrics and health are served over HTTP.

    Attributes:
        host: Address to listen on. "0.0.0.0" lets other machines ask, who then see the cameras'
            names and states.
        port: Port to listen on.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=9464, ge=0, le=65535)


class HttpControlConfig(StrictModel):
    """Commands over HTTP, on the port of `metrics`: /status and /control.

    Without a token everybody on this machine may command; nobody else can, for then `metrics.host`
    must be this machine.

    Attributes:
        token: What `Authorization: Bearer` must say, at least 16 characters; best as
            "${CONTROL_TOKEN}", never printed.
        token_file: File whose first line is the token, instead of `token`. Only its owner should
            be able to read it.
    """

    token: SecretStr | None = Field(default=None, min_length=_SHORTEST_TOKEN)
    token_file: str | None = None

    @model_validator(mode="after")
    def _one_or_none(self) -> HttpControlConfig:
        if self.token is not None and self.token_file is not None:
            raise ValueError("expected token or token_file, got both")
        return self

    def read_token(self) -> str | None:
        """Return the token, None without one.

        Raises:
            ConfigError: Its file cannot be read, or holds none that is long enough.
        """
        if self.token_file is None:
            return None if self.token is None else self.token.get_secret_value()
        token = read_password(Path(self.token_file), key="control_http.token_file")
        if len(token) < _SHORTEST_TOKEN:
            raise ConfigError(
                f"control_http.token_file: expected at least {_SHORTEST_TOKEN} characters in the "
                f"first line of {self.token_file}, got {len(token)}"
            )
        return token


class LiveConfig(StrictModel):
    """A run over live cameras. A YAML file holds only what differs.

    Attributes:
        cameras: Each by its name: an address, or a block with `url` and how patient to be.
        batching: When frames of several cameras go through the models together.
        overload: When something gives way because the machine is too slow.
        pipeline: The models, as for recorded files; `runtime` and `output` do not apply.
        sinks: Where events go besides the --out folder.
        recording: Clips around the people in view; null records nothing.
        publish: RTSP server that every camera's live picture is pushed to, an address with
            `{camera}` in it or a block; null pushes nothing.
        retention: How long data are kept, as `trackletgait purge` removes them.
        metrics: Where metrics are served; null serves none.
        control: Unix socket of `trackletgait top` and of commands, in the --out folder unless the
            path is absolute; null opens none.
        control_http: Commands over HTTP too, where metrics are served; null obeys none.
        end_after_s: Seconds a camera may give no frames before its people count as gone. Higher
            bridges nothing (a new connection begins anew), it only tells later that they left.
    """

    cameras: dict[str, Annotated[CameraConfig, BeforeValidator(address_alone)]] = Field(
        default_factory=dict
    )
    batching: BatchingConfig = BatchingConfig()
    overload: OverloadConfig = OverloadConfig()
    pipeline: PipelineConfig = PipelineConfig()
    sinks: list[LiveSinkConfig] = Field(default_factory=list)
    recording: RecordingConfig | None = None
    publish: PublishSetting | None = None
    retention: RetentionConfig = RetentionConfig()
    metrics: MetricsConfig | None = None
    control: str | None = "control.sock"
    control_http: HttpControlConfig | None = None
    end_after_s: float = Field(default=5.0, gt=0)

    @field_validator("cameras")
    @classmethod
    def _names_can_be_used(cls, cameras: dict[str, CameraConfig]) -> dict[str, CameraConfig]:
        for name in cameras:
            check_name(name)
        return cameras

    @field_validator("sinks")
    @classmethod
    def _sinks_can_be_told_apart(cls, sinks: list[LiveSinkConfig]) -> list[LiveSinkConfig]:
        taken = set(_OWN_SINKS)
        for sink in sinks:
            name = sink.name or sink.kind
            if name in taken:
                raise ValueError(
                    f"expected a name of its own for each sink, got {name!r} twice; give one of "
                    "them another `name`"
                )
            taken.add(name)
        return sinks

    @model_validator(mode="after")
    def _strangers_may_not_command(self) -> LiveConfig:
        if self.control_http is None:
            return self
        if self.metrics is None:
            raise ValueError("control_http: expected metrics too, on whose port commands are taken")
        has_token = self.control_http.token or self.control_http.token_file
        if not has_token and not is_loopback(self.metrics.host):
            raise ValueError(
                f"control_http: expected token or token_file, as metrics.host {self.metrics.host} "
                "lets other machines ask"
            )
        return self

    def shown(self) -> dict[str, JsonValue]:
        """Return the whole configuration, complete with defaults, without its secrets."""
        data: dict[str, Any] = self.model_dump(mode="json")
        shown = _without_secret_values(data)
        assert isinstance(shown, dict)
        return shown

    def secrets(self) -> tuple[str, ...]:
        """Return every spelling of every password in it, the longest first.

        Raises:
            ConfigError: An address cannot be used.
        """
        found = set(_secret_values(self.model_dump(exclude={"cameras"})))
        for name, camera in self.cameras.items():
            found.update(address_of(name, camera).secrets)
        return tuple(sorted(found, key=lambda each: (-len(each), each)))


def check_name(name: str) -> str:
    """Return a camera's name if it can be one.

    Raises:
        ValueError: It cannot.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            "expected a camera's name of at most 64 letters, digits, spaces and . _ : - that "
            f"begins with a letter or digit, got {name!r}"
        )
    return name


def load_live_config(path: Path, overrides: Sequence[str] = ()) -> LiveConfig:
    """Return the configuration in a YAML file, changed by `key=value` texts.

    `${NAME}` is filled from the environment: in a camera's address only when it is opened, where a
    password may then hold any character.

    Raises:
        ConfigError: Naming the place, the camera, what was expected, what came and what is known.
    """
    return _read_config(read_with_bases(path, ()), overrides, str(path))


def load_kept_config(path: Path) -> LiveConfig:
    """Return of a configuration what tells where data are kept, and for how long.

    So nobody need know the passwords of cameras, or of where events are sent, to look after data.

    Raises:
        ConfigError: As for `load_live_config`.
    """
    data = read_with_bases(path, ())
    for key in _KEEPS_NOTHING:
        data.pop(key, None)
    if isinstance(sinks := data.get("sinks"), list):
        data["sinks"] = [each for each in sinks if not _sends_away(each)]
    return _read_config(data, (), str(path))


def _sends_away(sink: object) -> bool:
    return isinstance(sink, Mapping) and sink.get("kind") in _SENDS_AWAY


def config_of_addresses(addresses: Sequence[str], overrides: Sequence[str] = ()) -> LiveConfig:
    """Return the configuration of cameras that are given by their addresses alone.

    Raises:
        ConfigError: An address or an override cannot be used.
    """
    cameras: dict[str, str] = {}
    for address in addresses:
        cameras[_new_name(address, cameras)] = address
    return _read_config({"cameras": cameras}, overrides, "command line")


def address_of(name: str, camera: CameraConfig) -> Address:
    """Return where a camera is.

    Raises:
        ConfigError: Naming the camera and what is wrong with its address.
    """
    try:
        return _only_reading(camera.url)
    except ConfigError as error:
        raise ConfigError(f"cameras.{name}.url: {error}") from None


def camera_from_json(name: str, data: object) -> CameraConfig:
    """Return the camera that an address, or a block as in the YAML file, describes.

    Raises:
        ConfigError: It cannot be one.
    """
    given = {"cameras": {name: data}}
    try:
        camera = validate(LiveConfig, given, "camera").cameras[name]
    except ConfigError as error:
        raise ConfigError(_hidden(str(error), given)) from None
    address_of(name, camera)
    return camera


def _read_config(data: dict[str, Any], overrides: Sequence[str], where: str) -> LiveConfig:
    for override in overrides:
        apply_override(data, override)
    written = dict(data)
    # Addresses with passwords are filled when they are parsed: there a value may hold anything.
    addresses = {"cameras": data.pop("cameras", None) or {}, "publish": data.pop("publish", None)}
    data = {**expand_variables(data, where), **addresses}
    try:
        config = validate(LiveConfig, data, where)
    except ConfigError as error:
        raise ConfigError(_hidden(str(error), [data, _filled_in(written)])) from None
    for name, camera in config.cameras.items():
        try:
            address_of(name, camera)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None
    return config


def _only_reading(text: str) -> Address:
    """Return an address, but none of which a part of the password might be shown.

    Raises:
        ConfigError: It cannot be used, or has two readings.
    """
    address = Address.parse(text)
    scheme, is_url, _ = address.url.partition("://")
    if is_url and scheme.lower() not in _SCHEMES:
        near = difflib.get_close_matches(scheme.lower(), _SCHEMES[:4], n=1)
        hint = f" (did you mean {near[0]}://?)" if near else ""
        known = ", ".join(_SCHEMES)
        raise ConfigError(f"camera address: expected {known} or a path, got {scheme}://{hint}")
    if "://" in text and address.shown.count("@") > 1:
        raise ConfigError(
            "expected one @, between password and host, got several and a / among them: which is "
            "which cannot be told; put the password into a variable (${GATE_PASSWORD}) or a file "
            "(password_file), or write @ as %40"
        )
    return address


def _new_name(address: str, taken: Mapping[str, object]) -> str:
    """Return a name for a camera that has none: its host, or its file."""
    # of what is shown: a password that is part of the address must not be part of the name
    shown = _only_reading(address).shown
    place = (urlsplit(shown).hostname if "://" in shown else Path(shown).stem) or "camera"
    name = re.sub(r"[^\w .:-]", "-", place).lstrip(" .:-")[:60] or "camera"
    numbers = (f"{name}-{number}" for number in range(2, len(taken) + 3))
    return name if name not in taken else next(each for each in numbers if each not in taken)


def hidden(text: str, secrets: Iterable[str]) -> str:
    """Return a text without the secrets; those of one to three letters would tear up any text."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, HIDDEN)
    return text


def _hidden(text: str, data: object) -> str:
    return hidden(text, _secret_values(data))


def _filled_in(data: object) -> Mapping[str, str]:
    """Return what the environment fills into a file, as if all of it were secret."""
    return {f"secret {name}": os.environ.get(name, "") for name in _VARIABLE.findall(str(data))}


def _secret_values(data: object, *, is_secret: bool = False) -> Iterator[str]:
    """Yield the secrets in a configuration: by the name of the key, or in an address."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from _secret_values(
                value, is_secret=is_secret or bool(_SECRET_KEY.search(str(key)))
            )
    elif isinstance(data, list | tuple):
        for value in data:
            yield from _secret_values(value, is_secret=is_secret)
    elif isinstance(data, SecretStr):
        yield from filter(None, [data.get_secret_value()])
    elif isinstance(data, str) and is_secret and data:
        yield data
    elif isinstance(data, str) and "://" in data:
        try:
            yield from Address.parse(data).secrets
        except ConfigError:
            # no address: whatever stands between :// and the last @ may be a password
            if "@" in data:
                yield data.partition("://")[2].rpartition("@")[0]


def _without_secret_values(data: object) -> object:
    if isinstance(data, Mapping):
        return {
            key: HIDDEN
            if isinstance(value, str) and value and _SECRET_KEY.search(str(key))
            else _without_secret_values(value)
            for key, value in data.items()
        }
    if isinstance(data, list):
        return [_without_secret_values(value) for value in data]
    if isinstance(data, str) and "://" in data:
        return Address.parse(data).shown
    return data
