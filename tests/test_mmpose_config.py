"""mmpose's and mmdeploy's Python configs: read without running them, refused by the field that is not done here."""
from __future__ import annotations

from pathlib import Path

import pytest
from conftest import one_error

from backends.ncnn.mmdeploy import read_deploy_config
from contract.errors import UserError
from contract.python_config import read_python_config
from contract.spec import load_spec

HOURGLASS_0X = """
_base_ = ['../../../../_base_/default_runtime.py']
channel_cfg = dict(num_output_channels=17, dataset_channel=[list(range(17))])
optimizer = dict(type='Adam', lr=5e-4 * 2)
model = dict(
    type='TopDown', pretrained=None,
    backbone=dict(type='HourglassNet', num_stacks=1),
    keypoint_head=dict(type='TopdownHeatmapMultiStageHead', in_channels=256,
                       out_channels=channel_cfg['num_output_channels'], num_stages=1, num_deconv_layers=0),
    test_cfg=dict(flip_test=True, post_process='default', shift_heatmap=True, modulate_kernel=11))
data_cfg = dict(image_size=[256, 256], heatmap_size=[64, 64], num_joints=channel_cfg['num_output_channels'])
val_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='TopDownGetBboxCenterScale', padding=1.25), dict(type='TopDownAffine'),
    dict(type='NormalizeTensor', mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
    dict(type='Collect', keys=['img'])]
test_pipeline = val_pipeline
data_root = open('/etc/passwd').read()
"""
HRNET_1X = """
codec = dict(type='MSRAHeatmap', input_size=(192, 256), heatmap_size=(48, 64), sigma=2)
model = dict(
    type='TopdownPoseEstimator',
    data_preprocessor=dict(type='PoseDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
                           bgr_to_rgb=True),
    backbone=dict(type='HRNet', extra=dict(stage1=dict(num_modules=1))),
    head=dict(type='HeatmapHead', in_channels=32, out_channels=17, decoder=codec),
    test_cfg=dict(flip_test=True, flip_mode='heatmap', shift_heatmap=True))
val_pipeline = [dict(type='LoadImage'), dict(type='GetBBoxCenterScale'),
                dict(type='TopdownAffine', input_size=codec['input_size']), dict(type='PackPoseInputs')]
"""
DEPLOY = """
codebase_config = dict(type='mmpose', task='PoseDetection')
onnx_config = dict(input_shape=[256, 256])
backend_config = dict(type='ncnn', precision='INT8', use_vulkan=False)
"""
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def written(tmp_path: Path, text: str, *changes: tuple) -> Path:
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "config.py").write_text(text)
    return tmp_path / "config.py"


def test_hourglass_of_0x_is_what_our_own_yaml_says(tmp_path):
    theirs, ours = load_spec(written(tmp_path, HOURGLASS_0X)), load_spec("configs/hourglass52_coco_256x256.yaml")
    assert theirs.of_data() == ours.of_data()
    assert (theirs.network, theirs.parameters, theirs.outputs) == (ours.network, ours.parameters, ours.outputs)
    assert theirs.geometry == theirs.decode == "mmpose-0.x"


def test_without_its_number_there_are_two_stacks_as_in_mmpose(tmp_path):
    assert load_spec(written(tmp_path, HOURGLASS_0X, (", num_stacks=1)", ")"))).parameters["STACKS"] == 2


def test_another_network_of_1x_has_its_crops_and_decoding(tmp_path):
    """Its ONNX file can be run with the config as it is; sizes are turned to (height, width)."""
    spec = load_spec(written(tmp_path, HRNET_1X))
    assert (spec.network, spec.geometry, spec.decode) == ("HRNet", "mmpose-1.x", "mmpose-1.x")
    assert (spec.input_size, spec.heatmap_size) == ((256, 192), (64, 48))
    assert (spec.mean, spec.std) == IMAGENET


@pytest.mark.parametrize("text, old, new, field", [
    (HOURGLASS_0X, "num_stacks=1", "num_stacks='two'", "STACKS"),
    (HOURGLASS_0X, "num_stacks=1", "num_stacks=1, downsample_times=4", "downsample_times"),
    (HOURGLASS_0X, "num_stacks=1", "num_stacks=1, stage_channels=[256, 128]", "stage_channels"),
    (HOURGLASS_0X, "'default'", "'unbiased'", "post_process"),
    (HOURGLASS_0X, "type='TopDownAffine'", "type='TopDownAffine', use_udp=True", "use_udp"),
    (HOURGLASS_0X, "type='TopDown'", "type='AssociativeEmbedding'", "model.type"),
    (HOURGLASS_0X, "data_cfg = dict(image_size=[256, 256], ", "data_cfg = dict(", "data_cfg.image_size"),
    (HOURGLASS_0X, "out_channels=channel_cfg['num_output_channels']", "out_channels=len(NAMES)", "NUM_JOINTS"),
    (HOURGLASS_0X, "padding=1.25", "padding=1.5", "padding"),
    (HRNET_1X, "'MSRAHeatmap'", "'SimCCLabel'", "SimCC"),
    (HRNET_1X, "'MSRAHeatmap'", "'UDPHeatmap'", "decoder.type"),
    (HRNET_1X, "sigma=2", "sigma=2, unbiased=True", "unbiased"),
    (HRNET_1X, "bgr_to_rgb=True", "bgr_to_rgb=False", "bgr_to_rgb"),
    (HRNET_1X, "mean=[123.675, 116.28, 103.53]", "mean=MEAN", "MEAN"),
])
def test_what_is_done_in_another_way_is_refused_by_its_field(tmp_path, text, old, new, field):
    with pytest.raises(UserError, match=f"^[^\n]*config.py: [^\n]*{field}[^\n]*$"):
        load_spec(written(tmp_path, text, (old, new)))


def test_bases_that_are_there_come_first(tmp_path):
    (tmp_path / "base.py").write_text(
        "left = 1\nbackend_config = dict(type='ncnn', precision='FP32', use_vulkan=False)")
    (tmp_path / "own.py").write_text("_base_ = ['./base.py', './none.py']\nbackend_config = dict(precision='INT8')")
    assert read_python_config(tmp_path / "own.py") == {
        "backend_config": {"type": "ncnn", "precision": "INT8", "use_vulkan": False}, "left": 1}


def test_nothing_of_a_config_is_run(tmp_path):
    text = "import os\nos.makedirs('made')\nvalue = os.getcwd()\nnumber = (lambda: 1)()\nlisted = [1, os.sep]\n"
    content = read_python_config(written(tmp_path, text))
    assert str(content["value"]) == "os.getcwd()" and content["listed"][0] == 1
    assert not Path("made").exists()
    with pytest.raises(UserError, match="expected a config in Python"):
        read_python_config(written(tmp_path, "model = dict("))


def test_deploy_configs_of_ncnn_are_read(tmp_path):
    assert read_deploy_config(written(tmp_path, DEPLOY)) == ("int8", (256, 256))
    assert read_deploy_config(written(tmp_path, DEPLOY, ("'INT8'", "'FP32'"), ("[256, 256]", "None"))) == ("fp32", None)


@pytest.mark.parametrize("old, new, field", [
    ("type='ncnn'", "type='tensorrt'", "backend_config.type"),
    ("use_vulkan=False", "use_vulkan=True", "backend_config.use_vulkan"),
    ("'INT8'", "'INT4'", "backend_config.precision"),
    ("'PoseDetection'", "'VoxelDetection'", "codebase_config.task"),
    ("[256, 256]", "[256]", "onnx_config.input_shape"),
])
def test_deploy_configs_are_refused_by_field(tmp_path, old, new, field):
    with pytest.raises(UserError, match=f"^[^\n]*config.py: {field} is [^\n]*$"):
        read_deploy_config(written(tmp_path, DEPLOY, (old, new)))


def test_the_job_takes_precision_from_a_deploy_config(tmp_path, script):
    """Of mmdeploy's input (width, height) and of its precision; --vulkan is refused in a sentence."""
    command = ("run.py", "--targets", "ncnn", "--network", "hourglass", "--demo", "--plan", "--deploy_cfg",
               written(tmp_path, DEPLOY))
    pytest.importorskip("ncnn")
    pytest.importorskip("pnnx")
    assert "hourglass_small_int8.param --calibration" in script(*command).stdout
    written(tmp_path, DEPLOY, ("[256, 256]", "[192, 256]"))
    assert "onnx_config.input_shape is (192, 256)" in one_error(script(*command))
    assert "--vulkan: ncnn runs on the CPU" in one_error(script(*command[:-2], "--vulkan"))
