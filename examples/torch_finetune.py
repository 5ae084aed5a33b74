"""Train a PyTorch module on providers, and put the trained weights back into it.

    pip install "ravenverse[torch]"
    python examples/torch_finetune.py

The body of the network is frozen first, so that only its head is trained; then all of it is.
"""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

import ravop as R
from ravdl.neural_networks import from_torch
from ravdl.neural_networks.loss_functions import SparseCategoricalCrossEntropy
from ravdl.neural_networks.optimizers import Adam


class Residual(nn.Module):
    """A convolution with a way around it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.norm(self.conv(x)))


class Digits(nn.Module):
    """Images of shape (1, 8, 8) to ten logits."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), Residual(16), nn.MaxPool2d(2), Residual(16)
        )
        self.drop = nn.Dropout(0.2)
        self.fc = nn.Linear(16 * 16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.drop(torch.flatten(self.features(x), 1)))


def accuracy(module: nn.Module) -> float:
    """On the test images, in PyTorch."""
    with torch.no_grad():
        found = module.eval()(torch.from_numpy(X_test)).argmax(1).numpy()
    return float((found == labels_test).mean())


digits = load_digits()
images = (digits.images[:, None] / 16).astype("float32")
X, X_test, labels, labels_test = train_test_split(
    images, digits.target, test_size=0.3, random_state=1, stratify=digits.target
)
torch.manual_seed(0)
module = Digits()
before = accuracy(module)

R.initialize()
R.Graph(name="digits from PyTorch", algorithm="convolutional_neural_network", approach="distributed")

model = from_torch(module, X[:2], Adam(learning_rate=0.003), SparseCategoricalCrossEntropy(from_logits=True))
model.summary()
model.set_trainable(False, names=["features.*"])
model.fit(X, labels, n_epochs=2, batch_size=64, shuffle=True)
model.set_trainable(True)
model.fit(X, labels, n_epochs=6, batch_size=64, shuffle=True, save_model=True)

R.activate()
R.execute()
R.track_progress()

module.load_state_dict(model.to_torch_state_dict())
print(f"test accuracy: {before:.1%} before, {accuracy(module):.1%} after")
