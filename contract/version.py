"""The version of this project, as --version prints it."""
VERSION = "0.2.0"
