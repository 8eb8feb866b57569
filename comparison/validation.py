"""The validation table: one model's AP and speed on every device, and whether each agrees with PyTorch.

    python3 -m comparison.validation ./runs/validation/results cpu Ascend310P3 --batch 1 16 --output validation.md

Reads what scripts/validate.sh has left there: TARGET_bsBATCH_score/metrics.json and TARGET_bsBATCH_verdict.json.
Exit code 0: all agree; 1: one differs.
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

from comparison.text import table
from contract.errors import DIFFERS, DONE
from contract.files import read_json, write_file

REFERENCE = "pytorch"


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m comparison.validation", description=__doc__.split("\n")[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("results", type=Path, help="folder of dumps, scores and verdicts")
    parser.add_argument("targets", nargs="+", help="devices beside pytorch, such as cpu Ascend310P3")
    parser.add_argument("--batch", type=int, nargs="+", default=[16], help="batch sizes")
    parser.add_argument("--suffix", default="", help="of the folders' names, such as _uint8")
    parser.add_argument("--output", help="write the table there too")
    return parser.parse_args(argv)


def validation_row(results: Path, targets: List[str], batch: int, suffix: str) -> Dict[str, str]:
    """Column -> cell: the model, the APs of all, then their speeds, then the verdicts on the targets."""
    names = {target: f"{target}_bs{batch}{suffix}" for target in (REFERENCE, *targets)}
    metrics = {target: read_json(results / f"{name}_score" / "metrics.json", "metrics")
               for target, name in names.items()}
    verdicts = {target: read_json(results / f"{names[target]}_verdict.json", "verdict") for target in targets}
    model = (metrics[REFERENCE]["dumps"][0] or {}).get("model", "-")
    return {"model": Path(model).stem, "batch": str(batch),
            **{f"{target} AP": f"{of['metrics']['AP']:.4f}" for target, of in metrics.items()},
            **{f"{target} crops/s": speed(of) for target, of in metrics.items()},
            **{f"{target} agrees": "yes" if verdict["agree"] else "NO" for target, verdict in verdicts.items()}}


def speed(metrics: Dict[str, Any]) -> str:
    """In the model alone; a run that was continued when all dumps were there has timed nothing."""
    crops = metrics["speed"].get("crops_per_second")
    return f"{crops:.1f}" if crops else "-"


def main() -> int:
    args = parse_args()
    rows = [validation_row(args.results, args.targets, batch, args.suffix) for batch in args.batch]
    text = table(list(rows[0]), [list(row.values()) for row in rows])
    print(text)
    if args.output:
        write_file(args.output, (text + "\n").encode())
    agree = all(row[f"{target} agrees"] == "yes" for row in rows for target in args.targets)
    return DONE if agree else DIFFERS


if __name__ == "__main__":
    sys.exit(exit_code(main))
