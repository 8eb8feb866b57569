"""Top-down pose estimation, as far as no device matters. numpy and OpenCV only; pycocotools in `score.py`."""
