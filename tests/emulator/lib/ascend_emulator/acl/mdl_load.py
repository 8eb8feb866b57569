"""acl.mdl: models in memory."""
from __future__ import annotations

import ctypes
import os
from typing import Any, Tuple

from .. import om
from ..chips import find_chip
from ..machine import machine
from . import codes
from .codes import AclError
from .state import NOTHING, STATE, api
from .streams import busy_elsewhere


class Loaded:
    """A model on a device. `gear` is the batch of its last execution or set_dynamic_batch_size."""

    def __init__(self, model: om.Model, context: Any):
        self.model, self.context, self.gear, self.running = model, context, None, False


def _load(data: bytes, origin: str) -> int:
    try:
        model = om.Model(data)
    except om.NotAModel:
        raise AclError(codes.DESERIALIZE, f"EH9999: {origin} is not an offline model") from None
    chip, built_for = machine().chip, model.facts["soc"]
    if find_chip(built_for) is None or find_chip(built_for).short != chip.short:
        raise AclError(codes.SOC_VERSION, "EE1001: The argument is invalid. Reason: model and runtime soc version do "
                                          f"not match, supported socVersion={machine().soc}, but the model socVersion="
                                          f"{built_for}")
    if om.version_key(model.facts["cann"]) > om.version_key(machine().cann):
        raise AclError(codes.GE_LOAD, f"E19999: {origin} was built by CANN {model.facts['cann']}, newer than "
                                      f"{machine().cann} here")
    try:
        model.session()
    except Exception as error:  # onnxruntime's errors share no base class
        raise AclError(codes.PARSE_MODEL, f"EH9999: {origin} cannot be read: {error}") from None
    number = next(STATE.model_numbers)
    STATE.models[number] = Loaded(model, STATE.current())
    return number


@api("value", 0)
def load_from_file(path: str) -> int:
    STATE.current()
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise AclError(codes.GE_PATH, f"E10410: {path} cannot be opened: {error.strerror}") from None
    return _load(data, path)


@api("value", 0)
def load_from_mem(address: int, size: int) -> int:
    STATE.current()
    if address == 0 or size <= 0:
        raise AclError(codes.INVALID_PARAM, "EH0001: null pointer")
    return _load(ctypes.string_at(address, size), f"{size} bytes of memory")


@api("value", 0)
def load_from_file_with_mem(path: str, work: int, work_size: int, weight: int, weight_size: int) -> int:
    """Into memory of the program, which must be as large as query_size says."""
    model, code = load_from_file(path)
    if code:
        raise AclError(code, STATE.message or "")
    facts = STATE.models[model].model.facts
    for address, size, needed in ((work, work_size, facts["work_size"]), (weight, weight_size, facts["weight_size"])):
        memory = STATE.find(address)
        if size < needed or memory is None or address + size > memory.address + memory.size:
            del STATE.models[model]
            raise AclError(codes.GE_PARAM, f"E19999: {size} bytes at {address:#x} are not the {needed} that are needed")
    return model


@api("tuple", (0, 0))
def query_size(path: str) -> Tuple[int, int]:
    """Bytes of work space and of weights."""
    if not os.path.isfile(path):
        raise AclError(codes.GE_PATH, f"E10410: {path} cannot be opened")
    try:
        facts = om.read(path).facts
    except om.NotAModel:
        raise AclError(codes.DESERIALIZE, f"EH9999: {path} is not an offline model") from None
    return facts["work_size"], facts["weight_size"]


def loaded_model(number: int, code: int = codes.GE_MODEL_ID) -> Loaded:
    if number not in STATE.models:
        raise AclError(code, f"E19999: model id {number} is not loaded")
    return STATE.models[number]


def check_context(loaded: Loaded) -> None:
    if loaded.context is not STATE.current():
        raise AclError(codes.RT_OTHER_CONTEXT, "EE1001: load, execute and unload of a model must be in one context")


@api("ret")
def unload(model: int) -> object:
    check_context(loaded_model(model))
    if busy_elsewhere(model, None):
        raise AclError(codes.EXECUTION, f"EE9999: model {model} is unloaded while it is being executed")
    del STATE.models[model]
    return NOTHING
