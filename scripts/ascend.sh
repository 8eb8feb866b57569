# The stages that run on an Ascend NPU, for run.sh, which sources this file. TARGET is the soc version.
# Uses what run.sh has set: BATCH TARGET PYTHON config checkpoint dataroot weights yolo_cfg boxes limit work onnx results
# and the options device, runner, gears, precision, uint8.

choose_runner() {
    if [ -z "$runner" ]; then
        runner=acl
        python3 -c 'import importlib.util as u, sys
sys.exit(not (u.find_spec("ais_bench") and u.find_spec("aclruntime")))' && runner=ais_bench
        echo "runner: $runner"
    fi
}

check_machine() {
    choose_runner
    "$PYTHON" -m ascend.doctor --soc_version "$TARGET" --device "$device" --runner "$runner"
}

find_people() {
    [ ${#boxes[@]} -eq 0 ] || return 0
    local yolo detections=$work/detections_$TARGET.json
    yolo=$work/models/$(basename "$weights" .weights)
    "$PYTHON" -m detection.export "$yolo_cfg" "$weights" "$yolo.onnx" --batch 1
    "$PYTHON" -m ascend.atc "${yolo}_bs1.onnx" --soc_version "$TARGET" ${precision[@]+"${precision[@]}"}
    "$PYTHON" detect.py --backend acl --model "${yolo}_bs1.om" --yolo_cfg "$yolo_cfg" --dataroot "$dataroot" \
        --output "$detections" --device "${device%%,*}" --replace ${limit[@]+"${limit[@]}"}
    boxes=(--detections "$detections")
}

build_model() {
    "$PYTHON" pth2onnx.py "$config" "$checkpoint" "$onnx" --batch "$BATCH"
    local source=$onnx sizes=(--gears "$gears")
    om=${onnx%.onnx}_gears$uint8.om
    if [ -z "$gears" ]; then
        source=${onnx%.onnx}_bs$BATCH.onnx; sizes=(--batch "$BATCH")
        om=${source%.onnx}$uint8.om
    fi
    "$PYTHON" -m ascend.atc "$source" --soc_version "$TARGET" "${sizes[@]}" ${uint8:+--uint8} \
        ${precision[@]+"${precision[@]}"}
}

run_model() {
    local stage=(infer.py --backend acl)
    [ "$runner" = acl ] || stage=(-m ascend.ais_bench)
    "$PYTHON" "${stage[@]}" --model "$om" --cfg "$config" --input "$1" --output "$results" --output_dirname "$2" \
        --batchsize "$BATCH" --device "$device" --replace
}
