"""Computes one subgraph: checks the model, keeps compiled sessions, verifies what comes out.

Lives in the worker process only. Running ONNX itself is `ravop.engine`'s business.
"""

from provider.engine.runner import Runner

__all__ = ["Runner"]
