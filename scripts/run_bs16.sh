#!/usr/bin/env bash
# The whole job at batch 16: bash scripts/run_bs16.sh TARGET [options]; see scripts/run.sh
exec bash "$(dirname "${BASH_SOURCE[0]}")/run.sh" 16 "$@"
