"""Ravenverse for requesters: define a graph of ops, and have it computed by volunteers' machines.

`import ravop as R`. Operators are functions here and methods of every op; they only describe, nothing is computed
before the graph is activated and executed (or run locally).
"""

from ravop import errors, ops
from ravop.graph import Graph, Op
from ravop.graph.control import scan
from ravop.ops import *  # noqa: F403

__all__ = ["Graph", "Op", "errors", "scan"]
__all__ += ops.__all__
