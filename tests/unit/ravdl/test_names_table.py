"""The quickstart's table of names from elsewhere tells names that are there."""

from __future__ import annotations

import inspect
import re

from docs.generate.__main__ import FOLDER
from ravdl.neural_networks import NeuralNetwork
from ravdl.neural_networks.layers import LAYERS
from ravdl.neural_networks.layers.options import KernelOptions
from ravdl.neural_networks.loss_functions import LOSSES
from ravdl.neural_networks.optimizers import OPTIMIZERS, Options

MADE = {**LAYERS, **LOSSES, **OPTIMIZERS, "NeuralNetwork": NeuralNetwork}
FURTHER = dict.fromkeys(LAYERS, KernelOptions) | dict.fromkeys(OPTIMIZERS, Options)


def test_arguments_that_the_table_of_names_tells_are_there() -> None:
    page = (FOLDER / "quickstart-requesters.md").read_text(encoding="utf-8")
    section = page.partition("### Coming from Keras or PyTorch")[2].partition("\n#")[0]
    told = [row.split(" | ")[2] for row in section.splitlines() if row.startswith("| ")][1:]
    calls = [call for cell in told for call in re.findall(r"`(\w+)\(([^)`]*=)?\)`", cell)]
    assert len(told) >= 25
    for name, names in calls:
        thing = MADE[name] if name in MADE else getattr(NeuralNetwork, name)
        given = inspect.signature(thing).parameters
        known = {*given, *(FURTHER[name].__annotations__ if "options" in given else ())}
        assert set(re.findall(r"\w+", names)) <= known, f"{name}({names})"
    assert len(calls) >= 25
