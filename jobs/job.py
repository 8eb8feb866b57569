"""One job: a model on one target at one batch size. The name of every file that it makes is here."""
from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

from contract.room import INT8
from contract.stage import Stage, stage

FLOAT32, UINT8 = "float32", "uint8"
INT8_TARGET = f"-{INT8}"  # ends a target's name, so that one table can hold both: cpu and cpu-int8
CALIBRATION_PHOTOS = 100  # a few hundred people


def without_int8(target: str) -> str:
    return target[:-len(INT8_TARGET)] if target.endswith(INT8_TARGET) else target


@dataclasses.dataclass(frozen=True)
class Job:
    """What is asked for. Paths are absolute, or relative to the project's root, where the stages run.

    `images` and `annotations` stand in place of those of the `dataroot`. `detections` None finds people with `weights`
    or `detector_model`, unless the boxes are `annotated`. People are class `person_class` of the weights, and category
    `person_category` of the detections; None is what these stages take themselves. A `model` runs unchanged and needs
    no checkpoint. `shared_models` is a folder where several jobs build theirs, so that equal ones are built once.
    `only` lists the photos of a job that is a part of another: it gets no score. `label` tells apart jobs in one work
    folder that differ in their boxes or photos, `variant` those that differ in the precision of their models. A model
    of `one_pass` takes bytes, mirrors them itself and gives keypoints. int8 is calibrated on
    `calibration`, photos or bins, unless the `model` is `quantized` already. `cluster` are the options of
    cluster/parts.py, which shares the work of devices out; without Ray there are none. `options` are those of the
    target: device, ...
    """

    target: str
    runner: str
    batch: int
    dataroot: Path
    checkpoint: Path
    cfg: Path
    weights: Path
    yolo_cfg: Path
    work: Path
    images: Optional[Path] = None
    annotations: Optional[Path] = None
    detections: Optional[Path] = None
    person_class: Optional[int] = None
    person_category: Optional[int] = None
    annotated: bool = False
    limit: Optional[int] = None
    only: Optional[Path] = None
    dtype: str = FLOAT32
    model: Optional[Path] = None
    shared_models: Optional[Path] = None
    detector_model: Optional[Path] = None
    calibration: Optional[Path] = None
    quantized: bool = False
    label: str = ""
    variant: str = ""
    flip: bool = True
    one_pass: bool = False
    cluster: Tuple[str, ...] = ()
    options: Dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        return (self.model or self.checkpoint).stem

    @property
    def machine(self) -> str:
        """The target without the precision in its name: cpu for cpu-int8."""
        return without_int8(self.target)

    @property
    def precision(self) -> Optional[str]:
        """The precision that the user asks for, by option or target name. None means the target's default."""
        return INT8 if self.target != self.machine else self.options.get("precision")

    @property
    def suffix(self) -> str:
        """Of files that depend on what a bin holds."""
        return "_uint8" if self.dtype == UINT8 else ""

    @property
    def mirrors(self) -> bool:
        """Whether mirrored bins are made and inferred, too."""
        return self.flip and not self.one_pass

    def suffix_of_onnx(self, suffix: str) -> str:
        """Of an ONNX file that takes bins of this suffix, as pth2onnx.py names it."""
        return ("_one_pass" if suffix else "_one_pass_float32") if self.one_pass else suffix

    @property
    def first_device(self) -> str:
        """Of several, the one that finds people and that models are built on."""
        return self.options.get("device", "0").split(",")[0]

    def bins(self, mirrored: bool = False) -> Path:
        return self.work / f"prep_data{self.suffix}{self.label}{'_flip' if mirrored else ''}"

    @property
    def manifest(self) -> Path:
        return self.bins() / "manifest.json"

    @property
    def models(self) -> Path:
        """The folder of all model files that are made."""
        return self.shared_models or self.work / "models"

    @property
    def exported(self) -> Path:
        """The output path for pth2onnx.py, which names its files after it."""
        return self.models / f"{self.name}.onnx"

    @property
    def onnx(self) -> Path:
        """Of any batch size and float32 crops, exported from the checkpoint."""
        return self.exported.with_name(f"{self.name}{self.suffix_of_onnx('')}.onnx")

    def static_onnx(self, suffix: str = "") -> Path:
        """Of this batch size: the `model` that was given, or what is exported."""
        return self.model or self.exported.with_name(f"{self.name}_bs{self.batch}{self.suffix_of_onnx(suffix)}.onnx")

    @property
    def detector_onnx(self) -> Path:
        """Of one photo at a time."""
        return self.detector_model or self.models / f"{self.weights.stem}_bs1.onnx"

    @property
    def found_people(self) -> Path:
        """The detections file of the target's own detector."""
        return self.work / f"detections_{self.target}.json"

    @property
    def results(self) -> Path:
        return self.work / "results"

    def dumps(self, mirrored: bool = False) -> Path:
        form = "_one_pass" if self.one_pass else self.suffix
        name = f"{self.target}_bs{self.batch}{form}{self.label}{self.variant}"
        return self.results / f"{name}{'_flip' if mirrored else ''}"

    @property
    def unflipped(self) -> str:
        """Of files that depend on whether there is a flip test."""
        return "" if self.flip else "_noflip"

    @property
    def all_dumps(self) -> Tuple[Path, ...]:
        """Of the crops and, for the flip test, of the mirrored ones."""
        return (self.dumps(), self.dumps(True)) if self.mirrors else (self.dumps(),)

    @property
    def score(self) -> Path:
        return Path(f"{self.dumps()}{self.unflipped}_score")

    @property
    def metrics(self) -> Path:
        return self.score / "metrics.json"

    @property
    def verdict(self) -> Path:
        return Path(f"{self.dumps()}{self.unflipped}_verdict.json")

    @property
    def page(self) -> Path:
        return self.work / f"validation_{self.dumps().name}{self.unflipped}.html"

    # The stages that several rooms share; what is different is handed to them.

    def export(self, dtype: str = FLOAT32) -> Tuple[Stage, ...]:
        """The export stages; none if a `model` was given."""
        if self.model:
            return ()
        one_pass = ("--one_pass", *(() if self.flip else ("--no_flip",))) if self.one_pass else ()
        onnx = self.static_onnx("_uint8" if dtype == UINT8 else "")
        return (stage("pth2onnx.py", self.cfg, self.checkpoint, self.exported, "--batch", self.batch, "--dtype", dtype,
                      *one_pass, reads=(self.cfg, self.checkpoint), leaves=(onnx,)),)

    def export_detector(self) -> Tuple[Stage, ...]:
        """The export stages of the detector; none if a `detector_model` was given."""
        if self.detector_model:
            return ()
        onnx = self.models / f"{self.weights.stem}.onnx"
        return (stage("-m", "detection.export", self.yolo_cfg, self.weights, onnx, "--batch", 1,
                      *self.class_of_people(), reads=(self.yolo_cfg, self.weights), leaves=(self.detector_onnx,)),)

    def detect(self, backend: str, *options: Any, model: Optional[Path] = None) -> Stage:
        """People by `model`, or where it is None by the weights."""
        network = ("--model", model) if model else ("--weights", self.weights, *self.class_of_people())
        return self.on_devices("detect.py", "--backend", backend, *network, "--yolo_cfg", self.yolo_cfg, *self.photos(),
                     "--output", self.found_people, *options, *self.limited(), "--replace",
                     reads=(self.dataroot, self.yolo_cfg, network[1]), leaves=(self.found_people,))

    def calibration_bins(self, dtype: str) -> Path:
        """Of the people on the photos of `calibration`, found by the weights; or these bins themselves."""
        assert self.calibration is not None
        if any(self.calibration.glob("*.bin")):
            return self.calibration
        return self.work / "calibration" / f"prep_data{'_uint8' if dtype == UINT8 else ''}"

    def calibrate(self, dtype: str) -> Tuple[Stage, ...]:
        """What makes the bins of `calibration`: nothing where it holds them."""
        bins, photos = self.calibration_bins(dtype), self.calibration
        if bins == photos:
            return ()
        return (stage("preprocess.py", "--dataroot", photos, "--images", photos, "--output", bins, "--output_flip",
                      f"{bins}_flip", "--dtype", dtype, "--cfg", self.cfg, "--weights", self.weights, "--yolo_cfg",
                      self.yolo_cfg, *self.class_of_people(), "--limit", CALIBRATION_PHOTOS, "--replace",
                      reads=(photos, self.cfg, self.weights, self.yolo_cfg), leaves=(bins,)),)

    def quantize(self, form: str, model: Path, dtype: str) -> Tuple[Path, Tuple[Stage, ...]]:
        """The int8 ONNX of a float `model`, in the form that a kind of device wants, and what makes it; the `model`
        itself where int8 was not asked for, or it is int8 already."""
        if self.precision != INT8 or self.quantized:
            return model, ()
        if self.one_pass:
            return self._quantize_one_pass(form, dtype)
        bins, int8 = self.calibration_bins(dtype), self.models / f"{model.stem}_int8_{form}.onnx"
        report = self.work / f"{int8.stem}.html"
        return int8, (*self.calibrate(dtype),
                      stage("quantize.py", model, "--input", bins, "--output", int8, "--target", form, "--cfg",
                            self.cfg, "--report", report, reads=(model, bins, self.cfg), leaves=(int8, report)))

    def _quantize_one_pass(self, form: str, dtype: str) -> Tuple[Path, Tuple[Stage, ...]]:
        """The heatmaps' network in int8, and one pass around it, which stays float."""
        plain = dataclasses.replace(self, one_pass=False, dtype=FLOAT32)
        int8, stages = plain.quantize(form, plain.static_onnx(), FLOAT32)
        model = int8.with_name(f"{int8.stem}_bs{self.batch}{self.suffix_of_onnx(self.suffix)}.onnx")
        flip = () if self.flip else ("--no_flip",)
        return model, (*plain.export(), *stages,
                       stage("pth2onnx.py", self.cfg, int8, int8, "--batch", self.batch, "--dtype", dtype, "--one_pass",
                             *flip, reads=(self.cfg, int8), leaves=(model,)))

    def infer(self, program: Tuple[str, ...], model: Path, mirrored: bool, *options: Any) -> Stage:
        """Dumps of the bins by infer.py or a program that takes its options."""
        bins, dumps = self.bins(mirrored), self.dumps(mirrored)
        return self.on_devices(*program, "--model", model, "--cfg", self.cfg, "--input", bins, "--output", self.results,
                     "--output_dirname", dumps.name, *options, "--replace", reads=(bins, model, self.cfg),
                     leaves=(dumps,))

    def on_devices(self, *command: Any, **files: Any) -> Stage:
        """A stage that each device of a cluster may do a part of."""
        return stage(*(("-m", "cluster.parts", *self.cluster) if self.cluster else ()), *command, **files)

    def class_of_people(self) -> Tuple[Any, ...]:
        """The options for the class of people in the weights, if the user names it."""
        return ("--person_class", self.person_class) if self.person_class is not None else ()

    def photos(self) -> Tuple[Any, ...]:
        """The options for the photos and for the file that says which photo is which."""
        return ("--dataroot", self.dataroot, *(("--images", self.images) if self.images else ()), *self.truth())

    def truth(self) -> Tuple[Any, ...]:
        """The annotations, where they are not those of the dataroot."""
        return ("--annotations", self.annotations) if self.annotations else ()

    def limited(self) -> Tuple[Any, ...]:
        return ("--limit", self.limit) if self.limit else ()
