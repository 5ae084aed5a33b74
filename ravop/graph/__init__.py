"""The graph: ops over onnx-ir, their dtypes and shapes, scopes, functions and loops, and its bytes.

Pure: no sockets, files, clocks or random numbers. `Graph` traces; `serde` is the one door to ONNX bytes; `check`
refuses models that nobody should run; `cost` estimates them.
"""

from ravop.graph.graph import Graph, GraphState, current_graph, set_current_graph
from ravop.graph.op import Op, Operand

__all__ = ["Graph", "GraphState", "Op", "Operand", "current_graph", "set_current_graph"]
