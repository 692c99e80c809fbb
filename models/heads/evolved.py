"""The networks of a genome: input [N, C, H, W] to logits [N, k], their probabilities averaged."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.heads.genome import Activation, GenomeHeadConfig

_ACTIVATIONS: dict[Activation, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
}


class EvolvedHead(nn.Module):
    """Members of one kind, whose mean probability is the answer; its logarithm is given as logits."""

    def __init__(self, config: GenomeHeadConfig, channels: int, num_classes: int) -> None:
        super().__init__()
        self.members = nn.ModuleList(member(config, channels, num_classes) for _ in range(config.members))

    def forward(self, inputs: Tensor) -> Tensor:
        """Map [N, C, H, W], of any floating type, to logits [N, k]."""
        values = inputs.to(next(self.parameters()).dtype)
        logs = torch.stack([one(values).log_softmax(1) for one in self.members])
        return torch.logsumexp(logs, dim=0) - math.log(len(self.members))


def member(config: GenomeHeadConfig, channels: int, num_classes: int) -> nn.Sequential:
    """One network of a genome.

    Args:
        config: the genome.
        channels: of its inputs.
        num_classes: k.
    """
    activation = _ACTIVATIONS[config.activation]
    pooling = nn.MaxPool2d if config.pooling == "max" else nn.AvgPool2d
    layers: list[nn.Module] = []
    for outputs in config.filters:
        layers += [nn.Conv2d(channels, outputs, config.kernel, padding=config.kernel // 2), activation(), pooling(2)]
        channels = outputs
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(config.dropout)]
    layers += [nn.Linear(channels, config.width), activation(), nn.Dropout(config.dropout)]
    made = nn.Sequential(*layers, nn.Linear(config.width, num_classes))
    for layer in made:
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            # Without normalizations, torch's own start lets five blocks' answers shrink to nothing.
            nn.init.kaiming_normal_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    return made
