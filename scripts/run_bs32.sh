#!/usr/bin/env bash
# The whole job at batch 32: bash scripts/run_bs32.sh TARGET [options]; see scripts/run.sh
exec bash "$(dirname "${BASH_SOURCE[0]}")/run.sh" 32 "$@"
