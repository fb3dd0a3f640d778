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


def test_what_came_is_said_once():
    with pytest.raises(ConfigError) as error:
        load_config(None, ["read.start_s=3.0", "read.end_s=2.0"])
    assert str(error.value).count("got") == 1


def test_a_configuration_survives_being_written_and_read():
    config = load_config(ROOT / "configs" / "pipeline" / "deepsort.yaml")
    text = yaml.safe_dump(config.model_dump(mode="json"))
    assert PipelineConfig.model_validate(yaml.safe_load(text)) == config


def config_page():
    spec = importlib.util.spec_from_file_location("page", ROOT / "scripts" / "config_page.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_of_all_keys_are_what_the_classes_say():
    for path, text in config_page().pages().items():
        assert path.read_text() == text, "run: python scripts/config_page.py"


def test_every_key_is_explained():
    lines = "\n".join(config_page().pages().values()).splitlines()
    assert [line for line in lines if line.endswith("|  |")] == []


def test_the_pages_tell_defaults_ranges_and_what_is_inherited():
    page = config_page().live_page()
    assert "| `stall_s` | `4.0` | above 0, at most 60 |" in page
    assert "| `transport` | `tcp` | `tcp`, `udp` |" in page
    assert "| `port` | `null` | at least 1, at most 65535 or `null` |" in page
    sqlite = page[page.index("## `sinks`, kind `sqlite`") :]
    assert "| `capacity` | `1000` |" in sqlite[: sqlite.index("\n## ")]
