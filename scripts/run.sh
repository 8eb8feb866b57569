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
        pytorch             the checkpoint itself on the CPU, which the others are compared with
        gpu                 TensorRT on this machine's NVIDIA GPU, or PyTorch where TensorRT is not installed
        Ascend310P3, ...    this Ascend NPU; python3 -m ascend.soc prints its name

--demo              synthetic people and the small network that come with this project
--dataroot DIR      COCO: annotations/ and val2017/         (./data/coco)
--checkpoint FILE   trained weights                         (./models/fast_res50_256x192.pth)
--config FILE       config of the checkpoint                (./configs/256x192_res50_lr1e-3_1x.yaml)
--weights FILE      YOLOv3 weights that find the people     (./models/yolov3-spp.weights)
--yolo_cfg FILE     darknet's cfg of these weights          (./configs/yolov3-spp.cfg)
--detections FILE   boxes of another detector instead, COCO results JSON
--gt_boxes          annotated boxes instead
--limit N           only the first N photographs
--uint8             bins of bytes, a quarter of the size, which the model normalises
--work DIR          bins, models and results                (./runs/NAME_OF_CHECKPOINT)
--check             only examine the machine

On an NVIDIA GPU:
--runner NAME       tensorrt or pytorch                     (tensorrt where it is installed)
--precision P       fp32, fp16, int8 or bf16; int8 is TensorRT's, bf16 is PyTorch's  (fp16)
--device LIST       ids, such as 0 or 0,1                   (0)

On an Ascend NPU:
--runner NAME       ais_bench or acl                        (ais_bench where it is installed)
--device LIST       ids, such as 0 or 0,1,2,3               (0)
--gears LIST        one .om that takes these batches, such as 1,4,8,16
--precision_mode M  of atc, such as allow_fp32_to_fp16      (atc's own: force_fp16)
EOF
}

source "$(dirname "${BASH_SOURCE[0]}")/arguments.sh"

BATCH=$1; shift
case "${1:-}" in
    cpu | pytorch | gpu | [Aa]scend* | [39]10*) TARGET=$1; shift ;;
    -h | --help) usage; exit 0 ;;
    "") usage >&2; exit 2 ;;
    *) fail "unknown target $1, expected one of: cpu, pytorch, gpu, or a soc version such as Ascend310P3" ;;
esac

check=; demo=; dataroot=./data/coco; checkpoint=./models/fast_res50_256x192.pth; work=
config=./configs/256x192_res50_lr1e-3_1x.yaml; boxes=(); limit=()
weights=./models/yolov3-spp.weights; yolo_cfg=./configs/yolov3-spp.cfg
dtype=float32; uint8=; runner=; device=0; gears=; precision=(); gpu_precision=
while [ $# -gt 0 ]; do
    case "$1" in
        --dataroot | --checkpoint | --config | --weights | --yolo_cfg | --detections | --limit | --work | \
            --runner | --device | --gears | --precision_mode | --precision)
            [ $# -gt 1 ] || fail "$1 needs a value" ;;
    esac
    case "$1" in
        --check) check=1; shift ;;
        --demo) demo=1; shift ;;
        --gt_boxes) boxes=(--gt_boxes); shift ;;
        --uint8) dtype=uint8; uint8=_uint8; shift ;;
        --dataroot) dataroot=$(from_here "$2"); shift 2 ;;
        --checkpoint) checkpoint=$(from_here "$2"); shift 2 ;;
        --config) config=$(from_here "$2"); shift 2 ;;
        --weights) weights=$(from_here "$2"); shift 2 ;;
        --yolo_cfg) yolo_cfg=$(from_here "$2"); shift 2 ;;
        --detections) boxes=(--detections "$(from_here "$2")"); shift 2 ;;
        --limit) limit=(--limit "$2"); shift 2 ;;
        --work) work=$(from_here "$2"); shift 2 ;;
        --runner)
            case "$TARGET:$2" in
                gpu:tensorrt | gpu:pytorch | [Aa39]*:ais_bench | [Aa39]*:acl) runner=$2; shift 2 ;;
                cpu:* | pytorch:*) shift 2 ;;  # validate.sh gives its options to all targets
                gpu:*) fail "--runner is $2, expected tensorrt or pytorch" ;;
                *) fail "--runner is $2, expected ais_bench or acl" ;;
            esac ;;
        --device) device=$2; shift 2 ;;
        --gears) gears=$2; shift 2 ;;
        --precision_mode) precision=(--precision_mode "$2"); shift 2 ;;
        --precision) gpu_precision=$2; shift 2 ;;
        -h | --help) usage; exit 0 ;;
        *) fail "unknown option $1 (bash scripts/run_bs$BATCH.sh --help lists them)" ;;
    esac
done

case "$TARGET" in
    gpu) [ ${#precision[@]} -eq 0 ] || echo "note: --precision_mode is of Ascend NPUs; on a GPU it is --precision" ;;
    [Aa39]*) [ -z "$gpu_precision" ] || echo "note: --precision is of GPUs; on an Ascend NPU it is --precision_mode" ;;
esac
gpu_precision=${gpu_precision:-fp16}

# What a target does in its own way.
check_machine() { :; }
find_people() { :; }  # preprocess.py finds them, on the CPU
build_model() {
    "$PYTHON" pth2onnx.py "$config" "$checkpoint" "$onnx" --batch "$BATCH" --dtype "$dtype"
}
run_model() {  # BINS NAME_OF_DUMPS
    "$PYTHON" infer.py --backend onnxruntime --model "${onnx%.onnx}_bs$BATCH$uint8.onnx" --cfg "$config" --input "$1" \
        --output "$results" --output_dirname "$2" --replace
}

source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"  # changes to the project's root and sets PYTHON

# A stage in the foreground would outlive this script when that is told to end: bash hears of it after the stage only.
set -m  # so that a stage and what it starts are a process group
interpreter=$PYTHON PYTHON=stage running=
stage() { "$interpreter" "$@" & running=$!; wait "$running"; }
end() { [ -z "$running" ] || { kill "-$1" -- "-$running" 2>/dev/null && wait "$running"; }; exit 130; }
trap 'end INT' INT
trap 'end TERM' TERM HUP  # where SIGINT was ignored from the start, as in the background, stages ignore it too

case "$TARGET" in
    cpu) ;;
    pytorch)
        build_model() { :; }
        run_model() {
            "$PYTHON" infer.py --backend pytorch --model "$checkpoint" --cfg "$config" --input "$1" \
                --output "$results" --output_dirname "$2" --batchsize "$BATCH" --replace
        } ;;
    gpu) source scripts/gpu.sh ;;
    *) source scripts/ascend.sh ;;
esac
check_machine
[ -z "$check" ] || exit 0

if [ -n "$demo" ]; then
    dataroot=./data/demo; checkpoint=./demo/fastpose_small.pth; config=./configs/demo_fastpose.yaml
    weights=./demo/yolov3_demo.weights; yolo_cfg=./configs/demo_yolov3_tiny.cfg
    "$PYTHON" -m demo.render --output "$dataroot"
fi
name=$(basename "$checkpoint" .pth)
work=${work:-./runs/$name${limit[*]:+_limit${limit[1]}}}
onnx=$work/models/$name.onnx
results=$work/results
bins=$work/prep_data$uint8
dumps=${TARGET}_bs$BATCH$uint8

find_people
"$PYTHON" preprocess.py --dataroot "$dataroot" --output "$bins" --output_flip "${bins}_flip" --dtype "$dtype" \
    --cfg "$config" --weights "$weights" --yolo_cfg "$yolo_cfg" --replace \
    ${boxes[@]+"${boxes[@]}"} ${limit[@]+"${limit[@]}"}
build_model
for flip in "" _flip; do
    run_model "$bins$flip" "$dumps$flip"
done
"$PYTHON" postprocess.py --dataroot "$dataroot" --manifest "$bins/manifest.json" \
    --dump_dir "$results/$dumps" --dump_dir_flip "$results/${dumps}_flip"
