"""The script of RavDL's README of 2022 runs unchanged: whole, and as three scripts.

`tests/data/script_of_2022.txt` holds its calls. Added are only what it leaves out (the data, two imports), the token,
and what is checked; its `test_cnn.onnx`, which it does not make, is the `test_ann.onnx` that it does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import ROOT, Lab

SCRIPT = ROOT / "tests" / "data" / "script_of_2022.txt"
DATA = """
from sklearn.datasets import load_iris
from ravdl.neural_networks.optimizers import Adam
from ravdl.neural_networks.loss_functions import CrossEntropy
import numpy as np
import pickle as pkl
X, species = load_iris(return_X_y=True)
X_test, y = X[::5], np.eye(3)[species]
n_features, n_hidden, epoch_no, batch_no = 4, 15, 1, 1
"""
LOCAL = """
local = R.run_local()
for name in ("test_prediction", "Dense_1_W", "training_loss_epoch_5_batch_6"):
    np.testing.assert_allclose(R.fetch(name), local[name], rtol=1e-4, atol=1e-5)
"""
FETCHED = """
assert type(batch_loss) is float, batch_loss
assert np.shape(y_test_pred) == (30, 3) and type(y_test_pred) is list
sess = rt.InferenceSession(model_file_path)
np.testing.assert_allclose(sess.run(None, {input_name: X_test.astype(np.float32)})[0], y_test_pred, atol=1e-5)
"""
FURTHER = """
R.Graph(name='further', algorithm='ann', approach='distributed')
np.testing.assert_allclose(np.shape(X), (150, 4))
model.fit(X, y, n_epochs=3, batch_size=25, save_model=True)
R.activate()
R.execute()
R.track_progress()
print("further loss:", R.fetch_persisting_op(op_name="training_loss_epoch_3_batch_6"))
"""


def usage(token: str) -> list[str]:
    """The parts of the script, in order."""
    _, *parts = re.split(r"^# ---\n", SCRIPT.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [part.replace("<TOKEN>", token).replace("test_cnn.onnx", "test_ann.onnx") for part in parts]


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A coordinator and two providers; each test is a requester of its own."""
    lab = Lab(tmp_path_factory.mktemp("town"))
    lab.coordinator()
    lab.providers(2)
    yield lab
    lab.close()


def run(lab: Lab, folder: Path, name: str, *parts: str) -> str:
    path = folder / name
    path.write_text("\n".join(parts), encoding="utf-8")
    return lab.script(path, "", cwd=folder, RAVENVERSE_TOKEN="").result()


def test_as_one_script(town: Lab, tmp_path: Path) -> None:
    s = usage(town.token("requester", tmp_path.name))
    output = run(town, tmp_path, "one.py", DATA, *s[:11], LOCAL, *s[11:13], FETCHED, s[13], FURTHER)
    assert "training_loss_epoch_1_batch_1:" in output
    assert re.search(r"further loss: \d", output)


def test_as_three_scripts(town: Lab, tmp_path: Path) -> None:
    s = usage(town.token("requester", tmp_path.name))
    run(town, tmp_path, "define.py", DATA, *s[:9])
    assert "done" in run(town, tmp_path, "execute.py", s[0], s[9])
    output = run(town, tmp_path, "fetch.py", DATA, s[0], *s[10:13], FETCHED, s[13], FURTHER)
    assert re.search(r"further loss: \d", output)
