"""int8: the range of each tensor, the layers that stay float, and the files that say so."""
