"""The pairs of highest total between two groups."""
from __future__ import annotations

from typing import List, Tuple

import numpy as np

from contract.errors import UserError


def best_pairs(grades: np.ndarray) -> List[Tuple[int, int]]:
    """(R, C) grades -> pairs (row, column), each row and column at most once, with the highest sum of grades."""
    try:
        from scipy.optimize import linear_sum_assignment  # here, because only tracking needs scipy
    except ModuleNotFoundError:
        raise UserError("--track needs the Python package scipy: python3 -m pip install -r requirements-video.txt"
                        ) from None
    rows, columns = linear_sum_assignment(grades, maximize=True)
    return list(zip(rows.tolist(), columns.tolist()))
