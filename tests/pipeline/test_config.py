import importlib.util
from pathlib import Path

import pytest
import yaml

from pipeline.config import PipelineConfig, load_config
from pipeline.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


FOR_FILES = sorted(
    path for path in (ROOT / "configs" / "pipeline").glob("*.yaml") if path.stem != "cameras"
)


@pytest.mark.parametrize("path", FOR_FILES, ids=lambda path: path.stem)
def test_every_configuration_file_loads(path):
    load_config(path)


def test_the_default_file_changes_nothing():
    assert load_config(ROOT / "configs" / "pipeline" / "default.yaml") == PipelineConfig()


def test_a_kind_can_be_given_by_name_alone():
    assert load_config(None, ["segmenter=detector"]).segmenter.kind == "detector"
    assert load_config(None, ["appearance=mobilenet"]).appearance.kind == "mobilenet"


def test_one_key_of_a_stage_can_be_changed_without_naming_its_kind():
    config = load_config(None, ["tracker.lost_s=3.5"])
    assert (config.tracker.kind, config.tracker.lost_s) == ("bytetrack", 3.5)


def test_deepsort_without_appearance_is_refused_with_the_way_out():
    with pytest.raises(ConfigError, match="appearance: histogram"):
        load_config(None, ["tracker=deepsort"])


def test_a_configuration_survives_being_written_and_read():
    config = load_config(ROOT / "configs" / "pipeline" / "deepsort.yaml")
    text = yaml.safe_dump(config.model_dump(mode="json"))
    assert PipelineConfig.model_validate(yaml.safe_load(text)) == config


def test_the_page_of_all_keys_is_what_the_classes_say():
    spec = importlib.util.spec_from_file_location("page", ROOT / "scripts" / "config_page.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text() == module.page(), "run: python scripts/config_page.py"


def test_every_key_is_explained():
    spec = importlib.util.spec_from_file_location("page", ROOT / "scripts" / "config_page.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    unexplained = [line for line in module.page().splitlines() if line.endswith("|  |")]
    assert unexplained == []
