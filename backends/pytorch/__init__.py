"""The room of PyTorch: the checkpoint itself, the accuracy baseline."""
