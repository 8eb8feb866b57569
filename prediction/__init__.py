"""The parts of predict.py: its inputs, its stages and its outputs."""
