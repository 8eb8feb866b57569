"""Builder and its configuration. A build takes no time: what is asked is checked, and kept in the plan."""
from __future__ import annotations

import hashlib
from typing import Any, Dict, List, Optional

from . import plan
from .base import WARNING, Failure, Thing, api
from .calibration import calibrate
from .machine import machine
from .network import INetworkDefinition, IOptimizationProfile, enums_of

GIB = 1 << 30
LEVELS = range(6)
CACHE_MAGIC = b"EMULATED TIMING CACHE "


class IHostMemory(bytes):
    """Has the buffer protocol, as there, and no len()."""

    nbytes = property(lambda self: memoryview(self).nbytes)

    def __len__(self) -> int:
        raise TypeError("object of type 'tensorrt.IHostMemory' has no len()")


class ITimingCache:
    """Knows the ONNX files that were built, each by its digest."""

    def __init__(self, known: List[str]):
        self._known = known

    def serialize(self) -> IHostMemory:
        return IHostMemory(CACHE_MAGIC + _here().encode() + b" " + " ".join(self._known).encode())


def _here() -> str:
    here = machine()
    return f"{here.tensorrt}/{here.gpu.replace(' ', '_')}"


class IBuilderConfig(Thing):
    def __init__(self, builder: Thing):
        super().__init__(builder._logger)
        flags = enums_of(machine().major).BuilderFlag
        self._flags = {flags.TF32}  # on unless it is cleared
        self._profiles: List[IOptimizationProfile] = []
        self._previews: Dict[Any, bool] = {}
        self._limits: Dict[Any, int] = {}
        self._cache: Optional[ITimingCache] = None
        self.builder_optimization_level = 3
        if machine().major < 11:
            self.int8_calibrator: Any = None
            self._calibration_profile: Optional[IOptimizationProfile] = None
            self.set_calibration_profile = self._set_calibration_profile

    num_optimization_profiles = property(lambda self: len(self._profiles))

    def set_flag(self, flag: Any) -> None:
        self._flags.add(enums_of(machine().major).BuilderFlag(flag))

    def clear_flag(self, flag: Any) -> None:
        self._flags.discard(enums_of(machine().major).BuilderFlag(flag))

    def get_flag(self, flag: Any) -> bool:
        return flag in self._flags

    def set_preview_feature(self, feature: Any, enable: bool) -> None:
        self._previews[feature] = enable

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        self._limits[pool] = int(pool_size)

    def get_memory_pool_limit(self, pool: Any) -> int:
        return self._limits.get(pool, GIB)

    @api(-1)
    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        if not profile:
            raise Failure("Error Code 3: API Usage Error: the optimization profile is not valid")
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def _set_calibration_profile(self, profile: IOptimizationProfile) -> bool:
        self._calibration_profile = profile
        return True

    @api()
    def create_timing_cache(self, serialized_timing_cache: Any) -> Optional[ITimingCache]:
        content = bytes(serialized_timing_cache)
        if content and not content.startswith(CACHE_MAGIC + _here().encode()):
            raise Failure("Error Code 6: Internal Error: the timing cache is of another version or device")
        return ITimingCache(content.decode().split()[4:])

    @api(False)
    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        self._cache = cache
        return True

    def get_timing_cache(self) -> Optional[ITimingCache]:
        return self._cache


class Builder(Thing):
    def __init__(self, logger: Any):
        if not machine().devices:
            logger.log(logger.Severity.ERROR, "createInferBuilder: Error Code 6: CUDA initialization failure with "
                                              "error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")
        super().__init__(logger)

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        return INetworkDefinition(self, flags)

    @api()
    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig(self)

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    @api(unsafe=True)
    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> IHostMemory:
        flags = sorted(flag.name for flag in config._flags)
        self._check(network, config, flags)
        scales = self._ranges(network, config) if "INT8" in flags else None
        if config._cache is not None:
            config._cache._known.append(hashlib.sha256(network._onnx).hexdigest()[:16])
        here = machine()
        for warning in here.warnings:
            self.log(WARNING, warning)
        sharing = here.major >= 10 or any(feature.name == "PROFILE_SHARING_0806" and on
                                          for feature, on in config._previews.items())
        facts = {"tensorrt": here.tensorrt, "gpu": here.gpu, "compute_capability": here.compute_capability,
                 "profiles": [profile._shapes for profile in config._profiles], "flags": flags,
                 "profile_sharing": sharing if here.profile_sharing is None else here.profile_sharing,
                 "typed": network.typed, "int8_scales": scales,
                 "float32_layers": [layer.name for layer in network._layers if layer.precision is not None
                                    and len(layer._types) == layer.num_outputs
                                    and "OBEY_PRECISION_CONSTRAINTS" in flags]}
        return IHostMemory(plan.write(facts, network._onnx))

    def _check(self, network: INetworkDefinition, config: IBuilderConfig, flags: List[str]) -> None:
        if not network._onnx:
            raise Failure("Error Code 4: Internal Error (Network must have at least one output)")
        dynamic = [tensor for tensor in network._inputs if -1 in tensor.shape]
        if dynamic and not config._profiles:
            raise Failure("Error Code 4: API Usage Error (Network has dynamic or shape inputs, but no optimization "
                          "profile has been defined.)")
        for profile in config._profiles:
            for tensor in network._inputs:
                for shape in profile.get_shape(tensor.name) or ([()] if tensor in dynamic else []):
                    if len(shape) != len(tensor.shape) or \
                            any(known not in (-1, size) for known, size in zip(tensor.shape, shape)):
                        raise Failure(f"Error Code 4: API Usage Error (input {tensor.name}: the profile's {shape} is "
                                      f"not a shape of {tensor.shape})")
        half = {"FP16", "INT8", "BF16"} & set(flags)
        if network.typed and half:
            raise Failure(f"Error Code 3: API Usage Error ({', '.join(sorted(half))} cannot be set for a strongly "
                          "typed network)")

    def _ranges(self, network: INetworkDefinition, config: IBuilderConfig) -> Optional[Dict[str, float]]:
        if b"QuantizeLinear" in network._onnx:
            return None
        if config.int8_calibrator is None:
            self.log(WARNING, "Calibrator is not being used. Users must provide dynamic range for all tensors that "
                              "are not Int32 or Bool.")
            return None
        shapes = {tensor.name: tensor.shape for tensor in network._inputs}
        if any(-1 in shape for shape in shapes.values()):
            profile = config._calibration_profile or config._profiles[0]
            shapes = {name: profile.get_shape(name)[1] for name in shapes}
        return calibrate(self, network._onnx, shapes, config.int8_calibrator)
