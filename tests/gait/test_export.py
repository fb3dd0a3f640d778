"""The exported file is the trained network, and says which one."""

from __future__ import annotations

import copy
import json
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from gait import export as exporting
from gait.errors import CheckpointError, DataError, RuntimeFailed, RuntimeUnavailable
from gait.export import Exported, export, our_metadata
from gait.export_check import LARGEST_DIFFERENCE, SMALLEST_COSINE
from gait.model.checkpoint import load_checkpoint, model_hash
from gait.model.folded import fold
from gait.model.trackletgait import BASELINES, TrackletGait, TrackletGaitConfig
from gait.runtimes.runtime import Precision

NANO = Path(__file__).parents[2] / "pipeline/models/trackletgait-nano.safetensors"
TINY = TrackletGaitConfig(
    name="tiny", blocks=(0, 1, 0, 0), channels=(4, 4, 4, 4), stem_channels=2, embedding_channels=8
)


@cache
def nano() -> TrackletGait:
    return load_checkpoint(NANO).model


@cache
def exported(precision: Precision, has_lengths: bool) -> Exported:
    return export(nano(), precision=precision, has_lengths=has_lengths)


def tiny(config: TrackletGaitConfig = TINY) -> TrackletGait:
    """A network whose norms have seen a batch."""
    model = TrackletGait.random(config, torch.Generator().manual_seed(0)).train()
    with torch.no_grad():
        model(silhouettes(2, 4))
    return model.eval()


def silhouettes(n: int, t: int) -> torch.Tensor:
    return torch.rand(n, t, 64, 44, generator=torch.Generator().manual_seed(n + t))


def run(
    file: bytes, input_NTHW: torch.Tensor, lengths: list[int] | None = None
) -> NDArray[np.float32]:
    feeds: dict[str, NDArray[np.generic]] = {"silhouettes": input_NTHW.numpy()}
    if lengths is not None:
        feeds["lengths"] = np.array(lengths, np.int64)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    (embeddings_NDP,) = session.run(["embeddings"], feeds)
    return np.asarray(embeddings_NDP)


def in_torch(model: TrackletGait, input_NTHW: torch.Tensor) -> NDArray[np.float32]:
    with torch.inference_mode():
        return model(input_NTHW).numpy()


def cosines(x_NDP: NDArray[np.float32], y_NDP: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.linalg.norm(x_NDP, axis=1) * np.linalg.norm(y_NDP, axis=1)
    return np.asarray((x_NDP * y_NDP).sum(axis=1) / norms)


def ports(file: bytes) -> dict[str, tuple[int, list[int | str]]]:
    graph = onnx.load_from_string(file).graph
    return {
        port.name: (
            port.type.tensor_type.elem_type,
            [axis.dim_param or axis.dim_value for axis in port.type.tensor_type.shape.dim],
        )
        for port in (*graph.input, *graph.output)
    }


@pytest.mark.parametrize(("n", "t"), [(1, 1), (3, 2), (2, 17), (1, 720)])
def test_a_float32_file_agrees_with_torch_at_any_batch_and_length(n: int, t: int) -> None:
    input_NTHW = silhouettes(n, t)
    np.testing.assert_allclose(
        run(exported("float32", False).onnx, input_NTHW),
        in_torch(nano(), input_NTHW),
        rtol=0,
        atol=5e-5,
    )


def test_a_file_with_lengths_reads_no_further_than_they_say() -> None:
    input_NTHW = silhouettes(3, 7)
    together_NDP = run(exported("float32", True).onnx, input_NTHW, [7, 1, 4])
    for index, length in enumerate([7, 1, 4]):
        alone_NDP = in_torch(nano(), input_NTHW[index : index + 1, :length])
        np.testing.assert_allclose(together_NDP[index : index + 1], alone_NDP, rtol=0, atol=5e-5)


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_coarser_precisions_keep_the_direction_of_every_part(precision: Precision) -> None:
    checks = exported(precision, False).checks
    assert len(checks) == 3
    assert {check.frames for check in checks if check.batch == 1} > {1}
    assert min(check.min_cosine for check in checks) >= SMALLEST_COSINE[precision]
    # what nano reaches, with some room; int8 is held to more than its file must
    assert min(check.min_cosine for check in checks) >= 0.999
    assert max(check.max_difference for check in checks) > LARGEST_DIFFERENCE  # it is coarser


def test_bfloat16_is_valid_onnx_whose_weights_are_half_as_large() -> None:
    model = tiny()
    made = export(model, precision="bfloat16")
    graph = onnx.load_from_string(made.onnx)
    onnx.checker.check_model(graph, full_check=True)
    kinds = {tensor.data_type for tensor in graph.graph.initializer if len(tensor.dims) == 4}
    assert kinds == {onnx.TensorProto.BFLOAT16}
    assert min(check.min_cosine for check in made.checks) >= 0.999
    assert ports(made.onnx)["embeddings"][0] == onnx.TensorProto.FLOAT


@pytest.mark.parametrize(
    ("precision", "has_lengths"),
    [("float32", False), ("float32", True), ("float16", False), ("int8", False)],
)
def test_names_axes_and_types_are_the_same_in_every_precision(
    precision: Precision, has_lengths: bool
) -> None:
    expected: dict[str, tuple[int, list[int | str]]] = {
        "silhouettes": (onnx.TensorProto.FLOAT, ["batch", "frames", 64, 44]),
        "embeddings": (onnx.TensorProto.FLOAT, ["batch", 256, 16]),
    }
    if has_lengths:
        expected["lengths"] = (onnx.TensorProto.INT64, ["batch"])
    assert ports(exported(precision, has_lengths).onnx) == expected


def test_the_graph_is_small_and_folded() -> None:
    graph = onnx.load_from_string(exported("float32", False).onnx).graph
    kinds = Counter(node.op_type for node in graph.node)
    assert len(graph.node) <= 60
    assert "BatchNormalization" not in kinds
    weights = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    convolutions = [weights[node.input[1]] for node in graph.node if node.op_type == "Conv"]
    assert convolutions
    assert all(len(shape) == 4 for shape in convolutions)


def test_the_file_says_what_it_is() -> None:
    found = our_metadata(
        {
            entry.key: entry.value
            for entry in onnx.load_from_string(exported("float32", False).onnx).metadata_props
        }
    )
    assert found == exported("float32", False).metadata
    assert found["format"] == "1"
    assert found["model_hash"] == model_hash(nano())
    assert found["precision"] == "float32"
    assert TrackletGaitConfig.model_validate_json(found["config"]) == nano().config
    assert {"torch", "onnx", "trackletgait"} <= set(json.loads(found["versions"]))
    assert [check["frames"] for check in json.loads(found["checks"])] == [
        check.frames for check in exported("float32", False).checks
    ]


def test_entries_of_the_caller_are_added_and_win() -> None:
    file = export(fold(tiny()), metadata={"model_hash": "abc", "card_sha256": "def"}).onnx
    props = onnx.load_from_string(file).metadata_props
    found = our_metadata({entry.key: entry.value for entry in props})
    assert (found["model_hash"], found["card_sha256"]) == ("abc", "def")


def test_the_same_network_gives_the_same_bytes_and_nothing_of_this_machine() -> None:
    first, second = (export(tiny(), checked=False).onnx for _ in range(2))
    assert first == second
    for folder in (Path.cwd(), Path(torch.__file__).parent, Path.home()):
        assert str(folder).encode() not in first
    assert b"stack_trace" not in first


def test_baselines_are_exported_too_and_no_network_is_changed() -> None:
    config = BASELINES["deepgaitv2-p3d"].model_copy(
        update={"channels": (2, 4, 4, 4), "stem_channels": 2, "blocks": (1, 1, 1, 1)}
    )
    model = tiny(config)
    before = copy.deepcopy(model.state_dict())
    assert len(export(model, has_lengths=True).checks) == 3
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_file_that_does_not_reproduce_the_network_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = fold(TrackletGait.random(TINY, torch.Generator().manual_seed(9)).eval())
    monkeypatch.setattr(exporting, "_served", lambda model: other)
    with pytest.raises(RuntimeFailed, match="expected the float32 file to agree with torch"):
        export(tiny()).write(tmp_path / "wrong.onnx")
    assert not list(tmp_path.iterdir())


def test_weights_beyond_float16_are_noticed() -> None:
    model = tiny()
    with torch.no_grad():
        model.get_parameter("layer2.0.conv1.weight").mul_(1e7)
    with pytest.raises(RuntimeFailed, match="Use a finer precision"):
        export(model, precision="float16")


def test_weights_that_are_no_numbers_are_refused_by_name() -> None:
    model = tiny()
    with torch.no_grad():
        model.FCs.fc_bin[0, 0, 0] = float("nan")
    with pytest.raises(CheckpointError, match=r"FCs\.fc_bin"):
        export(model)


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(TypeError, match="expected a TrackletGait or a FoldedGait, got a Linear"):
        export(torch.nn.Linear(1, 1))  # type: ignore[arg-type]
    with pytest.raises(RuntimeUnavailable, match="'int4'"):
        export(tiny(), precision="int4")  # type: ignore[arg-type]


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DataError, match="No space left on device"):
        export(tiny(), checked=False).write(tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())
