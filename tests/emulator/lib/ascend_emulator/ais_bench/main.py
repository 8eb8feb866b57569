"""python3 -m ais_bench."""
from __future__ import annotations

import sys

from . import log
from .arguments import check_rules, parse
from .devices import run_devices
from .run import check_version_new, check_version_old, run_process


def main(generation: str) -> int:
    log.start()
    args = parse(generation)
    check_rules(args)
    (check_version_new if args.new else check_version_old)(args)
    if args.new and args.perf:
        raise KeyError(args.backend)  # it runs TensorRT's trtexec, or, with no --backend, ends like this
    if args.dym_shape_range is not None and args.dym_shape is None:
        raise RuntimeError("the emulated ais_bench has no --dymShape_range")
    if args.profiler:
        log.logger.info("find no msprof continue use acl.json mode" + (
            ", result won't be parsed as csv" if args.new else ""))
    if isinstance(args.device, list):
        return run_devices(args)
    run_process(args)
    return 0


def run(generation: str) -> None:
    sys.exit(main(generation))
