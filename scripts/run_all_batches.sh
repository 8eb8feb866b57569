#!/usr/bin/env bash
# One row per batch size, with the published figures beside ours: bash scripts/run_all_batches.sh TARGET [options of run.py]
exec python3 "$(dirname "${BASH_SOURCE[0]}")/../run.py" --setup --batch 1 4 8 16 32 64 --targets "$@"
