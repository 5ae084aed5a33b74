"""Eight PyTorch modules of the kinds that people bring: what imports are tested with, and benchmarked.

Each `Case` makes the module and a batch in two sizes: `tiny` for tests, else as one trains it. All of them end in logits of
shape (batch, classes), or (batch, classes, time) where every position is classified, as PyTorch's cross entropy takes them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LeNet(nn.Module):
    """LeCun, Bottou, Bengio & Haffner 1998, with maxima for its pooling."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 5, padding=2)
        self.conv2 = nn.Conv2d(width, 2 * width, 5)
        self.fc1 = nn.Linear(2 * width * 25, 20 * width)
        self.fc2 = nn.Linear(20 * width, 14 * width)
        self.fc3 = nn.Linear(14 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = torch.flatten(x, 1)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


class BasicBlock(nn.Module):
    """Two convolutions and what goes around them (He, Zhang, Ren & Sun 2016)."""

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, filters, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels != filters:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, filters, 1, stride, bias=False), nn.BatchNorm2d(filters)
            )

    def forward(self, x: Tensor) -> Tensor:
        around = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + around)


class ResNet(nn.Module):
    """ResNet-18's form, for small images: a 3×3 stem with overlapping pooling, four stages of two blocks."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.pool = nn.MaxPool2d(3, 2, 1)
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        self.stages = nn.Sequential(
            *(
                nn.Sequential(BasicBlock(a, b, 1 if number == 0 else 2), BasicBlock(b, b, 1))
                for number, (a, b) in enumerate(pairwise(widths))
            )
        )
        self.fc = nn.Linear(8 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.relu(self.bn1(self.conv1(x))))
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(self.stages(x), 1), 1))


def _separable(channels: int, filters: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False), nn.BatchNorm2d(channels), nn.ReLU6(),
        nn.Conv2d(channels, filters, 1, bias=False), nn.BatchNorm2d(filters), nn.ReLU6(),
    )  # fmt: skip


class Separable(nn.Module):
    """Depthwise and pointwise convolutions in turn (Howard et al. 2017)."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU6())
        self.blocks = nn.Sequential(
            _separable(width, 2 * width, 1), _separable(2 * width, 4 * width, 2),
            _separable(4 * width, 4 * width, 1), _separable(4 * width, 8 * width, 2),
        )  # fmt: skip
        self.classifier = nn.Linear(8 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.blocks(self.stem(x)).mean((2, 3)))


class UNet(nn.Module):
    """Down, up, and across (Ronneberger, Fischer & Brox 2015); a class for each pixel."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.down1 = self._twice(1, width)
        self.down2 = self._twice(width, 2 * width)
        self.bottom = self._twice(2 * width, 4 * width)
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, 2)
        self.left2 = self._twice(4 * width, 2 * width)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 2, 2)
        self.left1 = self._twice(2 * width, width)
        self.head = nn.Conv2d(width, classes, 1)

    @staticmethod
    def _twice(channels: int, filters: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU(), nn.Conv2d(filters, filters, 3, padding=1), nn.ReLU()
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        first = self.down1(x)
        second = self.down2(F.max_pool2d(first, 2))
        x = self.bottom(F.max_pool2d(second, 2))
        x = self.left2(torch.cat([self.up2(x), second], 1))
        x = self.left1(torch.cat([self.up1(x), first], 1))
        return torch.flatten(self.head(x), 2)


class Recurrent(nn.Module):
    """Two LSTM layers, and a class for the series."""

    def __init__(self, features: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features, hidden, num_layers=2, batch_first=True)
        self.head = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


class Encoder(nn.Module):
    """Two Transformer encoder layers (Vaswani et al. 2017), and a class for the series."""

    def __init__(self, width: int, heads: int, classes: int) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x).mean(1))


class DecoderBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        batch, time, width = x.shape
        q, k, v = (
            part.view(batch, time, self.heads, width // self.heads).transpose(1, 2)
            for part in self.qkv(self.norm1(x)).chunk(3, -1)
        )
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(batch, time, width))
        return x + self.mlp(self.norm2(x))


class Decoder(nn.Module):
    """As GPT-2 (Radford et al. 2019): embeddings, causal attention, and a head tied to the embeddings."""

    def __init__(self, words: int, time: int, width: int, heads: int, blocks: int) -> None:
        super().__init__()
        self.token = nn.Embedding(words, width)
        nn.init.normal_(self.token.weight, std=0.02)
        self.position = nn.Parameter(torch.randn(time, width) * 0.02)
        self.blocks = nn.Sequential(*(DecoderBlock(width, heads) for _ in range(blocks)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, words, bias=False)
        self.head.weight = self.token.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.token(tokens) + self.position
        return self.head(self.norm(self.blocks(x))).transpose(1, 2)


@dataclass(frozen=True)
class Case:
    """`module(tiny)` makes the network, `batch(tiny, number)` a batch: inputs and integer targets as arrays."""

    module: Callable[[bool], nn.Module]
    batch: Callable[[bool, int], tuple[np.ndarray, np.ndarray]]


def _images(
    shape: tuple[int, ...], small: tuple[int, ...], classes: int
) -> Callable[[bool, int], tuple[np.ndarray, np.ndarray]]:
    """Normal inputs of this shape, and a class for each."""

    def batch(tiny: bool, number: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(number)
        chosen = small if tiny else shape
        return rng.normal(size=chosen).astype(np.float32), rng.integers(0, classes, chosen[0])

    return batch


def _pixels(tiny: bool, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Images whose bright pixels are to be found."""
    count, size = (2, 16) if tiny else (4, 64)
    x = np.random.default_rng(number).normal(size=(count, 1, size, size)).astype(np.float32)
    return x, (x > 0.5).astype(np.int64).reshape(count, -1)


def _words(tiny: bool, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Words that follow each other by a rule, to be told one ahead."""
    words, time, count = (32, 12, 4) if tiny else (256, 64, 8)
    first = np.random.default_rng(number).integers(0, words, (count, 1))
    series = (first + 3 * np.arange(time + 1)) % words
    return series[:, :-1].copy(), series[:, 1:].copy()


def _mlp(tiny: bool) -> nn.Module:
    a, b = (12, 16) if tiny else (784, 256)
    return nn.Sequential(nn.Linear(a, b), nn.ReLU(), nn.Linear(b, b), nn.ReLU(), nn.Linear(b, 10))


CASES: dict[str, Case] = {
    "MLP": Case(_mlp, _images((64, 784), (8, 12), 10)),
    "LeNet": Case(
        lambda tiny: LeNet(2 if tiny else 6, 10), _images((32, 1, 28, 28), (4, 1, 28, 28), 10)
    ),
    "ResNet-18-like": Case(
        lambda tiny: ResNet(4 if tiny else 16, 10), _images((16, 3, 32, 32), (6, 3, 32, 32), 10)
    ),
    "depthwise-separable": Case(
        lambda tiny: Separable(4 if tiny else 16, 10), _images((16, 3, 32, 32), (6, 3, 16, 16), 10)
    ),
    "U-Net": Case(lambda tiny: UNet(4 if tiny else 16, 2), _pixels),
    "LSTM": Case(
        lambda tiny: Recurrent(4, 6, 5) if tiny else Recurrent(64, 128, 10), _images((16, 32, 64), (4, 7, 4), 5)
    ),
    "Transformer encoder": Case(
        lambda tiny: Encoder(8, 2, 5) if tiny else Encoder(128, 4, 10), _images((8, 32, 128), (4, 6, 8), 5)
    ),
    "GPT-like decoder": Case(
        lambda tiny: Decoder(32, 12, 8, 2, 2) if tiny else Decoder(256, 64, 128, 4, 2), _words
    ),
}  # fmt: skip
"""By the name that tables show."""
