from typing import Literal

import pytest
from pydantic import Field, model_validator

from gait.errors import ConfigError
from gait.strict import StrictModel
from gait.yaml_config import load_yaml


class Small(StrictModel):
    kind: Literal["small"] = "small"
    confidence: float = 0.5
    name: str = "n"


class Large(StrictModel):
    kind: Literal["large"] = "large"
    weights: str = "w"


class Whole(StrictModel):
    model: Small | Large = Field(default=Small(), discriminator="kind")
    count: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _no_thirteen(self) -> "Whole":
        if self.count == 13:
            raise ValueError("count: expected another number than 13")
        return self


def load(tmp_path, text, overrides=()):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return load_yaml(Whole, path, overrides)


def test_an_empty_file_gives_the_defaults(tmp_path):
    assert load(tmp_path, "# nothing\n") == Whole()


def test_an_unknown_key_names_its_place_the_known_keys_and_the_likely_one(tmp_path):
    with pytest.raises(ConfigError) as error:
        load(tmp_path, "model: {kind: small, confidnce: 0.3}")
    assert "c.yaml: model.confidnce: unknown key (did you mean confidence?)" in str(error.value)
    assert "known here: confidence, kind, name" in str(error.value)


def test_a_key_that_belongs_one_block_down_is_led_there(tmp_path):
    with pytest.raises(ConfigError, match=r"confidence: unknown key \(did you mean model\.conf"):
        load(tmp_path, "confidence: 0.3")


def test_an_unknown_kind_names_the_known_kinds(tmp_path):
    with pytest.raises(ConfigError, match=r"model.kind: expected one of 'small', 'large'"):
        load(tmp_path, "model: {kind: smal}")


def test_yaml_numbers_that_yaml_takes_for_text_are_refused_with_the_reason(tmp_path):
    with pytest.raises(ConfigError, match=r"model.confidence: .*got '1e-3' \(text; YAML reads"):
        load(tmp_path, "model: {kind: small, confidence: 1e-3}")


def test_no_as_a_name_is_refused_with_the_reason(tmp_path):
    with pytest.raises(ConfigError, match=r"model.name: .*got False \(YAML reads yes, no"):
        load(tmp_path, "model: {kind: small, name: no}")


def test_every_problem_of_a_file_is_told_at_once(tmp_path):
    with pytest.raises(ConfigError) as error:
        load(tmp_path, "count: 0\nmodel: {kind: small, name: no}")
    assert len(str(error.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[1, 2]", "expected `key: value` lines"),
        ("a: 1\nb: [", r"c\.yaml: not valid YAML in line 2, column 5: expected[^\n]*$"),
    ],
)
def test_a_file_that_is_not_a_mapping_is_refused(tmp_path, text, says):
    with pytest.raises(ConfigError, match=says):
        load(tmp_path, text)


def test_a_problem_of_the_whole_file_is_told_without_the_whole_file(tmp_path):
    with pytest.raises(ConfigError) as error:
        load(tmp_path, "count: 13")
    assert str(error.value) == f"{tmp_path / 'c.yaml'}: count: expected another number than 13"


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot read"):
        load_yaml(Whole, tmp_path / "nowhere.yaml")


def test_overrides_win_over_the_file_and_are_read_as_yaml(tmp_path):
    whole = load(tmp_path, "count: 2", ["count=3", "model.kind=large", "model.weights=x.pt"])
    assert whole == Whole(count=3, model=Large(weights="x.pt"))


def test_an_override_without_a_value_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="expected key=value"):
        load(tmp_path, "", ["count"])


def test_environment_variables_are_filled_in_and_a_missing_one_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("MODEL_WEIGHTS", "/models/w.pt")
    text = "model: {kind: large, weights: '${MODEL_WEIGHTS}'}"
    assert load(tmp_path, text).model == Large(weights="/models/w.pt")
    monkeypatch.delenv("MODEL_WEIGHTS")
    with pytest.raises(ConfigError, match="variable MODEL_WEIGHTS is not set"):
        load(tmp_path, text)


def write(tmp_path, **files):
    for name, text in files.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    return tmp_path / "own.yaml"


def test_a_file_holds_only_what_differs_from_its_base(tmp_path):
    path = write(
        tmp_path,
        first="model: {kind: small, confidence: 0.1, name: a}\ncount: 3",
        second="base: first.yaml\nmodel: {name: b}",
        own="base: second.yaml\nmodel: {confidence: 0.2}",
    )
    loaded = load_yaml(Whole, path, ["count=4"])
    assert loaded.model == Small(confidence=0.2, name="b")
    assert loaded.count == 4


def test_a_block_of_another_kind_takes_nothing_from_the_base(tmp_path):
    path = write(
        tmp_path,
        first="model: {kind: small, confidence: 0.1}",
        own="base: first.yaml\nmodel: {kind: large}",
    )
    assert load_yaml(Whole, path).model == Large()


def test_keys_that_are_not_inherited_stay_with_the_base(tmp_path):
    path = write(tmp_path, first="count: 3", own="base: first.yaml")
    assert load_yaml(Whole, path).count == 3
    assert load_yaml(Whole, path, not_inherited=("count",)).count == 1


@pytest.mark.parametrize(
    ("own", "told"),
    [
        ("base: own.yaml", "circle"),
        ("base: none.yaml", "none.yaml"),
        ("base: 3", "expected the name"),
    ],
)
def test_a_base_that_cannot_be_followed_is_refused(tmp_path, own, told):
    with pytest.raises(ConfigError, match=told):
        load_yaml(Whole, write(tmp_path, own=own))
