"""The room of OpenVINO: Intel's CPUs, GPUs and NPUs."""
