"""Import of ONNX models: any model's nodes, written into a graph as standard operators of `ravop.graph.infer.OPSET`.

`reading` takes a file, bytes or a model and trusts none of them; `model` says what was read; `walk` writes the nodes into a
graph with the help of the tables of the other modules. `api` is what users call.
"""

from ravop.importing.model import Applied, OnnxModel, Port, read_model

__all__ = ["Applied", "OnnxModel", "Port", "read_model"]
