#!/usr/bin/env bash
# TensorRT against PyTorch on the same inputs: latency, throughput and speed-up at every batch size.
#
#     bash scripts/run_trt.sh --sweep --demo
#
# bench.py times and compares; what is exported, built and cut out once is kept in the work folder.
set -euo pipefail

usage() {
    cat <<EOF
usage: bash scripts/run_trt.sh --sweep [options]

--demo              synthetic photographs and the small networks that come with this project
--dataroot DIR      COCO: annotations/ and val2017/         (./data/coco)
--checkpoint FILE   trained weights                         (./models/fast_res50_256x192.pth)
--config FILE       config of the checkpoint                (./configs/256x192_res50_lr1e-3_1x.yaml)
--weights FILE      YOLOv3 weights                          (./models/yolov3-spp.weights)
--yolo_cfg FILE     darknet's cfg of these weights          (./configs/yolov3-spp.cfg)
--batch LIST        batch sizes                             (1,2,4,8,16,32,64)
--photographs N     the first N; crops of the annotated people on them  (128)
--repeat N          interleaved rounds                      (5)
--device NAME       where PyTorch runs; TensorRT takes GPU 0  (cuda:0)
--work DIR          bins, models and tables                 (./runs/sweep_NAME_OF_CHECKPOINT)
EOF
}

source "$(dirname "${BASH_SOURCE[0]}")/arguments.sh"

sweep=; demo=; dataroot=./data/coco; checkpoint=./models/fast_res50_256x192.pth; work=
config=./configs/256x192_res50_lr1e-3_1x.yaml; weights=./models/yolov3-spp.weights; yolo_cfg=./configs/yolov3-spp.cfg
batches=1,2,4,8,16,32,64; photographs=128; repeat=5; torch_device=cuda:0
while [ $# -gt 0 ]; do
    case "$1" in
        --sweep) sweep=1; shift; continue ;;
        --demo) demo=1; shift; continue ;;
        -h | --help) usage; exit 0 ;;
    esac
    [ $# -gt 1 ] || fail "$1 is unknown or needs a value (bash scripts/run_trt.sh --help)"
    case "$1" in
        --dataroot) dataroot=$(from_here "$2") ;;
        --checkpoint) checkpoint=$(from_here "$2") ;;
        --config) config=$(from_here "$2") ;;
        --weights) weights=$(from_here "$2") ;;
        --yolo_cfg) yolo_cfg=$(from_here "$2") ;;
        --batch) batches=$2 ;;
        --photographs) photographs=$2 ;;
        --repeat) repeat=$2 ;;
        --device) torch_device=$2 ;;
        --work) work=$(from_here "$2") ;;
        *) fail "unknown option $1 (bash scripts/run_trt.sh --help lists them)" ;;
    esac
    shift 2
done
[ -n "$sweep" ] || { usage >&2; exit 2; }
IFS=, read -ra batches <<<"$batches"

source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"  # changes to the project's root and sets PYTHON
source scripts/gpu.sh
device=0  # that engines are built for
gpu_precision=fp16 runner=tensorrt check_machine
[ "$torch_device" = cpu ] || gpu_precision=fp16 runner=pytorch check_machine

if [ -n "$demo" ]; then
    dataroot=./data/demo_sweep; checkpoint=./demo/fastpose_small.pth; config=./configs/demo_fastpose.yaml
    weights=./demo/yolov3_demo.weights; yolo_cfg=./configs/demo_yolov3_tiny.cfg
    "$PYTHON" -m demo.render --output "$dataroot" --images "$photographs"
fi
work=${work:-./runs/sweep_$(basename "$checkpoint" .pth)}

run_bench() {  # NAME WEIGHTS CFG BINS ROWS
    local onnx=$work/models/$1 batch precision runs=()
    for precision in fp32 fp16; do
        for batch in "${batches[@]}"; do
            build_engine "$precision" "$onnx.onnx" "${onnx}_bs${batch}_$precision.engine" --batch "$batch"
        done
        runs+=(--run "tensorrt:${onnx}_bs{batch}_$precision.engine")
    done
    "$PYTHON" bench.py --run "pytorch:$2:$torch_device --no-cuda_graph" \
        --run "pytorch:$2:$torch_device --precision fp16" "${runs[@]}" --cfg "$3" --input "$4" --people "$5" \
        --batch "${batches[@]}" --repeat "$repeat" --output "$work/$1"
}

"$PYTHON" preprocess.py --dataroot "$dataroot" --gt_boxes --limit "$photographs" --cfg "$config" --replace \
    --output "$work/prep_data" --output_flip "$work/prep_data_flip"
"$PYTHON" -m detection.bins "$dataroot/val2017" "$work/letterboxed" --yolo_cfg "$yolo_cfg" --limit "$photographs"
name=$(basename "$checkpoint" .pth); yolo=$(basename "$weights" .weights)
"$PYTHON" pth2onnx.py "$config" "$checkpoint" "$work/models/$name.onnx"
export_detector "$work/models/$yolo.onnx"
run_bench "$name" "$checkpoint" "$config" "$work/prep_data" $((2 * photographs))
run_bench "$yolo" "$weights" "$yolo_cfg" "$work/letterboxed" "$photographs"
