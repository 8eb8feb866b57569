#!/usr/bin/env bash
# The entire job at batch 8: bash scripts/run_bs8.sh TARGET [options of run.py]
exec python3 "$(dirname "${BASH_SOURCE[0]}")/../run.py" --setup --batch 8 --targets "$@"
