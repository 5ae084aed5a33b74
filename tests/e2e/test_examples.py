"""The examples run as they are, among them what `make run` runs."""

from __future__ import annotations

import re
from pathlib import Path

import onnx
import pytest
from processes import ROOT, Lab

EXAMPLES = ROOT / "examples"


def run(lab: Lab, example: str, cwd: Path) -> str:
    return lab.script(EXAMPLES / example, token="", cwd=cwd).result()


def test_a_few_ops(embedded: Lab, tmp_path: Path) -> None:
    output = run(embedded, "ops.py", tmp_path)
    assert "c = [[8.5, 15.0], [12.5, 21.0]]" in output
    assert "column sums = [4.0, 6.0]" in output


def test_a_network_in_three_scripts(embedded: Lab, tmp_path: Path) -> None:
    for script in ("ann_compile.py", "ann_execute.py", "ann_get_onnx.py"):
        output = run(embedded, f"ann/{script}", tmp_path)
    accuracy = re.search(r"test accuracy: ([\d.]+)%", output)
    assert accuracy
    assert float(accuracy[1]) > 85
    onnx.checker.check_model(tmp_path / "test_ann.onnx", full_check=True)


@pytest.mark.timeout(240)
def test_digits_and_training_them_further(embedded: Lab, tmp_path: Path) -> None:
    output = run(embedded, "cnn_digits.py", tmp_path)  # ends with an error below 97 % or above 1e-4
    assert "step" in output
    assert "loss" in output
    onnx.checker.check_model(tmp_path / "digits_cnn.onnx", full_check=True)
    further = re.search(r"([\d.]+)% before, ([\d.]+)% after", run(embedded, "onnx_finetune.py", tmp_path))
    assert further
    assert float(further[2]) >= 96


def test_learners_are_as_good_as_those_of_scikit_learn(embedded: Lab, tmp_path: Path) -> None:
    output = run(embedded, "learners.py", tmp_path)
    pairs = re.findall(r"^[\w ]+?\s{2,}([\d.]+)%   ([\d.]+)%$", output, re.MULTILINE)
    assert len(pairs) == 4
    assert all(abs(float(ours) - float(theirs)) < 1 for ours, theirs in pairs), output
    agreement = re.search(r"agree with them in ([\d.]+)%", output)
    assert agreement
    assert float(agreement[1]) > 85


def test_a_graph_of_layers(embedded: Lab, tmp_path: Path) -> None:
    output = run(embedded, "functional.py", tmp_path)
    ends = dict(re.findall(r"(same|sum): .* ([\d.]+)% in the end", output))
    assert float(ends["same"]) > 80
    assert float(ends["sum"]) > 60


def test_a_module_of_pytorch_and_back(embedded: Lab, tmp_path: Path) -> None:
    found = re.search(r"([\d.]+)% before, ([\d.]+)% after", run(embedded, "torch_finetune.py", tmp_path))
    assert found
    assert float(found[1]) < 30
    assert float(found[2]) >= 95


def test_make_run_runs_the_example() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "examples/cnn_digits.py" in makefile
