"""What stages say to each other: errors, files, bins, dumps, the manifest, ONNX files, and what a backend is."""
