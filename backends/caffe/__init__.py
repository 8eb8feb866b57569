"""Caffe's files, run by OpenCV's reader: the format that atc takes with --framework=0."""
