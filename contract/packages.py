"""Which Python packages are here, without importing them."""
from __future__ import annotations

import importlib.util
from typing import Dict, List


def not_importable(packages: Dict[str, str]) -> List[str]:
    """Of `packages` (name in an import -> name for pip), pip's names of those that are not here."""
    return [for_pip for name, for_pip in packages.items() if importlib.util.find_spec(name) is None]
