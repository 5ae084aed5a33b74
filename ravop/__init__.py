"""Ravenverse for requesters: define a graph of ops, and have it computed by volunteers' machines.

`import ravop as R`. Operators are functions here and methods of every op; they only describe, nothing is computed
before the graph is activated and executed (or run locally).
"""

from ravop import errors, ops
from ravop.autodiff import grad
from ravop.client.api import (
    activate,
    disconnect,
    execute,
    fetch,
    fetch_many,
    fetch_persisting_op,
    flush,
    get_my_graphs,
    initialize,
    track_progress,
)
from ravop.client.graphs import Graph
from ravop.engine import export_onnx, run_local
from ravop.graph import Op
from ravop.graph.control import function, scan
from ravop.ops import *  # noqa: F403

__all__ = [
    "Graph",
    "Op",
    "activate",
    "disconnect",
    "errors",
    "export_onnx",
    "execute",
    "fetch",
    "fetch_many",
    "fetch_persisting_op",
    "flush",
    "get_my_graphs",
    "grad",
    "initialize",
    "run_local",
    "scan",
    "track_progress",
]
__all__ += ops.__all__
