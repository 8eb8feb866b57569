#!/usr/bin/env bash
# The entire job at batch 64: bash scripts/run_bs64.sh TARGET [options of run.py]
exec python3 "$(dirname "${BASH_SOURCE[0]}")/../run.py" --setup --batch 64 --targets "$@"
