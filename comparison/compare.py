"""One result against the reference: measured level by level, judged, and explained where they differ."""
from __future__ import annotations

import dataclasses
import platform
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Union

import numpy as np

from comparison.finding import CONSISTENT, FOUND, NONE_EXPLAINS, NOT_TESTED, Finding
from comparison.gates import first_difference, judge
from comparison.levels import LEVELS
from comparison.limits import Verdict, number
from comparison.results import Options, Result
from contract.files import PathLike, read_json
from contract.tables import format_table

if TYPE_CHECKING:
    from comparison.causes.features import FeatureRerun
    from comparison.causes.rerun import Rerun


@dataclasses.dataclass
class Comparison:
    """`b` against the reference `a`, by their labels; true when they agree. `levels` has what each level measured,
    `notes` say why one has measured nothing."""

    a: str
    b: str
    verdicts: List[Verdict]
    levels: Dict[str, Any]
    findings: List[Finding]
    notes: List[str] = dataclasses.field(default_factory=list)

    def __bool__(self) -> bool:
        return self.differs_at is None

    @property
    def differs_at(self) -> Optional[str]:
        return first_difference(self.verdicts)

    @property
    def verdict(self) -> str:
        if self:
            return f"verdict: {self.b} agrees with {self.a}"
        broken = [verdict.limit for verdict in self.verdicts if not verdict.kept]
        return f"verdict: {self.b} DIFFERS from {self.a}, first at the {self.differs_at} ({', '.join(broken)})"

    @property
    def conclusion(self) -> str:
        """What the tests of causes say together; nothing where none was tested."""
        if not self.findings:
            return ""
        if self:
            return "causes: not tested, the results agree"
        found, partly = ([finding.title for finding in self.findings if finding.status == status]
                         for status in (FOUND, CONSISTENT))
        tied = [finding.title for finding in self.findings if finding.tied]
        if found:
            return f"causes: found{', together' if len(found) > 1 else ''}: {'; '.join(found)}"
        if tied:
            return f"causes: one of these, which cannot be told apart: {'; '.join(tied)}"
        return f"causes: {NONE_EXPLAINS}" + (f"; it is consistent with: {'; '.join(partly)}" if partly else "")

    def to_json(self) -> Dict[str, Any]:
        plain = dataclasses.asdict(self)
        titles = [finding.title for finding in self.findings]
        return {"a": self.a, "b": self.b, "agree": bool(self), "differs_at": self.differs_at,
                "gate": plain["verdicts"], "levels": plain["levels"], "notes": self.notes,
                "conclusion": self.conclusion,
                "diagnosis": [{**finding, "title": title} for finding, title in zip(plain["findings"], titles)]}

    @classmethod
    def from_json(cls, content: Dict[str, Any]) -> Comparison:
        findings = [{key: value for key, value in finding.items() if key != "title"}
                    for finding in content["diagnosis"]]
        return cls(content["a"], content["b"], [Verdict(**verdict) for verdict in content["gate"]],
                   {name: LEVELS[name].load(values) for name, values in content["levels"].items()},
                   [Finding(**finding) for finding in findings], content.get("notes", []))


def compare(reference: Result, other: Result, options: Options, explain: bool = False,
            rerun: Union[Rerun, FeatureRerun, None] = None) -> Comparison:
    """Compare `other` with `reference`, both read by `read_results`. With `explain` the causes of a difference are
    tested, those of the input by means of `rerun`."""
    measured = {name: level.measure(reference, other, options) for name, level in LEVELS.items()}
    levels = {name: values for name, values in measured.items() if values is not None}
    comparison = Comparison(reference.label, other.label, judge(levels, options.limits), levels, [],
                            notes_on(reference, other))
    if explain:
        from comparison.causes.diagnosis import diagnose  # and all that causes need, which agreement does not

        broken = {verdict.level for verdict in comparison.verdicts if not verdict.kept}
        comparison.findings = diagnose(reference, other, options, broken, rerun)
    return comparison


def notes_on(*sides: Result) -> List[str]:
    """Why dumps of both are not compared value by value."""
    one_pass = [side.label for side in sides if side.readers and not side.holds_heatmaps]
    if not one_pass or not all(side.readers for side in sides):
        return []
    return [f"tensors and heatmaps: not compared, because {' and '.join(one_pass)} found the joints in the model (one "
            "pass). For heatmaps of the same graph: pth2onnx.py --one_pass --also_heatmaps"]


def format_comparison(comparison: Comparison) -> str:
    """As text: what was measured, what the limits say of it, the verdict and the causes."""
    tables = {name: LEVELS[name].table(values) for name, values in comparison.levels.items()}
    score = tables.pop("score", "")  # the outcome, so it stands beside the verdict
    limits = format_table(["level", "limit", "value", "", "bound", "kept"], [
        [verdict.level, verdict.limit, number(verdict.value), verdict.sense, number(verdict.bound), verdict.answer]
        for verdict in comparison.verdicts])
    findings = "\n".join(f"{finding.status:>15}  {finding.title}: {finding.evidence}"
                         for finding in comparison.findings
                         if not (comparison and finding.status == NOT_TESTED))  # the conclusion says so of all
    parts = [f"{comparison.b} against {comparison.a}", *comparison.notes, *tables.values(), limits, score,
             comparison.verdict, comparison.conclusion, findings]
    return "\n\n".join(filter(None, parts))


def describe(comparisons: List[Comparison], results: List[Result], limits: Dict[str, float]) -> Dict[str, Any]:
    """All comparisons with the first of `results`, and what these are, as plain values."""
    sides = [{"label": result.label, "dumps": [str(folder) for folder in result.folders],
              "keypoints": str(result.keypoints_path) if result.keypoints_path else None, "settings": result.records,
              "dtypes": [np.dtype(reader.dtype).name for reader in result.readers]} for result in results]
    return {"agree": all(comparisons), "people": results[0].count, "limits": limits, "sides": sides,
            "pairs": [comparison.to_json() for comparison in comparisons],
            "versions": {"python": platform.python_version(), "numpy": np.__version__}}


def load_comparisons(path: PathLike) -> List[Comparison]:
    """What compare.py wrote with --json."""
    return [Comparison.from_json(pair) for pair in read_json(path, "comparison")["pairs"]]
