"""The part of setuptools' pkg_resources that ais_bench uses, for an emulated machine that has setuptools."""
from __future__ import annotations

from importlib import metadata
from types import SimpleNamespace


def get_distribution(name: str) -> SimpleNamespace:
    return SimpleNamespace(version=metadata.version(name))
