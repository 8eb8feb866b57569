#!/usr/bin/env bash
# AlphaPose's own code beside this project's, on the same photographs, boxes and weights: is our number its number?
#
#     bash scripts/reference.sh ../AlphaPose --dataroot ./data/coco --detections test_det_yolo.json
#
# Stages whose inputs have not changed are skipped. The clone is read only. What AlphaPose needs and this project does
# not is installed into an environment in the work folder, which sees the packages of the usual one.
set -euo pipefail

COMMIT=ddaf4b99327132f7617a768a75f7cb94870ed57c
PARTS=(alphapose configs detector scripts LICENSE README.md setup.cfg setup.py)  # the rest is tracking and pictures
NEEDS=(setuptools easydict)  # beside requirements.txt
BATCH=16

usage() {
    cat <<EOF
usage: bash scripts/reference.sh CLONE --dataroot DIR --detections FILE [options]

CLONE   a clone of AlphaPose that has commit $COMMIT,
        or a URL to fetch that commit from

--dataroot DIR      COCO: annotations/ and val2017/
--detections FILE   person boxes, COCO results JSON
--checkpoint FILE   trained weights                         (./models/fast_res50_256x192.pth)
--cfg FILE          AlphaPose's YAML                        (configs/coco/resnet/256x192_res50_lr1e-3_1x.yaml of CLONE)
--limit N           only the first N photographs
--flip_shift NAME   clean, or original: its overlapping copy on both sides   (clean)
--device NAME       cpu or cuda                             (cpu)
--work DIR          AlphaPose's tree, environment, results  (./runs/reference)

Exit code 0: they agree; 1: they differ; 2: bad input.
EOF
}

fail() { echo "error: $*" >&2; exit 2; }
from_here() { case "$1" in /*) echo "$1" ;; *) echo "$PWD/$1" ;; esac; }  # the stages run in the project's root

clone=; dataroot=; detections=; checkpoint=./models/fast_res50_256x192.pth; config=; limit=(); work=
shift_name=clean; device=cpu
while [ $# -gt 0 ]; do
    case "$1" in
        -h | --help) usage; exit 0 ;;
        --dataroot | --detections | --checkpoint | --cfg | --config | --limit | --flip_shift | --device | --work)
            [ $# -gt 1 ] || fail "$1 needs a value" ;;
        -*) fail "unknown option $1 (bash scripts/reference.sh --help lists them)" ;;
        *) [ -z "$clone" ] || fail "unexpected argument $1, expected one CLONE and options"
           clone=$1; shift; continue ;;
    esac
    case "$1" in
        --dataroot) dataroot=$(from_here "$2") ;;
        --detections) detections=$(from_here "$2") ;;
        --checkpoint) checkpoint=$(from_here "$2") ;;
        --cfg | --config) config=$(from_here "$2") ;;
        --limit) limit=(--limit "$2") ;;
        --flip_shift)
            case "$2" in
                clean | original) shift_name=$2 ;;
                *) fail "--flip_shift is $2, expected clean or original" ;;
            esac ;;
        --device) case "$2" in cpu | cuda) device=$2 ;; *) fail "--device is $2, expected cpu or cuda" ;; esac ;;
        --work) work=$(from_here "$2") ;;
    esac
    shift 2
done
[ -n "$clone" ] || { usage >&2; exit 2; }
[ -n "$dataroot" ] || fail "--dataroot is missing, expected the folder with annotations/ and val2017/"
[ -n "$detections" ] || fail "--detections is missing, expected a COCO results JSON with person boxes"
[ "$shift_name $device" != "original cuda" ] ||
    fail "--flip_shift original on cuda: the order of an overlapping copy is not defined there. Use --device cpu"
case "$clone" in
    *:*) ;;
    *) [ -d "$clone" ] || fail "$clone: no such folder, expected a clone of AlphaPose or a URL"
       clone=$(from_here "$clone") ;;
esac

source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"  # sets PYTHON and ROOT
cd "$ROOT"
[ -f "$checkpoint" ] || fail "$checkpoint: no such checkpoint. Name the --checkpoint"
[ -z "$config" ] || [ -f "$config" ] || fail "$config: no such config"
work=${work:-$PWD/runs/reference}
tree=$work/alphapose
stamp="$COMMIT $(git hash-object AlphaPose.patch)"

fetch_commit() {  # sets repository
    repository=$clone
    if [[ $clone == *:* ]]; then
        repository=$work/fetched.git
        git init -q --bare "$repository"
        git -C "$repository" cat-file -e "$COMMIT^{tree}" 2>/dev/null ||
            git -C "$repository" fetch -q --depth 1 "$clone" "$COMMIT" ||
            fail "$clone: git could not fetch commit $COMMIT from there (see above)"
    fi
    git -C "$repository" cat-file -e "$COMMIT^{tree}" ||
        fail "$clone: git finds no commit $COMMIT there (see above). Expected a clone of AlphaPose; a shallow one may" \
             "need git fetch"
}

make_tree() {
    [ "$(cat "$tree/stamp" 2>/dev/null)" != "$stamp" ] || return 0
    fetch_commit
    rm -rf "$tree"
    mkdir -p "$tree"
    git -C "$repository" archive "$COMMIT" "${PARTS[@]}" | tar -x -C "$tree"
    # Without the ceiling git would take the paths for this project's own, and skip them all.
    GIT_CEILING_DIRECTORIES=$work git -C "$tree" apply "$PWD/AlphaPose.patch"
    echo "$stamp" >"$tree/stamp"
}

make_environment() {
    python=$work/env/bin/python
    [ "$(cat "$work/env/stamp" 2>/dev/null)" != "$tree $stamp" ] || return 0
    rm -rf "$work/env"
    "$PYTHON" -m venv --without-pip "$work/env" || fail "$PYTHON -m venv failed (see above)"
    "$PYTHON" -c 'import sys
print(*(f"import site; site.addsitedir({path!r})" for path in sys.path if path.endswith("-packages")), sep="\n")' \
        >"$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')/outer.pth"
    local missing
    missing=$("$python" -c 'import importlib.util as u, sys
print(*[name for name in sys.argv[1:] if not u.find_spec(name)])' "${NEEDS[@]}")
    if [ -n "$missing" ]; then
        echo "installing into $work/env what AlphaPose needs: $missing"
        "$python" -m pip install -q $missing ||
            fail "pip could not install $missing (see above). Without a network, install them into the environment of" \
                 "$PYTHON by hand"
    fi
    (cd "$tree" && PIP_NO_INDEX=1 "$python" setup.py build develop) >"$work/build.log" 2>&1 ||
        fail "AlphaPose's setup.py failed; $work/build.log says why"
    echo "$tree $stamp" >"$work/env/stamp"
}

run_original() {
    # torch shares an overlapping copy among threads; cut into a power of two, its pieces begin at rows' starts.
    local threads=1
    while [ $((2 * threads)) -le "$(nproc)" ]; do threads=$((2 * threads)); done
    # The baseline keeps all bits of float32 on CUDA, where AlphaPose would leave TF32 on.
    NVIDIA_TF32_OVERRIDE=0 OMP_NUM_THREADS=$threads "$python" -m reference.capture "$tree" --cfg "$config" \
        --checkpoint "$checkpoint" --inputs "$work/inputs" --output "$original" --flip_shift "$shift_name" \
        --device "$device" --batch "$BATCH"
}

run_ours() {  # NAME_OF_PASS OPTIONS_OF_PREPROCESS ...
    local ours=$work/ours/$1 flip
    "$PYTHON" preprocess.py --dataroot "$work/inputs" --output "$ours/prep_data" --output_flip "$ours/prep_data_flip" \
        --cfg "$config" --replace "${@:2}"
    for flip in "" _flip; do
        "$PYTHON" infer.py --backend pytorch --device "$device" --model "$checkpoint" --cfg "$config" \
            --batchsize "$BATCH" --input "$ours/prep_data$flip" --output "$ours" --output_dirname "heatmaps$flip" \
            --replace
    done
    "$PYTHON" postprocess.py --dataroot "$work/inputs" --manifest "$ours/prep_data/manifest.json" \
        --dump_dir "$ours/heatmaps" --dump_dir_flip "$ours/heatmaps_flip" --output "$ours/score" \
        --flip_shift "$shift_name"
}

hold_against() {  # NAME_OF_PASS KEYPOINTS_OF_ALPHAPOSE
    local ours=$work/ours/$1 theirs=$original/$1
    rm -f "$ours/compare.json"  # of an earlier run
    "$PYTHON" compare.py "AlphaPose=$theirs/heatmaps,$theirs/heatmaps_flip,$original/exp/json/$2" \
        "ours=$ours/heatmaps,$ours/heatmaps_flip,$ours/score/keypoints.json" \
        --manifest "$ours/prep_data/manifest.json" --dataroot "$work/inputs" --flip_shift "$shift_name" \
        --gate fp32 --limit max_abs=1e-4 --atol 1e-4 --rtol 0 --json "$ours/compare.json" ||
        [ $? -eq 1 ] || exit 2  # 1 is its verdict, which reference.verdict repeats
}

"$PYTHON" -m reference.inputs --dataroot "$dataroot" --detections "$detections" --output "$work/inputs" \
    ${limit[@]+"${limit[@]}"}
make_tree
make_environment
config=${config:-$tree/configs/coco/resnet/256x192_res50_lr1e-3_1x.yaml}
original=$work/original_$shift_name
run_ours detected --detections "$work/inputs/detections.json"  # first: bad input gets one clear line here
run_ours annotated --gt_boxes
run_original
hold_against detected validate_rcnn_kpt.json
hold_against annotated validate_gt_kpt.json
echo
"$PYTHON" -m reference.verdict --original "$original" --ours "$work/ours"
