"""Computes batches of tasks, and parts of loops with other ranks: checks the models, keeps compiled sessions, verifies
what comes out.

Lives in the worker process only. Running ONNX itself is `ravop.engine`'s business.
"""

from provider.engine.batch import Batches
from provider.engine.parts import PartRun
from provider.engine.runner import Runner

__all__ = ["Batches", "PartRun", "Runner"]
