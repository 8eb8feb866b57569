#!/usr/bin/env bash
# Set up and run the tests. Arguments go to pytest: bash scripts/test.sh tests/test_heatmaps.py -k flip
REQUIREMENTS=requirements-test.txt source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$ROOT"
exec "$PYTHON" -m pytest -n 2 "$@"
