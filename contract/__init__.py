"""What the stages share: errors, files, bins, dumps, the manifest, ONNX files, and the interface of a backend."""
