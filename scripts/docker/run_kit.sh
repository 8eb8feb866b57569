#!/usr/bin/env bash
# In a container: run the kit in /work, after what the vendor's image has to set. Arguments are run.sh's.
for file in /usr/local/Ascend/ascend-toolkit/set_env.sh /usr/local/Ascend/cann/set_env.sh; do
    [ ! -f "$file" ] || source "$file"
done
[ -f kit/run.sh ] || { echo "error: no kit/ in /work. Unpack it, and mount its folder: docker run -v \"\$PWD\":/work ..." >&2; exit 2; }
exec bash kit/run.sh "$@"
