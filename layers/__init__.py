"""What compare_layers.py does: two networks, or one in two precisions, compared with each other layer by layer."""
