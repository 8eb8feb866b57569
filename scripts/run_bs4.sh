#!/usr/bin/env bash
# The whole job at batch 4: bash scripts/run_bs4.sh TARGET [options]; see scripts/run.sh
exec bash "$(dirname "${BASH_SOURCE[0]}")/run.sh" 4 "$@"
