"""Model zoo: the DNNs whose profiles are shipped, as PyTorch modules.

Only their shapes matter; the weights have PyTorch's initial values. Layers have their names from
the literature, because cuts are named after layers.

``python -m mecsim.dnn.zoo`` rewrites the profiles in ``mecsim/dnn/profiles``.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from mecsim.dnn.graph import LayerGraph
from mecsim.dnn.profile_file import write_profile
from mecsim.dnn.profiler import profile_module
from mecsim.dnn.timing import Timing

_VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Channels of the convolutions of VGG16 (configuration D), pooling stage by pooling stage."""


Layers = dict[str, nn.Module]


def _conv(
    name: str, channels: tuple[int, int], kernel: int, stride: int = 1, norm: bool = False
) -> Layers:
    """Return a convolution that keeps the image size, except for its stride, and its ReLU."""
    conv = nn.Conv2d(*channels, kernel, stride, padding=kernel // 2, bias=not norm)
    batch_norm: Layers = {f"{name}_norm": nn.BatchNorm2d(channels[1])} if norm else {}
    return {name: conv} | batch_norm | {f"{name}_relu": nn.ReLU()}


def _classifier(sizes: Sequence[int]) -> Layers:
    """Return linear layers fc6, fc7, …, with ReLU and dropout after each except the last."""
    layers: Layers = {"flatten": nn.Flatten()}
    for index, (width, next_width) in enumerate(pairwise(sizes), start=6):
        layers |= {
            f"fc{index}": nn.Linear(width, next_width),
            f"fc{index}_relu": nn.ReLU(),
            f"fc{index}_drop": nn.Dropout(),
        }
    del layers[f"fc{index}_relu"], layers[f"fc{index}_drop"]
    return layers


def _sequential(*parts: Layers) -> nn.Sequential:
    return nn.Sequential(OrderedDict((name, m) for part in parts for name, m in part.items()))


def alexnet() -> nn.Module:
    """AlexNet for CIFAR-10, (1, 3, 32, 32) → (1, 10).

    The five convolutions, three poolings and three linear layers of Krizhevsky et al. (2012) in
    one column, with 3×3 kernels (stride 2 in the first) and 2×2 poolings to suit 32×32 images.
    """
    return _sequential(
        _conv("conv1", (3, 64), 3, stride=2),
        {"pool1": nn.MaxPool2d(2)},
        _conv("conv2", (64, 192), 3),
        {"pool2": nn.MaxPool2d(2)},
        _conv("conv3", (192, 384), 3),
        _conv("conv4", (384, 256), 3),
        _conv("conv5", (256, 256), 3),
        {"pool5": nn.MaxPool2d(2)},
        _classifier((256 * 2 * 2, 4096, 4096, 10)),
    )


def nin() -> nn.Module:
    """Network in Network for CIFAR-10, (1, 3, 32, 32) → (1, 10).

    Lin et al. (2014), with the widths of the authors' published CIFAR-10 network.
    """
    return _sequential(
        _conv("conv1", (3, 192), 5),
        _conv("cccp1", (192, 160), 1),
        _conv("cccp2", (160, 96), 1),
        {"pool1": nn.MaxPool2d(3, stride=2, padding=1), "drop1": nn.Dropout()},
        _conv("conv2", (96, 192), 5),
        _conv("cccp3", (192, 192), 1),
        _conv("cccp4", (192, 192), 1),
        {"pool2": nn.AvgPool2d(3, stride=2, padding=1), "drop2": nn.Dropout()},
        _conv("conv3", (192, 192), 3),
        _conv("cccp5", (192, 192), 1),
        _conv("cccp6", (192, 10), 1),
        {"pool3": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()},
    )


def _vgg16_features(norm: bool) -> Layers:
    layers: Layers = {}
    width = 3
    for stage, widths in enumerate(_VGG16, start=1):
        for index, next_width in enumerate(widths, start=1):
            layers |= _conv(f"conv{stage}_{index}", (width, next_width), 3, norm=norm)
            width = next_width
        layers[f"pool{stage}"] = nn.MaxPool2d(2)
    return layers


def vgg16() -> nn.Module:
    """VGG16 for CIFAR-10, (1, 3, 32, 32) → (1, 10).

    The 13 convolutions of Simonyan & Zisserman (2015), configuration D, each with batch
    normalisation, and linear layers of 512, 512 and 10.
    """
    return _sequential(_vgg16_features(norm=True), _classifier((512, 512, 512, 10)))


def vgg16_224() -> nn.Module:
    """VGG16 for ImageNet, (1, 3, 224, 224) → (1, 1000).

    Simonyan & Zisserman (2015), configuration D, as published: without batch normalisation.
    """
    classifier = _classifier((512 * 7 * 7, 4096, 4096, 1000))
    return _sequential(_vgg16_features(norm=False), classifier)


class _Shortcut(nn.Module):
    """Option A of He et al.: every second pixel, and zeros for the new channels."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(1, C, H, W) → (1, 2C, H/2, W/2)."""
        channels = x.shape[1]
        return functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, channels // 2, channels // 2))


class _ResidualBlock(nn.Module):
    """Two 3×3 convolutions with a shortcut in parallel."""

    def __init__(self, width: int, next_width: int) -> None:
        super().__init__()
        grows = next_width != width
        self.conv1 = nn.Conv2d(width, next_width, 3, 1 + grows, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(next_width)
        self.conv2 = nn.Conv2d(next_width, next_width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(next_width)
        self.shortcut = _Shortcut() if grows else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(1, C, H, W) → the same, or (1, 2C, H/2, W/2) where the width doubles."""
        out = functional.relu(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(out))
        return functional.relu(out + self.shortcut(x))


def resnet32() -> nn.Module:
    """ResNet32 for CIFAR-10, (1, 3, 32, 32) → (1, 10).

    He et al. (2016), section 4.2: n = 5, widths 16, 32 and 64, and parameter-free shortcuts
    (option A), as is usual on CIFAR-10.
    """
    layers = _conv("conv1", (3, 16), 3, norm=True)
    width = 16
    for stage, next_width in enumerate((16, 32, 64), start=1):
        for index in range(1, 6):
            layers[f"block{stage}_{index}"] = _ResidualBlock(width, next_width)
            width = next_width
    layers |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "fc": nn.Linear(64, 10)}
    return _sequential(layers)


@dataclass(frozen=True)
class ShippedModel:
    """How to build a model, and the parts of its profile that are not counted.

    Attributes:
        build: Returns the module.
        input_shape: Shape of one raw input, without the batch dimension.
        stages: The layers after which `mecsim.dnn.cuts.cut_stages` cuts.
    """

    build: Callable[[], nn.Module]
    input_shape: tuple[int, ...]
    stages: tuple[str, ...]


_CIFAR10, _IMAGENET = (3, 32, 32), (3, 224, 224)
_POOLINGS = ("pool1", "pool2", "pool3", "pool4", "pool5")

MODELS: dict[str, ShippedModel] = {
    "alexnet": ShippedModel(alexnet, _CIFAR10, ("pool1", "pool2", "conv3", "conv4", "pool5")),
    "nin": ShippedModel(nin, _CIFAR10, ("conv1", "pool1", "conv2", "pool2", "conv3")),
    "resnet32": ShippedModel(
        resnet32, _CIFAR10, ("conv1", "block1_5.add", "block2_5.add", "block3_5.add")
    ),
    "vgg16": ShippedModel(vgg16, _CIFAR10, _POOLINGS),
    "vgg16_224": ShippedModel(vgg16_224, _IMAGENET, _POOLINGS),
}
"""The shipped models by name."""


def profile_shipped(name: str, timing: Timing | None = None) -> LayerGraph:
    """Profile a shipped model; its raw input is an image of 8 bits a channel.

    Args:
        name: A key of `MODELS`.
        timing: How to measure the time of each layer on this machine, if it is to be measured.
    """
    model = MODELS[name]
    with torch.device("meta" if timing is None else "cpu"):  # weights without memory
        module = model.build()
    return profile_module(
        module,
        model.input_shape,
        name,
        input_bits=8 * math.prod(model.input_shape),
        stages=model.stages,
        timing=timing,
    )


def write_shipped(folder: Path | str) -> None:
    """Write the profiles of all shipped models to a folder."""
    for name in MODELS:
        write_profile(profile_shipped(name), Path(folder) / f"{name}.json")


if __name__ == "__main__":
    write_shipped(Path(__file__).parent / "profiles")
