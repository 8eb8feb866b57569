"""A kit: what a server with nothing but its vendor's tools needs to run a model, and the judging of what it brings."""
