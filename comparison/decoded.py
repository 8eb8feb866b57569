"""One pass over the dumps of all results: everything that later steps need of a person, and no heatmap is kept."""
from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import List, Tuple

import numpy as np

from comparison.readings import sensible_reading
from contract.dumps import DumpReader
from contract.errors import UserError
from contract.manifest import Manifest
from contract.progress import Progress
from contract.spec import KEYPOINTS
from pose.decoders import heatmaps_to_keypoints
from pose.metrics import SUMS, peak_cells, tensor_sums
from pose.people import spec_of_dumps

PEOPLE_AT_ONCE = 8  # the stacks of two results this long stay near a core's cache
Readers = List[DumpReader]  # of one result: dumps of the normal and perhaps of the mirrored bins


@dataclasses.dataclass
class Decoded:
    """Of one result's F folders of heatmaps, none of a one-pass model: (F, N, K) highest cells and their values;
    (N, K, 2) keypoints in photo pixels and (N, K) scores; `sums`, (F, N, K, 5), compare it with the first
    result."""

    cells: np.ndarray
    peaks: np.ndarray
    keypoints: np.ndarray
    scores: np.ndarray
    sums: np.ndarray


def measure_dumps(results: List[Readers], manifest: Manifest, flip_shift: str, tolerances: Tuple[float, float],
                  workers: int) -> List[Decoded]:
    """Read every dump of `results` once, the first being the reference, and measure it."""
    people, joints = len(manifest), results[0][0].shape[0]
    specs = [spec_of_dumps(readers[0]) for readers in results]
    counts = [0 if spec.decode == KEYPOINTS else len(readers) for spec, readers in zip(specs, results)]
    decoded = [Decoded(np.empty((count, people, joints), np.int32), np.empty((count, people, joints), np.float32),
                       np.empty((people, joints, 2), np.float32), np.empty((people, joints), np.float32),
                       np.empty((count, people, joints, SUMS))) for count in counts]

    def measure(numbers: range) -> int:
        rows = manifest.rows_of(numbers)
        stacks = [[reader.read_all(numbers) for reader in readers] for readers in results]
        for result, mine, spec, count in zip(decoded, stacks, specs, counts):
            for folder, heatmaps in enumerate(mine[:count]):
                result.cells[folder, rows], result.peaks[folder, rows] = peak_cells(heatmaps)
                if result is not decoded[0] and counts[0]:
                    result.sums[folder, rows] = tensor_sums(stacks[0][folder], heatmaps, *tolerances)
            result.keypoints[rows], result.scores[rows] = heatmaps_to_keypoints(
                mine[0], mine[1] if len(mine) > 1 else None, manifest["crop_xyxy"][rows], spec, flip_shift)
        return rows.stop - rows.start

    with ThreadPoolExecutor(workers) as pool, Progress(total=people, unit="person", desc="compare") as bar:
        for done in pool.map(measure, manifest.chunks(PEOPLE_AT_ONCE)):
            bar.update(done)
    return decoded


def require_finite(reader: DumpReader, workers: int) -> None:
    """Look through all dumps and raise UserError that says how many are not finite, where, and what that means.

    Reading stops at the first such dump anyway; this is for who wants it explained.
    """

    def broken_values(name: str) -> int:
        return int((~np.isfinite(np.fromfile(Path(reader.folder) / name, reader.dtype))).sum())

    with ThreadPoolExecutor(workers) as pool:
        broken = list(pool.map(broken_values, reader.names))
    names = [name for name, count in zip(reader.names, broken) if count]
    if names:
        worst: np.ndarray = np.fromfile(Path(reader.folder) / reader.names[int(np.argmax(broken))], reader.dtype)
        reading = sensible_reading(worst[None]) if reader.dtype == np.float32 else ""
        why = ("Either something overflowed, in float16 beyond 65504, and the layers before it must be kept in "
               "float32; or the network was given other bytes than those of images: look at the bins; or a part of "
               "the dumps is damaged or in another byte order: write them again")
        if reading:
            why = f"Read {reading} they would be finite: write them as float32 of this machine's byte order"
        raise UserError(f"{reader.folder}: {len(names)} of {len(broken)} dumps hold NaN or infinite values "
                        f"({', '.join(names[:4])}{', ...' if len(names) > 4 else ''}; {max(broken)} in the worst). "
                        f"{why}")


def read_people(reader: DumpReader, rows: np.ndarray) -> np.ndarray:
    """Chosen people: (len(rows), K, h, w) float32."""
    batch = reader.manifest.batch
    stacks = {number: reader.read_all(range(number, number + 1)) for number in sorted(set((rows // batch).tolist()))}
    return np.stack([stacks[row // batch][row % batch] for row in rows.tolist()])
