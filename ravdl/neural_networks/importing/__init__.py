"""ONNX models and PyTorch modules as networks: what `load_onnx` and `from_torch` are made of.

`torch_export` makes an ONNX model of a module. `analysis` tells what is constant in a model; `conversion` finds the nodes
before each output that are layers here; `cut` takes the model without them; `network` puts both together.
"""
