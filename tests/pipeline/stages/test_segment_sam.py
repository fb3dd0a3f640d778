"""Segment Anything by box prompt, with a tiny untrained network of the very same classes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.errors import ModelError
from pipeline.stages import segment_sam
from pipeline.stages.segment import SamConfig
from pipeline.stages.segment_guard import MaskGuards
from pipeline.stages.segment_sam import SamSegmenter, empty_sam
from pipeline.values import Frame
from trackers.boxes import Tracks

# An untrained network answers noise; these let it through.
ANYTHING = MaskGuards(min_area=0, max_area=4, min_height=0, max_aspect=1000)


def tiny_sam() -> Any:
    """Return an untrained Sam of the vendor's classes that sees 64 x 64 px."""
    segment_sam._import_segment_anything()
    from segment_anything.modeling import (
        ImageEncoderViT,
        MaskDecoder,
        PromptEncoder,
        Sam,
        TwoWayTransformer,
    )

    torch.manual_seed(0)
    encoder = ImageEncoderViT(
        img_size=64, patch_size=16, embed_dim=16, depth=1, num_heads=2, out_chans=16,
        use_rel_pos=True, window_size=2, global_attn_indexes=(0,),
    )  # fmt: skip
    prompts = PromptEncoder(
        embed_dim=16, image_embedding_size=(4, 4), input_image_size=(64, 64), mask_in_chans=4
    )
    decoder = MaskDecoder(
        transformer_dim=16,
        transformer=TwoWayTransformer(depth=1, embedding_dim=16, mlp_dim=16, num_heads=2),
    )
    return Sam(encoder, prompts, decoder)


@pytest.fixture(scope="module")
def sam() -> Any:
    return tiny_sam()


def tracks(*boxes: tuple[float, ...]) -> Tracks:
    n = len(boxes)
    return Tracks(
        np.arange(n),
        np.array(boxes, dtype=np.float32).reshape(n, 4),
        np.ones(n, dtype=np.float32),
        np.arange(n),
    )


BOXES = ((100, 100, 160, 260), (300, 50, 420, 400), (600, 300, 790, 700))


def by_the_vendors_predictor(sam: Any, frame: Frame, box: tuple[float, ...]) -> NDArray[np.bool_]:
    predictor = segment_sam._import_segment_anything().SamPredictor(sam)
    predictor.set_image(frame.image[..., ::-1])
    masks, _, _ = predictor.predict(box=np.array(box), multimask_output=False)
    return np.asarray(masks[0])


def test_every_box_gets_the_mask_the_vendors_predictor_gives_it(
    sam: Any, street: list[Frame]
) -> None:
    segmenter = SamSegmenter(sam, guards=ANYTHING)
    found = segmenter.segment(street, [tracks(*BOXES), tracks(BOXES[1])])
    assert [len(masks) for masks in found] == [3, 1]
    compared = 0
    for frame, boxes, masks in zip(street, (BOXES, BOXES[1:2]), found, strict=True):
        for box, mask in zip(boxes, masks, strict=True):
            if mask is None:
                continue
            expected = by_the_vendors_predictor(sam, frame, box)
            h, w = mask.pixels.shape
            patch = expected[mask.y : mask.y + h, mask.x : mask.x + w]
            assert patch[mask.pixels].all()  # ours is one component of theirs
            compared += 1
    assert compared >= 2


def test_the_image_is_embedded_once_for_all_boxes(
    sam: Any, street: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    encode = sam.image_encoder.forward
    monkeypatch.setattr(
        sam.image_encoder, "forward", lambda image: (calls.append(image), encode(image))[1]
    )
    SamSegmenter(sam, guards=ANYTHING).segment(street, [tracks(*BOXES), tracks(*BOXES)])
    assert len(calls) == 2


def test_a_frame_without_usable_boxes_is_not_even_embedded(
    sam: Any, street: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sam.image_encoder, "forward", None)
    found = SamSegmenter(sam, guards=ANYTHING).segment(
        street, [tracks(), tracks((900, 900, 950, 1000))]
    )
    assert found == [(), (None,)]


@pytest.mark.parametrize("hw", [(16, 16), (31, 500)])
def test_odd_frames_are_no_trouble(sam: Any, hw: tuple[int, int]) -> None:
    frame = Frame(np.zeros((*hw, 3), np.uint8), "odd", 0, 0.0)
    ((mask,),) = SamSegmenter(sam, guards=ANYTHING).segment([frame], [tracks((0, 0, 16, 16))])
    assert mask is None or mask.pixels.shape <= hw


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the vendor's table build the tiny network where it would build ViT-B."""
    vendor = segment_sam._import_segment_anything()
    monkeypatch.setitem(vendor.sam_model_registry, "vit_b", lambda checkpoint=None: tiny_sam())


@pytest.mark.usefixtures("registered")
def test_a_checkpoint_gives_the_masks_of_the_network_it_was_saved_from(
    sam: Any, street: list[Frame], tmp_path: Path
) -> None:
    torch.save(sam.state_dict(), tmp_path / "sam.pth")
    config = SamConfig(checkpoint=str(tmp_path / "sam.pth"), device="cpu", guards=ANYTHING)
    loaded = config.build()
    assert loaded.model_hash is not None
    expected = SamSegmenter(sam, guards=ANYTHING).segment([street[0]], [tracks(*BOXES)])[0]
    for a, b in zip(loaded.segment([street[0]], [tracks(*BOXES)])[0], expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            np.testing.assert_array_equal(a.pixels, b.pixels)


@pytest.mark.parametrize(("model_type", "millions"), [("vit_b", 94), ("vit_l", 312)])
def test_the_released_architectures_are_built_without_their_storage(
    model_type: str, millions: int
) -> None:
    sam = empty_sam(model_type)
    # 91 and 308 in the paper, which does not count the decoder.
    assert round(sum(p.numel() for p in sam.parameters()) / 1e6) == millions
    assert {b.device.type for b in (sam.pixel_mean, sam.pixel_std)} == {"cpu"}
    saved = {"prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"}
    unsaved = {name for name, _ in sam.named_buffers()} - set(sam.state_dict())
    assert unsaved == {"pixel_mean", "pixel_std"}
    assert saved <= set(sam.state_dict())


def test_a_checkpoint_of_another_size_names_the_setting(sam: Any, tmp_path: Path) -> None:
    torch.save(sam.state_dict(), tmp_path / "tiny.pth")
    with pytest.raises(ModelError, match=r"of vit_b.*check segmenter.model_type"):
        SamConfig(checkpoint=str(tmp_path / "tiny.pth")).build()


class _Touches:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {self.path}",))


def test_damaged_and_hostile_checkpoints_are_refused(sam: Any, tmp_path: Path) -> None:
    torch.save(sam.state_dict(), tmp_path / "whole.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:3000])
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "empty.pth").touch()
    torch.save({"x": _Touches(tmp_path / "was-here")}, tmp_path / "evil.pth")
    for name in ("cut", "text", "empty", "evil"):
        with pytest.raises(ModelError, match=rf"{name}\.pth: expected a PyTorch file"):
            SamConfig(checkpoint=str(tmp_path / f"{name}.pth")).build()
    assert not (tmp_path / "was-here").exists()
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ModelError, match="got a list"):
        SamConfig(checkpoint=str(tmp_path / "list.pth")).build()
