#!/usr/bin/env bash
# The whole job at batch 8: bash scripts/run_bs8.sh TARGET [options]; see scripts/run.sh
exec bash "$(dirname "${BASH_SOURCE[0]}")/run.sh" 8 "$@"
