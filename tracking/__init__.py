"""Trackers: they give each person an id that stays the same from frame to frame."""
