"""What compare_layers.py does: two networks, or one in two precisions, held against each other layer by layer."""
