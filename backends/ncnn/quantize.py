"""int8 for ncnn, without its C++ tools: calibrate a float model on bins and write one whose layers are int8.

    python3 -m backends.ncnn.quantize models/fast_res50_256x192.param models/fast_res50_256x192_int8.param \\
        --calibration ./calib_data --method percentile

ncnn computes convolutions and inner products in int8; the layers between them stay float32. The scales are also left as
a text table (.table) that ncnn's own ncnn2int8 takes.
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from backends.ncnn.model_file import INT8_TERM, QUANTIZABLE, Layer, Weights, bin_of, read_param, read_weights
from backends.ncnn.pair import is_made, param_path, read_facts, write_pair
from contract.arguments import DEFAULT_CONFIG, HelpFormatter, parse
from contract.bins import BinReader, spread
from contract.errors import UserError
from contract.files import make_folder, sha256_of_file, sha256_of_rows, write_file
from contract.locks import hold, reading
from contract.progress import Progress
from contract.ranges import LEVELS, METHODS, Range, threshold
from contract.spec import load_spec

WINOGRAD_LEVELS = 31  # 6 bits: of 3x3 weights of stride 1, which ncnn's int8 winograd kernels add up without overflow
HEAVY = 3.0  # an input whose largest magnitude is this many times its 99.99 percentile loses too much in int8
# Words for layers to keep, beside their names.
KEEP = {"upsampled": "that read an upsampled map", "heavy": "whose input has a few values far above the rest",
        "first": "the first of all", "last": "that give an output", "depthwise": "convolutions of one channel each"}
UPSAMPLING = {"Deconvolution", "DeconvolutionDepthWise", "Interp", "PixelShuffle"}


class Scales(NamedTuple):
    """Of one layer: 127 / threshold of its input, and 127 / largest of each channel of its weights."""

    input: np.float32
    weights: np.ndarray


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m backends.ncnn.quantize", description=__doc__.split("\n")[0],
                                     formatter_class=HelpFormatter)
    parser.add_argument("model", help="float .param, with its .bin beside it")
    parser.add_argument("output", help="int8 .param to write; .bin and .table lie beside it")
    parser.add_argument("--calibration", required=True, help="folder of bins, made from other photos than those that "
                        "are scored")
    parser.add_argument("--cfg", default=DEFAULT_CONFIG, help="config of the bins")
    parser.add_argument("--people", type=int, default=64, help="how many crops, spread evenly over the bins")
    parser.add_argument("--method", choices=list(METHODS), default="percentile", help="how a range is chosen")
    parser.add_argument("--keep", nargs="*", default=["upsampled", "last"], metavar="LAYER",
                        help="layers to keep in float, by name, or in words: " +
                        "; ".join(f"{word}: {what}" for word, what in KEEP.items()))
    parser.add_argument("--keep_list", metavar="FILE", help="more layers to keep, one per line, as compare_layers.py "
                        "writes it")
    parser.add_argument("--weight_bits", type=int, choices=(6, 8), default=6, help="of 3x3 convolutions of stride 1; 8 "
                        "is safe on x86 alone")
    return parse(parser, argv)


def quantize(model: Path, output: Path, rows: Iterable[np.ndarray], method: str, keep: Sequence[str],
             weight_bits: int, facts: Dict[str, Any]) -> List[str]:
    """Write the int8 model and its table; the names of the layers that are int8. `rows` are (C, H, W) float32."""
    layers = read_param(model)
    weights = read_weights(bin_of(model), layers)
    check_float(model, layers, weights)
    ranges = collect_ranges(model, layers, rows)
    chosen = choose_layers(layers, ranges, keep)
    scales = {layer.name: scales_of(layer, weights[layer.name], ranges[layer.inputs[0]], method, weight_bits)
              for layer in chosen}
    write_file(output.with_suffix(".table"), format_table(scales))
    new_layers, new_weights = apply(layers, weights, scales)
    write_pair(output, new_layers, new_weights, facts)
    return list(scales)


def check_float(model: Path, layers: Sequence[Layer], weights: Dict[str, Weights]) -> None:
    quantizable = [layer for layer in layers if layer.kind in QUANTIZABLE]
    if not quantizable:
        raise UserError(f"{model}: holds no layer that ncnn has in int8: {', '.join(QUANTIZABLE)}")
    if any(weights[layer.name].values.dtype != np.float32 for layer in quantizable):
        raise UserError(f"{model}: its weights are stored as float16 or int8. Quantize the one that "
                        "backends.ncnn.build --precision fp32 writes")


def collect_ranges(model: Path, layers: Sequence[Layer], rows: Iterable[np.ndarray]) -> Dict[str, Range]:
    """Blob name -> its range, for every blob that a layer which can be int8 reads."""
    from backends.ncnn.backend import Net

    net = Net(model)
    ranges = {layer.inputs[0]: Range() for layer in layers if layer.kind in QUANTIZABLE}
    for row in Progress(rows, desc="calibrating", unit="person"):
        for blob, values in zip(ranges, net.run(np.ascontiguousarray(row, np.float32), list(ranges))):
            ranges[blob].add(values)
    return ranges


def choose_layers(layers: Sequence[Layer], ranges: Dict[str, Range], keep: Sequence[str]) -> List[Layer]:
    """The layers to make int8: all that can be but those of `keep`. Raises UserError for a name that is not there."""
    able = [layer for layer in layers if layer.kind in QUANTIZABLE]
    read = {name for layer in layers for name in layer.inputs}
    maker = {name: layer for layer in layers for name in layer.outputs}
    words = {"upsampled": [layer for layer in able if maker[layer.inputs[0]].kind in UPSAMPLING],
             "heavy": [layer for layer in able if ranges[layer.inputs[0]].outlier > HEAVY],
             "first": able[:1],
             "last": [layer for layer in able if not read.intersection(layer.outputs)],
             "depthwise": [layer for layer in able if layer.kind == "ConvolutionDepthWise"]}
    names = {layer.name for layer in able}
    unknown = [word for word in keep if word not in words and word not in names]
    if unknown:
        raise UserError(f"--keep {unknown[0]}: no such layer in the .param that could be int8. Expected a name such as "
                        f"{able[0].name}, or {', '.join(words)}")
    kept = {name for word in keep for name in ([layer.name for layer in words[word]] if word in words else [word])}
    chosen = [layer for layer in able if layer.name not in kept]
    if not chosen:
        raise UserError(f"--keep leaves none of {len(able)} layers to make int8. Keep fewer")
    return chosen


def scales_of(layer: Layer, weights: Weights, collected: Range, method: str, weight_bits: int) -> Scales:
    """As ncnn2table computes them, in float32."""
    channels = layer.number(QUANTIZABLE[layer.kind][2])
    largest = np.abs(weights.values.reshape(channels, -1)).max(axis=1)
    is_winograd = layer.kind == "Convolution" and all(
        layer.number(key, default) == value for key, default, value in
        (("1", 0, 3), ("11", layer.number("1"), 3), ("2", 1, 1), ("12", layer.number("2", 1), 1), ("3", 1, 1),
         ("13", layer.number("3", 1), 1)))
    levels = WINOGRAD_LEVELS if is_winograd and weight_bits == 6 else LEVELS
    return Scales(np.float32(LEVELS / threshold(collected, method)),
                  np.float32(levels) / np.where(largest > 0, largest, np.float32(levels)))


def apply(layers: Sequence[Layer], weights: Dict[str, Weights],
          scales: Dict[str, Scales]) -> Tuple[List[Layer], Dict[str, Weights]]:
    """Copies of the layers and their weights in which those of `scales` are int8."""
    new_layers, new_weights = [], dict(weights)
    for layer in layers:
        if layer.name in scales:
            weight_scales = scales[layer.name].weights
            values = weights[layer.name].values.reshape(len(weight_scales), -1) * weight_scales[:, None]
            rounded = np.trunc(values + np.copysign(np.float32(0.5), values))  # as C's round(): halves away from 0
            new_weights[layer.name] = Weights(
                np.clip(rounded, -LEVELS, LEVELS).astype(np.int8).ravel(),
                np.concatenate([weights[layer.name].rest, weight_scales, [scales[layer.name].input]]))
            term = "1" if layer.kind == "ConvolutionDepthWise" else "2"
            layer = Layer(layer.kind, layer.name, layer.inputs, layer.outputs, {**layer.params, INT8_TERM: term})
        new_layers.append(layer)
    return new_layers, new_weights


def format_table(scales: Dict[str, Scales]) -> bytes:
    """ncnn2table's text: the scales of each layer's weights, then those of the inputs."""
    rows = [f"{name}_param_0 " + " ".join(f"{value:.9g}" for value in layer.weights) for name, layer in scales.items()]
    rows += [f"{name} {layer.input:.9g}" for name, layer in scales.items()]
    return ("\n".join(rows) + "\n").encode()


def main() -> None:
    args = parse_args()
    model, output = param_path(args.model), param_path(args.output)
    bins = BinReader(Path(args.calibration), load_spec(args.cfg))
    keep = args.keep + (Path(args.keep_list).read_text().split() if args.keep_list else [])
    numbers = spread(bins, args.people)
    facts = {"float": str(model), "float_sha256": read_facts(model).get("bin_sha256") or sha256_of_file(bin_of(model)),
             "bins": sha256_of_rows([(bins.origin(), numbers)]), "method": args.method, "keep": keep,
             "people": sum(bins.rows[number] for number in numbers), "weight_bits": args.weight_bits,
             "command": shlex.join(["python3", "-m", "backends.ncnn.quantize", *sys.argv[1:]])}
    make_folder(output.parent)
    with hold(output), reading(model):
        if is_made(output, facts):
            print(f"{output}: kept, of the same model, bins and settings")
            return
        rows = (row for number in numbers for row in bins.read(range(number, number + 1)))
        chosen = quantize(model, output, rows, args.method, keep, args.weight_bits, facts)
    able = sum(layer.kind in QUANTIZABLE for layer in read_param(model))
    sizes = bin_of(output).stat().st_size, bin_of(model).stat().st_size
    print(f"{output}: {len(chosen)} of {able} layers in int8, {sizes[0]} bytes instead of {sizes[1]}")


if __name__ == "__main__":
    sys.exit(exit_code(main))
