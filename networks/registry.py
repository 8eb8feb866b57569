"""The networks by name, without importing any: the parameters that a config may set, and the module that builds it.

A network's module has `build(spec)`, a torch module with random weights in eval mode, and `load(spec, checkpoint)`, the
same with the weights of a file.
"""
from __future__ import annotations

import importlib
from typing import Any, Dict, NamedTuple

from contract.errors import UserError
from contract.files import PathLike


class Network(NamedTuple):
    """`parameters`: keys of the YAML's MODEL section with their defaults, whose types theirs must be."""

    module: str
    parameters: Dict[str, Any] = {}


# MODEL.TYPE -> network
NETWORKS = {"FastPose": Network("networks.fastpose", {"NUM_LAYERS": 50, "CONV_DIM": 128, "WIDTH": 1.0}),
            "BagTricks": Network("networks.bot", {"NUM_LAYERS": 50, "IBN": False, "NON_LOCAL": False, "LAST_STRIDE": 1,
                                                  "WIDTH": 1.0, "L2": False}),
            "Hourglass": Network("networks.hourglass", {"DEPTH": 5, "STACKS": 1, "WIDTH": 1.0}),
            "darknet": Network("networks.darknet")}


def parameters_of(spec: Any) -> Dict[str, Any]:
    """The parameters of a spec's network: the defaults, and what the spec says of them."""
    return {**NETWORKS[spec.network].parameters, **spec.parameters}


def build_network(spec: Any) -> Any:
    """A torch module with random weights. Raises UserError for a network that is not one of ours."""
    return _module(spec).build(spec)


def load_network(spec: Any, checkpoint: PathLike) -> Any:
    """A torch module with the weights of `checkpoint`, in eval mode on the CPU, float32.

    Raises UserError for a file that is no checkpoint, or the checkpoint of another network.
    """
    return _module(spec).load(spec, checkpoint)


def _module(spec: Any) -> Any:
    if spec.network not in NETWORKS:
        raise UserError(f"MODEL.TYPE is {spec.network}, expected one of {', '.join(NETWORKS)}: only its ONNX file can "
                        "be used here")
    return importlib.import_module(NETWORKS[spec.network].module)
