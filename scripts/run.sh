#!/usr/bin/env bash
# From photographs and a checkpoint to a row of the result table. Called as run_bs1.sh ... run_bs64.sh.
#
#     bash scripts/run_bs16.sh cpu --demo
#
# Stages whose inputs have not changed are skipped, the others done anew: each one knows what made its outputs.
set -euo pipefail

usage() {
    cat <<EOF
usage: bash scripts/run_bs$BATCH.sh TARGET [options]

TARGET  cpu                 ONNX Runtime on this machine's CPU

--demo              synthetic people and the small network that come with this project
--dataroot DIR      COCO: annotations/ and val2017/         (./data/coco)
--checkpoint FILE   trained weights                         (./models/fast_res50_256x192.pth)
--config FILE       config of the checkpoint                (./configs/256x192_res50_lr1e-3_1x.yaml)
--detections FILE   person boxes, COCO results JSON         (DATAROOT/detections.json)
--gt_boxes          annotated boxes instead of detections
--limit N           only the first N photographs
--work DIR          bins, models and results                (./runs/NAME_OF_CHECKPOINT)
EOF
}

fail() { echo "error: $*" >&2; exit 2; }
from_here() { case "$1" in /*) echo "$1" ;; *) echo "$PWD/$1" ;; esac; }  # the stages run in the project's root

BATCH=$1; shift
case "${1:-}" in
    cpu) TARGET=$1; shift ;;
    -h | --help) usage; exit 0 ;;
    "") usage >&2; exit 2 ;;
    *) fail "unknown target $1, expected one of: cpu" ;;
esac

demo=; dataroot=./data/coco; checkpoint=./models/fast_res50_256x192.pth; work=
config=./configs/256x192_res50_lr1e-3_1x.yaml; boxes=(); limit=()
while [ $# -gt 0 ]; do
    case "$1" in
        --dataroot | --checkpoint | --config | --detections | --limit | --work)
            [ $# -gt 1 ] || fail "$1 needs a value" ;;
    esac
    case "$1" in
        --demo) demo=1; shift ;;
        --gt_boxes) boxes=(--gt_boxes); shift ;;
        --dataroot) dataroot=$(from_here "$2"); shift 2 ;;
        --checkpoint) checkpoint=$(from_here "$2"); shift 2 ;;
        --config) config=$(from_here "$2"); shift 2 ;;
        --detections) boxes=(--detections "$(from_here "$2")"); shift 2 ;;
        --limit) limit=(--limit "$2"); shift 2 ;;
        --work) work=$(from_here "$2"); shift 2 ;;
        -h | --help) usage; exit 0 ;;
        *) fail "unknown option $1 (bash scripts/run_bs$BATCH.sh --help lists them)" ;;
    esac
done

source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"  # changes to the project's root and sets PYTHON

if [ -n "$demo" ]; then
    dataroot=./data/demo; checkpoint=./demo/fastpose_small.pth; config=./configs/demo_fastpose.yaml
    "$PYTHON" -m demo.render --output "$dataroot"
fi
name=$(basename "$checkpoint" .pth)
work=${work:-./runs/$name${limit[*]:+_limit${limit[1]}}}
onnx=$work/models/$name.onnx
results=$work/results

"$PYTHON" preprocess.py --dataroot "$dataroot" --output "$work/prep_data" --output_flip "$work/prep_data_flip" \
    --cfg "$config" --replace ${boxes[@]+"${boxes[@]}"} ${limit[@]+"${limit[@]}"}
"$PYTHON" pth2onnx.py "$config" "$checkpoint" "$onnx" --batch "$BATCH"
for flip in "" _flip; do
    "$PYTHON" infer.py --backend onnxruntime --model "${onnx%.onnx}_bs$BATCH.onnx" --cfg "$config" \
        --input "$work/prep_data$flip" --output "$results" --output_dirname "${TARGET}_bs$BATCH$flip" --replace
done
"$PYTHON" postprocess.py --dataroot "$dataroot" --manifest "$work/prep_data/manifest.json" \
    --dump_dir "$results/${TARGET}_bs$BATCH" --dump_dir_flip "$results/${TARGET}_bs${BATCH}_flip"
