"""Reading dumps: what a backend left for each bin, checked against the manifest.

A dump holds the heatmaps of its bin's people, (17, h, w) each, float32 or float16, in C order, under the bin's name
with `_0` (output number 0), as ais_bench writes it. A missing, extra, short or non-finite dump is an error.
"""
from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, Optional

import numpy as np

from pose.errors import UserError
from pose.files import read_json
from pose.manifest import Manifest, bins_in, settings_difference

SETTINGS = "settings.json"  # beside the dumps: what made them; infer.py writes it, ais_bench does not
DTYPES = (np.float32, np.float16)


def dump_name(bin_name: str) -> str:
    return bin_name[:-len(".bin")] + "_0.bin"


class DumpReader:
    """The dumps of one folder, all of them there and of the right size."""

    def __init__(self, folder: Path, manifest: Manifest):
        self.folder, self.manifest = folder, manifest
        self.names = [dump_name(name) for name in manifest.bin_names]
        self.shape = manifest.data_config.heatmap_shape
        found = bins_in(folder)
        missing = [name for name in self.names if name not in found]
        if missing:
            raise UserError(f"{folder}: {len(missing)} of {len(self.names)} dumps are missing ({missing[0]}, ...). "
                            "Run the inference again")
        extra = sorted(found.keys() - set(self.names))
        if extra:
            raise UserError(f"{folder}: {len(extra)} dumps more than the manifest's {len(self.names)} "
                            f"({extra[0]}, ...). Is the --manifest that of these dumps?")
        self.settings = self._read_settings()
        self.dtype = next((dtype for dtype in DTYPES if found[self.names[0]] == self._bytes(0, dtype)), np.float32)
        for number, name in enumerate(self.names):
            if found[name] != self._bytes(number, self.dtype):
                rows, (joints, height, width) = manifest.rows(number), self.shape
                raise UserError(f"{os.path.join(folder, name)}: {found[name]} bytes, expected "
                                f"{self._bytes(number, self.dtype)} ({rows} x {joints} x {height} x {width} "
                                f"{np.dtype(self.dtype).name}). Run the inference again, or check --manifest")

    def _bytes(self, number: int, dtype: type) -> int:
        return self.manifest.rows(number) * int(np.prod(self.shape)) * np.dtype(dtype).itemsize

    def _read_settings(self) -> Optional[Dict[str, Any]]:
        """What made the dumps, if it is known; it must have read the bins of this manifest."""
        path = Path(self.folder) / SETTINGS
        if not path.exists():
            return None
        settings = read_json(path, "settings")
        if settings["bins"] is not None:
            difference = settings_difference(self.manifest.settings, settings["bins"])
            if difference:
                raise UserError(f"{self.folder}: dumps of other bins than the manifest's ({difference})")
        return settings

    def read(self, number: int, out: np.ndarray) -> None:
        """Read dump `number` into `out`, (rows, K, h, w) float32. Raises UserError when a value is not finite."""
        path = os.path.join(self.folder, self.names[number])
        values = np.fromfile(path, self.dtype)
        with np.errstate(all="ignore"):
            suspicious = not np.isfinite(values.sum(dtype=np.float32))  # one pass, and no array of booleans
        broken = int((~np.isfinite(values)).sum()) if suspicious else 0
        if broken:
            raise UserError(f"{path}: {broken} of {len(values)} values are NaN or infinite. Did the model overflow "
                            "in float16?")
        out[:] = values.reshape(out.shape)
