"""The rooms of predict.py: what goes in, the stages in between, and what comes out."""
