"""The person detector: darknet's files read, an ONNX graph built of them, photos in and boxes out. No torch."""
