"""Bring a PyTorch module, have volunteers train it, and take the weights back into the module.

PyTorch makes the module, and uses it in the end; in between it is a graph like any other. Batch normalization and dropout
train as in PyTorch.
"""

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

import ravop as R
from ravdl.neural_networks import from_torch
from ravdl.neural_networks.loss_functions import CrossEntropy
from ravdl.neural_networks.optimizers import Adam

digits = load_digits()
images = (digits.images[:, None] / 16).astype(np.float32)
X, X_test, y, y_test = train_test_split(
    images, digits.target, test_size=0.3, random_state=1, stratify=digits.target
)


class Block(nn.Module):
    """Two convolutions with a shortcut around them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        return torch.relu(x + inner)


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), Block(16), nn.MaxPool2d(2), Block(16), nn.Flatten(), nn.Dropout(0.2),
        nn.Linear(16 * 16, 10),
    )  # fmt: skip


def accuracy(module: nn.Module) -> float:
    """On the test images, in PyTorch."""
    module.eval()
    with torch.no_grad():
        return float((module(torch.from_numpy(X_test)).argmax(dim=1).numpy() == y_test).mean())


torch.manual_seed(1)
module = network()
before = accuracy(module)

R.initialize()
R.Graph(name="a module of PyTorch", algorithm="residual_network", approach="distributed", seed=1)
model = from_torch(module, torch.from_numpy(X[:2]), optimizer=Adam(learning_rate=0.002), loss=CrossEntropy)
model.summary()
history = model.fit(X, y, n_epochs=6, batch_size=32, shuffle=True, save_model=True)

R.activate()
R.execute()
R.track_progress()

module.load_state_dict(model.to_torch_state_dict())
print("losses by epoch:", *(f"{value:.3f}" for value in history["loss"]))
print(f"accuracy of the module in PyTorch: {before:.1%} before, {accuracy(module):.1%} after")
