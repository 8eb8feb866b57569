"""Configs: AlphaPose's layout and ours, and what is refused by name."""
from __future__ import annotations

import dataclasses

import pytest
from conftest import ROOT, write_config

from contract.errors import UserError
from contract.pixels import ALPHAPOSE_MEAN, ALPHAPOSE_STD
from contract.spec import load_spec as load_any
from contract.spec import row_bytes
from pose.skeleton import COCO17
from pose.spec import PoseSpec, load_spec

# The layout of AlphaPose's files, with every section that they have.
ALPHAPOSE = """
DATASET:
  TRAIN: {TYPE: Mscoco, ROOT: ./data/coco/, AUG: {FLIP: true, ROT_FACTOR: 40}}
DATA_PRESET:
  TYPE: simple
  SIGMA: 2
  NUM_JOINTS: 17
  IMAGE_SIZE: [256, 192]
  HEATMAP_SIZE: [64, 48]
MODEL:
  TYPE: FastPose
  PRETRAINED: ''
  TRY_LOAD: ''
  NUM_DECONV_FILTERS: [256, 256, 256]
  NUM_LAYERS: 50
LOSS: {TYPE: MSELoss}
DETECTOR: {NAME: yolo, CONFIG: yolov3-spp.cfg, NMS_THRES: 0.6, CONFIDENCE: 0.05}
TRAIN: {WORLD_SIZE: 4, BATCH_SIZE: 32, LR: 0.001}
"""


def load(tmp_path, text: str) -> PoseSpec:
    path = tmp_path / "model.yaml"
    path.write_text(text)
    return load_spec(path)


def test_alphaposes_file_and_ours_say_the_same(tmp_path):
    ours = load_spec(ROOT / "configs" / "256x192_res50_lr1e-3_1x.yaml")
    assert load(tmp_path, ALPHAPOSE) == dataclasses.replace(ours, weights=None, published=()) == PoseSpec()


def test_the_published_model(tmp_path):
    config = load(tmp_path, ALPHAPOSE)
    assert config.input_shape == (3, 256, 192) and config.outputs["output"] == (17, 64, 48)
    assert row_bytes(config.input_shape, config.dtype) == 589824
    assert (config.mean, config.std) == (ALPHAPOSE_MEAN, ALPHAPOSE_STD) == ((0.406, 0.457, 0.480), (1, 1, 1))
    assert config.network == "FastPose" and config.parameters == {"NUM_LAYERS": 50, "CONV_DIM": 128, "WIDTH": 1}
    assert (config.geometry, config.decode, config.skeleton.name) == ("alphapose", "peak", "coco17")


def test_every_key_is_read(tmp_path):
    text = (ALPHAPOSE.replace("[256, 192]", "[384, 288]").replace("[64, 48]", "[96, 72]")
            .replace("LAYERS: 50", "LAYERS: 152")
            .replace("NUM_JOINTS", "MEAN: [0.485, 0.456, 0.406]\n  STD: [0.229, 0.224, 0.225]\n  NUM_JOINTS")
            .replace("PRETRAINED", "CONV_DIM: 256\n  WIDTH: 0.5\n  PRETRAINED"))
    assert load(tmp_path, text) == PoseSpec(
        (384, 288), (96, 72), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "float32", "FastPose",
        {"NUM_LAYERS": 152, "CONV_DIM": 256, "WIDTH": 0.5})


def test_keys_beyond_alphaposes_are_read(tmp_path):
    text = ALPHAPOSE + "TASK: pose\nGEOMETRY: alphapose\nDECODE: regression_softmax\nSKELETON: coco17\n"
    assert load(tmp_path, text) == PoseSpec(decode="regression_softmax")


@pytest.mark.parametrize("line, says", [
    ("TASK: depth", "TASK is 'depth', expected one of pose"), ("GEOMETRY: square", "GEOMETRY .*alphapose"),
    ("DECODE: guess", "DECODE .*peak"), ("SKELETON: [dog]", "SKELETON .*coco17"), ("WEIGHTS: 5", "WEIGHTS is 5"),
    ("PUBLISHED: [{AP: 1}]", "entry 0"), ("PUBLISHED: 7", "PUBLISHED")])
def test_an_unknown_name_says_which_are_known(tmp_path, line, says):
    with pytest.raises(UserError, match=f"model.yaml: [^\n]*{says}"):
        load(tmp_path, f"{ALPHAPOSE}\n{line}\n")


@pytest.mark.parametrize("loss, decode", [("{TYPE: L1JointRegression, NORM_TYPE: sigmoid}", "regression_sigmoid"),
                                        ("{TYPE: L1JointRegression, NORM_TYPE: softmax}", "regression_softmax"),
                                        ("{TYPE: MSELoss, NORM_TYPE: sigmoid}", "peak")])
def test_the_loss_decides_the_decoding(tmp_path, loss, decode):
    assert load(tmp_path, ALPHAPOSE.replace("LOSS: {TYPE: MSELoss}", f"LOSS: {loss}")).decode == decode


def test_networks_of_other_types_may_have_keys_of_their_own(tmp_path):
    text = ALPHAPOSE.replace("TYPE: FastPose", "TYPE: HRNet\n  STAGE2: {NUM_MODULES: 1}")
    assert load(tmp_path, text).network == "HRNet"


@pytest.mark.parametrize("old, new, named", [
    ("NUM_LAYERS: 50", "NUM_LAYER: 50", "MODEL.NUM_LAYER"),
    ("NUM_LAYERS: 50", "DCN: {DEFORM_GROUP: 1}", "MODEL.DCN"),
    ("SIGMA: 2", "MEANS: [0, 0, 0]", "DATA_PRESET.MEANS"),
    ("NUM_JOINTS: 17", "NUM_JOINTS: 136", "NUM_JOINTS"),
    ("IMAGE_SIZE: [256, 192]", "IMAGE_SIZE: 256", "IMAGE_SIZE"),
    ("IMAGE_SIZE: [256, 192]", "IMAGE_SIZE: [256, 192, 3]", "IMAGE_SIZE"),
    ("IMAGE_SIZE: [256, 192]", "IMAGE_SIZE: [256.5, 192]", "IMAGE_SIZE"),
    ("IMAGE_SIZE: [256, 192]", "IMAGE_SIZE: [256, .nan]", "IMAGE_SIZE"),
    ("IMAGE_SIZE: [256, 192]", "IMAGE_SIZE: [256, 0]", "IMAGE_SIZE"),
    ("IMAGE_SIZE: [256, 192]", "IMAGE_SIZE: [-256, 192]", "IMAGE_SIZE"),
    ("IMAGE_SIZE: [256, 192]", "IMAGE_SIZE: [.inf, 192]", "IMAGE_SIZE"),
    ("  IMAGE_SIZE: [256, 192]\n", "", "IMAGE_SIZE"),
    ("HEATMAP_SIZE: [64, 48]", "HEATMAP_SIZE: ['64', 48]", "HEATMAP_SIZE"),
    ("SIGMA: 2", "STD: [0, 1, 1]", "STD"),
    ("SIGMA: 2", "MEAN: [.inf, 1, 1]", "MEAN"),
    ("SIGMA: 2", "MEAN: [true, 1, 1]", "MEAN"),
    ("NUM_LAYERS: 50", "NUM_LAYERS: -50", "NUM_LAYERS"),
    ("NUM_LAYERS: 50", "WIDTH: 0", "WIDTH"),
    ("NUM_LAYERS: 50", "WIDTH: .inf", "WIDTH"),
    ("LOSS: {TYPE: MSELoss}", "LOSS: {TYPE: L1JointRegression, NORM_TYPE: tanh}", "LOSS"),
    ("LOSS: {TYPE: MSELoss}", "LOSS: {TYPE: Cosine}", "LOSS"),
    ("LOSS: {TYPE: MSELoss}", "LOSS: MSELoss", "LOSS"),
    ("MODEL:", "MODELS:", "MODEL"),
    ("DATA_PRESET:", "DATASET_PRESET:", "DATA_PRESET"),
])
def test_what_is_wrong_is_named_with_the_file(tmp_path, old, new, named):
    assert old in ALPHAPOSE
    with pytest.raises(UserError) as caught:
        load(tmp_path, ALPHAPOSE.replace(old, new))
    assert named in str(caught.value) and "model.yaml" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "just text", "- a\n- list", "DATA_PRESET: [", "a: b: c", "\t- tab", "x: \x07",
                                  "!!python/object/apply:os.getcwd []"])
def test_what_is_no_config_is_refused_in_one_line(tmp_path, text):
    with pytest.raises(UserError, match="^[^\n]*model.yaml[^\n]*$"):
        load(tmp_path, text)


def test_a_missing_config_and_one_that_is_not_text(tmp_path):
    with pytest.raises(UserError, match="missing.yaml"):
        load_spec(tmp_path / "missing.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\xd8\x80")
    with pytest.raises(UserError, match="binary.yaml"):
        load_spec(tmp_path / "binary.yaml")


def test_the_configs_of_the_repository_can_be_read():
    paths = sorted((ROOT / "configs").glob("*.yaml"))
    assert paths
    for path in paths:
        load_any(path)


def test_a_written_config_is_read_back(tmp_path):
    config = load_spec(write_config(tmp_path / "c.yaml", MEAN=[0.1, 0.2, 0.3]))
    assert config == PoseSpec((64, 48), (16, 12), (0.1, 0.2, 0.3))


def test_constants_in_the_section_of_another_network_are_not_passed_over(tmp_path):
    path = write_config(tmp_path / "c.yaml", model="TYPE: Other, STD: [0.2, 0.2, 0.2]")
    with pytest.raises(UserError, match="MODEL.STD is not read; it belongs in DATA_PRESET"):
        load_spec(path)


def test_only_the_part_that_decides_the_bytes_is_of_data():
    assert PoseSpec(parameters={"NUM_LAYERS": 101, "WIDTH": 0.5}).of_data() == PoseSpec().of_data()
    for other in (PoseSpec(input_size=(128, 96)), PoseSpec(std=(1, 1, 2)), PoseSpec(heatmap_size=(16, 12)),
                  PoseSpec(mean=(0, 0, 0)), PoseSpec(decode="regression_sigmoid")):
        assert other.of_data() != PoseSpec().of_data()


def test_flip_pairs_swap_cocos_left_and_right():
    names = ("nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow "
             "left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle").split()
    assert COCO17.joints == tuple(names) and len(COCO17.pairs) == 8
    for left, right in COCO17.pairs:
        assert names[left].startswith("left_") and names[right] == names[left].replace("left_", "right_")


@pytest.mark.parametrize("preset, words", [
    ("MEAN: [123.675, 116.28, 103.53]", r"MEAN is of pixels from 0 to 1, and \[123.675, .* divide by 255"),
    ("STD: [58.395, 57.12, 57.375]", "STD is of pixels from 0 to 1"),
    ("MEAN: [2026-01-02, 0, 0]", "MEAN holds datetime.date"), ("MEAN: [.nan, 0, 0]", "MEAN holds nan"),
    ("STD: [1.0e+400, 1, 1]", "STD holds"), ("IMAGE_SIZE: [1000000, 1000000]", "IMAGE_SIZE is 1000000"),
    ("MEAN: [" + "9" * 400 + ", 0, 0]", "MEAN holds 999"), ("2026-02-30: 1", "expected YAML, but"),
    ("MEAN: " + "[" * 100 + "]" * 100, "more than 16 levels"),
    ("MEAN: " + "[" * 60000, "more than 16 levels|maximum nesting depth"),  # libyaml has a limit of its own
    ("MEAN: [" + "0, " * 40000 + "0]", "longer than 65536"), ("MEAN: [*one, *one, *one]", "alias"),
    ("? [1]\n  : 2", "expected YAML, but"), ("MEAN: {a: 1}", "expected 3 numbers")])
def test_what_a_yaml_file_may_hold(tmp_path, preset, words):
    text = ALPHAPOSE.replace("  NUM_JOINTS: 17\n", f"  {preset}\n").replace("DATASET:", "DATASET: &one")
    if "IMAGE_SIZE" in preset:
        text = text.replace("  IMAGE_SIZE: [256, 192]\n", "")
    with pytest.raises(UserError, match=words) as refused:
        load(tmp_path, text)
    assert len(str(refused.value)) < 500


def test_a_short_yaml_that_stands_for_gigabytes(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{number}: &a{number} [{', '.join([f'*a{number - 1}'] * 9)}]" for number in range(1, 10)]
    with pytest.raises(UserError, match=r"line 2 has the alias \*a0"):
        load(tmp_path, "\n".join(lines) + "\nDATA_PRESET: {IMAGE_SIZE: *a9}\n")
