"""The OpenVINO backend: Intel's CPUs, GPUs and NPUs."""
