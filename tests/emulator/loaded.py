"""What the tests of the emulated pyACL share: small models, and one of them loaded with its buffers."""
from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Iterable, Tuple

import numpy as np

from tests.emulator.local import build_om

H2D, D2H, D2D = 1, 2, 3
SHAPE = (3, 64, 48)
FLOATS = 3 * 64 * 48


def build_models(folder: Path, patch_model: Any) -> SimpleNamespace:
    """Of batch 4, with gears 1, 2 and 4, with float16 outputs, and for another chip."""
    static, symbolic = patch_model(folder / "m4.onnx", 4), patch_model(folder / "m.onnx")
    return SimpleNamespace(
        bs4=build_om(static, folder / "bs4", "image:4,3,64,48"),
        gears=build_om(symbolic, folder / "gears", "image:-1,3,64,48", dynamic_batch_size="1,2,4"),
        half=build_om(static, folder / "half", "image:4,3,64,48", output_type="FP16"),
        other_chip=build_om(static, folder / "a2", "image:4,3,64,48", soc_version="Ascend910B"))


class Loaded:
    """A model with one data set each way, as a program would have it."""

    def __init__(self, acl: Any, path: Path):
        self.acl = acl
        self.id, code = acl.mdl.load_from_file(str(path))
        assert code == 0, acl.get_recent_err_msg()
        self.desc = acl.mdl.create_desc()
        assert acl.mdl.get_desc(self.desc, self.id) == 0
        self.sizes = [acl.mdl.get_input_size_by_index(self.desc, index)
                      for index in range(acl.mdl.get_num_inputs(self.desc))]
        self.out_size = acl.mdl.get_output_size_by_index(self.desc, 0)
        self.device = [acl.rt.malloc(size, 0)[0] for size in [*self.sizes, self.out_size]]
        self.inputs = self.dataset(zip(self.device, self.sizes))
        self.outputs = self.dataset([(self.device[-1], self.out_size)])

    def dataset(self, buffers: Iterable[Tuple[int, int]]) -> int:
        dataset = self.acl.mdl.create_dataset()
        for address, size in buffers:
            assert self.acl.mdl.add_dataset_buffer(dataset, self.acl.create_data_buffer(address, size))[1] == 0
        return dataset

    def feed(self, rows: np.ndarray) -> None:
        data = np.ascontiguousarray(rows, np.float32)
        assert self.acl.rt.memcpy(self.device[0], self.sizes[0], data.ctypes.data, data.nbytes, H2D) == 0

    def read(self, shape: Tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
        result = np.empty(shape, dtype)
        assert self.acl.rt.memcpy(result.ctypes.data, result.nbytes, self.device[-1], result.nbytes, D2H) == 0
        return result

    def close(self) -> None:
        for dataset in (self.inputs, self.outputs):
            for index in range(self.acl.mdl.get_dataset_num_buffers(dataset)):
                self.acl.destroy_data_buffer(self.acl.mdl.get_dataset_buffer(dataset, index))
            self.acl.mdl.destroy_dataset(dataset)
        for address in self.device:
            self.acl.rt.free(address)
        self.acl.mdl.destroy_desc(self.desc)
        self.acl.mdl.unload(self.id)


def rows(count: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, *SHAPE)).astype(np.float32)


def close_to(came: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(came, expected, atol=2e-5)
