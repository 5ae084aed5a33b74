"""Load an ONNX file, train it further on providers, and save it again.

    python examples/onnx_finetune.py [FILE]

FILE takes images of shape (1, 8, 8) and gives ten probabilities, such as the `digits_cnn.onnx` that
`examples/cnn_digits.py` writes, or one exported by PyTorch.
"""

import sys

import numpy as np
import onnxruntime
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import ravop as R
from ravdl.neural_networks.load_onnx_model import load_onnx
from ravdl.neural_networks.loss_functions import CrossEntropy
from ravdl.neural_networks.optimizers import Adam


def accuracy(path: str) -> float:
    """Of an ONNX file on the test images, in ONNX Runtime."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {session.get_inputs()[0].name: X_test})
    return float(np.mean(scores.argmax(axis=1) == labels_test))


path = sys.argv[1] if len(sys.argv) > 1 else "digits_cnn.onnx"
digits = load_digits()
images = (digits.images[:, None] / 16).astype(np.float32)
X, X_test, labels, labels_test = train_test_split(
    images, digits.target, test_size=0.3, random_state=1, stratify=digits.target
)

R.initialize()
R.Graph(name="digits, continued", algorithm="convolutional_neural_network", approach="distributed")

model = load_onnx(model_file_path=path, optimizer=Adam(learning_rate=0.0003), loss=CrossEntropy)
model.summary()
model.fit(X, np.eye(10, dtype=np.float32)[labels], n_epochs=5, batch_size=64, save_model=True, shuffle=True)

R.activate()
R.execute()
R.track_progress()

model.get_onnx_model("digits_finetuned")
print(f"test accuracy: {accuracy(path):.1%} before, {accuracy('digits_finetuned.onnx'):.1%} after")
