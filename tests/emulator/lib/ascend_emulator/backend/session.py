"""aclruntime.InferenceSession over the emulated acl."""
from __future__ import annotations

import dataclasses
import time
from typing import Any, Dict, List, Optional, Tuple

from .. import acl, om
from . import console
from .execution import execute
from .failures import GENERAL, INVALID_PARAM, Failure, check_failed, expect
from .process import Process
from .tensors import BaseTensor, DeviceMemory, Tensor, dtype, float32, read_files, to_device

STATIC, BATCH = "static", "batch"


class session_options:  # noqa: N801  its public name
    def __init__(self) -> None:
        self.loop, self.log_level, self.acl_json_path = 1, console.INFO, ""


@dataclasses.dataclass
class tensor_desc:  # noqa: N801  its public name
    name: str = ""
    datatype: dtype = dtype.float32
    format: int = om.ND
    shape: List[int] = dataclasses.field(default_factory=list)
    size: int = 0
    realsize: int = 0


class sumary:  # noqa: N801  its public name
    def __init__(self) -> None:
        self.exec_time_list: List[Any] = []


class Session:
    """What both generations have; `process` is set by their modules."""
    process: Process

    def __init__(self, path: str, device: int, options: Optional[session_options] = None):
        self._alive = False
        self._options, self._device, self._path = options or session_options(), device, path
        console.set_level(self._options.log_level)
        self.context = self.process.open(device)
        self._load()
        self._times, self._mode, self._custom_sizes = sumary(), STATIC, []
        self._zero = time.time()
        self._alive = True
        self.process.sessions.add(self)

    def _load(self) -> None:
        self._id, code = acl.mdl.load_from_file(self._path)
        try:
            expect(code, f"load model from file failed, model file is {self._path}", fails_with=INVALID_PARAM)
        except Failure as failure:
            failed = check_failed("processModel->LoadModelFromFile(modelPath)", failure.code)
            console.say(console.WARN, "no model had been loaded, unload failed")  # as the model's own destructor
            raise failed from None
        console.say(console.INFO, f"load model {self._path} success")
        self._desc = acl.mdl.create_desc()
        expect(acl.mdl.get_desc(self._desc, self._id), "get model description failed", fails_with=INVALID_PARAM)
        console.say(console.INFO, "create model description success")
        self._inputs = [self._describe(index, "input") for index in range(acl.mdl.get_num_inputs(self._desc))]
        self._outputs = [self._describe(index, "output") for index in range(acl.mdl.get_num_outputs(self._desc))]
        self._gear_index = next((index for index, tensor in enumerate(self._inputs)
                                 if tensor.name == om.GEAR_INPUT), None)
        self._gear_memory = None
        if self._gear_index is not None:
            self._gear_memory = DeviceMemory(self._inputs.pop(self._gear_index).size)

    def _describe(self, index: int, side: str) -> tensor_desc:
        def ask(what: str) -> Any:
            return getattr(acl.mdl, f"get_{side}_{what}")(self._desc, index)

        size = ask("size_by_index")
        dims = acl.mdl.get_input_dims(self._desc, index) if side == "input" else acl.mdl.get_output_dims(
            self._desc, index)
        return tensor_desc(ask("name_by_index"), dtype(ask("data_type")), ask("format"), dims[0]["dims"], size, size)

    def _use(self) -> None:
        self.process.use(self.context)

    def destroy(self) -> None:
        """Unload; the device stays open."""
        if not self._alive or self.process.finished:
            return
        self._alive = False
        self._use()
        self._gear_memory = None
        expect(acl.mdl.unload(self._id), f"unload model failed, modelId is {self._id}")
        acl.mdl.destroy_desc(self._desc)
        console.say(console.INFO, f"unload model success, model Id is {self._id}")

    def __del__(self) -> None:
        if getattr(self, "_alive", False):
            self.destroy()

    def options(self) -> session_options:
        return self._options

    def get_inputs(self) -> List[tensor_desc]:
        return self._inputs

    def get_outputs(self) -> List[tensor_desc]:
        return self._outputs

    def sumary(self) -> sumary:
        return self._times

    def reset_sumaryinfo(self) -> int:
        self._times.exec_time_list = []
        return 0

    def __str__(self) -> str:
        def rows(tensors: List[tensor_desc]) -> str:
            return "".join(f"  #{number}    {tensor.name}  ({', '.join(map(str, tensor.shape))})  "
                           f"{tensor.datatype.name}  {tensor.size}  {tensor.realsize}\n"
                           for number, tensor in enumerate(tensors))

        return f"<Model>\ndevice:\t{self._device}\ninput:\n{rows(self._inputs)}output:\n{rows(self._outputs)}"

    __repr__ = __str__

    def set_staticbatch(self) -> int:
        self._mode = STATIC
        return 0

    def set_dynamic_batchsize(self, batch: int) -> int:
        gears = acl.mdl.get_dynamic_batch(self._desc)[0]["batch"]
        if not gears:
            console.say(console.ERROR, "the dynamic_batch_size parameter is not specified for model conversion")
        elif batch not in gears:
            console.say(console.ERROR, "the dymBatch parameter is not correct")
            console.say(console.ERROR, "model has dynamic batch size:{" + "".join(f"[{gear}]" for gear in gears)
                        + "}, please set correct dynamic batch size")
        if batch not in gears:
            raise check_failed("processModel->CheckDynamicBatchSize(batchsize, is_dymbatch)", INVALID_PARAM)
        console.say(console.INFO, "check dynamic batch success")
        for tensor in self._inputs:
            if -1 in tensor.shape:
                tensor.realsize = tensor.size * batch // max(gears)
        self._mode, self._batch = BATCH, batch
        return 0

    def set_dynamic_hw(self, width: int, height: int) -> int:
        console.say(console.ERROR, "the dynamic_image_size parameter is not specified for model conversion")
        raise check_failed("processModel->CheckDynamicHWSize(dynamicHW, is_dymHW)", INVALID_PARAM)

    def set_dynamic_dims(self, dims: str) -> int:
        console.write("the dynamic_dims parameter is not specified for model conversion")
        raise Failure(GENERAL)

    def set_dynamic_shape(self, shapes: str) -> int:
        raise RuntimeError("the emulated aclruntime has no dynamic shapes")

    def set_custom_outsize(self, sizes: List[int]) -> int:
        self._custom_sizes = list(sizes)
        return 0

    def create_tensor_from_fileslist(self, desc: tensor_desc, files: List[str]) -> Tensor:
        self._use()
        content = read_files(files, desc.realsize if self._mode == BATCH else desc.size)
        return Tensor.on_device(to_device(content.ctypes.data, content.nbytes), tuple(desc.shape), desc.datatype.name
                                if desc.datatype.name != "double" else "float64", self._device)

    def run(self, output_names: List[str], feeds: Any) -> List[Tensor]:
        """Feeds are BaseTensors (copied to the device first), device Tensors, or Tensors by name."""
        self._use()
        if isinstance(feeds, dict):
            memory = [self._by_name(feeds, tensor) for tensor in self._inputs]
        else:
            memory = [to_device(feed.buf, feed.size) if isinstance(feed, BaseTensor) else feed for feed in feeds]
        sizes = [feed.size if isinstance(feed, DeviceMemory) else feed.nbytes for feed in memory]
        try:
            self._check_sizes(sizes)
        except Failure as failure:
            console.say(console.ERROR, f"Check InVector failed ret:{failure.code}")
            raise
        addresses = [(feed if isinstance(feed, DeviceMemory) else feed._memory).address for feed in memory]
        return self._infer(output_names, list(zip(addresses, sizes)))

    def _by_name(self, feeds: Dict[str, Tensor], tensor: tensor_desc) -> Tensor:
        if len(feeds) != len(self._inputs):
            console.say(console.ERROR, f"intensors size:{len(feeds)} need size:{len(self._inputs)} not match")
            raise Failure(GENERAL)
        if tensor.name not in feeds:
            console.say(console.ERROR, f"intensors i:{self._inputs.index(tensor)} name:{tensor.name} not find")
            raise Failure(GENERAL)
        return feeds[tensor.name]

    def _check_sizes(self, sizes: List[int]) -> None:
        for number, (size, tensor) in enumerate(zip(sizes, self._inputs)):
            if size != tensor.realsize:
                console.say(console.ERROR, f"Check i:{number} name:{tensor.name} in size:{size} "
                                           f"needsize:{tensor.realsize} not match")
                raise Failure(GENERAL)

    def _infer(self, names: List[str], inputs: List[Tuple[int, int]]) -> List[Tensor]:
        if len(inputs) != len(self._inputs):
            console.say(console.WARN, f"intensors in:{len(inputs)} need:{len(self._inputs)} not match")
            console.say(console.ERROR, f"Set InputsData failed ret:{GENERAL}")
            raise Failure(GENERAL)
        if self._gear_memory is not None:
            inputs.insert(self._gear_index, (self._gear_memory.address, self._gear_memory.size))
        sizes = [*self._custom_sizes, *(tensor.size for tensor in self._outputs[len(self._custom_sizes):])]
        gear = (self._gear_index, self._batch) if self._mode == BATCH else None
        memory, times = execute(self._id, inputs, sizes, gear, self._options.loop, self.process.old)
        self._times.exec_time_list += [self._time(*one) for one in times]
        return [self._output(name, memory) for name in names]

    def _time(self, start: float, end: float) -> Any:
        """Milliseconds (old), or start and end since the session began (new), whose float32 step grows with time."""
        if self.process.old:
            return float32(1000 * (end - start))
        return float32(1000 * (start - self._zero)), float32(1000 * (end - self._zero))

    def _output(self, name: str, memory: List[DeviceMemory]) -> Tensor:
        index = [tensor.name for tensor in self._outputs].index(name)
        shape = acl.mdl.get_cur_output_dims(self._desc, index)[0]["dims"]
        kind = self._outputs[index].datatype.name
        return Tensor.on_device(memory[index], tuple(shape), "float64" if kind == "double" else kind, self._device)
