"""The network as it is served: the same sums in fewer and larger steps.

Legend of the shape suffixes: N batch, C channels, T frames, H, W, S = H * W, F = N * T frames,
P parts, D outputs.

`TrackletGait` is what is trained: every layer of the paper by itself. Here batch norms are part of
the convolution before them, the Haar wavelet and its 1x1 convolution are one 2x2 convolution in
steps of two, the sum in the temporal branch is one weight of its kernel, and all convolutions are
two-dimensional. Nothing is approximated: only the order of the rounding differs.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import nn
from torch.nn import functional

from gait.model.blocks import Halving, HalvingConv, ResidualUnit
from gait.model.haar import fused_kernel
from gait.model.heads import PartLinear, pool_parts
from gait.model.trackletgait import TrackletGait, TrackletGaitConfig

BatchNorm = nn.BatchNorm2d | nn.BatchNorm3d
Convolution = nn.Conv2d | nn.Conv3d
Pair = tuple[int, int]


class FoldedUnit(nn.Module):
    """One residual unit: `enter`, `mix` frames, `leave`.

    Attributes:
        temporal_kernel: Frames `mix` sees at once; None when it looks at none but its own.
    """

    def __init__(self, unit: ResidualUnit) -> None:
        super().__init__()
        self._first = nn.Sequential(*_entry(unit))
        self._temporal = fold_temporal(unit) if unit.has_temporal else None
        self._second = fold_norm(unit.conv2, unit.bn2)
        self._shortcut = _shortcut(unit.downsample)
        self.temporal_kernel = unit.th.kernel_size[0] if unit.has_temporal else None

    def forward(
        self, x_FCHW: torch.Tensor, num_frames: int, is_real_F111: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return shape (F, C_out, H or H / 2, W or W / 2).

        Args:
            x_FCHW: Of sequences of `num_frames` each.
            is_real_F111: 1 for frames of a sequence, 0 for those behind its end; None when all are
                of a sequence.
        """
        y_FCHW = self.enter(x_FCHW)
        if self._temporal is not None:
            if is_real_F111 is not None:
                y_FCHW = y_FCHW * is_real_F111  # what is beyond an end is zero, as in `mix`
            shape_CHW = y_FCHW.shape[1:]
            y_NTCS = y_FCHW.reshape(-1, num_frames, *shape_CHW).flatten(3)
            mixed_NCTS = self.mix(y_NTCS.transpose(1, 2))
            y_FCHW = mixed_NCTS.transpose(1, 2).reshape(-1, *shape_CHW)
        return self.leave(y_FCHW, self.shortcut(x_FCHW))

    def enter(self, x_FCHW: torch.Tensor) -> torch.Tensor:
        """Return what the temporal branch reads, frame by frame."""
        y_FCHW: torch.Tensor = self._first(x_FCHW)
        return y_FCHW

    def mix(self, y_NCTS: torch.Tensor, *, is_padded: bool = True) -> torch.Tensor:
        """Return each frame joined with its neighbours, shape (N, C, T, S).

        Args:
            y_NCTS: What `enter` returned.
            is_padded: Take frames beyond both ends for zeros. Without it the result has
                `temporal_kernel` - 1 frames less: those whose neighbours are all there.

        Raises:
            ValueError: The unit looks at no other frames.
        """
        if self._temporal is None:
            raise ValueError("mix: this unit has no temporal branch")
        kernel: nn.Conv2d = self._temporal
        padding = (kernel.kernel_size[0] // 2, 0) if is_padded else 0
        return torch.relu(
            functional.conv2d(
                y_NCTS, kernel.weight, kernel.bias, padding=padding, groups=kernel.groups
            )
        )

    def shortcut(self, x_FCHW: torch.Tensor) -> torch.Tensor:
        """Return what is added at the end, frame by frame."""
        shortcut_FCHW: torch.Tensor = self._shortcut(x_FCHW)
        return shortcut_FCHW

    def leave(self, y_FCHW: torch.Tensor, shortcut_FCHW: torch.Tensor) -> torch.Tensor:
        """Return the unit's output, frame by frame."""
        return torch.relu(self._second(y_FCHW) + shortcut_FCHW)


class FoldedGait(nn.Module):
    """A trained network folded for serving; `fold` makes it. It cannot be trained.

    Attributes:
        config: Of the network it was made from.
        units: The residual units in order.
    """

    units: nn.ModuleList

    def __init__(self, model: TrackletGait) -> None:
        super().__init__()
        self.config: TrackletGaitConfig = model.config
        stem = model.pooling1.conv_bn_relu
        self._stem = fold_norm(stem[0], stem[1])
        self.units = nn.ModuleList(
            FoldedUnit(_only_unit(model, unit.name)) for unit in model.config.units
        )
        self.head = FoldedHead(model.FCs, model.config.num_parts)

    def forward(
        self, silhouettes_NTHW: torch.Tensor, lengths_N: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the embeddings, shape (N, D, P), as `TrackletGait` does.

        Args:
            silhouettes_NTHW: Float in 0..1.
            lengths_N: Frames of each sequence, whole numbers; what follows them is not looked at.
                None when all sequences fill T. Padding does no harm: maps behind an end are zero
                for every temporal branch, as the padding of a shorter sequence is, and zero for
                the maximum over time, whose inputs are never below zero.
        """
        num_frames = silhouettes_NTHW.shape[1]
        x_FCHW = self.stem(silhouettes_NTHW.flatten(0, 1))
        is_real_F111 = None
        if lengths_N is not None:
            frames_T = torch.arange(num_frames, device=lengths_N.device)
            is_real_F111 = (frames_T < lengths_N[:, None]).reshape(-1, 1, 1, 1).to(x_FCHW.dtype)
        for unit in self.units:
            x_FCHW = unit(x_FCHW, num_frames, is_real_F111)
        if is_real_F111 is not None:
            x_FCHW = x_FCHW * is_real_F111
        embeddings_NDP: torch.Tensor = self.head(
            x_FCHW.reshape(-1, num_frames, *x_FCHW.shape[1:]).amax(1)
        )
        return embeddings_NDP

    def stem(self, silhouettes_FHW: torch.Tensor) -> torch.Tensor:
        """Return the first feature maps, shape (F, C, H, W)."""
        x_FCHW: torch.Tensor = self._stem(silhouettes_FHW.unsqueeze(1).to(self._stem.weight.dtype))
        return torch.relu(x_FCHW)

    def round_to(self, dtype: torch.dtype) -> Self:
        """Round all but the head to `dtype`, in place, and return the network itself.

        The head costs next to nothing and stays as it is: what the sequences have in common would
        use up the digits of half precision. Inputs may be of any float dtype, embeddings are of
        the head's.
        """
        self._stem.to(dtype)
        self.units.to(dtype)
        return self


class FoldedHead(nn.Module):
    """The maximum over time to one embedding a part, as one batched product of matrices."""

    def __init__(self, maps: PartLinear, num_parts: int) -> None:
        super().__init__()
        self._num_parts = num_parts
        self.weight_PCD = nn.Parameter(maps.fc_bin.detach().clone(), requires_grad=False)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Return shape (N, D, P)."""
        x_NCHW = x_NCHW.to(self.weight_PCD.dtype)
        parts_PNC = pool_parts(x_NCHW, self._num_parts).permute(2, 0, 1)
        return torch.bmm(parts_PNC, self.weight_PCD).permute(1, 2, 0)


def fold(model: TrackletGait) -> FoldedGait:
    """Return the network folded for serving, in eval mode, dtype and device of `model`.

    Equal to `model.eval()` within 5e-5 in float32 and 1e-12 in float64. `model` stays as it is.
    """
    folded = FoldedGait(model).eval().requires_grad_(False)
    for module in folded.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.contiguous(memory_format=torch.channels_last)
    return folded


def fold_norm(conv: nn.Module, norm: nn.Module) -> nn.Conv2d:
    """Return a 2-D convolution that is `conv`, of single frames, and then `norm`."""
    assert isinstance(conv, Convolution)
    assert isinstance(norm, BatchNorm)
    weight, stride, padding = _planar(conv)
    scale, shift = _affine(norm)
    weight = weight.double() * scale.reshape(-1, 1, 1, 1)
    bias = shift if conv.bias is None else conv.bias.double() * scale + shift
    return _conv(weight, bias, conv, stride=stride, padding=padding)


def fold_temporal(unit: ResidualUnit) -> nn.Conv2d:
    """Return the (k, 1) convolution that is x + norm(conv(x)) along time: x is a weight of 1."""
    kernel_CGk1 = unit.th.weight.squeeze(-1)
    scale, shift = _affine(unit.thbn)
    weight = kernel_CGk1.double() * scale.reshape(-1, 1, 1, 1)
    channels, in_group, size = weight.shape[:3]
    own = torch.arange(channels, device=weight.device)
    weight[own, own % in_group, size // 2, 0] += 1
    return _conv(weight, shift, unit.th, groups=unit.th.groups)


def _entry(unit: ResidualUnit) -> list[nn.Module]:
    layers: list[nn.Module] = [fold_norm(unit.conv1, unit.bn1), nn.ReLU()]
    if unit.has_pooling:
        layers += _halving(unit.pooling)
    return layers


def _halving(halving: Halving) -> list[nn.Module]:
    conv, norm = halving.conv_bn_relu[0], halving.conv_bn_relu[1]
    if conv.kind == "max":  # no convolution is a maximum
        return [nn.MaxPool2d(2), fold_norm(conv, norm), nn.ReLU()]
    return [fold_norm(conv, norm), nn.ReLU()]


def _shortcut(shortcut: nn.Sequential) -> nn.Sequential:
    """Return the shortcut: [maximum of 2x2 blocks], [convolution with its norm]."""
    own = list(shortcut)
    layers: list[nn.Module] = []
    if own and not isinstance(own[0], nn.Conv3d):
        layers.append(nn.MaxPool2d(2))
        own = own[1:]
    if own:
        layers.append(fold_norm(own[0], own[1]))
    return nn.Sequential(*layers)


def _planar(conv: Convolution) -> tuple[torch.Tensor, Pair, Pair]:
    """Return kernel, stride and padding of a convolution of single frames, in 2-D."""
    if isinstance(conv, HalvingConv) and conv.kind == "haar":
        return fused_kernel(conv.weight.double()), (2, 2), (0, 0)
    if isinstance(conv, HalvingConv) and conv.kind == "average":
        return conv.weight.expand(-1, -1, 2, 2) / 4, (2, 2), (0, 0)
    weight = conv.weight.squeeze(2) if isinstance(conv, nn.Conv3d) else conv.weight
    assert not isinstance(conv.padding, str)
    return weight, (conv.stride[-2], conv.stride[-1]), (conv.padding[-2], conv.padding[-1])


def _affine(norm: BatchNorm) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what a batch norm multiplies by and adds in eval mode, in float64."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    return scale, norm.bias.double() - norm.running_mean.double() * scale


def _conv(
    weight: torch.Tensor,
    bias: torch.Tensor,
    like: Convolution,
    *,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    groups: int = 1,
) -> nn.Conv2d:
    """Return a convolution of these float64 numbers, rounded once to the dtype of `like`."""
    with torch.device("meta"):
        conv = nn.Conv2d(
            weight.shape[1] * groups, len(weight), (weight.shape[2], weight.shape[3]),
            stride, padding, groups=groups,
        )  # fmt: skip
    conv.weight = nn.Parameter(
        weight.detach().to(like.weight.dtype, copy=True), requires_grad=False
    )
    conv.bias = nn.Parameter(bias.detach().to(like.weight.dtype, copy=True), requires_grad=False)
    return conv


def _only_unit(model: TrackletGait, name: str) -> ResidualUnit:
    unit = model.get_submodule(name).get_submodule("0")
    assert isinstance(unit, ResidualUnit)
    return unit
