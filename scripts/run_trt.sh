#!/usr/bin/env bash
# TensorRT compared with PyTorch on the same inputs: latency, throughput and speed-up at every batch size.
#
#     bash scripts/run_trt.sh --sweep --demo
exec python3 "$(dirname "${BASH_SOURCE[0]}")/../run.py" --setup "$@"
