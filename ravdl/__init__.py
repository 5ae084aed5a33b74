"""Deep learning on ravop: layers, losses, optimizers, models, and ONNX files in and out."""
