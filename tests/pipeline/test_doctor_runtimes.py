"""What the doctor says of runtimes."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from gait.runtimes import cache
from gait.runtimes.cache import CACHE_VARIABLE
from gait.runtimes.parity import Verdict
from pipeline import doctor_runtimes
from pipeline.finding import Finding


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))


def by_subject(subject: str) -> list[Finding]:
    findings = [*doctor_runtimes.runtimes(), *doctor_runtimes.cache()]
    return [each for each in findings if each.subject == subject]


def test_installed_runtimes_are_named_with_version_and_precision() -> None:
    (torch,) = by_subject("runtime torch")
    assert torch.verdict == "ok"
    assert torch.detail.startswith(f"torch {importlib.metadata.version('torch')}: float")


def test_a_runtime_that_is_missing_comes_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(doctor_runtimes._DISTRIBUTIONS, "openvino", ("no-such-distribution",))
    (openvino,) = by_subject("runtime openvino")
    assert openvino.verdict == "absent"
    assert "not installed; pip install '.[openvino]'" in openvino.detail


def test_the_cache_folder_and_an_empty_gate_are_shown(tmp_path: Path) -> None:
    (folder,) = by_subject("cache folder")
    assert (folder.verdict, folder.detail) == ("ok", f"{tmp_path / 'cache'}, 0 MB")
    (gate,) = by_subject("parity gate")
    assert "nothing but torch" in gate.detail


def test_a_cache_folder_others_may_write_to_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)
    (folder,) = by_subject("cache folder")
    assert folder.verdict == "problem"
    assert "chmod go-w" in folder.detail


def test_verdicts_on_the_bundled_encoder_are_shown_and_no_others() -> None:
    own = Verdict(
        passed=True, reason="", min_cosine=0.99999, max_difference=1e-6, num_tracklets=16,
        runtime="float32 by onnxruntime 1", model_hash=doctor_runtimes._model_hash() or "",
    )  # fmt: skip
    refused = own.model_copy(
        update={"passed": False, "reason": "too far off", "runtime": "int8 by onnxruntime 1"}
    )
    other = own.model_copy(update={"model_hash": "another"})
    for index, verdict in enumerate((own, refused, other)):
        path = cache.entry("verdict", {"index": str(index)}, ".json")
        cache.store(path, verdict.model_dump_json().encode())
    first, second = by_subject("parity gate")
    assert first.detail == "float32 by onnxruntime 1: passed, cosine 0.999990, difference 1.0e-06"
    assert second.verdict == "absent"
    assert "REFUSED (too far off)" in second.detail
