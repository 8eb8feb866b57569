"""Networks and weights that several tests of the detector share."""
from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Dict, List

import numpy as np

from detection.blocks import Convolution, Network

SPP_CFG = Path(__file__).resolve().parent.parent / "configs" / "yolov3-spp.cfg"


def conv(filters: int, size: int, stride: int = 1, activation: str = "leaky", groups: int = 1) -> str:
    return (f"[convolutional]\nbatch_normalize=1\nfilters={filters}\nsize={size}\nstride={stride}\npad=1\n"
            f"activation={activation}\n") + (f"groups={groups}\n" if groups > 1 else "")


def head(mask: str, classes: int = 80, activation: str = "linear", options: str = "") -> str:
    filters = (mask.count(",") + 1) * (5 + classes)
    return (f"[convolutional]\nsize=1\nstride=1\npad=1\nfilters={filters}\nactivation={activation}\n"
            f"[yolo]\nmask = {mask}\nanchors = 10,14,  23,27,  37,58,  81,82,  135,169,  344,319\nclasses={classes}\n"
            f"num=6\njitter=.3\nignore_thresh = .7\ntruth_thresh = 1\nrandom=1\n{options}")


def pool(size: int, stride: int) -> str:
    return f"[maxpool]\nsize={size}\nstride={stride}\n"


def route(*layers: int, options: str = "") -> str:
    return f"[route]\nlayers={','.join(map(str, layers))}\n{options}"


NET = "[net]\nwidth=96\nheight=64\n"


def tiny_v4_cfg() -> str:
    """yolov4-tiny with an eighth of its channels: half of a block's channels go their own way, and come back."""
    body = conv(4, 3, 2) + conv(8, 3, 2) + conv(8, 3)
    for filters in (4, 8, 16):
        body += route(-1, options="groups=2\ngroup_id=1\n") + conv(filters, 3) + conv(filters, 3) + route(-1, -2)
        body += conv(2 * filters, 1) + route(-6, -1) + pool(2, 2) + conv(4 * filters, 3)
    body += conv(32, 1) + conv(64, 3) + head("3,4,5", options="scale_x_y = 1.05\nnms_kind=greedynms\nbeta_nms=0.6\n")
    body += route(-4) + conv(16, 1) + "[upsample]\nstride=2\n" + route(-1, 23) + conv(32, 3)
    return NET + body + head("0,1,2", options="scale_x_y = 1.05\n")


def v4_cfg(squared: bool = False) -> str:
    """What yolov4 is made of: Mish, cross stages with shortcuts, pools side by side, a scale for each head. With
    `squared`, yolov4-csp's heads."""
    body, activation, options = conv(8, 3, activation="mish"), "linear", "scale_x_y = 1.2\n"
    if squared:
        activation, options = "logistic", "scale_x_y = 2.0\nnew_coords=1\n"
    for filters in (8, 16, 24):
        body += conv(filters, 3, 2, "mish") + conv(filters // 2, 1, activation="mish") + route(-2)
        body += conv(filters // 2, 1, activation="mish") + conv(filters // 2, 3, activation="mish")
        body += "[shortcut]\nfrom=-2\nactivation=linear\n" + conv(filters // 2, 1, activation="mish") + route(-1, -6)
    body += conv(24, 1) + pool(5, 1) + route(-2) + pool(9, 1) + route(-4) + pool(13, 1) + route(-1, -3, -5, -6)
    body += conv(32, 3, 2) + head("3,4,5", 2, activation, options)
    body += route(-3) + conv(32, 1) + head("0,1,2", 2, activation, options.replace("1.2", "1.05"))
    return NET + body


def fastest_cfg() -> str:
    """What Yolo-Fastest is made of: a convolution per channel, and dropout before a shortcut."""
    body = conv(8, 3, 2)
    for filters in (16, 24, 32):
        body += conv(filters, 1) + conv(filters, 3, 2, groups=filters) + conv(8, 1, activation="linear")
        body += conv(filters, 1) + conv(filters, 5, groups=filters) + conv(8, 1, activation="linear")
        body += "[dropout]\nprobability=.15\n[shortcut]\nfrom=-5\nactivation=linear\n"
    body += pool(3, 1) + route(-2) + pool(5, 1) + route(-1, -3) + conv(24, 1)
    return NET + body + head("0,1,2", 1, options="scale_x_y = 1.0\n")


def tiny_cfg(classes: int = 80, width: int = 96, height: int = 64) -> str:
    """yolov3-tiny with a quarter of its channels."""
    body = "".join(conv(filters, 3) + pool(2, 2) for filters in (4, 8, 16, 32, 64))
    body += conv(128, 3) + pool(2, 1) + conv(256, 3) + conv(64, 1) + conv(128, 3) + head("3,4,5", classes)
    body += "[route]\nlayers = -4\n" + conv(32, 1) + "[upsample]\nstride=2\n[route]\nlayers = -1, 8\n"
    body += conv(64, 3) + head("0,1,2", classes)
    return f"[net]\n# training\nbatch=64\nwidth={width}\nheight={height}\nchannels=3\nlearning_rate=0.001\n\n{body}"


def narrow_spp_cfg(width: int = 96, height: int = 64, pools: bool = True) -> str:
    """The shipped cfg with an eighth of its channels; without `pools`, those of SPP do nothing: yolov3's own graph."""
    text = re.sub(r"filters=(\d+)", lambda found: found[0] if found[1] == "255" else f"filters={int(found[1]) // 8}",
                  SPP_CFG.read_text())
    text = text.replace("width=608", f"width={width}").replace("height=608", f"height={height}")
    return text if pools else re.sub(r"(\[maxpool\]\nstride=1\nsize=)\d+", r"\g<1>1", text)


def random_weights(network: Network, seed: int = 0) -> List[Dict[str, np.ndarray]]:
    """Activations keep about their size from block to block, and batch norm does something in each.

    Variances of about 10 make nothing of the 1e-5 that torch adds to them and the 1e-6 that OpenCV does.
    """
    rng = np.random.default_rng(seed)
    values = {"bias": lambda shape: rng.normal(0, 0.3, shape), "scale": lambda shape: rng.uniform(0.6, 1.2, shape),
              "mean": lambda shape: rng.normal(0, 0.3, shape), "variance": lambda shape: rng.uniform(5, 15, shape),
              "kernel": lambda shape: rng.normal(0, np.sqrt(10 / np.prod(shape[1:])), shape)}
    return [{name: values[name](shape).astype(np.float32) for name, shape in block.layout().items()}
            for block in network.convolutions]


def recipe_b(network: Network) -> List[Dict[str, np.ndarray]]:
    """Weights of yolov3-spp as golden/README.md describes them."""
    weights = []
    for index, block in enumerate(network.blocks):
        if isinstance(block, Convolution):
            names = RECIPE_NAMES if block.batch_normalize else {"bias": "conv_bias", "kernel": "conv_weight"}
            weights.append({name: recipe_b_array(index, names[name], shape) for name, shape in block.layout().items()})
    return weights


RECIPE_NAMES = {"bias": "bn_bias", "scale": "bn_weight", "mean": "bn_mean", "variance": "bn_var",
                "kernel": "conv_weight"}
RECIPE_OBJECTNESS = {88: -2.8, 100: -6.3, 112: -2.85}  # of the heads


def recipe_b_array(index: int, name: str, shape: tuple) -> np.ndarray:
    random = np.random.RandomState(zlib.crc32(f"yolo.{index}.{name}".encode()))
    if name == "bn_var":
        return (0.75 + 0.5 * random.random_sample(shape)).astype(np.float32)
    values = random.standard_normal(shape)
    if name == "bn_weight":
        values = (0.7 if index < 75 else 1.0) * (1 + 0.1 * values)
    elif name in ("bn_bias", "bn_mean", "conv_bias"):
        values = 0.1 * values
    else:
        values = np.sqrt(2 / 1.01 / np.prod(shape[1:])) * values
    if index in RECIPE_OBJECTNESS:
        rows = values.reshape(3, 85, *shape[1:])
        if name == "conv_weight":
            rows *= 0.06
            rows[:, 2:4] *= 0.5
        else:
            rows[:, 4] += RECIPE_OBJECTNESS[index]
            rows[:, 5] += 4.5
    return values.astype(np.float32)
