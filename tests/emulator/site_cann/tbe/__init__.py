"""The operator compiler's package of an emulated CANN: there to be found, empty."""
