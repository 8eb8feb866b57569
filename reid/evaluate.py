"""Rank-1, mAP and mINP of features by Market-1501's rule, as FastReID's evaluator gives them.

    python3 -m reid.evaluate --query features/query --gallery features/gallery
    python3 -m reid.evaluate --query features/query --gallery features/gallery --rerank --metric cosine

Names say who and where, as Market-1501's do: 0002_c1s1_000451_03 is person 2, camera 1. People of -1 are left out, as
FastReID's reader leaves them. Intervals are of a bootstrap over the queries.
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import sys
from typing import Callable, Dict, List, Optional, Tuple

import numpy as np

from contract.arguments import HelpFormatter, at_least
from contract.errors import UserError
from contract.files import write_json
from contract.tables import format_table
from reid.export import DEFAULT_CONFIG
from reid.features import Features, identities, read_features
from reid.ranking import DISTANCES, Ranking, expand_queries, rank, re_rank, re_rank_as_evaluator
from reid.spec import ReidSpec, load_spec

JUNK = -1  # person of Market-1501's false detections
INTERVAL = (2.5, 97.5)  # percent
RANKS = (1, 5, 10)
RERANK: Dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "evaluator": re_rank_as_evaluator, "paper": re_rank}


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m reid.evaluate", description=__doc__.split("\n")[0],
                                     formatter_class=HelpFormatter)
    parser.add_argument("--query", required=True, help="folder of features")
    parser.add_argument("--gallery", required=True, help="folder of features of the same model")
    parser.add_argument("--metric", choices=sorted(DISTANCES), default="cosine", help="distance between features")
    parser.add_argument("--aqe", action="store_true", help="expand queries by their nearest first")
    parser.add_argument("--rerank", nargs="?", choices=sorted(RERANK), const="evaluator", help="k-reciprocal "
                        "re-ranking of cosine distances, as FastReID's evaluator does it, or as its authors' paper")
    parser.add_argument("--config-file", default=DEFAULT_CONFIG, help="YAML with published figures of the model")
    parser.add_argument("--bootstrap", type=at_least(1), default=1000, help="replicates of the interval")
    parser.add_argument("--json", help="write the figures into this file")
    return parser.parse_args(argv)


def read_side(folder: str) -> Tuple[Features, np.ndarray, np.ndarray]:
    """Features without junk, their people and cameras. Raises UserError if the names do not contain them."""
    features = read_features(folder)
    known = identities(features.names)
    if known is None:
        raise UserError(f"{folder}: expected names such as 0002_c1s1_000451_03, which say person and camera, got "
                        f"{features.names[0]}")
    kept = known[0] != JUNK
    if not kept.any():
        raise UserError(f"{folder}: holds junk alone, people of {JUNK}")
    names = [name for name, keep in zip(features.names, kept) if keep]
    return Features(features.folder, names, features.values[kept], features.record), known[0][kept], known[1][kept]


def check_same_model(query: Features, gallery: Features) -> None:
    differs = [key for key in ("model_sha256", "geometry", "normalised", "input_size")
               if query.record and gallery.record and query.record.get(key) != gallery.record.get(key)]
    if differs or query.values.shape[1] != gallery.values.shape[1]:
        raise UserError(f"{query.folder} and {gallery.folder}: are of two models or settings "
                        f"({', '.join(differs) or 'dimension'}). Extract both with the same command")


def figures_of(ranking: Ranking, replicates: int) -> Dict[str, Tuple[float, float, float]]:
    """Figure -> value and the ends of its interval."""
    drawn = np.random.default_rng(0).integers(0, ranking.valid, (replicates, ranking.valid))
    values = {"Rank-1": ranking.first.astype(float), "mAP": ranking.average_precision,
              "mINP": ranking.inverse_negative_penalty}
    ends = {name: np.percentile(each[drawn].mean(axis=1), INTERVAL) for name, each in values.items()}
    return {name: (float(each.mean()), float(ends[name][0]), float(ends[name][1])) for name, each in values.items()}


def published_of(spec: ReidSpec, record: Optional[dict]) -> Dict[str, float]:
    """Figures of a checkpoint of this name."""
    is_it = spec.weights and str((record or {}).get("model", "")).startswith(spec.weights)
    return {cell.figure: cell.value for cell in spec.published} if is_it else {}


def main() -> None:
    args = parse_args()
    (query, *of_query), (gallery, *of_gallery) = read_side(args.query), read_side(args.gallery)
    check_same_model(query, gallery)
    ours, theirs = query.values.astype(np.float64), gallery.values.astype(np.float64)
    if args.aqe:
        ours, theirs = expand_queries(ours, theirs)
    distance = RERANK[args.rerank](ours, theirs) if args.rerank else DISTANCES[args.metric](ours, theirs)
    ranking = rank(distance, of_query[0], of_gallery[0], of_query[1], of_gallery[1])
    figures = figures_of(ranking, args.bootstrap)
    published = published_of(load_spec(args.config_file), query.record)
    print(format_table(["figure", "value", "95 %", "published"], [
        [name, f"{value:.4f}", f"{low:.4f} to {high:.4f}", published.get(name, "-")]
        for name, (value, low, high) in figures.items()]))
    print(f"{ranking.valid} of {ranking.queries} queries, {len(gallery.names)} images in the gallery; "
          + ", ".join(f"rank-{number} {ranking.cmc[number - 1]:.4f}" for number in RANKS))
    if args.json:
        write_json(args.json, {"figures": figures, "cmc": ranking.cmc.tolist(), "queries": ranking.queries,
                               "valid": ranking.valid, "gallery": len(gallery.names), "published": published})


if __name__ == "__main__":
    sys.exit(exit_code(main))
