"""AlphaPose's own code beside this project's: the same inputs for both, what the original computes, and a verdict."""
