"""The room of ONNX Runtime."""
