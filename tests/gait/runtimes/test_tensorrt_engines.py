"""Engines that are built, kept and taken up again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gait.errors import RuntimeUnavailable
from gait.runtimes import tensorrt, tensorrt_cache
from gait.runtimes.cuda_memory import Gpu
from gait.runtimes.tensorrt_profiles import default_ranges
from tests.gait.runtimes.tensorrt_vendor import (
    GPU,
    GRAPH,
    LENGTHS,
    OTHER_GRAPH,
    SILHOUETTES,
    Capability,
    FakeVendor,
    Machine,
    RtxVendor,
    engines,
    expected,
    feeds,
)


def test_a_graph_is_built_once_and_the_engine_is_only_the_users(
    machine: Machine, folder: Path
) -> None:
    machine.open().close()
    machine.open().close()
    assert len(machine.vendor.builds) == 1
    (engine,) = engines(folder)
    assert engine.stat().st_mode & 0o777 == 0o600


def test_an_engine_from_an_earlier_start_runs_like_a_new_one(machine: Machine) -> None:
    machine.open().close()
    session = machine.open()
    given = feeds(3, 5)
    np.testing.assert_array_equal(session.run(given)["embeddings"], expected(given))
    assert session.inputs == (SILHOUETTES, LENGTHS)


def test_whatever_an_engine_depends_on_makes_another_one(machine: Machine, folder: Path) -> None:
    machine.open()
    machine.open(OTHER_GRAPH)
    machine.open(profiles=default_ranges((SILHOUETTES, LENGTHS))[:1])
    for gpu in (
        Gpu("cuda:0", "Other", (8, 9), "580.1"),
        Gpu("cuda:0", "Fake RTX", (8, 6), "580.1"),
        Gpu("cuda:0", "Fake RTX", (8, 9), "580.2"),
    ):
        machine.gpu = gpu
        machine.open()
    machine.gpu = GPU
    newer = FakeVendor()
    newer.__version__ = "1.1"  # type: ignore[misc]
    machine.install(newer).builds = machine.vendor.builds
    machine.open()
    assert len(engines(folder)) == 7


def swap_byte(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: b"ftrt" + content,
        swap_byte,
        lambda content: content.replace(b"Fake RTX", b"Fake RTY"),
    ],
    ids=["cut off", "empty", "foreign", "changed", "other key"],
)
def test_a_damaged_or_foreign_engine_never_reaches_the_vendor(
    machine: Machine,
    folder: Path,
    damage: Callable[[bytes], bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:
    machine.open()
    (engine,) = engines(folder)
    engine.write_bytes(damage(engine.read_bytes()))
    machine.open()
    assert machine.vendor.given == [b"plan 1 " * 100, b"plan 2 " * 100]
    assert "removed, and made anew" in caplog.text
    machine.open()
    assert len(machine.vendor.builds) == 2


def test_an_engine_for_another_machine_in_this_ones_place_is_not_taken(
    machine: Machine, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    machine.open()
    (own,) = engines(folder)
    machine.gpu = Gpu("cuda:0", "Other", (8, 9), "580.1")
    machine.open()
    (other,) = set(engines(folder)) - {own}
    own.write_bytes(other.read_bytes())
    machine.gpu = GPU
    machine.open()
    assert len(machine.vendor.builds) == 3
    assert "it was made for something else" in caplog.text


def test_a_link_in_an_engines_place_is_not_followed(machine: Machine, folder: Path) -> None:
    machine.open()
    (engine,) = engines(folder)
    engine.rename(folder / "elsewhere")
    engine.symlink_to(folder / "elsewhere")
    machine.open()
    assert len(machine.vendor.builds) == 2
    assert not engine.is_symlink()


def test_an_engine_that_others_could_change_is_made_anew(machine: Machine, folder: Path) -> None:
    machine.open()
    (engine,) = engines(folder)
    engine.chmod(0o666)
    machine.open()
    assert len(machine.vendor.builds) == 2
    assert engine.stat().st_mode & 0o777 == 0o600


def test_notes_of_another_version_of_ours_make_the_engine_anew(
    machine: Machine, folder: Path
) -> None:
    machine.open()
    key = tensorrt._key(tensorrt._product(), GPU, tensorrt.read_onnx(GRAPH), None)
    tensorrt_cache.keep("tensorrt-engine", key, tensorrt_cache.Sealed({"inputs": "[1]"}, b"plan"))
    machine.open()
    assert len(machine.vendor.builds) == 2


def test_a_kept_engine_that_the_vendor_refuses_is_made_anew_once(
    machine: Machine, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    machine.open()
    machine.vendor.refuses = lambda plan: plan.startswith(b"plan 1")
    machine.open()
    assert len(machine.vendor.builds) == 2
    assert "SM 9.0 is not supported" in caplog.text


def test_an_engine_that_does_not_load_is_an_error_in_the_vendors_words_and_not_kept(
    machine: Machine, folder: Path
) -> None:
    machine.vendor.refuses = lambda plan: True
    machine.gpu = Gpu("cuda:0", "H200", (9, 0), "580.1")
    with pytest.raises(RuntimeUnavailable, match=r"H200 \(compute capability 9.0, driver 580.1\)"):
        machine.open()
    with pytest.raises(RuntimeUnavailable, match=r"SM 9\.0 is not supported"):
        machine.open()
    assert engines(folder) == []


def test_a_cache_that_is_not_the_users_is_not_used_but_the_engine_runs(
    machine: Machine, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    machine.open()
    folder.chmod(0o777)
    session = machine.open()
    assert len(machine.vendor.builds) == 2
    assert "only its owner may write to it" in caplog.text
    session.run(feeds(1, 8))


def test_two_that_build_at_once_leave_one_whole_engine(machine: Machine, folder: Path) -> None:
    threads = [threading.Thread(target=machine.open) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (engine,) = engines(folder)
    assert {path.name for path in folder.iterdir() if path.name.startswith(".")} == set()
    builds = len(machine.vendor.builds)
    machine.open()
    assert len(machine.vendor.builds) == builds
    assert engine.stat().st_size > 700


def test_unsupported_nodes_are_named(machine: Machine) -> None:
    machine.vendor.errors = [
        parser_error("the_det", "Det", 1),
        parser_error("", "Nope", 2),
        parser_error("", "", -1, "Failed to parse the ONNX model."),
    ]
    report = tensorrt.parse(GRAPH)
    assert [(node.name, node.operator) for node in report.unsupported] == [
        ("the_det", "Det"),
        ("node 2", "Nope"),
        ("", ""),
    ]
    with pytest.raises(RuntimeUnavailable, match=r"the_det \(Det\): UNSUPPORTED_NODE: false"):
        machine.open()


def parser_error(name: str, operator: str, node: int, text: str = "false") -> Any:
    return SimpleNamespace(
        node=lambda: node,
        node_name=lambda: name,
        node_operator=lambda: operator,
        code=lambda: SimpleNamespace(name="UNSUPPORTED_NODE"),
        desc=lambda: text,
    )


def test_a_build_tells_how_far_it_is(machine: Machine) -> None:
    told: list[tuple[str, float]] = []
    machine.open(progress=lambda doing, done: told.append((doing, done)))
    assert told == [("Building", 0.5), ("Building", 1.0), ("Engine built", 1.0)]


def test_what_progress_raises_ends_the_build_and_nothing_is_kept(
    machine: Machine, folder: Path
) -> None:
    def stop(doing: str, done: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        machine.open(progress=stop)
    assert engines(folder) == []


def test_an_engine_is_built_for_this_kind_of_gpu_or_the_log_says_why_not(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.open()
    assert machine.vendor.builds[0].target is Capability.SM89
    machine.gpu = Gpu("cuda:0", "H200", (9, 0), "580.1")
    machine.open()
    assert machine.vendor.builds[1].target is None
    assert "does not list GPUs of compute capability 9.0" in caplog.text


def test_the_full_product_keeps_its_timings_for_the_next_build(machine: Machine) -> None:
    machine.open()
    machine.open(OTHER_GRAPH)
    assert [build.timings.known for build in machine.vendor.builds] == [b"", b"+"]


def test_kernels_compiled_while_running_are_kept_and_taken_up_again(
    machine: Machine, folder: Path
) -> None:
    vendor = RtxVendor()
    machine.install(vendor)
    session = machine.open()
    session.run(feeds(1, 8))
    assert len(list(folder.glob("tensorrt-kernels-*"))) == 1
    machine.open()
    assert vendor.known == [b"kernels"]


def test_kernels_that_the_vendor_does_not_take_are_removed(machine: Machine, folder: Path) -> None:
    vendor = RtxVendor()
    machine.install(vendor)
    session = machine.open()
    session.run(feeds(1, 8))
    session.close()
    vendor.accepts_kernels = False
    machine.open()
    assert list(folder.glob("tensorrt-kernels-*")) == []


def test_a_product_that_does_not_start_says_why(machine: Machine) -> None:
    machine.vendor.starts = False
    with pytest.raises(RuntimeUnavailable, match="does not start: CUDA initialization failure"):
        machine.open()
