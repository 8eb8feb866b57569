#!/usr/bin/env bash
grep -q $'\r' "$0" && { echo "error: this file has Windows line ends: a copy has changed it. Copy the tar itself, and unpack it here" >&2; exit 2; } #
# Runs @NAME@ on this machine, and leaves kit_results.tar beside this folder. Nothing is installed, nothing needs root or
# a network, and nothing outside this folder is written but that file. All it does stands below, in order; programs of
# the vendor are atc, ais_bench, pyACL, TensorRT and ONNX Runtime, all others are in program/. Run again, it continues.
set -euo pipefail

usage() {
    cat <<EOF
usage: bash run.sh [TARGET] [options]

TARGET          one of: @TARGETS@ (of one alone, that)
--device LIST   ids of devices that share the work, such as 0,1,2,3   (0)
--runner NAME   what runs the model: @RUNNERS@   (the first that is installed)
--anyway        run all people even where the self-check fails

PYTHON=python3.9 bash run.sh ... takes another Python than python3.
EOF
}

fail() { echo "error: $*" >&2; exit 2; }

targets=(@TARGETS@); target=; device=0; runner=; anyway=
while [ $# -gt 0 ]; do
    case "$1" in
        -h | --help) usage; exit 0 ;;
        --anyway) anyway=1; shift; continue ;;
        --device | --runner) [ $# -gt 1 ] || fail "$1 needs a value" ;;
        -*) fail "unknown option $1 (bash run.sh --help lists them)" ;;
        *) [ -z "$target" ] || fail "unexpected argument $1, expected one TARGET and options"
           target=$1; shift; continue ;;
    esac
    case "$1" in --device) device=$2 ;; --runner) runner=$2 ;; esac
    shift 2
done
[[ $device =~ ^[0-9]+(,[0-9]+)*$ ]] || fail "--device is $device, expected ids, such as 0 or 0,1"
[ -n "$target" ] || [ ${#targets[@]} -gt 1 ] || target=${targets[0]}
[ -n "$target" ] || fail "this kit is for several targets. Name one: ${targets[*]}"

cd "$(dirname "${BASH_SOURCE[0]}")"
PYTHON=${PYTHON:-python3}
export PYTHONPATH=$PWD/program${PYTHONPATH:+:$PYTHONPATH} PYTHONDONTWRITEBYTECODE=1 FASTPOSE_LINES=1
export ASCEND_PROCESS_LOG_PATH=$PWD/plog
"$PYTHON" -c 'import sys, numpy; sys.exit(sys.version_info < (3, 7) or tuple(map(int, numpy.__version__.split(".")[:2])) < (1, 16))' ||
    fail "$PYTHON on PATH does not run as Python 3.7 or newer with numpy 1.16 or newer (see above). Name another: PYTHON=python3.9 bash run.sh"
[ -f SHA256SUMS ] || fail "$PWD has no SHA256SUMS, the last file of its tar: only a part was copied or unpacked. Do that again"
grep '  program/' SHA256SUMS | sha256sum --check --quiet ||
    fail "the programs of this kit are damaged (see above). Copy the tar itself to this machine, and unpack it here"
"$PYTHON" -m kit.server check "$target"
[ -n "$runner" ] || runner=$("$PYTHON" -m kit.server runner "$target")
echo "runner: $runner"

failed=; finished=
step() { "$PYTHON" -m kit.step "$@" || { failed=$?; return "$failed"; }; }
bring_back() {  # results, or the logs of a failure; nothing where somebody has ended this
    trap - EXIT
    [ -z "$finished" ] || failed=0
    case "$failed" in "" | 130 | 143) return ;; esac
    [ "$failed" = 0 ] || echo "run.sh ends with code $failed: see above, or log.txt. Run again, it continues" >&2
    "$PYTHON" -m kit.server collect "$target" "$runner" "$failed"
    exit "$failed"
}
trap bring_back EXIT

@PLAN@
finished=1
