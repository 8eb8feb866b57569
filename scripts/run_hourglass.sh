#!/usr/bin/env bash
# The entire job of mmpose's Hourglass-52: bash scripts/run_hourglass.sh ncnn [options of run.py]
export REQUIREMENTS=${REQUIREMENTS:-requirements-ncnn.txt}
exec python3 "$(dirname "${BASH_SOURCE[0]}")/../run.py" --setup --network hourglass --batch 1 --targets "$@"
