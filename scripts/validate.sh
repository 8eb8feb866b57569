#!/usr/bin/env bash
# One model on several devices, on the same bins: AP and speed of each, and whether it agrees with PyTorch.
#
#     bash scripts/validate.sh cpu Ascend310P3 --batch "1 16" [options of run_bs16.sh]
#
# Prints a table and leaves it in WORK/validation.md, with a page for every comparison beside it. Exit code 0: all agree
# with PyTorch; 1: one differs; 2: something failed.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/arguments.sh"

case " $* " in *" -h "* | *" --help "*) sed -n '/^# /s/^# //p' "${BASH_SOURCE[0]}"; bash "$here/run_bs16.sh" --help; exit ;; esac
targets=(); options=(); batches=16; dataroot=./data/coco; work=; uint8=; boxes=; check=
name=fast_res50_256x192; limit=; gpu_gate=fp16
while [ $# -gt 0 ] && [[ $1 != -* ]]; do targets+=("$1"); shift; done
[ ${#targets[@]} -gt 0 ] || fail "expected targets first, such as: bash scripts/validate.sh cpu --demo"
while [ $# -gt 0 ]; do
    case "$1" in --batch | --work | --dataroot) [ $# -gt 1 ] || fail "$1 needs a value" ;; esac
    case "$1" in
        --batch) batches=$2; shift 2; continue ;;
        --work) work=$(from_here "$2"); shift 2; continue ;;
        --dataroot) dataroot=$(from_here "$2") ;;
        --check) check=1; shift; continue ;;
        --demo) dataroot=./data/demo; name=fastpose_small ;;
        --checkpoint) name=$(basename "${2:-}" .pth) ;;
        --limit) limit=_limit${2:-} ;;
        --precision) case "${2:-}" in fp32 | int8) gpu_gate=$2 ;; esac ;;
        --uint8) uint8=_uint8 ;;
        --detections | --gt_boxes) boxes=given ;;
    esac
    options+=("$1"); shift
done
work=${work:-$here/../runs/validation_$name$limit}

for target in "${targets[@]}"; do  # hours are lost when the last one turns out to be ill
    bash "$here/run.sh" "${batches%% *}" "$target" ${options[@]+"${options[@]}"} --check || exit 2
done
[ -z "$check" ] || exit 0
for batch in $batches; do
    for target in pytorch "${targets[@]}"; do
        bash "$here/run.sh" "$batch" "$target" --work "$work" ${options[@]+"${options[@]}"} || exit 2
        # The people that were found first are everyone's.
        [ -n "$boxes" ] || { options+=(--detections "$work/detections.json"); boxes=given; }
    done
done

source "$here/setup.sh"  # changes to the project's root and sets PYTHON
results=$work/results
for batch in $batches; do
    for target in "${targets[@]}"; do
        case "$target" in cpu) gate=fp32 ;; gpu) gate=$gpu_gate ;; *) gate=fp16 ;; esac
        dumps=${target}_bs$batch$uint8; reference=pytorch_bs$batch$uint8
        rm -f "$results/${dumps}_verdict.json"  # of an earlier run
        "$PYTHON" compare.py "pytorch=$results/$reference,$results/${reference}_flip" \
            "$target=$results/$dumps,$results/${dumps}_flip" --manifest "$work/prep_data$uint8/manifest.json" \
            --dataroot "$dataroot" --gate "$gate" --explain --json "$results/${dumps}_verdict.json" \
            --report "$work/validation_$dumps.html" || [ $? = 1 ] || exit 2
    done
done
"$PYTHON" -m comparison.validation "$results" "${targets[@]}" --batch $batches --suffix "$uint8" \
    --output "$work/validation.md"
