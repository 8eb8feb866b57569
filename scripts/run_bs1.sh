#!/usr/bin/env bash
# The whole job at batch 1: bash scripts/run_bs1.sh TARGET [options]; see scripts/run.sh
exec bash "$(dirname "${BASH_SOURCE[0]}")/run.sh" 1 "$@"
