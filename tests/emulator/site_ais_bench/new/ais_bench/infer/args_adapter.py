"""A file that only the 2024 package has, by which it can be told apart."""
