"""A stage of run.py on all devices of a cluster: its command in as many processes, each with its own --part K/N.

    python3 -m cluster.parts local infer.py --backend acl --model models/m.om --output_dirname bs16

Every machine needs the project and the files that the command names under the same paths, and the folders of its inputs
and outputs on a disk that all share. The command's own rules join the parts. A part whose machine died is done again.
"""
from __future__ import annotations

from contract.script import ROOT, exit_code

import argparse
import os
import subprocess
import sys
from typing import Any, Dict, List, Optional, Tuple

from backends.rooms import ROOMS, backend_of
from cluster.nodes import check_nodes, connect, import_ray, needs_of
from contract.arguments import HelpFormatter, at_least
from contract.errors import UserError
from contract.progress import Progress
from contract.workers import describe_exit, end, start

RETRIES = 5  # machines that may die under one part


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m cluster.parts", formatter_class=HelpFormatter,
                                     description=__doc__.split("\n")[0])
    parser.add_argument("where", choices=("local", "auto"), help="Ray on this machine, or the cluster that it belongs "
                        "to")
    parser.add_argument("--workers", type=at_least(1), help="parts (default: one per NPU or GPU if the backend uses "
                        "them, else one per machine)")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="infer.py or detect.py with its options")
    return parser.parse_args(argv)


def device_of(command: List[str]) -> Tuple[str, Optional[str]]:
    """Backend and device that a command asks for."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--backend", choices=sorted(ROOMS))
    parser.add_argument("--device")
    parser.add_argument("--model")
    args, _ = parser.parse_known_args(command)
    return args.backend or (backend_of(args.model) if args.model else "onnxruntime"), args.device


def run_part(command: List[str], part: str) -> Tuple[int, str, str]:
    """Exit code, output and errors of the command's part. Runs on the machine of the device, of which Ray tells the
    process by its environment."""
    process = start([sys.executable, *command, "--part", part], cwd=ROOT, stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE, text=True)
    try:
        output, errors = process.communicate()
    finally:
        end(process)
    return process.returncode, output, errors


def run_parts(ray: Any, command: List[str], count: int, needs: Dict[str, Any]) -> int:
    """0, or the exit code of the first part that failed, whose errors are shown; the others are then given up."""
    task = ray.remote(max_retries=RETRIES, **needs)(run_part)
    parts = [f"{number}/{count}" for number in range(count)]
    running = {task.options(name=f"{command[0]} --part {part}").remote(command, part): part for part in parts}
    with Progress(total=count, unit="part", desc=command[0]) as bar:
        while running:
            (ended,), _ = ray.wait(list(running))
            part = running.pop(ended)
            try:
                code, output, errors = ray.get(ended)
            except ray.exceptions.RayError as error:
                raise UserError(f"{command[0]} --part {part}: {str(error).strip().splitlines()[-1]}. The same command "
                                "continues") from None
            if code < 0:
                raise UserError(f"{command[0]} --part {part} {describe_exit(code)}. Is memory short? Run the same "
                                "command again: finished files are kept")
            if code:
                sys.stderr.write(errors)
                return code
            bar.update()
            print(f"part {part}: {output}", end="", flush=True)
    return 0


def main() -> int:
    args = parse_args()
    ray = import_ray()
    backend, device = device_of(args.command)
    os.chdir(ROOT)
    connect(ray, args.where)
    try:
        count, needs = needs_of(ray, backend, device, args.workers)
        check_nodes(ray, needs, [backend], {word: str(ROOT / word) for word in args.command if (ROOT / word).exists()})
        return run_parts(ray, args.command, count, needs)
    finally:
        ray.shutdown()


if __name__ == "__main__":
    sys.exit(exit_code(main))
