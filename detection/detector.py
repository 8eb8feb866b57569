"""People in a folder of photos, found by a YOLOv3 network on any backend.

Photos are decoded and letterboxed by threads while the network runs. What is found in one depends neither on the
others of its batch nor on where a run was stopped.
"""
from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Deque, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Union

import cv2
import numpy as np

from backends.rooms import is_emulated, open_backend
from contract.backend import Backend, check_backend, infer_rows
from contract.bins import share_of
from contract.errors import UserError
from contract.files import PathLike, make_folder, sha256_of_file, sha256_of_rows, write_file
from contract.locks import hold
from contract.onnx_file import sha256_of_model
from contract.progress import Progress
from detection.blocks import Network
from detection.darknet import read_weights
from detection.decoding import Thresholds, anchor_rows, find_people
from detection.detections_file import Key, Results
from detection.letterbox import Size, boxes_to_photograph, letterbox, network_input
from detection.spec import DetectorSpec, load_spec
from pose.coco import PERSON
from pose.photos import Photos, is_number, read_photograph

SPP_CFG = Path(__file__).resolve().parent.parent / "configs" / "yolov3-spp.cfg"
WORKERS = min(4, os.cpu_count() or 1)  # a photo takes some milliseconds: more threads only hold memory


@dataclasses.dataclass(frozen=True)
class Detector:
    """A network and where it runs: a darknet cfg with its weights, or with the file that a backend's builder made of
    them. `batch` photos at a time; None is what the file was made for, or 1."""

    weights: Optional[PathLike] = None
    model: Optional[PathLike] = None
    cfg: PathLike = SPP_CFG
    backend: str = "onnxruntime"
    device: Optional[str] = None
    batch: Optional[int] = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # of the backend, such as its precision
    person_class: Optional[int] = None  # counted from 0, of weights; a model file was made for one

    def spec(self) -> DetectorSpec:
        """What the cfg says, with the class of people."""
        spec = load_spec(self.cfg)
        if self.model is None:
            return dataclasses.replace(spec, layers=spec.layers.of_person(self.person_class))
        if self.person_class is not None:
            raise UserError("--person_class goes with --weights; a --model keeps the one that it was exported with")
        return spec

    def origin(self) -> Dict[str, Any]:
        """The settings that its results depend on. Batch size and device number are not among them, because they do not
    change results."""
        kind, path = ("weights", self.weights) if self.weights else ("model", self.model)
        if path is None or (self.weights and self.model):
            raise UserError("give the detector either its --weights or a --model file made of them")
        person = self.spec().layers.heads[0].person
        return {"cfg_sha256": sha256_of_file(self.cfg), f"{kind}_sha256": sha256_of_model(path),
                "backend": self.backend, "options": dict(self.options) or None,
                "emulated": is_emulated(self.backend) or None,
                **({"person_class": person} if person else {})}


@dataclasses.dataclass(frozen=True)
class Photograph:
    image_id: int
    path: Path
    size: int  # bytes
    file_name: Optional[str] = None  # where it does not say the id

    @property
    def key(self) -> Key:
        return self.image_id, self.size


class Letterboxed(NamedTuple):
    photograph: Photograph
    size: Size
    tensor: np.ndarray  # (3, height, width) float32


def detect_folder(images: Union[Photos, PathLike], output: PathLike, detector: Detector,
                  thresholds: Thresholds = Thresholds(), skip_unreadable: bool = False, limit: Optional[int] = None,
                  replace: bool = False, part: str = "0/1") -> None:
    """Write the people on every photo of `images`, or the first `limit`, to `output` (COCO results JSON), and
    beside it how they were found. Run again after an interruption, it continues; when all is there, it does nothing.
    Of `part` K/N it does part K, from 0, of N; the part that ends last joins them in `output`.

    Raises UserError rather than keep detections of other settings, weights or photos, unless they are to be
    replaced.
    """
    photographs, spec = find_photographs(images)[:limit], detector.spec()
    settings = {**detector.origin(), **dataclasses.asdict(thresholds)}
    if any(photograph.file_name for photograph in photographs):  # ids follow from the names, so they are settings too
        settings["ids"] = sha256_of_rows((photograph.image_id, photograph.path.name) for photograph in photographs)
    make_folder(Path(output).absolute().parent)
    number, count = map(int, part.split("/"))
    whole = Results(output, settings)
    mine = whole if count == 1 else Results(f"{output}.part{number}of{count}", settings)
    with hold(output):
        if _is_kept(whole, photographs, skip_unreadable, replace):
            return
        if count == 1:
            _detect(photographs, spec, whole, detector, thresholds, skip_unreadable)
    if count > 1:
        with hold(mine.output):
            share = share_of(photographs, number, count)
            if not _is_kept(mine, share, skip_unreadable, replace):
                _detect(share, spec, mine, detector, thresholds, skip_unreadable)
        _join(whole, photographs, count, skip_unreadable)


def _is_kept(results: Results, photographs: List[Photograph], skip_unreadable: bool, replace: bool) -> bool:
    """Whether all is there. What is there of a part is read; of other settings it is removed if it may be."""
    try:
        finished = results.finished(fingerprint_photographs(photographs), skip_unreadable)
        results.resume()
    except UserError:
        if not (replace and results.made_here()):
            raise
        results.remove()
        finished = False
    if finished:
        print(f"{results.output}: kept, of the same photos, weights and settings")
    return finished


def _join(whole: Results, photographs: List[Photograph], count: int, skip_unreadable: bool) -> None:
    """Make the output of all parts, if this one is the last."""
    parts = [Results(f"{whole.output}.part{number}of{count}", whole.settings) for number in range(count)]
    with hold(whole.output):
        if all(part.finished(fingerprint_photographs(share_of(photographs, number, count)), skip_unreadable)
               for number, part in enumerate(parts)):
            people = whole.join(parts, {"photographs": len(photographs),
                                        "photographs_sha256": fingerprint_photographs(photographs)})
            print(f"{whole.output}: {people} people, joined of {count} parts")


def _detect(photographs: List[Photograph], spec: DetectorSpec, results: Results, detector: Detector,
            thresholds: Thresholds, skip_unreadable: bool) -> None:
    """Fill `results`, and go on with what is there."""
    output, fingerprint = results.output, fingerprint_photographs(photographs)
    left = [photograph for photograph in photographs if photograph.key not in results.found]
    unreadable: List[str] = []
    cv2.setNumThreads(1)  # the workers use the cores
    with open_detector(detector, spec) as backend, Progress(
            total=len(photographs), initial=len(photographs) - len(left), unit="photo", desc="detect") as bar:
        groups = read_ahead(left, spec.layers, batch_of(backend, detector), unreadable if skip_unreadable else None)
        for found in detect_groups(groups, backend, spec.layers, thresholds):
            results.add(found)
            bar.update(len(found))
        facts = {"photographs": len(photographs), "photographs_sha256": fingerprint, "unreadable": unreadable,
                 "device": backend.describe()}
    people = results.finish([photograph.key for photograph in photographs], facts)
    print(f"{output}: {people} people on {len(photographs) - len(unreadable)} photos")
    if unreadable:
        print(f"left out, {len(unreadable)} unreadable: {', '.join(unreadable)}")


def find_photographs(images: Union[Photos, PathLike]) -> List[Photograph]:
    """The photos of a folder by ascending id, as `Photos` names them; rows of those whose file name is not their id
    say the name."""
    photos = images if isinstance(images, Photos) else Photos(images)
    photographs = []
    for image_id, path in photos.all().items():
        says_id = is_number(path.stem) and int(path.stem) == image_id
        name = None if says_id else path.relative_to(photos.folder).as_posix()
        photographs.append(Photograph(image_id, path, path.stat().st_size, name))
    return photographs


def fingerprint_photographs(photographs: Sequence[Photograph]) -> str:
    """Digest of their names and sizes."""
    return sha256_of_rows((photograph.path.name, photograph.size) for photograph in photographs)


@contextlib.contextmanager
def open_detector(detector: Detector, spec: DetectorSpec) -> Iterator[Backend]:
    """The network on its backend. Raises UserError when the model file's shapes are not those of the cfg."""
    with _model_file(detector, spec.layers) as model:
        backend = open_backend(detector.backend, model, detector.device, spec, **detector.options)
    check_backend(backend, model, spec)
    try:
        yield backend
    finally:
        backend.close()


@contextlib.contextmanager
def _model_file(detector: Detector, network: Network) -> Iterator[PathLike]:
    """What the backend opens: the model, or, where there is none, what can be made of the weights on the spot."""
    if detector.model is not None:
        yield detector.model
    elif detector.backend == "pytorch" and detector.weights:
        yield detector.weights
    elif detector.backend == "onnxruntime" and detector.weights:
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "detector.onnx")
            write_file(path, _onnx_of(detector.weights, network, detector.batch or 1))
            yield path
    else:
        raise UserError(f"--backend {detector.backend} does not read --weights. Make its model file of what "
                        "python3 -m detection.export writes, and give that as --model")


def _onnx_of(weights: PathLike, network: Network, batch: int) -> bytes:
    from detection.onnx_graph import build_onnx  # here, because only this way of many needs the onnx package

    return build_onnx(network, read_weights(weights, network), batch).SerializeToString()


def batch_of(backend: Backend, detector: Detector) -> int:
    """Photos at a time. Raises UserError when the model file was made for another number."""
    static = backend.input_shape[0]
    if static and detector.batch and static != detector.batch:
        raise UserError(f"--batch {detector.batch}, but the model was made for {static} photos at a time. "
                        f"Leave --batch out, or give {static}")
    return static or detector.batch or 1


def read_ahead(photographs: Sequence[Photograph], network: Network, batch: int,
               unreadable: Optional[List[str]]) -> Iterator[List[Letterboxed]]:
    """Groups of `batch` letterboxed photos, the last one shorter, made by threads while the caller works.

    The paths of those that cannot be read are added to `unreadable`; where that is None the first of them raises.
    """
    group: List[Letterboxed] = []
    for job in _in_threads(photographs, network, batch + WORKERS):
        try:
            group.append(job.result())
        except UserError as error:
            if unreadable is None:
                raise UserError(f"{error}. --skip_unreadable goes on without such photos") from None
            unreadable.append(str(error))
            continue
        if len(group) == batch:
            yield group
            group = []
    if group:
        yield group


def _in_threads(photographs: Sequence[Photograph], network: Network, ahead: int) -> Iterator[Future]:
    """One finished or running job a photo, in order, at most `ahead` of them not yet taken."""
    jobs: Deque[Future] = deque()
    with ThreadPoolExecutor(WORKERS) as pool:
        for photograph in photographs:
            jobs.append(pool.submit(read_letterboxed, photograph, (network.width, network.height)))
            if len(jobs) > ahead:
                yield jobs.popleft()
        yield from jobs


def read_letterboxed(photograph: Photograph, size: Size) -> Letterboxed:
    image = read_photograph(photograph.path)
    return Letterboxed(photograph, (image.shape[1], image.shape[0]), network_input(letterbox(image, size)))


def detect_groups(groups: Iterable[List[Letterboxed]], backend: Backend, network: Network,
                  thresholds: Thresholds) -> Iterator[Dict[Key, List[dict]]]:
    """The people on each photo of a group, as records of COCO results, best first."""
    anchors = anchor_rows(network)
    for group in groups:
        outputs = infer_rows(backend, np.stack([item.tensor for item in group]), backend.input_shape[0] or len(group))
        yield {item.photograph.key: people_records(item, find_people(rows, anchors, thresholds), network)
               for item, rows in zip(group, _finite(outputs, group))}


def _finite(outputs: np.ndarray, group: List[Letterboxed]) -> np.ndarray:
    for item, rows in zip(group, outputs):
        if not np.isfinite(rows).all():
            raise UserError(f"{item.photograph.path}: the network's output holds NaN or infinite values. Are these the "
                            "weights of this cfg? In float16, do they need more range?")
    return outputs


def people_records(item: Letterboxed, people: np.ndarray, network: Network) -> List[dict]:
    """(n, 5) people in the letterbox -> COCO results: bbox x, y, width, height in pixels of the photo."""
    boxes = boxes_to_photograph(people[:, :4], (network.width, network.height), item.size)
    boxes[:, 2:] -= boxes[:, :2]  # in float32, as the original
    name = {"file_name": item.photograph.file_name} if item.photograph.file_name else {}
    return [{"category_id": PERSON, "score": score, "bbox": box, "image_id": item.photograph.image_id, **name}
            for score, box in zip(people[:, 4].tolist(), boxes.tolist())]
