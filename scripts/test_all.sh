#!/usr/bin/env bash
# The tests with every optional package, also Ray on two nodes and a server of S3. By hand: docs/scale.md has the last
# result. Arguments go to pytest.
REQUIREMENTS=requirements-all.txt source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$ROOT"
exec "$PYTHON" -m pytest -n 2 "$@"
