"""The PyTorch backend: the checkpoint itself, the accuracy baseline."""
