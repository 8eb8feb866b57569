#!/usr/bin/env bash
# One model on several devices, on the same bins: AP and speed of each, and whether it agrees with PyTorch.
#
#     bash scripts/validate.sh cpu Ascend310P3 --batch "1 16" [options of run.py]
#
# Prints a table and leaves it in WORK/validation.md, with a page for every comparison beside it. Exit code 0: all agree
# with PyTorch; 1: one differs; 2: something failed.
exec python3 "$(dirname "${BASH_SOURCE[0]}")/../run.py" --setup --validate --targets "$@"
