"""A small synthetic data set and a small trained model, so that everything runs anywhere without a download."""
