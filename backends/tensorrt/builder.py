"""TensorRT's builder, 8.6 to 11: an ONNX file in, an engine out, and every None, False and -1 a UserError."""
from __future__ import annotations

import contextlib
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator, Optional

from backends.tensorrt.bindings import make_runtime
from backends.tensorrt.precision import Recipe
from backends.tensorrt.source import Sizes, Source
from contract.errors import UserError
from contract.files import write_file

if TYPE_CHECKING:
    import tensorrt

MIB = 1 << 20
IMPLICIT_BATCH_LAST = 9  # major version up to which a network's batch is explicit by a flag alone


class Builder:
    """The objects of one build. They refer to each other inside TensorRT, so they live and go together."""

    def __init__(self, tensorrt: Any, logger: Any, recipe: Recipe):
        self.tensorrt, self.logger = tensorrt, logger
        try:
            self.builder = tensorrt.Builder(logger)
        except TypeError:  # how the bindings say that the library gave none
            raise self._failure("cannot make a builder") from None
        self.network = self.builder.create_network(network_flags(tensorrt, recipe))
        self.config = self.builder.create_builder_config()
        if self.network is None or self.config is None:
            raise self._failure("cannot make a network")
        for flag in recipe.flags:
            self.config.set_flag(getattr(tensorrt.BuilderFlag, flag))

    def _failure(self, what: str) -> UserError:
        return UserError(f"TensorRT {self.tensorrt.__version__} {what}: {self.logger.text()}")

    def parse(self, model: Path) -> None:
        self.parser = self.tensorrt.OnnxParser(self.network, self.logger)  # kept: the network uses its weights
        if not self.parser.parse_from_file(str(model)):
            reasons = [self.parser.get_error(number).desc() for number in range(self.parser.num_errors)]
            raise self._failure(f"cannot take {model} ({'; '.join(reasons)})")

    def keep_float32(self, start: str) -> None:
        """Layers of nodes whose names begin so compute in float32, where flags would allow less."""
        kind = self.tensorrt.DataType.FLOAT
        for place in range(self.network.num_layers):
            layer: tensorrt.ILayer = self.network.get_layer(place)
            outputs = range(layer.num_outputs)
            if layer.name.startswith(start) and all(layer.get_output(number).dtype == kind for number in outputs):
                layer.precision = kind
                for number in outputs:
                    layer.set_output_type(number, kind)
        self.config.set_flag(self.tensorrt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)

    def set_options(self, tf32: bool, workspace: Optional[int], optimization_level: Optional[int]) -> None:
        """`workspace` is in MiB; None leaves TensorRT's own choice."""
        tensorrt, config = self.tensorrt, self.config
        if not tf32:  # on unless cleared, and then float32 is not what ONNX Runtime calls so
            config.clear_flag(tensorrt.BuilderFlag.TF32)
        if workspace is not None:
            config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, workspace * MIB)
        if optimization_level is not None:
            config.builder_optimization_level = optimization_level

    def set_sizes(self, source: Source, sizes: Sizes) -> Any:
        """The profile of a symbolic batch, which is returned."""
        profile = self.builder.create_optimization_profile()
        shapes = [(size, *source.shape[1:]) for size in sizes]
        try:
            profile.set_shape(source.name, *shapes)
        except ValueError as error:
            raise self._failure(f"refuses the profile {sizes} ({error})") from None
        if self.config.add_optimization_profile(profile) < 0:
            raise self._failure(f"refuses the profile {sizes}")
        if hasattr(self.tensorrt.PreviewFeature, "PROFILE_SHARING_0806"):
            # Off in 8.6, where a profile then serves one context alone, and no two batches overlap.
            self.config.set_preview_feature(self.tensorrt.PreviewFeature.PROFILE_SHARING_0806, True)
        return profile

    def set_calibrator(self, calibrator: Any, profile: Optional[tensorrt.IOptimizationProfile]) -> None:
        self.config.int8_calibrator = calibrator
        if profile is not None and not self.config.set_calibration_profile(profile):
            raise self._failure("refuses the profile for its calibration")

    def use_timing_cache(self, path: Path) -> None:
        cache = self.config.create_timing_cache(path.read_bytes() if path.exists() else b"")
        if cache is None or not self.config.set_timing_cache(cache, ignore_mismatch=False):
            raise self._failure(f"refuses the timing cache {path}. Is it of this TensorRT and GPU? Name another")

    def save_timing_cache(self, path: Path) -> None:
        cache = self.config.get_timing_cache()
        content = cache.serialize() if cache is not None else None
        if content is None:
            raise self._failure("gives no timing cache")
        write_file(path, content)

    def build(self) -> tensorrt.IHostMemory:
        with interruptible():
            engine = self.builder.build_serialized_network(self.network, self.config)
        if engine is None:
            raise self._failure("cannot build this network")
        return engine

    def check(self, engine: tensorrt.IHostMemory) -> None:
        """Refuse an engine that TensorRT itself cannot read, before it is written."""
        runtime: tensorrt.Runtime = make_runtime(self.tensorrt, self.logger)
        if runtime.deserialize_cuda_engine(engine) is None:
            raise self._failure("cannot read the engine that it has built")


def network_flags(tensorrt: Any, recipe: Recipe) -> int:
    """The flags, by the enum's own numbers, which differ between releases."""
    flags = 0
    if int(tensorrt.__version__.split(".")[0]) <= IMPLICIT_BATCH_LAST:
        flags |= 1 << int(tensorrt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
    if recipe.typed:
        flags |= 1 << int(tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    return flags


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the process at once: Python's handlers would wait for TensorRT, which takes minutes."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
