#!/usr/bin/env bash
# Make the Python environment that every script uses: .venv, unless an environment is active already.
#
#     bash scripts/setup.sh
#     bash scripts/setup.sh preprocess.py --help      the same, then this command with the environment's Python
#
# In an active environment only what cannot be imported is installed, and no other package changes its version: a server
# whose packages were installed by hand needs no network. REQUIREMENTS names another file than requirements.txt.
# Scripts that source this file then use $PYTHON and $ROOT.
set -euo pipefail

fail() { echo "error: $*" >&2; exit 2; }

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
REQUIREMENTS=${REQUIREMENTS:-requirements.txt}

install() {  # OPTIONS AND REQUIREMENTS OF pip
    "$PYTHON" -m pip install -q "$@" || fail "pip could not install $REQUIREMENTS (see above)"
}

# A server's python3 is often older, and a newer one stands beside it.
new_enough() {
    local python
    for python in python3 python3.12 python3.11 python3.13 python3.10; do
        "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo "$python" && return
    done
    return 1
}

# pip's torch for Linux brings gigabytes of CUDA on x86-64 and on aarch64; a machine without a GPU can do without.
install_torch() {  # REQUIREMENT
    if command -v nvidia-smi >/dev/null || ! "$PYTHON" -m pip install -q "$1+cpu" 2>/dev/null; then
        echo "torch with CUDA is being installed, which takes about 5.0 GB; PIP_EXTRA_INDEX_URL with PyTorch's index of" \
             "CPU builds (see README.md) makes it 1.4 GB"
        install "$1"
    fi
}

install_missing() {
    local missing
    if [ -n "$unfinished" ] && [ -e "$unfinished" ]; then
        missing="--force-reinstall $(cat "$unfinished")"  # half a package can be imported
    else
        missing=$("$PYTHON" "$ROOT/scripts/packages.py" "$ROOT/$REQUIREMENTS") || exit 2
    fi
    [ -n "$missing" ] || return 0
    echo "installing what $PYTHON lacks:" ${missing#--force-reinstall}
    [ -z "$unfinished" ] || echo "${missing#--force-reinstall}" >"$unfinished"
    (
        PIP_CONSTRAINT=$(mktemp)  # installed packages stay unchanged
        export PIP_CONSTRAINT
        trap 'rm -f "$PIP_CONSTRAINT"' EXIT
        # Not what installs, which Python brings and a new torch wants newer.
        "$PYTHON" -m pip list --format=freeze --exclude setuptools --exclude wheel >"$PIP_CONSTRAINT" ||
            fail "$PYTHON has no pip to install" $missing
        case "$missing" in *torch==*) install_torch "$(grep -o 'torch==[^ ]*' <<<"$missing")" ;; esac
        install $missing
    ) || exit 2
    [ -z "$unfinished" ] || rm "$unfinished"
}

if [ -n "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ]; then
    PYTHON=python3 unfinished=
else
    PYTHON=$ROOT/.venv/bin/python unfinished=$ROOT/.venv/unfinished
    if [ ! -e "$PYTHON" ]; then
        python3=$(new_enough) ||
            fail "python3 is $(python3 -V 2>&1), expected 3.10 or newer. Two ways: put such a Python on PATH as" \
                 "python3.11, which makes .venv, while python3 stays for the vendor's tools; or leave this machine as" \
                 "it is, and pack a kit for it on another one: python3 pack.py (docs/kit.md)"
        [ -w "$ROOT" ] ||
            fail "$ROOT cannot be written to, so no .venv can be made there. Activate an environment that has the" \
                 "packages of $REQUIREMENTS, or copy the project to a folder of yours"
        "$python3" -c 'import ensurepip, venv' 2>/dev/null ||
            fail "$python3 has no venv; on Debian and Ubuntu install $python3-venv"
        echo "making $ROOT/.venv with $python3"
        "$python3" -m venv "$ROOT/.venv" || fail "$python3 -m venv failed (see above)"
    fi
fi
install_missing
export PYTHON ROOT

if [ "$0" = "${BASH_SOURCE[0]}" ] && [ $# -gt 0 ]; then
    exec "$PYTHON" "$@"
fi
