"""The part of setuptools' pkg_resources that ais_bench uses, for an emulated machine that has setuptools."""
from __future__ import annotations

from types import SimpleNamespace

from ascend_emulator.machine import machine


def get_distribution(name: str) -> SimpleNamespace:
    """Of aclruntime, the only one that is asked for."""
    version = machine().aclruntime_version
    if version is None:
        raise LookupError(name)
    return SimpleNamespace(version=version)
