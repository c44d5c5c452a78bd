"""Policy networks: what they look like, and what their outputs mean."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from inference.actions import ContinuousActions
from inference.features import HEIGHT, WIDTH


class Convolution(NamedTuple):
    """One square convolution without padding, ReLU behind it."""

    filters: int
    kernel: int
    stride: int


@dataclass(frozen=True, slots=True)
class Architecture:
    """The layers between the picture and the head.

    `stock_name` is the `neural_network` by which model_metadata.json calls this kind of network.
    """

    stock_name: str
    convolutions: tuple[Convolution, ...]
    dense: tuple[int, ...]

    def features(self, height: int = HEIGHT, width: int = WIDTH) -> tuple[int, int, int]:
        """Channels, height and width of what the last convolution leaves of a picture of that size."""
        for layer in self.convolutions:
            height = (height - layer.kernel) // layer.stride + 1
            width = (width - layer.kernel) // layer.stride + 1
        return self.convolutions[-1].filters, height, width


SHALLOW: Final = Architecture(
    "DEEP_CONVOLUTIONAL_NETWORK_SHALLOW",
    (Convolution(32, 8, 4), Convolution(64, 4, 2), Convolution(64, 3, 1)),
    (512,),
)
"""The network that the original service trains: 5.8 million weights."""
COMPACT: Final = Architecture(
    # Readers of the metadata accept only names they know, and the car looks at the graph alone:
    # this is the nearest kin, three convolutions and one dense layer.
    SHALLOW.stock_name,
    (Convolution(16, 8, 4), Convolution(32, 4, 2), Convolution(32, 3, 2)),
    (128,),
)
"""Small enough to train on a laptop's processor in minutes: 0.2 million weights."""


class PolicyNetwork(nn.Module):
    """Pictures to the policy's head.

    In: [n, channels, 120, 160], float32 or uint8, grey levels 0..255; the network itself divides by 255.
    Out: float32[n, outputs]: the logits of the actions if `discrete`, else the mean action, -1..1 but not clipped.
    """

    def __init__(self, architecture: Architecture, outputs: int, *, discrete: bool = False, channels: int = 1) -> None:
        super().__init__()
        self.architecture = architecture
        self.outputs = outputs
        self.discrete = discrete
        self.channels = channels
        depths = (channels, *(layer.filters for layer in architecture.convolutions))
        self.convolutions = nn.ModuleList(
            nn.Conv2d(depth, layer.filters, layer.kernel, layer.stride)
            for depth, layer in zip(depths, architecture.convolutions, strict=False)
        )
        sizes = (int(np.prod(architecture.features())), *architecture.dense)
        self.dense = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(sizes))
        self.head = nn.Linear(sizes[-1], outputs)
        # On processors, learning is three times as fast in this order; torch's own types do not know the parameter.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        x = (pictures / 255.0).contiguous(memory_format=torch.channels_last)
        for layer in self.convolutions:
            x = torch.relu_(layer(x))
        x = x.flatten(1)
        for layer in self.dense:
            x = torch.relu_(layer(x))
        head: torch.Tensor = self.head(x)
        return head


def outputs(actions: ContinuousActions, commands: NDArray[np.float64]) -> NDArray[np.float32]:
    """float32[n, 2]: the outputs within -1..1 that ask for what comes nearest to commands [n, 2]."""
    low, high = _ends(actions)
    wanted: NDArray[np.float32] = np.clip((commands - low) / (high - low) * 2 - 1, -1.0, 1.0).astype(np.float32)
    return wanted


def _ends(actions: ContinuousActions) -> NDArray[np.float64]:
    return np.stack([np.deg2rad(actions.steering_deg), actions.speed], axis=1)
