"""The engine: the one place that runs ONNX models.

`Session` computes one model. `run_local` computes a whole graph in one session, `export_onnx` writes it to a
file. What makes a model faster on one engine is decided here too, never in a stored graph.
The provider builds its sandbox around `Session`; this room opens no socket and keeps no state between runs.
"""

from ravop.engine.local import export_onnx, run_local
from ravop.engine.session import ENGINES, EngineName, Session

__all__ = ["ENGINES", "EngineName", "Session", "export_onnx", "run_local"]
