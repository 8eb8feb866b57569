"""The networks' definitions in torch."""
