"""What is true of top-down pose estimation on any device. numpy and OpenCV only; pycocotools in `score.py`."""
