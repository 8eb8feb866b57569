"""Person re-identification: crops to features, features to ranks, and whether two sets of features are the same."""
