"""Policy networks: what they look like, and how pictures and scans become outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Final, NamedTuple, TypeAlias

import torch
from torch import nn

from inference.features import HEIGHT, WIDTH
from inference.package import Sensor

Inputs: TypeAlias = Mapping[str, torch.Tensor]
"""By sensor: cameras uint8 or float32 [n, height, width, channels], grey levels 0..255, as simulator and car lay them
out; LiDARs float32 [n, values]."""


class Convolution(NamedTuple):
    """One square convolution without padding, ReLU behind it."""

    filters: int
    kernel: int
    stride: int


@dataclass(frozen=True, slots=True)
class Architecture:
    """The layers between a picture and the head: convolutions for each camera and `dense` layers, which look at one
    place of what those leave like at every other, as in the original; dense layers for a LiDAR (LIDAR_DENSE); then, all
    of them side by side, the `middleware`. ReLU everywhere.

    `stock_name` is the `neural_network` by which model_metadata.json calls this kind of network; `stereo`, if there are
    any, are the convolutions that it has for two cameras instead of all that.
    """

    stock_name: str
    convolutions: tuple[Convolution, ...]
    dense: tuple[int, ...]
    middleware: tuple[int, ...]
    stereo: tuple[Convolution, ...] = ()

    def convolutions_for(self, channels: int) -> tuple[Convolution, ...]:
        return self.stereo if channels == 2 and self.stereo else self.convolutions

    def dense_for(self, channels: int) -> tuple[int, ...]:
        return () if channels == 2 and self.stereo else self.dense


LIDAR_DENSE: Final = (256, 256)
_DEEP_STEREO: Final = (
    Convolution(32, 3, 1),
    Convolution(64, 3, 2),
    Convolution(64, 3, 1),
    Convolution(128, 3, 2),
    Convolution(128, 3, 1),
)
SHALLOW: Final = Architecture(
    "DEEP_CONVOLUTIONAL_NETWORK_SHALLOW",
    (Convolution(32, 8, 4), Convolution(64, 4, 2), Convolution(64, 3, 1)),
    (),
    (512,),
)
"""The network that the original service trains: 5.8 million weights."""
COMPACT: Final = Architecture(
    # Readers of the metadata accept only names they know, and the car looks at the graph alone:
    # this is the nearest kin, three convolutions and one dense layer.
    SHALLOW.stock_name,
    (Convolution(16, 8, 4), Convolution(32, 4, 2), Convolution(32, 3, 2)),
    (),
    (128,),
)
"""Small enough to train on a laptop's processor in minutes: 0.2 million weights."""
ARCHITECTURES: Final = {
    "compact": COMPACT,
    "3-layer": SHALLOW,
    "5-layer": Architecture(
        "DEEP_CONVOLUTIONAL_NETWORK",
        (Convolution(32, 5, 2), Convolution(32, 3, 1), Convolution(64, 3, 2), Convolution(64, 3, 1)),
        (64,),
        (512,),
        _DEEP_STEREO,
    ),
    "deep": Architecture(
        "DEEP_CONVOLUTIONAL_NETWORK_DEEP",
        (Convolution(32, 8, 4), Convolution(32, 4, 2), Convolution(64, 4, 2), Convolution(64, 3, 1)),
        (512, 512),
        (256, 128),
        _DEEP_STEREO,
    ),
}
"""By the name that jobs and the command line know."""


class Head(StrEnum):
    """What the outputs are: logits of a list of actions; mean actions; mean actions before a tanh, as SAC learns."""

    DISCRETE = "discrete"
    CONTINUOUS = "continuous"
    SQUASHED = "squashed"


class PolicyNetwork(nn.Module):
    """Pictures and scans to the policy's head, as Head says; a camera's 0..255 are divided by 255 in here.

    `inputs`: for each sensor the channels of its pictures, or the values of its scan. Their branches are put side by
    side by the order of the sensors' names, whatever the metadata's order, as the original service does.
    """

    def __init__(self, architecture: Architecture, inputs: Mapping[Sensor, int], outputs: int, head: Head) -> None:
        super().__init__()
        self.architecture = architecture
        self.inputs = dict(sorted(inputs.items()))
        self.outputs = outputs
        self.kind = head
        self.branches = nn.ModuleDict(
            {
                sensor.value: _Scan(size) if sensor.is_lidar else _Camera(architecture, size)
                for sensor, size in self.inputs.items()
            }
        )
        width = sum(branch.width for branch in self.branches.values())  # type: ignore[misc]
        self.middleware = _dense((width, *architecture.middleware))
        self.head = nn.Linear((width, *architecture.middleware)[-1], outputs)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.orthogonal_(layer.weight, 2**0.5)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        # An undecided start: all actions alike, or straight on.
        nn.init.orthogonal_(self.head.weight, 0.01)
        # On processors, learning is faster in this order; torch's own types do not know the parameter.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, inputs: Inputs) -> torch.Tensor:
        """float32[n, outputs]."""
        parts = [branch(inputs[sensor]) for sensor, branch in self.branches.items()]
        x = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        for layer in self.middleware:
            x = torch.relu_(layer(x))
        head: torch.Tensor = self.head(x)
        return head


class _Camera(nn.Module):
    def __init__(self, architecture: Architecture, channels: int) -> None:
        super().__init__()
        layers = architecture.convolutions_for(channels)
        depths = (channels, *(layer.filters for layer in layers))
        self.convolutions = nn.ModuleList(
            nn.Conv2d(depth, layer.filters, layer.kernel, layer.stride)
            for depth, layer in zip(depths, layers, strict=False)
        )
        depth, height, width = left_over(layers)
        sizes = (depth, *architecture.dense_for(channels))
        self.dense = _dense(sizes)
        self.width = height * width * sizes[-1]

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        x = pictures.permute(0, 3, 1, 2) / 255.0
        for layer in self.convolutions:
            x = torch.relu_(layer(x))
        x = x.permute(0, 2, 3, 1)
        for layer in self.dense:
            x = torch.relu_(layer(x))
        return x.flatten(1)


class _Scan(nn.Module):
    def __init__(self, values: int) -> None:
        super().__init__()
        self.dense = _dense((values, *LIDAR_DENSE))
        self.width = LIDAR_DENSE[-1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.dense:
            x = torch.relu_(layer(x))
        return x


def left_over(layers: Sequence[Convolution], height: int = HEIGHT, width: int = WIDTH) -> tuple[int, int, int]:
    """Channels, height and width of what the last convolution leaves of a picture of that size."""
    for layer in layers:
        height = (height - layer.kernel) // layer.stride + 1
        width = (width - layer.kernel) // layer.stride + 1
    return layers[-1].filters, height, width


def _dense(sizes: Sequence[int]) -> nn.ModuleList:
    return nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(sizes))
