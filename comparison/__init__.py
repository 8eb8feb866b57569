"""What compare.py does: two results of the same people, measured level by level, judged, explained and shown."""
