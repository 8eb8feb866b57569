"""What is compared, from the model's output to the score; the first level that differs is the one to look at.

A level is a module: `measure(a, b, options)` gives what was measured, or None where the results lack it; `LIMITS` are
the bounds for that; `table` and `section` show it as text and on the page; `load` reads it from JSON.
"""
from __future__ import annotations

from comparison.levels import features, heatmaps, keypoints, score, tensors

LEVELS = {"tensors": tensors, "heatmaps": heatmaps, "keypoints": keypoints, "score": score,
          "features": features}
