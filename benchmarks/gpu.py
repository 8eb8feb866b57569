"""FastPose in PyTorch on an NVIDIA GPU: the CPU's results, and people per second beside what that GPU could do.

    python3 benchmarks/gpu.py

Needs torch, numpy and OpenCV, and no files: accuracy is that of the demo's trained network on rendered people, speed
that of FastPose ResNet-50 with random weights. With --model and --input both are of that network and those bins.
Compares float32, float16 and bfloat16 on the GPU with float32 on the CPU. Then times batches with and without a CUDA
graph, and one pass beside two. The floor is the network's own arithmetic at the speed of the fastest matrix product
that was measured here, and its input and output at the measured speed of copies. --profile adds the kernels that took
the time. Exit code 3: a goal was missed.
"""
from __future__ import annotations

import argparse
import dataclasses
import datetime
import itertools
import statistics
import sys
import tempfile
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
from contract.errors import DONE, MISSED, UserError  # noqa: E402
from contract.files import make_folder, write_file  # noqa: E402
from contract.pixels import UINT8  # noqa: E402
from contract.spec import row_bytes  # noqa: E402
from pose.annotations import annotations_path, ground_truth_boxes, load_annotations  # noqa: E402
from pose.crops import Normalizer, crop_person  # noqa: E402
from pose.geometry import GEOMETRIES  # noqa: E402
from pose.metrics import cosines, peak_cells, tensor_sums  # noqa: E402
from pose.photos import open_photos  # noqa: E402
from pose.spec import PoseSpec, load_spec  # noqa: E402

DEVICE = "cuda"
PRECISIONS = ("fp32", "fp16", "bf16")
# What is asked of a GPU against the CPU: metric -> limit. In float16 the highest cell of a peak between two cells is a
# matter of rounding, 6 in 1,000 on a CPU: so the cell that is found may be another, but hardly lower in float32.
LIMITS = {"fp32": {"max_abs": 1e-3, "argmax": 1.0}, "fp16": {"cosine": 0.9999, "lower": 0.005}, "bf16": {}}
UPPER = ("max_abs", "lower")  # the other limits are lower ones
SHARE_OF_FLOOR = 0.5  # of the people per second that the arithmetic allows in float16, at the best batch
MATRIX_SIZES = (2048, 4096, 8192)  # of square matrix products; the fastest counts
COPY_BYTES = 1 << 28
WARM_UP = 3
REFERENCE_BATCH = 16  # on the CPU
DEMO, DEMO_WIDTH, DEMO_PHOTOS = ROOT / "demo" / "fastpose_small.pth", 0.16, 60  # as configs/demo_fastpose.yaml has it
FULL = PoseSpec()  # whose speed is measured: FastPose ResNet-50, and the size of the demo's crops
DAMPING = 0.5  # of random weights behind each batch norm, so that float16 does not overflow
ROW = "| {} |"


class Subject(NamedTuple):
    """A network and what it is given: (N, H, W, 3) or (N, 3, H, W) crops, by the spec's dtype."""

    model: Path
    config: PoseSpec
    crops: np.ndarray
    title: str


class Report:
    """What is printed is also kept, and every goal with it."""

    def __init__(self) -> None:
        self.lines: List[str] = []
        self.missed = 0

    def add(self, text: str = "") -> None:
        print(text, flush=True)
        self.lines.append(text)

    def table(self, columns: List[str], rows: Iterator[List[str]]) -> None:
        self.add(ROW.format(" | ".join(columns)))
        self.add("|" + " --- |" * len(columns))
        for row in rows:
            self.add(ROW.format(" | ".join(row)))
        self.add()

    def goal(self, reached: bool) -> str:
        self.missed += not reached
        return "kept" if reached else "NOT KEPT"


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
    parser.add_argument("--model", help="checkpoint to measure (default: the demo's, and random weights)")
    parser.add_argument("--cfg", default=DEFAULT_CONFIG, help="its config")
    parser.add_argument("--input", type=Path, help="folder of its bins")
    parser.add_argument("--output", type=Path, default=Path("./gpu.md"), help="file for the tables")
    parser.add_argument("--people", type=int, default=256, help="crops that are compared with the CPU's result")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64, 128], help="batch sizes")
    parser.add_argument("--repeat", type=int, default=30, help="batches of a size that are timed")
    parser.add_argument("--profile", action="store_true", help="print the kernels of the largest batch in float16")
    args = parser.parse_args(argv)
    if bool(args.model) != bool(args.input):
        parser.error("--model and --input go together")
    return args


def require_gpu() -> None:
    import torch

    if not torch.cuda.is_available():
        raise UserError(f"this measures an NVIDIA GPU, and torch {torch.__version__} finds none. It needs the GPU, its "
                        "driver and a CUDA build of torch")


def compare(heatmaps: np.ndarray, reference: np.ndarray) -> Dict[str, float]:
    """(N, K, h, w) of the GPU against the CPU's. `lower`: by how much the CPU's value in the GPU's highest cell is
    below the CPU's highest, for the joint where it is most, as a part of the largest value."""
    sums = tensor_sums(reference, heatmaps, 0, 0)
    (cells, _), (highest, peaks) = peak_cells(heatmaps), peak_cells(reference)
    there = np.take_along_axis(reference.reshape(*cells.shape, -1), cells[..., None], axis=2)[..., 0]
    return {"max_abs": float(np.abs(heatmaps - reference).max()), "cosine": float(cosines(sums.sum(axis=(0, 1)))),
            "argmax": float((cells == highest).mean()), "lower": float((peaks - there).max() / np.abs(reference).max())}


def kept(measured: Dict[str, float], limits: Dict[str, float]) -> bool:
    return all(measured[name] <= limit if name in UPPER else measured[name] >= limit
               for name, limit in limits.items())


def subjects_of(args: argparse.Namespace, folder: Path) -> Tuple[Subject, Subject]:
    """What accuracy is measured of, and what speed."""
    if args.model:
        bins = BinReader(args.input, load_spec(args.cfg))
        crops = np.concatenate([bins.read(group) for group in bins.groups(1)[:args.people]])
        one = Subject(args.model, bins.spec, crops, f"{args.model} and {len(crops)} crops of {args.input}")
        return one, one
    crops = render_crops(folder / "demo", args.people)
    demo = PoseSpec(parameters={**PoseSpec().parameters, "WIDTH": DEMO_WIDTH})
    full = random_weights(folder / "full.pth", FULL)
    return (Subject(DEMO, demo, crops, f"the demo's network and {len(crops)} rendered people"),
            Subject(full, FULL, crops, "FastPose ResNet-50 with random weights"))


def render_crops(folder: Path, people: int) -> np.ndarray:
    """(N, 3, H, W) float32 of the demo's people, as preprocess.py makes them."""
    from demo.render import render

    render(folder, DEMO_PHOTOS, seed=17)
    spec, photos = PoseSpec(), open_photos(folder)
    boxes = ground_truth_boxes(load_annotations(annotations_path(folder)))
    geometry, normalize = GEOMETRIES[spec.geometry], Normalizer(spec.mean, spec.std)
    places = zip(boxes.image_ids.tolist(), *geometry.place(boxes.bbox_xyxy, spec.input_size[1] / spec.input_size[0]))
    return np.stack([normalize(crop_person(photos.read(image), center, size, spec.input_size, geometry.three_points))
                     for image, center, size in itertools.islice(places, people)])


def random_weights(path: Path, spec: PoseSpec) -> Path:
    import torch

    from networks.registry import build_network

    torch.manual_seed(0)
    weights = build_network(spec).state_dict()
    torch.save({name: value * DAMPING if ".bn" in name and name.endswith("weight") else value
                for name, value in weights.items()}, path)
    return path


def flops_of(config: PoseSpec) -> float:
    """Of one crop, a multiplication and an addition counted as two; 11.77e9 for FastPose ResNet-50 at 256x192."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from networks.registry import build_network

    network = build_network(config)
    with FlopCounterMode(display=False) as counter, torch.no_grad():  # sees nothing in inference mode
        network(torch.zeros(1, 3, *config.input_size))
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


def describe_machine(args: argparse.Namespace) -> str:
    import torch

    return (f"{torch.cuda.get_device_name()}; {datetime.date.today()}; torch {torch.__version__}, CUDA "
            f"{torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}, Python {sys.version.split()[0]}, numpy "
            f"{np.__version__}; medians of {args.repeat} batches.\n")


def accuracy_rows(subject: Subject, report: Report) -> Iterator[List[str]]:
    reference = infer_rows(open_model("pytorch", subject.model, subject.config), subject.crops, REFERENCE_BATCH)
    for precision in PRECISIONS:
        backend = open_model("pytorch", subject.model, subject.config, DEVICE, precision=precision)
        measured = compare(infer_rows(backend, subject.crops, REFERENCE_BATCH), reference)
        backend.close()
        limits = LIMITS[precision]
        asked = ", ".join(f"{name} {'<=' if name in UPPER else '>='} {limit:g}" for name, limit in limits.items())
        verdict = report.goal(kept(measured, limits)) if limits else "none"
        yield [precision, f"{measured['max_abs']:.2e}", f"{measured['cosine']:.7f}", f"{measured['argmax']:.4%}",
               f"{measured['lower']:.2e}",
               f"{asked}: {verdict}" if asked else verdict]


def time_precisions(args: argparse.Namespace, subject: Subject) -> Iterator[Speed]:
    for precision, graph in itertools.product(PRECISIONS, (False, True)):
        backend = open_model("pytorch", subject.model, subject.config, DEVICE, precision=precision, cuda_graph=graph)
        for batch in sorted(args.batch):
            yield Speed(precision, backend.describe()["cuda_graph"], batch,
                        *time_batches(backend, rows_of(subject.crops, batch), args.repeat))
        backend.close()


def rows_of(crops: np.ndarray, batch: int) -> np.ndarray:
    return np.resize(crops, (batch, *crops.shape[1:]))


def report_speed(args: argparse.Namespace, subject: Subject, floor: Dict[str, float], report: Report) -> None:
    best, flops, config = 0.0, flops_of(subject.config), subject.config

    def rows() -> Iterator[List[str]]:
        nonlocal best
        for speed in time_precisions(args, subject):
            allowed = floor[speed.precision] / flops
            if speed.precision == "fp16":
                best = max(best, speed.model / allowed)
            yield [speed.precision, "yes" if speed.graph else "no", str(speed.batch),
                   f"{1000 * speed.batch / speed.model:.3f}", f"{speed.model:.0f}", f"{allowed:.0f}",
                   f"{speed.model / allowed:.1%}", f"{speed.whole:.0f}"]

    report.table(["precision", "CUDA graph", "batch", "ms", "crops/s in the model", "arithmetic allows", "share",
                  "crops/s with copies"], rows())
    size_in, size_out = row_bytes(config.input_shape, config.dtype), row_bytes(config.outputs["output"], "float32")
    copies = 1 / max(size_in / floor["in"], size_out / floor["out"])
    report.add(f"A crop is {flops / 1e9:.2f} GFLOP, {size_in / 1e6:.2f} MB in and "
               f"{size_out / 1e6:.2f} MB out. Measured: " + ", ".join(
                   f"{floor[name] / 1e12:.1f} TFLOP/s in {name}" for name in PRECISIONS)
               + f"; copies {floor['in'] / 1e9:.1f} GB/s in and {floor['out'] / 1e9:.1f} out, which allow {copies:.0f} "
               f"crops/s. fp16 reaches {best:.1%} of its arithmetic at the best batch; {SHARE_OF_FLOOR:.0%} is asked: "
               f"{report.goal(best >= SHARE_OF_FLOOR)}.\n")


def report_one_pass(args: argparse.Namespace, subject: Subject, floor: Dict[str, float], report: Report) -> None:
    """People per second of float16 with copies: two crops through the network and their heatmaps out, against bytes in
    and joints out. Every other batch size starts with the other way."""
    config = dataclasses.replace(subject.config, dtype=UINT8)
    pixels = np.random.default_rng(0).integers(0, 256, (max(args.batch), *config.input_shape), np.uint8)
    two = open_model("pytorch", subject.model, subject.config, DEVICE, precision="fp16")
    one = open_model("pytorch", subject.model, config, DEVICE, precision="fp16", one_pass="flip")
    allowed = floor["fp16"] / flops_of(subject.config) / 2

    def rows() -> Iterator[List[str]]:
        for number, batch in enumerate(sorted(args.batch)):
            ways = [("two", two, rows_of(subject.crops, batch), 2), ("one", one, pixels[:batch], 1)]
            rates = {name: [rate / crops for rate in time_batches(backend, values, args.repeat)]
                     for name, backend, values, crops in (ways if number % 2 == 0 else ways[::-1])}
            yield [str(batch), f"{rates['two'][0]:.0f}", f"{rates['two'][1]:.0f}", f"{rates['one'][0]:.0f}",
                   f"{rates['one'][1]:.0f}", f"{rates['one'][1] / rates['two'][1]:.2f}", f"{allowed:.0f}",
                   f"{rates['one'][0] / allowed:.1%}"]

    report.table(["batch", "two passes: people/s in the model", "with copies", "one pass: people/s in the model",
                  "with copies", "ratio with copies", "arithmetic allows", "share of one pass"], rows())
    two.close()
    one.close()


def profile(args: argparse.Namespace, subject: Subject) -> None:
    from torch.profiler import ProfilerActivity, profile

    backend = open_model("pytorch", subject.model, subject.config, DEVICE, precision="fp16", cuda_graph=False)
    rows = rows_of(subject.crops, max(args.batch))
    backend.infer(rows)
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(WARM_UP):
            backend.infer(rows)
    print(profiler.key_averages().table(sort_by="self_device_time_total", row_limit=20))


def main() -> int:
    args, report = parse_args(), Report()
    require_gpu()
    with tempfile.TemporaryDirectory() as folder:
        accurate, fast = subjects_of(args, Path(folder))
        report.add(describe_machine(args))
        report.add(f"Accuracy: {accurate.title}.\n")
        report.table(["precision", "largest difference", "cosine", "same highest cell", "lower by", "asked"],
                     accuracy_rows(accurate, report))
        report.add(f"Speed: {fast.title}.\n")
        floor = measure_floor()
        report_speed(args, fast, floor, report)
        report_one_pass(args, fast, floor, report)
        if args.profile:
            profile(args, fast)
    make_folder(args.output.absolute().parent)
    write_file(args.output, "".join(f"{line}\n" for line in report.lines).encode())
    return MISSED if report.missed else DONE


if __name__ == "__main__":
    sys.exit(exit_code(main))
