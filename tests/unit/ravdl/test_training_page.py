"""The page of models and training is made of what the classes say, and tells all of them."""

from __future__ import annotations

from docs.generate import __main__ as generate
from ravdl.neural_networks.initializers import INITIALIZER_CLASSES, INITIALIZERS
from ravdl.neural_networks.loss_functions import LOSSES
from ravdl.neural_networks.metrics import METRICS
from ravdl.neural_networks.optimizers import OPTIMIZERS
from ravdl.neural_networks.regularizers import REGULARIZERS
from ravdl.neural_networks.schedules import SCHEDULES

CLASSES = [*LOSSES, *OPTIMIZERS, *SCHEDULES, *INITIALIZER_CLASSES, *REGULARIZERS, "NeuralNetwork"]
FUNCTIONS = ["Input", "load_onnx", "from_torch", "load_model", "EarlyStopping", "LocalSGD"]
METHODS = ["fit", "predict", "evaluate", "train_on_batch", "add", "save", "get_onnx_model", "set_trainable"]


def test_the_page_of_training_is_up_to_date() -> None:
    text = (generate.FOLDER / "training.md").read_text(encoding="utf-8")
    assert text == generate.text_of("training.md"), "run python -m docs.generate"
    assert not [name for name in CLASSES + FUNCTIONS if f"\n### {name}\n\n`{name}(" not in text]
    assert not [name for name in METHODS if f"\n#### model.{name}\n\n`{name}(" not in text]
    assert not [name for name in [*METRICS, *INITIALIZERS] if f'\n- `"{name}"`' not in text]
    assert "- `n_epochs`: how often all samples are used." in text
    assert "- `learning_rate`: above 0, or a schedule." in text
