"""acl.mdl: what a model says of itself."""
from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

from .. import om
from . import codes
from .codes import AclError
from .mdl_load import Loaded, loaded_model
from .state import NOTHING, STATE, api

STATIC_AIPP, NO_AIPP = 1, 0
NO_INDEX = 0xFFFFFFFF
GEAR_SHAPE = (1,)


class Desc:
    """A model description; empty until get_desc."""
    loaded: Optional[Loaded] = None


@api("bare", 0)
def create_desc() -> int:
    return STATE.add(Desc())


@api("ret")
def get_desc(desc: int, model: int) -> object:
    STATE.get(desc, Desc).loaded = loaded_model(model, codes.MODEL_ID)
    return NOTHING


@api("ret")
def destroy_desc(desc: int) -> object:
    STATE.drop(desc, Desc)
    return NOTHING


def _described(desc: int) -> Loaded:
    loaded = STATE.get(desc, Desc).loaded
    if loaded is None:
        raise AclError(codes.INVALID_PARAM, "EH0001: the description is empty: call get_desc first")
    return loaded


def inputs_of(model: om.Model) -> List[om.Tensor]:
    """The declared inputs, then the hidden one of the gear."""
    gear = om.Tensor(om.GEAR_INPUT, "int64", GEAR_SHAPE, om.ND)
    return model.inputs + ([gear] if model.gears else [])


def _tensor(desc: int, index: int, side: str) -> Tuple[om.Tensor, Loaded]:
    loaded = _described(desc)
    tensors = inputs_of(loaded.model) if side == "input" else loaded.model.outputs
    if not 0 <= index < len(tensors):
        raise AclError(codes.INVALID_PARAM, f"EH0001: {side} {index} is not one of {len(tensors)}")
    return tensors[index], loaded


@api("bare", 0)
def get_num_inputs(desc: int) -> int:
    return len(inputs_of(_described(desc).model))


@api("bare", 0)
def get_num_outputs(desc: int) -> int:
    return len(_described(desc).model.outputs)


@api("bare", 0)
def get_input_size_by_index(desc: int, index: int) -> int:
    """Bytes; of the largest gear."""
    tensor, loaded = _tensor(desc, index, "input")
    return tensor.nbytes(loaded.model.largest_gear)


@api("bare", 0)
def get_output_size_by_index(desc: int, index: int) -> int:
    tensor, loaded = _tensor(desc, index, "output")
    return tensor.nbytes(loaded.model.largest_gear)


@api("bare", -1)
def get_input_data_type(desc: int, index: int) -> int:
    return om.DTYPES[_tensor(desc, index, "input")[0].dtype]


@api("bare", -1)
def get_output_data_type(desc: int, index: int) -> int:
    return om.DTYPES[_tensor(desc, index, "output")[0].dtype]


@api("bare", -1)
def get_input_format(desc: int, index: int) -> int:
    return _tensor(desc, index, "input")[0].format


@api("bare", -1)
def get_output_format(desc: int, index: int) -> int:
    return _tensor(desc, index, "output")[0].format


@api("bare", "")
def get_input_name_by_index(desc: int, index: int) -> str:
    return _tensor(desc, index, "input")[0].name


@api("bare", "")
def get_output_name_by_index(desc: int, index: int) -> str:
    return _tensor(desc, index, "output")[0].name


@api("value", 0)
def get_input_index_by_name(desc: int, name: str) -> int:
    names = [tensor.name for tensor in inputs_of(_described(desc).model)]
    if name not in names:
        raise AclError(codes.INVALID_PARAM, f"EH0001: there is no input {name}")
    return names.index(name)


def _dims(name: str, shape: Tuple[int, ...]) -> Dict[str, Any]:
    return {"name": name, "dimCount": len(shape), "dims": list(shape)}


@api("value", {})
def get_input_dims(desc: int, index: int) -> Dict[str, Any]:
    tensor = _tensor(desc, index, "input")[0]
    return _dims(tensor.name, tensor.shape)


@api("value", {})
def get_input_dims_v2(desc: int, index: int) -> Dict[str, Any]:
    tensor = _tensor(desc, index, "input")[0]
    return _dims(tensor.name, tensor.shape)


@api("value", {})
def get_output_dims(desc: int, index: int) -> Dict[str, Any]:
    tensor, loaded = _tensor(desc, index, "output")
    return _dims(tensor.name, tensor.dims(loaded.model.largest_gear))


@api("value", {})
def get_cur_output_dims(desc: int, index: int) -> Dict[str, Any]:
    """Of the gear that was set last, of the largest before."""
    tensor, loaded = _tensor(desc, index, "output")
    return _dims(tensor.name, tensor.dims(om.gear_of(loaded.gear, loaded.model)))


@api("value", {})
def get_dynamic_batch(desc: int) -> Dict[str, Any]:
    gears = _described(desc).model.gears
    return {"batchCount": len(gears), "batch": list(gears)}


@api("value", {})
def get_dynamic_hw(desc: int, index: int) -> Dict[str, Any]:
    _described(desc)
    return {"hwCount": 0, "hw": []}


@api("value", 0)
def get_input_dynamic_gear_count(desc: int, index: int) -> int:
    """Of dynamic dims, which the emulated atc does not build; a model with batch gears has none."""
    _described(desc)
    return 0


@api("value", [])
def get_input_dynamic_dims(desc: int, index: int, count: int) -> List[Any]:
    _described(desc)
    return []


@api("tuple", (NO_AIPP, NO_INDEX))
def get_aipp_type(model: int, index: int) -> Tuple[int, int]:
    static = str(index) in loaded_model(model).model.facts["aipp"]
    return (STATIC_AIPP if static else NO_AIPP), NO_INDEX


@api("value", {})
def get_first_aipp_info(model: int, index: int) -> Dict[str, Any]:
    fields = loaded_model(model).model.facts["aipp"].get(str(index))
    if fields is None:
        raise AclError(codes.INVALID_PARAM, f"EH0001: input {index} has no AIPP")
    return dict(fields)
