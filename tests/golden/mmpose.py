"""Make mmpose_0.x.npz or mmpose_1.x.npz: mmpose's own crops, decoding and Hourglass on generated inputs.

    cd tests && python3 -m golden.mmpose

Which of the two depends on the mmpose that the running Python has: 0.29.0 (with mmcv 1.7.0, built by MMCV_WITH_OPS=0)
or 1.3.2 (with mmcv-lite 2.1.0 and mmengine 0.10.7). Both import more than is run here, so that empty modules can stand
for xtcocotools, mmdet and mmcv.ops. Only results are kept: the tests make inputs and weights again.
"""
from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np

from .functions import HEATMAP, HERE, INPUT, JOINTS, PAIRS, boxes_xyxy, heatmaps, photo, sha256

SIZE = INPUT[::-1]  # mmpose's sizes are (width, height)
DECODED = 8  # people, in the last of the boxes
CONFIGS = {"0.x": "body/2d_kpt_sview_rgb_img/topdown_heatmap/coco/hourglass52_coco_256x256.py",
           "1.x": "body_2d_keypoint/topdown_heatmap/coco/td-hm_hourglass52_8xb32-210e_coco-256x256.py"}
# name -> changes of Hourglass-52's backbone, and the size of the crop
NETWORKS = {"hourglass52": ({}, 128),
            "two_stacks": ({"num_stacks": 2, "downsample_times": 1, "stage_channels": (256, 512),
                            "stage_blocks": (2, 4)}, 32)}


def crop_tensor(size: int) -> np.ndarray:
    """(1, 3, size, size) float32, as normalised pixels."""
    return np.random.default_rng(size).standard_normal((1, 3, size, size), np.float32)


def boxes_xywh() -> np.ndarray:
    boxes = boxes_xyxy()
    boxes[:, 2:] -= boxes[:, :2]
    return boxes


def flipped_index() -> List[int]:
    index = list(range(JOINTS))
    for left, right in PAIRS:
        index[left], index[right] = right, left
    return index


def cropped_0x(xywh: np.ndarray) -> Dict[str, Any]:
    """Centre, scale, size in pixels and crop of one box."""
    from mmpose.datasets.pipelines import Compose

    joints = np.zeros((JOINTS, 3), np.float32)
    found = Compose([{"type": "TopDownGetBboxCenterScale", "padding": 1.25}, {"type": "TopDownAffine"}])({
        "img": photo(), "bbox": xywh, "rotation": 0, "joints_3d": joints, "joints_3d_visible": joints,
        "ann_info": {"image_size": np.array(SIZE), "num_joints": JOINTS}})
    return {"center": found["center"], "scale": found["scale"], "size": found["scale"] * 200.0, "crop": found["img"]}


def cropped_1x(xywh: np.ndarray) -> Dict[str, Any]:
    """As `cropped_0x`, from float32 as 1.x reads detections; it has no scale."""
    from mmpose.datasets.transforms import GetBBoxCenterScale, TopdownAffine
    from mmpose.structures.bbox import bbox_xywh2xyxy

    box = bbox_xywh2xyxy(np.array(xywh, np.float32).reshape(1, 4))
    found = TopdownAffine(input_size=SIZE)(GetBBoxCenterScale(padding=1.25)({"img": photo(), "bbox": box}))
    return {"center": found["input_center"], "size": found["input_scale"], "crop": found["img"]}


def decoded_0x(places: List[Dict[str, Any]], mirrored: Optional[np.ndarray]) -> np.ndarray:
    """(N, 17, 3): x, y and score. The head is without a layer, so that it takes heatmaps."""
    import torch
    from mmpose.models.heads import TopdownHeatmapMultiStageHead

    head = TopdownHeatmapMultiStageHead(
        JOINTS, JOINTS, num_deconv_layers=0, extra={"final_conv_kernel": 0}, loss_keypoint={"type": "JointsMSELoss"},
        test_cfg={"post_process": "default", "shift_heatmap": True})
    maps = head.inference_model([torch.from_numpy(heatmaps(DECODED, 3))])
    if mirrored is not None:
        maps = (maps + head.inference_model([torch.from_numpy(mirrored)], PAIRS)) * 0.5
    return head.decode([{"image_file": "", **place} for place in places], maps)["preds"]


def decoded_1x(places: List[Dict[str, Any]], mirrored: Optional[np.ndarray]) -> np.ndarray:
    """As `decoded_0x`."""
    import torch
    from mmengine.structures import InstanceData
    from mmpose.models.heads import HeatmapHead
    from mmpose.models.pose_estimators import TopdownPoseEstimator
    from mmpose.structures import PoseDataSample

    head = HeatmapHead(JOINTS, JOINTS, deconv_out_channels=None, final_layer=None, decoder={
        "type": "MSRAHeatmap", "input_size": SIZE, "heatmap_size": HEATMAP[::-1], "sigma": 2})
    features = [(torch.from_numpy(maps),) for maps in (heatmaps(DECODED, 3), mirrored) if maps is not None]
    samples = [PoseDataSample(metainfo={"input_center": place["center"], "input_scale": place["size"],
                                        "input_size": SIZE, "flip_indices": flipped_index()}) for place in places]
    for sample in samples:
        sample.gt_instances = InstanceData(bboxes=np.zeros((1, 4)), bbox_scores=np.ones(1))
    people = head.predict(features[0] if mirrored is None else features, samples,
                          {"flip_test": mirrored is not None, "flip_mode": "heatmap", "shift_heatmap": True})
    TopdownPoseEstimator.add_pred_to_datasample(SimpleNamespace(test_cfg={}), people, None, samples)
    return np.array([np.concatenate([sample.pred_instances.keypoints[0],
                                     sample.pred_instances.keypoint_scores[0][:, None]], axis=1) for sample in samples])


def network_0x(config: Path, backbone: Dict[str, Any]) -> Tuple[Any, Callable]:
    """The model of a config, and what gives the heatmaps of each stack."""
    from mmcv import Config
    from mmpose.models import build_posenet

    model = Config.fromfile(str(config)).model
    model.backbone.update(backbone)
    model.keypoint_head.num_stages = model.backbone.num_stacks
    network = build_posenet(model)
    return network, network.forward_dummy


def network_1x(config: Path, backbone: Dict[str, Any]) -> Tuple[Any, Callable]:
    """As `network_0x`."""
    from mmengine import Config
    from mmpose.registry import MODELS
    from mmpose.utils import register_all_modules

    register_all_modules()
    model = Config.fromfile(str(config)).model
    model.backbone.update(backbone)
    model.head.num_stages = model.backbone.num_stacks
    network = MODELS.build(model)
    return network, lambda crop: network.head.forward(network.backbone(crop))


def results(version: str, folder: Path) -> Dict[str, np.ndarray]:
    import torch

    from .weights import fill, listed

    crop, decode, build = {"0.x": (cropped_0x, decoded_0x, network_0x),
                           "1.x": (cropped_1x, decoded_1x, network_1x)}[version]
    places = [crop(box) for box in boxes_xywh()]
    arrays = {"center": np.array([place["center"] for place in places]),
              "size": np.array([place["size"] for place in places]),
              "crops": np.array([sha256(place.pop("crop")) for place in places]),
              "none": decode(places[-DECODED:], None), "clean": decode(places[-DECODED:], heatmaps(DECODED, 4))}
    for name in NETWORKS if version == "0.x" else ("two_stacks",):
        backbone, size = NETWORKS[name]
        network, forward = build(folder / ".mim" / "configs" / CONFIGS[version], backbone)
        with torch.inference_mode():
            fill(network)
            arrays[f"{name}_heatmaps"] = forward(torch.from_numpy(crop_tensor(size)))[-1].numpy()
        arrays[f"{name}_tensors"] = listed(network)
    return arrays


def main() -> None:
    import mmpose

    version = f"{mmpose.__version__.split('.')[0]}.x"
    np.savez_compressed(HERE / f"mmpose_{version}.npz", **results(version, Path(mmpose.__file__).parent))


if __name__ == "__main__":
    main()
