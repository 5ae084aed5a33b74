"""Train a convolutional network on handwritten digits through two providers, and take it home as ONNX.

This is what `make run` runs. A coordinator and two providers are started as processes of this machine; the
training runs on them while this script shows the progress. With RAVENVERSE_URL and RAVENVERSE_TOKEN set, it
uses theirs.
"""

import sys

import numpy as np
import onnxruntime
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import ravop as R
from ravdl.neural_networks import NeuralNetwork
from ravdl.neural_networks.layers import (
    Activation,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    MaxPooling2D,
)
from ravdl.neural_networks.loss_functions import CrossEntropy
from ravdl.neural_networks.optimizers import Adam

GOAL = 0.97
TOLERANCE = 1e-4

digits = load_digits()
images = (digits.images[:, None] / 16).astype(np.float32)  # (1797, 1, 8, 8), 0 to 1
X, X_test, labels, labels_test = train_test_split(
    images, digits.target, test_size=0.3, random_state=1, stratify=digits.target
)
y = np.eye(10, dtype=np.float32)[labels]

R.initialize()
R.Graph(name="digits", algorithm="convolutional_neural_network", approach="distributed", seed=1)

model = NeuralNetwork(optimizer=Adam(), loss=CrossEntropy)
model.add(Conv2D(16, filter_shape=(3, 3), input_shape=(1, 8, 8)))
model.add(Activation("relu"))
model.add(MaxPooling2D(pool_shape=(2, 2), stride=2))
model.add(Conv2D(32, filter_shape=(3, 3)))
model.add(Activation("relu"))
model.add(MaxPooling2D(pool_shape=(2, 2), stride=2))
model.add(Flatten())
model.add(Dense(256))
model.add(BatchNormalization())
model.add(Activation("relu"))
model.add(Dropout(0.4))
model.add(Dense(10))
model.add(Activation("softmax"))
model.summary()

model.fit(X, y, n_epochs=30, batch_size=64, save_model=True, shuffle=True)
model.predict(X_test).persist_op(name="test_prediction")

R.activate()
R.execute()
R.track_progress()

prediction = R.fetch("test_prediction")
accuracy = float(np.mean(prediction.argmax(axis=1) == labels_test))
print(f"test accuracy: {accuracy:.1%}")

model.get_onnx_model("digits_cnn")
session = onnxruntime.InferenceSession("digits_cnn.onnx", providers=["CPUExecutionProvider"])
(local,) = session.run(None, {session.get_inputs()[0].name: X_test})
difference = float(np.abs(local - prediction).max())
print(f"digits_cnn.onnx, largest difference from the providers' predictions: {difference:.1e}")

if accuracy < GOAL or difference > TOLERANCE:
    sys.exit(f"expected an accuracy of at least {GOAL:.0%} and a difference of at most {TOLERANCE:.0e}")
