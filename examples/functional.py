"""A graph of layers: do two handwritten digits show the same number, and which sum do they have?

Both images go through one encoder, whose weights are used twice; its two results meet in branches, and the model has two
outputs with a loss each. It is measured with images that it was not trained on.
"""

import numpy as np
from sklearn.datasets import load_digits

import ravop as R
from ravdl.neural_networks import Input, Lambda, NeuralNetwork
from ravdl.neural_networks.layers import (
    Add,
    BatchNormalization,
    Concatenate,
    Conv2D,
    Dense,
    Flatten,
    MaxPooling2D,
)
from ravdl.neural_networks.loss_functions import BinaryCrossEntropy, SparseCategoricalCrossEntropy
from ravdl.neural_networks.optimizers import Adam

digits = load_digits()
images, numbers = (digits.images[:, None] / 16).astype(np.float32), digits.target
draw = np.random.default_rng(1)


def pairs(first: int, last: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of pairs of images, half of them with equal numbers."""
    left = draw.integers(first, last, count)
    right = draw.integers(first, last, count)
    for at in range(0, count, 2):
        right[at] = first + draw.choice(np.flatnonzero(numbers[first:last] == numbers[left[at]]))
    return left, right


def encoder() -> NeuralNetwork:
    """From an image to 32 numbers, with a shortcut around the second convolution."""
    image = Input((1, 8, 8))
    low = Conv2D(16, filter_shape=(3, 3), activation="relu")(image)
    high = BatchNormalization()(Conv2D(16, filter_shape=(3, 3))(low))
    flat = Flatten()(MaxPooling2D(pool_shape=(2, 2), stride=2)(Add()([low, high])))
    return NeuralNetwork(Adam(), BinaryCrossEntropy, inputs=image, outputs=Dense(32)(flat))


encode = encoder()
left, right = Input((1, 8, 8), name="left"), Input((1, 8, 8), name="right")
a, b = encode(left), encode(right)  # one set of weights
distance = Lambda(lambda x, y: R.abs(x - y))([a, b])
model = NeuralNetwork(
    Adam(learning_rate=0.002),
    {"same": BinaryCrossEntropy, "sum": SparseCategoricalCrossEntropy},
    metrics={"same": ["accuracy"], "sum": ["accuracy"]},
    inputs=[left, right],
    outputs={
        "same": Dense(1, activation="sigmoid")(distance),
        "sum": Dense(19, activation="softmax")(Dense(64, activation="relu")(Concatenate()([a, b]))),
    },
)
model.summary()


def data(first: int, last: int, count: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    i, j = pairs(first, last, count)
    answers = {"same": (numbers[i] == numbers[j])[:, None], "sum": numbers[i] + numbers[j]}
    return {"left": images[i], "right": images[j]}, answers


R.initialize()
R.Graph(name="pairs of digits", algorithm="siamese_network", approach="distributed", seed=1)
X, y = data(0, 1300, 2400)
history = model.fit(X, y, n_epochs=6, batch_size=48, shuffle=True, validation_data=data(1300, 1797, 1000))

R.activate()
R.execute()
R.track_progress()

for question in ("same", "sum"):
    first, last = history[f"val_{question}_accuracy"][[0, -1]]
    print(f"{question}: {first:.1%} of new pairs right after one epoch, {last:.1%} in the end")
