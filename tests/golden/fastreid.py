"""Make fastreid_RELEASE.npz: FastReID's own network, crops, ranking and re-ranking on generated inputs.

    cd tests && python3 -m golden.fastreid ../../fast-reid current

`../../fast-reid` is a clone of github.com/JDAI-CV/fast-reid: for `current` at commit c9bc3ce, for `v0.1.1` and `v1.0.0`
at these tags, of which only the network is run. Only results are kept: the tests make inputs and weights again.
v1.0.0 imports apex, which it does not need here: any module of that name will do.
"""
from __future__ import annotations

import argparse
import collections
import collections.abc
import sys
from pathlib import Path
from typing import Any, Dict, List, Sequence

import numpy as np

from .functions import HERE, photo, sha256

RELEASES = ("current", "v1.0.0", "v0.1.1")
IDENTITIES = 5  # of the training, which only the shape of one weight shows
CONFIG = "configs/Market1501/bagtricks_R50.yml"
# name -> what differs from CONFIG
VARIANT = ("MODEL.BACKBONE.WITH_IBN", True, "MODEL.BACKBONE.WITH_NL", True)
NETWORKS = {"r50": (), "r50_ibn_nl": VARIANT, "r101_ibn_nl": (*VARIANT, "MODEL.BACKBONE.DEPTH", "101x")}
# left, top, width, height of photo(): larger than a crop, smaller, and of its size
REGIONS = ((0, 0, 160, 240), (10, 20, 37, 91), (100, 50, 200, 60), (5, 7, 128, 256), (300, 230, 1, 1))
EVALUATIONS = {"cosine": (), "euclidean": ("TEST.METRIC", "euclidean"), "re_ranked": ("TEST.RERANK.ENABLED", True),
               "expanded": ("TEST.AQE.ENABLED", True, "TEST.AQE.QE_K", 5)}
GALLERIES = {"common": (12, 80), "small": (6, 20)}  # queries and gallery images


def network_crops() -> np.ndarray:
    """(2, 128, 64, 3) uint8."""
    return np.stack([photo()[top:top + 128, top:top + 64] for top in (0, 100)])


def gallery(name: str) -> Dict[str, np.ndarray]:
    """Features (N, 32) float32, identities and cameras (N,), queries first. One query's person is nowhere else, one's
    only under the same camera."""
    queries, images = GALLERIES[name]
    rng = np.random.default_rng(queries)
    people, cameras = rng.integers(0, 8, queries + images), rng.integers(0, 3, queries + images)
    people[0], people[1], cameras[people == people[2]] = 90, people[2], cameras[2]
    features = rng.normal(0, 1, (8, 32))[people % 8] + rng.normal(0, 1.4, (len(people), 32)) + rng.normal(0, 1, 32)
    return {"features": features.astype(np.float32), "people": people, "cameras": cameras}


def config(clone: Path, options: Sequence[Any] = ()) -> Any:
    from fastreid.config import get_cfg

    settings = get_cfg()
    settings.merge_from_file(str(clone / CONFIG))
    settings.merge_from_list(["MODEL.DEVICE", "cpu", "MODEL.BACKBONE.PRETRAIN", False, "MODEL.HEADS.NUM_CLASSES",
                              IDENTITIES, *options])
    return settings


def features(clone: Path, name: str) -> Dict[str, np.ndarray]:
    """Every tensor's name and shape, and the features of `network_crops`."""
    import torch
    from fastreid.modeling import build_model

    from .weights import fill, listed

    network = fill(build_model(config(clone, NETWORKS[name])))
    with torch.inference_mode():
        found = network({"images": torch.from_numpy(network_crops().transpose(0, 3, 1, 2).astype(np.float32))})
    return {f"{name}_tensors": listed(network), f"{name}_features": found.numpy()}


def crops(clone: Path) -> Dict[str, List[str]]:
    """Digests of each region's crop as the evaluation makes it and as the demo does."""
    from fastreid.data.transforms import build_transforms
    from PIL import Image

    sys.path.append(str(clone / "demo"))
    from predictor import FeatureExtractionDemo

    demo = FeatureExtractionDemo.__new__(FeatureExtractionDemo)
    demo.cfg, demo.predictor = config(clone), lambda tensor: tensor[0]
    evaluate = build_transforms(config(clone), is_train=False)
    parts = [photo()[top:top + height, left:left + width] for left, top, width, height in REGIONS]
    tensors = {"pil": [evaluate(Image.fromarray(part)) for part in parts],
               "cv2": [demo.run_on_image(part[..., ::-1]) for part in parts]}
    return {f"crops_{way}": [sha256(tensor.numpy().transpose(1, 2, 0).astype(np.uint8)) for tensor in found]
            for way, found in tensors.items()}


def evaluated(clone: Path, name: str, way: str) -> Dict[str, np.ndarray]:
    """What FastReID's evaluator has in hand for the ranks, and the ranks."""
    import torch
    from fastreid.evaluation import rank, reid_evaluation

    seen: Dict[str, np.ndarray] = {}

    def evaluate_rank(distance: np.ndarray, *whose: np.ndarray) -> Any:
        queries, images = distance.shape
        curve, precision, penalty = original(distance, *whose, max_rank=min(50, images // 2), use_cython=False)
        seen.update(distance=distance, curve=curve, precision=np.array(precision), penalty=np.array(penalty))
        return np.pad(curve, (0, 50 - len(curve))), precision, penalty

    original, rank.evaluate_rank = rank.evaluate_rank, evaluate_rank
    reid_evaluation.ReidEvaluator._compile_dependencies = lambda self: None
    data = {key: torch.from_numpy(value) for key, value in gallery(name).items()}
    evaluator = reid_evaluation.ReidEvaluator(config(clone, EVALUATIONS[way]), GALLERIES[name][0])
    evaluator.process({"targets": data["people"], "camids": data["cameras"]}, data["features"])
    evaluator.evaluate()
    rank.evaluate_rank = original
    return {f"{name}_{way}_{key}": value for key, value in seen.items()}


def re_ranked(name: str, metric: str) -> np.ndarray:
    """The distance after the re-ranking of its authors, which FastReID holds beside the evaluator's."""
    import torch
    from fastreid.evaluation.rerank import re_ranking
    from fastreid.utils.compute_dist import build_dist

    queries, images = map(torch.from_numpy, np.split(gallery(name)["features"], [GALLERIES[name][0]]))
    return re_ranking(*(build_dist(one, other, metric) for one, other in (
        (queries, images), (queries, queries), (images, images))))


def ranks(clone: Path) -> Dict[str, np.ndarray]:
    from fastreid.utils import compute_dist

    jaccard, on_cpu = compute_dist.compute_jaccard_distance, 3
    compute_dist.compute_jaccard_distance = lambda rows, k1, k2, search_option: jaccard(rows, k1, k2, on_cpu)
    arrays = {f"common_{metric}_re_ranking": re_ranked("common", metric) for metric in ("cosine", "euclidean")}
    for name, way in [*(("common", way) for way in EVALUATIONS), ("small", "cosine")]:
        arrays.update(evaluated(clone, name, way))
    return arrays


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("clone", type=Path)
    parser.add_argument("release", choices=RELEASES)
    args = parser.parse_args()
    sys.path.insert(0, str(args.clone))
    collections.Mapping = collections.abc.Mapping  # type: ignore[attr-defined]  # until Python 3.9 it was there
    current = args.release == RELEASES[0]
    arrays = {}
    for name in NETWORKS if current else ("r50",):
        arrays.update(features(args.clone, name))
    if current:
        arrays.update({**crops(args.clone), **ranks(args.clone)})
    np.savez_compressed(HERE / f"fastreid_{args.release}.npz", **arrays)


if __name__ == "__main__":
    main()
