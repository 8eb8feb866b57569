#!/usr/bin/env bash
# The entire job at batch 32: bash scripts/run_bs32.sh TARGET [options of run.py]
exec python3 "$(dirname "${BASH_SOURCE[0]}")/../run.py" --setup --batch 32 --targets "$@"
