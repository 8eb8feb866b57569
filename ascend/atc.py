"""Build the .om of an ONNX file for a chip with CANN's atc.

    python3 -m ascend.atc models/fast_res50_256x192_bs16.onnx --soc_version Ascend310P3 --batch 16

atc runs in a folder of its own, NAME.atc beside the .om, which keeps its output and logs. The .om appears when it is
verified, and NAME.om.json says how it was made; one that was made in the same way is kept.
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

from ascend import cann
from ascend.atc_checks import Input, check_int8, check_opset, check_precision, choose_batch, read_input
from ascend.codes import explain_output
from ascend.operators import foresee
from ascend.precision import PRECISION_MODES, PRECISION_MODES_V2
from ascend.soc import check_soc_version
from contract.arguments import HelpFormatter, parse
from contract.errors import UserError, note
from contract.files import FILE_MODE, make_folder, remove_file, sha256_of_file, write_file, write_json
from contract.locks import hold, reading
from contract.manifest import settings_difference
from contract.onnx_file import sha256_of_model
from contract.pixels import ALPHAPOSE_MEAN, ALPHAPOSE_STD, pixel_constants
from contract.records import protect, read_record
from contract.room import INT8
from contract.workers import as_typed, describe_exit, run_together

KILLED = -9  # by the kernel, when memory is short
INVALID_VALUE = "E10001"  # of --mode, to a release that has no mode 6
SUCCESS, FAILURE = "ATC run success", "ATC run failed"

# AIPP: uint8 HWC RGB in, ((pixel - mean_chn) - min_chn) * var_reci_chn out. For an ONNX file that does not tell its
# constants, AlphaPose's: (pixel - 255 c) / 255 with c = 0.406, 0.457, 0.480. The whole part of 255 c goes into mean_chn
# and the rest into min_chn: atc keeps min_chn in float16, where 122.4 alone would lose 0.025.
AIPP = """aipp_op {{
    aipp_mode: static
    input_format: RGB888_U8
    src_image_size_w: {width}
    src_image_size_h: {height}
    csc_switch: false
    rbuv_swap_switch: false
{constants}
}}
"""
AIPP_FILE = "aipp.cfg"
KEEP_DTYPE_FILE = "keep_dtype.txt"  # nodes that stay float32: those that find joints in heatmaps
_BUILT_FOR = re.compile(r"soc_version\[(\w[\w-]*)\]")  # in what --mode=6 prints


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m ascend.atc", description=__doc__.split("\n")[0],
                                     formatter_class=HelpFormatter)
    parser.add_argument("model", help=".onnx")
    parser.add_argument("--soc_version", required=True, help="the chip, such as Ascend310P3; python3 -m ascend.soc "
                        "prints it")
    parser.add_argument("--output", help="the .om to write (default: beside the model, with its name)")
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--batch", type=int, help="people per batch (default: the model's)")
    sizes.add_argument("--gears", help="batch sizes of one .om with dynamic batch, such as 1,4,8,16")
    precision = parser.add_mutually_exclusive_group()
    precision.add_argument("--precision_mode", choices=PRECISION_MODES, help="default: atc's own, force_fp16")
    precision.add_argument("--precision_mode_v2", choices=PRECISION_MODES_V2, help="the same, in the words of newer "
                           "CANN")
    parser.add_argument("--output_type", choices=("FP32", "FP16"), help="type of the heatmaps (default: the model's)")
    parser.add_argument("--log", choices=("debug", "info", "warning", "error", "null"), default="error",
                        help="how much atc writes into its log folder (default: %(default)s)")
    parser.add_argument("--extra", action="append", default=[], metavar="OPTION",
                        help="one more option for atc, such as --extra=--keep_dtype=FILE")
    parser.add_argument("--uint8", action="store_true", help="for bins of preprocess.py --dtype uint8: AIPP "
                        "normalises the uint8 HWC crops on the chip")
    return parse(parser, argv)


def file_of(option: str) -> str:
    """The file that an option names, such as --keep_dtype=FILE; empty where it names none."""
    value = option.partition("=")[2]
    return value if os.path.isfile(value) else ""


def atc_command(model: Path, output_stem: str, source: Input, soc_version: str, sizes: List[int],
                args: argparse.Namespace) -> List[str]:
    """The command line, to be run in the folder that gets the .om."""
    batch = sizes[0] if len(sizes) == 1 else -1
    shape = ",".join(map(str, (batch, *source.shape[1:])))
    command = ["atc", "--framework=5", f"--model={model}", f"--output={output_stem}", "--input_format=NCHW",
               f"--input_shape={source.name}:{shape}"]
    if len(sizes) > 1:
        command.append(f"--dynamic_batch_size={','.join(map(str, sizes))}")
    command += [f"--soc_version={soc_version}", f"--log={args.log}"]
    command += [f"--{name}={getattr(args, name)}" for name in ("precision_mode", "precision_mode_v2", "output_type")
                if getattr(args, name)]
    if args.uint8:
        command += [f"--insert_op_conf={AIPP_FILE}", "--enable_small_channel=1"]
    if source.decoding and not any(option.startswith("--keep_dtype") for option in args.extra):
        command.append(f"--keep_dtype={KEEP_DTYPE_FILE}")
    for option in args.extra:
        name = file_of(option)  # atc runs in another folder
        command.append(f"{option.partition('=')[0]}={os.path.abspath(name)}" if name else option)
    return command


def default_output(model: Path, source: Input, sizes: List[int], uint8: bool) -> Path:
    batch = "" if source.shape[0] else f"_bs{sizes[0]}" if len(sizes) == 1 else "_gears"
    return model.with_name(f"{model.stem}{batch}{'_uint8' if uint8 else ''}.om")


def aipp_config(source: Input) -> str:
    height, width = source.shape[2:]
    constants = [f"    {name}_{channel}: {value}"
                 for name, values in (source.pixel_constants or pixel_constants(ALPHAPOSE_MEAN, ALPHAPOSE_STD)).items()
                 for channel, value in enumerate(values)]
    return AIPP.format(height=height, width=width, constants="\n".join(constants))


def build(output: Path, command: List[str], soc_version: str, record: Dict[str, Any]) -> None:
    """Run atc in a folder of its own and put the verified .om and its record at `output`."""
    scratch = output.with_suffix(".atc")
    remove_file(output)
    remove_file(f"{output}.json")
    shutil.rmtree(scratch, ignore_errors=True)
    make_folder(scratch)
    if record["aipp"]:
        write_file(scratch / AIPP_FILE, record["aipp"].encode())
    if record.get("keep_dtype"):
        write_file(scratch / KEEP_DTYPE_FILE, "\n".join(record["keep_dtype"]).encode())
    print(f"in {scratch}: {as_typed(command)}", flush=True)
    run_atc(command, scratch)
    found = sorted(path for path in scratch.glob(f"{output.stem}*.om") if path.stat().st_size)
    if not found:
        raise UserError(f"atc says it succeeded, but left no {output.name} in {scratch}. Read atc.log there")
    built_for = _BUILT_FOR.search(read_facts(found[0], scratch))
    if built_for and not soc_version.startswith(built_for.group(1)):
        raise UserError(f"atc made an .om for {built_for.group(1)}, not {soc_version}. Read {scratch}/facts.txt")
    os.chmod(found[0], FILE_MODE)
    os.replace(found[0], output)
    shutil.rmtree(scratch / "kernel_meta", ignore_errors=True)
    write_json(f"{output}.json", {**record, "om_sha256": sha256_of_file(output)})


def run_atc(command: List[str], scratch: Path) -> None:
    """Run atc, showing and keeping what it prints. Raises UserError with its error codes explained."""
    output: List[str] = []

    def show(name: str, text: str) -> None:
        output.append(text)
        print(text, end="", flush=True)

    environment = {**os.environ, "ASCEND_PROCESS_LOG_PATH": str(scratch.resolve() / "log")}
    try:
        code = run_together({"atc": command}, show, cwd=scratch, env=environment)["atc"]
    except FileNotFoundError:
        raise UserError(f"atc is not on PATH: {cann.set_env_advice()}") from None
    finally:
        write_file(scratch / "atc.log", "".join(output).encode())
    text = "".join(output)
    if code or FAILURE in text or SUCCESS not in text:
        reasons = explain_output(text)
        if code in (KILLED, 128 - KILLED):
            reasons.append("Memory was short: set TE_PARALLEL_COMPILER=1, or build on a larger machine, x86 too, and "
                           "copy the .om")
        raise UserError(f"atc {describe_exit(code)}. {'. '.join(reasons) or 'It names no known code'}. "
                        f"Its output and logs are in {scratch}")


def read_facts(om: Path, scratch: Path) -> str:
    """What `atc --mode=6` prints about an .om; it is also kept in facts.txt. Empty if this atc has no such mode.

    Raises UserError when atc cannot read what it wrote.
    """
    output: List[str] = []
    code = run_together({"atc": ["atc", "--mode=6", f"--om={om.name}"]}, lambda name, text: output.append(text),
                        cwd=scratch)["atc"]
    text = "".join(output)
    write_file(scratch / "facts.txt", text.encode())
    if code and INVALID_VALUE not in text:
        raise UserError(f"atc says it succeeded, but cannot read {scratch / om.name} (--mode=6): "
                        f"{'. '.join(explain_output(text))}. Is the disk full? Run the same command again")
    return "" if code else text


def is_kept(output: Path, record: Dict[str, Any]) -> bool:
    """Whether `output` was made in the same way. Raises UserError where it was not, and there is no atc to make it."""
    earlier = read_record(f"{output}.json") if output.exists() else None
    protect(output, earlier, record)
    if earlier is None:
        return False
    difference = settings_difference(_portable({**record, "om_sha256": sha256_of_file(output)}), _portable(earlier))
    if difference and not shutil.which("atc"):
        raise UserError(f"{output}: was built differently ({difference}), and there is no atc here to build it "
                        "again. Bring the .om and its .json from a machine with this CANN, or install the toolkit")
    return not difference


def _portable(record: Dict[str, Any]) -> Dict[str, Any]:
    """Without the place of the ONNX file, whose digest says which it is: an .om may come from another machine."""
    return {**record, "command": [word for word in record.get("command", ()) if not word.startswith("--model=")]}


def main() -> None:
    args = parse_args()
    model = Path(args.model)
    soc_version, version = check_soc_version(args.soc_version), cann.version()
    precision = args.precision_mode or args.precision_mode_v2
    check_precision(soc_version, precision)
    source = read_input(model)
    if source.takes_bytes:
        raise UserError(f"{model}: normalises bytes itself. Give the float32 ONNX file and --uint8; then AIPP does "
                        "it")
    sizes = choose_batch(model, source.shape, args.batch, args.gears, soc_version)
    check_opset(model, source.opset, version)
    if source.is_int8:
        check_int8(model, precision, sizes)
    for warning in foresee(source.facts, soc_version, version, precision):
        note(f"{model}: {warning}")
    output = Path(args.output) if args.output else default_output(model, source, sizes, args.uint8)
    command = atc_command(model.resolve(), output.stem, source, soc_version, sizes, args)
    record = {"emulated": cann.emulated(), "command": command, "soc_version": soc_version, "cann": version,
              "onnx_sha256": sha256_of_model(model), "precision": INT8 if source.is_int8 else precision or "force_fp16",
              "aipp": aipp_config(source) if args.uint8 else None,
              **({"keep_dtype": source.decoding} if source.decoding else {}),
              "files": {name: sha256_of_file(name) for name in map(file_of, args.extra) if name}}
    make_folder(output.parent)
    with hold(output), reading(model):
        if is_kept(output, record):
            print(f"{output}: kept, of the same ONNX, chip and CANN")
            return
        build(output, command, soc_version, record)
    print(f"{output}: written")


if __name__ == "__main__":
    sys.exit(exit_code(main))
