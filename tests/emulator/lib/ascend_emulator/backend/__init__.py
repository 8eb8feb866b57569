"""aclruntime: the backend of the ais_bench package, both generations."""
