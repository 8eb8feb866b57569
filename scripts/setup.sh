#!/usr/bin/env bash
# Make the Python environment that every script uses: .venv, unless an environment is active already.
#
#     bash scripts/setup.sh
#
# Other scripts source this file and then use $PYTHON. An active environment that has every package is left alone, so
# a server whose packages were installed by hand needs no network.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

source scripts/arguments.sh

install_requirements() {
    # pip's default torch for x86-64 Linux brings gigabytes of CUDA; a machine without a GPU can do without.
    local torch
    torch=$(sed -n 's/^\(torch==[0-9.]*\).*/\1/p' requirements.txt)
    if ! command -v nvidia-smi >/dev/null && ! "$PYTHON" -m pip install -q "$torch+cpu" 2>/dev/null; then
        echo "note: pip offers no $torch+cpu here, so its default build is installed. On x86-64 Linux that includes" \
             "CUDA; to avoid it, let PIP_EXTRA_INDEX_URL name PyTorch's index of CPU builds."
    fi
    "$PYTHON" -m pip install -q -r requirements.txt || fail "pip could not install requirements.txt (see above)"
}

if [ -n "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ]; then
    PYTHON=python3
    missing=$("$PYTHON" -c 'import importlib.util as u
names = "numpy cv2 yaml tqdm pycocotools onnx onnxsim onnxruntime torch matplotlib pytest".split()
print(*[name for name in names if not u.find_spec(name)])')
    if [ -n "$missing" ]; then
        echo "installing what the active environment lacks: $missing"
        install_requirements
    fi
else
    PYTHON=.venv/bin/python
    if ! cmp -s requirements.txt .venv/installed.txt; then
        python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
            fail "python3 is $(python3 -V 2>&1), expected Python 3.10 or newer"
        echo "making .venv from requirements.txt"
        python3 -m venv .venv || fail "python3 -m venv failed; on Debian and Ubuntu install python3-venv"
        install_requirements
        cp requirements.txt .venv/installed.txt
    fi
fi
export PYTHON
