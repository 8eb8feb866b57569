"""FastPose in PyTorch on an NVIDIA GPU: the CPU's results, and people per second beside what that GPU could do.

    python3 benchmarks/gpu.py --model models/fast_res50_256x192.pth --input ./prep_data

Compares float32, float16 and bfloat16 on the GPU with float32 on the CPU, on real crops. Then times batches with and
without a CUDA graph. The floor is the network's own arithmetic at the speed of the fastest matrix product that was
measured here, and its input and output at the measured speed of copies. --profile adds the kernels that took the time.
"""
from __future__ import annotations

import argparse
import datetime
import itertools
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from contract.script import exit_code  # noqa: E402

from backends.rooms import open_model  # noqa: E402
from contract.arguments import DEFAULT_CONFIG, HelpFormatter  # noqa: E402
from contract.backend import Backend, infer_rows  # noqa: E402
from contract.bins import BinReader  # noqa: E402
from contract.errors import UserError  # noqa: E402
from contract.spec import row_bytes  # noqa: E402
from pose.metrics import cosines, peak_cells, tensor_sums  # noqa: E402
from pose.spec import PoseSpec, load_spec  # noqa: E402

DEVICE = "cuda"
PRECISIONS = ("fp32", "fp16", "bf16")
# What is asked of a GPU against the CPU: metric -> limit; the first is an upper one.
LIMITS = {"fp32": {"max_abs": 1e-3, "argmax": 1.0}, "fp16": {"cosine": 0.9999, "argmax": 0.995}, "bf16": {}}
SHARE_OF_FLOOR = 0.5  # of the people per second that the arithmetic allows in float16, at the best batch
MATRIX_SIZES = (2048, 4096, 8192)  # of square matrix products; the fastest counts
COPY_BYTES = 1 << 28
WARM_UP = 3
REFERENCE_BATCH = 16  # on the CPU
ROW = "| {} |"


class Speed(NamedTuple):
    """People per second in the model alone, and with the copies to and from the GPU."""

    precision: str
    graph: bool
    batch: int
    model: float
    whole: float


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0],
                                     formatter_class=HelpFormatter)
    parser.add_argument("--model", default="models/fast_res50_256x192.pth", help="checkpoint")
    parser.add_argument("--cfg", default=DEFAULT_CONFIG, help="its config")
    parser.add_argument("--input", type=Path, default=Path("./prep_data"), help="folder of bins")
    parser.add_argument("--people", type=int, default=256, help="crops that are compared with the CPU's result")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64, 128], help="batch sizes")
    parser.add_argument("--repeat", type=int, default=50, help="batches of a size that are timed")
    parser.add_argument("--profile", action="store_true", help="print the kernels of the largest batch in float16")
    return parser.parse_args(argv)


def require_gpu() -> None:
    import torch

    if not torch.cuda.is_available():
        raise UserError(f"this measures an NVIDIA GPU, and torch {torch.__version__} finds none. It needs the GPU, its "
                        "driver and a CUDA build of torch")


def compare(heatmaps: np.ndarray, reference: np.ndarray) -> Dict[str, float]:
    """(N, K, h, w) of the GPU against the CPU's."""
    sums = tensor_sums(reference, heatmaps, 0, 0)
    return {"max_abs": float(np.abs(heatmaps - reference).max()), "cosine": float(cosines(sums.sum(axis=(0, 1)))),
            "argmax": float((peak_cells(heatmaps)[0] == peak_cells(reference)[0]).mean())}


def kept(measured: Dict[str, float], limits: Dict[str, float]) -> bool:
    return all(measured[name] <= limit if name == "max_abs" else measured[name] >= limit
               for name, limit in limits.items())


def flops_of(args: argparse.Namespace) -> float:
    """Of one person, a multiplication and an addition counted as two; 11.77e9 for FastPose ResNet-50 at 256x192."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from networks.registry import build_network

    config = load_spec(args.cfg)
    network = build_network(config)
    with FlopCounterMode(display=False) as counter, torch.no_grad():  # sees nothing in inference mode
        network(torch.zeros(1, *config.input_shape))
    return float(counter.get_total_flops())


def seconds_on_gpu(work: Callable[[], Any], repeat: int = 10) -> float:
    """Of one call, the median; CUDA's own clock."""
    import torch

    times = []
    for _ in range(WARM_UP + repeat):
        started, finished = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        started.record()
        work()
        finished.record()
        finished.synchronize()
        times.append(started.elapsed_time(finished) / 1000)
    return statistics.median(times[WARM_UP:])


def measure_floor() -> Dict[str, float]:
    """Operations per second of the fastest square matrix product per precision, TF32 off; bytes per second of copies
    between pinned memory and the GPU, as `in` and `out`."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    floor = {}
    for name, dtype in zip(PRECISIONS, (torch.float32, torch.float16, torch.bfloat16)):
        rates = []
        for size in MATRIX_SIZES:
            a, b = (torch.randn(size, size, device=DEVICE, dtype=dtype) for _ in range(2))
            rates.append(2 * size ** 3 / seconds_on_gpu(lambda: torch.matmul(a, b)))  # noqa: B023
        floor[name] = max(rates)
    host, device = torch.empty(COPY_BYTES, dtype=torch.uint8, pin_memory=True), torch.empty(
        COPY_BYTES, dtype=torch.uint8, device=DEVICE)
    floor["in"] = COPY_BYTES / seconds_on_gpu(lambda: device.copy_(host, non_blocking=True))
    floor["out"] = COPY_BYTES / seconds_on_gpu(lambda: host.copy_(device, non_blocking=True))
    return floor


def time_batches(backend: Backend, crops: np.ndarray, repeat: int) -> Tuple[float, float]:
    """People per second on the device alone, and with the copies, of batches of `crops`; by the medians."""
    walls = []
    for _ in range(WARM_UP + repeat):
        start = time.perf_counter()
        backend.infer(crops)
        walls.append(time.perf_counter() - start)
    return tuple(len(crops) / statistics.median(times[-repeat:])
                 for times in ([value / 1000 for value in backend.times], walls))


def print_header(args: argparse.Namespace, people: int) -> None:
    import torch

    print(f"{torch.cuda.get_device_name()}; {datetime.date.today()}; torch {torch.__version__}, CUDA "
          f"{torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}, Python {sys.version.split()[0]}, numpy "
          f"{np.__version__}; {args.model}, {people} crops of {args.input}; medians of {args.repeat} batches.\n")


def table(columns: List[str], rows: Iterator[List[str]]) -> None:
    print(ROW.format(" | ".join(columns)))
    print("|" + " --- |" * len(columns))
    for row in rows:
        print(ROW.format(" | ".join(row)), flush=True)
    print()


def accuracy_rows(args: argparse.Namespace, config: PoseSpec, crops: np.ndarray) -> Iterator[List[str]]:
    reference = infer_rows(open_model("pytorch", args.model, config), crops, REFERENCE_BATCH)
    for precision in PRECISIONS:
        backend = open_model("pytorch", args.model, config, DEVICE, precision=precision)
        measured = compare(infer_rows(backend, crops, REFERENCE_BATCH), reference)
        backend.close()
        limits = LIMITS[precision]
        asked = ", ".join(f"{name} {'<=' if name == 'max_abs' else '>='} {limit:g}" for name, limit in limits.items())
        verdict = ("kept" if kept(measured, limits) else "NOT KEPT") if limits else "none"
        yield [precision, f"{measured['max_abs']:.2e}", f"{measured['cosine']:.7f}", f"{measured['argmax']:.4%}",
               f"{asked}: {verdict}" if asked else verdict]


def time_precisions(args: argparse.Namespace, config: PoseSpec, crops: np.ndarray) -> Iterator[Speed]:
    for precision, graph in itertools.product(PRECISIONS, (False, True)):
        backend = open_model("pytorch", args.model, config, DEVICE, precision=precision, cuda_graph=graph)
        for batch in sorted(args.batch):
            model, whole = time_batches(backend, np.resize(crops, (batch, *crops.shape[1:])), args.repeat)
            yield Speed(precision, backend.describe()["cuda_graph"], batch, model, whole)
        backend.close()


def report_speed(args: argparse.Namespace, config: PoseSpec, crops: np.ndarray, flops: float) -> None:
    floor, best = measure_floor(), 0.0

    def rows() -> Iterator[List[str]]:
        nonlocal best
        for speed in time_precisions(args, config, crops):
            allowed = floor[speed.precision] / flops
            if speed.precision == "fp16":
                best = max(best, speed.model / allowed)
            yield [speed.precision, "yes" if speed.graph else "no", str(speed.batch),
                   f"{1000 * speed.batch / speed.model:.3f}", f"{speed.model:.0f}", f"{allowed:.0f}",
                   f"{speed.model / allowed:.1%}", f"{speed.whole:.0f}"]

    table(["precision", "CUDA graph", "batch", "ms", "people/s in the model", "arithmetic allows", "share",
           "people/s with copies"], rows())
    size_in, size_out = row_bytes(config.input_shape, config.dtype), row_bytes(config.outputs["output"], "float32")
    copies = 1 / max(size_in / floor["in"], size_out / floor["out"])
    print(f"A person is {flops / 1e9:.2f} GFLOP, {size_in / 1e6:.2f} MB in and "
          f"{size_out / 1e6:.2f} MB out. Measured: " + ", ".join(
              f"{floor[name] / 1e12:.1f} TFLOP/s in {name}" for name in PRECISIONS)
          + f"; copies {floor['in'] / 1e9:.1f} GB/s in and {floor['out'] / 1e9:.1f} out, which allow {copies:.0f} "
          f"people/s. fp16 reaches {best:.1%} of its arithmetic at the best batch; {SHARE_OF_FLOOR:.0%} is asked: "
          f"{'kept' if best >= SHARE_OF_FLOOR else 'NOT KEPT'}.")


def profile(args: argparse.Namespace, config: PoseSpec, crops: np.ndarray) -> None:
    from torch.profiler import ProfilerActivity, profile

    backend = open_model("pytorch", args.model, config, DEVICE, precision="fp16", cuda_graph=False)
    rows = np.resize(crops, (max(args.batch), *crops.shape[1:]))
    backend.infer(rows)
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(WARM_UP):
            backend.infer(rows)
    print(profiler.key_averages().table(sort_by="self_device_time_total", row_limit=20))


def main() -> None:
    args = parse_args()
    require_gpu()
    bins = BinReader(args.input, load_spec(args.cfg))
    crops = np.concatenate([bins.read(group) for group in bins.groups(1)[:args.people]])
    flops = flops_of(args)
    print_header(args, len(crops))
    table(["precision", "largest difference", "cosine", "same highest cell", "asked"],
          accuracy_rows(args, bins.spec, crops))
    report_speed(args, bins.spec, crops, flops)
    if args.profile:
        profile(args, bins.spec, crops)


if __name__ == "__main__":
    sys.exit(exit_code(main))
