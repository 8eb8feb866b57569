#!/usr/bin/env bash
# One row a batch size, with the published figures of the card beside ours.
#
#     bash scripts/run_all_batches.sh Ascend310P3 [options of run_bs16.sh]
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
[ $# -gt 0 ] || { echo "usage: bash scripts/run_all_batches.sh TARGET [options]; see bash scripts/run_bs16.sh" >&2; exit 2; }

# AP and crops/s of fast_res50_256x192 on COCO val2017, CANN 6.0.RC1, as ModelZoo published them; "-" is not known here.
published() {
    case "$1:$2" in
        Ascend310:1) echo "0.7150 | 331" ;;
        Ascend310:16) echo "0.7150 | 643" ;;
        Ascend310:*) echo "0.7150 | -" ;;
        Ascend310P*:1) echo "0.7147 | 864" ;;
        Ascend310P*:4) echo "0.7147 | 1642" ;;
        Ascend310P*:8) echo "0.7147 | 1704" ;;
        Ascend310P*:16) echo "0.7147 | 1772" ;;
        Ascend310P*:32) echo "0.7147 | 1412" ;;
        Ascend310P*:64) echo "0.7147 | 1405" ;;
        *) echo "- | -" ;;
    esac
}

table=
for batch in 1 4 8 16 32 64; do
    rows=$(bash "$here/run.sh" "$batch" "$@" | tee /dev/stderr | tail -n 3)
    [ -n "$table" ] || table="$(sed -n 1p <<<"$rows") published AP | published crops/s |
$(sed -n 2p <<<"$rows") --- | --- |"
    table="$table
$(sed -n 3p <<<"$rows") $(published "$1" "$batch") |"
done
printf '\n%s\n' "$table"
