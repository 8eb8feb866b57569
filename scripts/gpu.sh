# The stages that run on an NVIDIA GPU, for run.sh, which sources this file. TensorRT, or PyTorch on CUDA without it.
# Uses what run.sh has set: BATCH TARGET PYTHON config checkpoint dataroot weights yolo_cfg boxes limit work bins onnx
# results and the options device, runner, gpu_precision, dtype, uint8.

choose_runner() {  # prints why PyTorch, if so
    [ -z "$runner" ] || return 0
    runner=tensorrt
    local missing
    missing=$("$PYTHON" -c 'import importlib.util as u
packages = {"tensorrt": "tensorrt", "cuda": "cuda-python"}
print(*[package for name, package in packages.items() if not u.find_spec(name)])')
    [ -z "$missing" ] || runner=pytorch
    echo "runner: $runner${missing:+, because Python has no ${missing/ / and no }; docs/tensorrt.md says how to install it}"
}

check_machine() {
    choose_runner
    case "$runner:$gpu_precision" in
        *:fp32 | *:fp16 | tensorrt:int8 | pytorch:bf16) ;;
        *) fail "--precision is $gpu_precision, expected fp32, fp16, int8 of tensorrt or bf16 of pytorch" ;;
    esac
    local probe='import torch; torch.zeros(1, device="cuda")' answer
    [ "$runner" = pytorch ] || probe='import sys; from backends.tensorrt import cuda, library, precision
tensorrt = library.load(); cuda.open_device(0); precision.check_precision(tensorrt, sys.argv[1])'
    answer=$("$PYTHON" -c "$probe" "$gpu_precision" 2>&1) ||
        fail "no NVIDIA GPU can be used with $runner at $gpu_precision: ${answer##*Error: }${BATCH:+. The target cpu needs none}"
}

export_detector() {  # ONNX [--batch N]; sets detector, the file for that batch
    detector=${1%.onnx}${3:+_bs$3}.onnx
    "$PYTHON" -m detection.export "$yolo_cfg" "$weights" "$@"
}

build_engine() {  # PRECISION ONNX ENGINE [options of backends.tensorrt.build]
    "$PYTHON" -m backends.tensorrt.build "$2" --precision "$1" --output "$3" --device "${device%%,*}" "${@:4}"
}

find_people() {
    [ ${#boxes[@]} -eq 0 ] || return 0
    local detections=$work/detections_$TARGET.json network half=${gpu_precision/int8/fp16}  # int8 blurs coordinates
    if [ "$runner" = pytorch ]; then
        network=(--backend pytorch --weights "$weights" --precision "$gpu_precision")
    else
        export_detector "$work/models/$(basename "$weights" .weights).onnx" --batch 1
        engine=${detector%.onnx}_$half.engine
        build_engine "$half" "$detector" "$engine"
        network=(--backend tensorrt --model "$engine")
    fi
    "$PYTHON" detect.py "${network[@]}" --yolo_cfg "$yolo_cfg" --dataroot "$dataroot" --output "$detections" \
        --device "${device%%,*}" --replace ${limit[@]+"${limit[@]}"}
    boxes=(--detections "$detections")
}

build_model() {
    [ "$runner" = tensorrt ] || return 0
    "$PYTHON" pth2onnx.py "$config" "$checkpoint" "$onnx" --batch "$BATCH" --dtype "$dtype"
    local static=${onnx%.onnx}_bs$BATCH$uint8 calibration=()
    [ "$gpu_precision" != int8 ] || calibration=(--calibration "$bins" --cfg "$config")
    engine=${static}_$gpu_precision.engine
    build_engine "$gpu_precision" "$static.onnx" "$engine" ${calibration[@]+"${calibration[@]}"}
}

run_model() {
    local model=(--backend tensorrt --model "$engine")
    [ "$runner" = tensorrt ] || model=(--backend pytorch --model "$checkpoint" --precision "$gpu_precision")
    "$PYTHON" infer.py "${model[@]}" --cfg "$config" --input "$1" --output "$results" --output_dirname "$2" \
        --batchsize "$BATCH" --device "$device" --replace
}
