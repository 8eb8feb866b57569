"""The person detector: reads darknet's files, builds an ONNX graph of them, finds boxes on photos. No torch."""
