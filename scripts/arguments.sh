# What scripts need to read their arguments, for those that source this file.

fail() { echo "error: $*" >&2; exit 2; }
from_here() { case "$1" in /*) echo "$1" ;; *) echo "$PWD/$1" ;; esac; }  # the stages run in the project's root
