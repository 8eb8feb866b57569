"""What run.py would run: which commands, with which files, for each target; and what it refuses before it runs any."""
from __future__ import annotations

import re
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Dict, List

import pytest
from conftest import ROOT, done, make_coco, one_error, patch_model

import jobs.targets
from contract.errors import UserError
from jobs.arguments import parse_args
from jobs.plan import plan
from jobs.series import make_choices, make_jobs

WORK = "/w"


def install(monkeypatch, but: str = "") -> None:
    """As if every package were here, `but` one; which of them are is the machine's affair."""
    monkeypatch.setattr("contract.packages.importlib", SimpleNamespace(
        util=SimpleNamespace(find_spec=lambda name: None if name == but else name)))


@pytest.fixture(autouse=True)
def every_package(monkeypatch, tmp_path):
    """And in the user's folder m.onnx, of any batch size, m_bs4.onnx, and bins to calibrate on."""
    install(monkeypatch)
    monkeypatch.setattr("ascend.job.missing_packages", lambda runner: [])
    monkeypatch.chdir(tmp_path)
    patch_model(tmp_path / "m.onnx")
    patch_model(tmp_path / "m_bs4.onnx", 4)
    (tmp_path / "calib").mkdir()
    (tmp_path / "calib" / "1.bin").touch()


def jobs_of(*arguments: str) -> list:
    args = parse_args([*arguments, "--work", WORK])
    return make_jobs(args, make_choices(args))


def commands(*arguments: str) -> List[str]:
    """Of all stages of all jobs, each without the flags that all targets get alike."""
    return [shlex.join(stage.command).replace(f"{WORK}/", "") for job in jobs_of(*arguments) for stage in plan(job)]


def programs(*arguments: str) -> List[str]:
    return [re.match(r"(?:-m )?(\S+)", command)[1] for command in commands(*arguments)]


def flags(command: str) -> Dict[str, str]:
    return dict(re.findall(r"(--\w+) ([^-]\S*)", command))


CALIBRATED = ["--calibration", "calib"]
SAME_END = ["infer.py", "infer.py", "postprocess.py"]


@pytest.mark.parametrize("arguments, expected", [
    (["cpu"], ["preprocess.py", "pth2onnx.py", *SAME_END]),
    (["pytorch"], ["preprocess.py", *SAME_END]),
    (["gpu"], ["detection.export", "backends.tensorrt.build", "detect.py", "preprocess.py", "pth2onnx.py",
               "backends.tensorrt.build", *SAME_END]),
    (["gpu", "--runner", "pytorch"], ["detect.py", "preprocess.py", *SAME_END]),
    (["Ascend310P3"], ["detection.export", "ascend.atc", "detect.py", "preprocess.py", "pth2onnx.py", "ascend.atc",
                       "ascend.ais_bench", "ascend.ais_bench", "postprocess.py"]),
    (["Ascend310P3", "--runner", "acl", "--gt_boxes"], ["preprocess.py", "pth2onnx.py", "ascend.atc", *SAME_END]),
    (["openvino"], ["preprocess.py", "pth2onnx.py", *SAME_END]),
    (["openvino", "--model", "m.xml"], ["preprocess.py", *SAME_END]),
    (["ncnn"], ["preprocess.py", "pth2onnx.py", "backends.ncnn.build", *SAME_END]),
    (["ncnn-int8", *CALIBRATED],
     ["preprocess.py", "pth2onnx.py", "backends.ncnn.build", "backends.ncnn.quantize", *SAME_END]),
    (["cpu", "--precision", "int8", *CALIBRATED], ["preprocess.py", "pth2onnx.py", "quantize.py", *SAME_END]),
    (["openvino-int8", *CALIBRATED], ["preprocess.py", "pth2onnx.py", "quantize.py", *SAME_END]),
    (["gpu-int8", "--gt_boxes", *CALIBRATED],
     ["preprocess.py", "pth2onnx.py", "quantize.py", "backends.tensorrt.build", *SAME_END]),
    (["Ascend310P3-int8", "--gt_boxes", *CALIBRATED],
     ["preprocess.py", "pth2onnx.py", "quantize.py", "ascend.quantize", "ascend.atc", "ascend.ais_bench",
      "ascend.ais_bench", "postprocess.py"]),
    (["cpu-int8", "--demo"], ["preprocess.py", "pth2onnx.py", "preprocess.py", "quantize.py", *SAME_END]),
    (["ncnn", "--model", "m.onnx"], ["preprocess.py", "backends.ncnn.build", *SAME_END]),
    (["ncnn", "--model", "m.param", "--no_flip"], ["preprocess.py", "infer.py", "postprocess.py"]),
    (["cpu", "--model", "m.onnx"], ["preprocess.py", *SAME_END]),
    (["cpu", "--model", "m.onnx", "--detector_model", "d.onnx"], ["detect.py", "preprocess.py", *SAME_END]),
    (["gpu", "--model", "m.engine", "--detector_model", "d.engine"], ["detect.py", "preprocess.py", *SAME_END]),
    (["gpu", "--model", "m.onnx", "--detections", "d.json"], ["preprocess.py", "backends.tensorrt.build", *SAME_END]),
    (["Ascend310P3", "--model", "m.om", "--detector_model", "d.onnx"],
     ["ascend.atc", "detect.py", "preprocess.py", "ascend.ais_bench", "ascend.ais_bench", "postprocess.py"])])
def test_the_stages_of_a_target(arguments, expected):
    assert programs("--targets", *arguments) == expected


@pytest.mark.parametrize("arguments, model", [
    (["cpu"], "/w/models/fast_res50_256x192_bs4.onnx"),
    (["cpu", "--uint8"], "/w/models/fast_res50_256x192_bs4_uint8.onnx"),
    (["openvino", "--device", "GPU"], "/w/models/fast_res50_256x192_bs4.onnx"),
    (["ncnn"], "/w/models/fast_res50_256x192_fp32.param"),
    (["ncnn", "--device", "cpu"], "/w/models/fast_res50_256x192_fp32.param"),
    (["ncnn", "--precision", "fp16"], "/w/models/fast_res50_256x192_fp16.param"),
    (["ncnn", "--precision", "bf16"], "/w/models/fast_res50_256x192_fp32.param"),
    (["ncnn", "--precision", "int8", *CALIBRATED], "/w/models/fast_res50_256x192_int8.param"),
    (["ncnn-int8", "--network", "hourglass", *CALIBRATED], "/w/models/hourglass52_coco_256x256_int8.param"),
    (["cpu-int8", "--uint8", *CALIBRATED], "/w/models/fast_res50_256x192_bs4_uint8_int8_cpu.onnx"),
    (["gpu", "--precision", "int8", *CALIBRATED], "/w/models/fast_res50_256x192_bs4_int8_tensorrt_int8.engine"),
    (["Ascend310P3-int8", "--uint8", *CALIBRATED], "/w/models/fast_res50_256x192_bs4_deploy_uint8.om"),
    (["Ascend310P3", "--uint8"], "/w/models/fast_res50_256x192_bs4_uint8.om"),
    (["Ascend310P3", "--gears", "1,4"], "/w/models/fast_res50_256x192_gears.om"),
    (["gpu", "--model", "m.onnx"], "/w/models/m_fp16.engine")])
def test_the_model_that_is_built_is_run(arguments, model):
    job, = jobs_of("--targets", *arguments, "--batch", "4")
    *before, normal, mirrored, _ = plan(job)
    assert [stage.command[stage.command.index("--model") + 1] for stage in (normal, mirrored)] == [model, model]
    assert Path(model) in [path for stage in before for path in stage.leaves]


@pytest.mark.parametrize("arguments, model", [
    (["pytorch"], "models/fast_res50_256x192.pth"), (["cpu", "--model", "m.onnx"], "USER/m.onnx"),
    (["gpu", "--model", "/m/x.engine"], "/m/x.engine"), (["Ascend310P3", "--model", "/m/x.om"], "/m/x.om")])
def test_a_model_that_is_there_is_run_as_it_is(arguments, model):
    *_, normal, mirrored, _ = commands("--targets", *arguments)
    assert flags(normal)["--model"] == flags(mirrored)["--model"] == model.replace("USER", str(Path.cwd()))


def test_every_stage_reads_what_is_given_or_was_made():
    for arguments in (["cpu"], ["pytorch"], ["gpu", "--precision", "int8"], ["Ascend310P3-int8", "--device", "0,1"]):
        job, = jobs_of("--targets", *arguments, *CALIBRATED)
        there = {job.dataroot, job.checkpoint, job.cfg, job.weights, job.yolo_cfg, job.calibration}
        for stage in plan(job):
            assert there >= {path for path in stage.reads if path != job.manifest}, stage.name
            there |= set(stage.leaves)


def test_normal_and_mirrored_bins_meet_again_in_the_score():
    *_, normal, mirrored, score = commands("--targets", "cpu")
    assert (flags(normal)["--input"], flags(mirrored)["--input"]) == ("prep_data", "prep_data_flip")
    assert flags(score)["--dump_dir"] == f"results/{flags(normal)['--output_dirname']}" == "results/cpu_bs16"
    assert flags(score)["--dump_dir_flip"] == f"results/{flags(mirrored)['--output_dirname']}"


def test_int8_is_calibrated_on_other_photos_and_finds_people_in_float32(tmp_path):
    """On 100 of them, by the people that the weights find there."""
    for name in ("photos/1.jpg", "weights", "cfg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = commands("--targets", "gpu", "--precision", "int8", "--calibration", "photos", "--weights", "weights",
                     "--yolo_cfg", "cfg")
    detector, pose = (one for one in found if "tensorrt.build" in one)
    assert flags(detector)["--precision"] == "fp32" and flags(pose)["--precision"] == "int8"
    scored, calibration = (one for one in found if one.startswith("preprocess.py"))
    assert flags(calibration)["--images"] == str(tmp_path / "photos") and flags(calibration)["--limit"] == "100"
    quantize, = (one for one in found if one.startswith("quantize.py"))
    assert flags(quantize)["--input"] == flags(calibration)["--output"] != flags(scored)["--output"]
    assert flags(quantize)["--target"] == "tensorrt" and quantize.split()[1] != pose.split()[2]


@pytest.mark.parametrize("target", ["cpu", "openvino"])
def test_one_pass_in_int8_quantises_the_network_and_puts_the_rest_around_it(target):
    job, = jobs_of("--targets", target, "--precision", "int8", "--one_pass", "--batch", "4", *CALIBRATED)
    *_, export, quantize, wrap, infer, _ = (stage for stage in plan(job) if stage.name != "preprocess.py")
    assert "--one_pass" not in export.command and set(quantize.reads) & set(export.leaves)
    assert wrap.command[2] == str(quantize.leaves[0]) and "--one_pass" in wrap.command
    assert infer.command[infer.command.index("--model") + 1] == str(wrap.leaves[0])
    with pytest.raises(UserError, match="int8 of one pass is made of the checkpoint"):
        jobs_of("--targets", target, "--precision", "int8", "--one_pass", "--model", "m.onnx", *CALIBRATED)


def test_int8_of_the_demo_is_calibrated_on_photos_of_another_seed():
    from jobs.series import render, render_calibration

    args = parse_args(["--targets", "cpu-int8", "--demo"])
    jobs = make_jobs(args, make_choices(args))
    scored, calibration = (flags(shlex.join(one.command)) for one in [*render(args), *render_calibration(args, jobs)])
    assert scored["--output"] != calibration["--output"] and "--seed" not in scored and calibration["--seed"] != "17"
    assert not render_calibration(args, jobs_of("--targets", "cpu", "--demo"))


def test_a_model_that_is_int8_is_run_as_it_is(tmp_path):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(str(tmp_path / "m.onnx"))
    model.graph.node.append(onnx.helper.make_node("QuantizeLinear", ["image", "scale"], ["levels"]))
    onnx.save(model, str(tmp_path / "q.onnx"))
    assert programs("--targets", "cpu-int8", "--model", "q.onnx") == ["preprocess.py", *SAME_END]


def test_people_that_the_first_finds_are_everybodys():
    found = commands("--targets", "gpu", "cpu", "--batch", "1", "16")
    assert sum("detect.py" in one for one in found) == 1
    assert [flags(one)["--detections"] for one in found if "preprocess.py" in one] == ["detections_gpu.json"] * 4


def test_both_kinds_of_boxes_have_folders_of_their_own():
    annotated, detected = (one for one in commands("--targets", "cpu", "--boxes", "annotated", "detected")
                           if "preprocess.py" in one)
    assert "--gt_boxes" in annotated and flags(annotated)["--output"] == "prep_data_annotated"
    assert "--gt_boxes" not in detected and flags(detected)["--output"] == "prep_data_detected"


def test_photos_and_annotations_of_their_own():
    """Absolute, because the stages do not run where the user is."""
    found = commands("--targets", "gpu", "--images", "photos", "--annotations", "a.json")
    for program, names in (("detect.py", {"--images", "--annotations"}), ("postprocess.py", {"--annotations"}),
                           ("preprocess.py", {"--images", "--annotations"})):
        command, = (one for one in found if one.startswith(program))
        there = {"--images": str(Path("photos").absolute()), "--annotations": str(Path("a.json").absolute())}
        assert {name: value for name, value in flags(command).items() if name in there} == \
            {name: there[name] for name in names}


@pytest.mark.parametrize("target, stages", [("cpu", ["preprocess.py"]), ("gpu", ["detection.export"]),
                                            ("Ascend310P3", ["detection.export"])])
def test_the_class_of_people_goes_to_whoever_reads_the_weights(target, stages):
    for number in ("0", "14"):
        taken = [one for one in commands("--targets", target, "--person_class", number) if "--person_class" in one]
        assert [re.match(r"(?:-m )?(\S+)", one)[1] for one in taken] == stages
        assert flags(taken[0])["--person_class"] == number


def test_the_class_of_people_goes_to_detect_where_it_reads_the_weights():
    taken = [one for one in commands("--targets", "gpu", "--runner", "pytorch", "--person_class", "14")
             if "--person_class 14" in one]
    assert len(taken) == 1 and taken[0].startswith("detect.py")


def test_the_category_of_people_goes_to_preprocess():
    taken = [one for one in commands("--targets", "gpu", "cpu", "--detections", "d.json", "--person_category", "0")
             if "--person_category 0" in one]
    assert len(taken) == 2 and all(one.startswith("preprocess.py") for one in taken)


@pytest.mark.parametrize("batch", [["--batch", "1", "16"], ["--batch", "1 16"], ["--batch", "1,16"]])
def test_batch_sizes(batch):
    assert [job.batch for job in jobs_of("--targets", "cpu", *batch)] == [1, 16]


def refused(capsys, *arguments: str) -> str:
    """What is said of a command line that must end with exit code 2."""
    from contract.script import exit_code

    assert exit_code(lambda: jobs_of(*arguments) and None) == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize("target, options, who", [
    ("pytorch", ["--precision", "int8"], "gpu with tensorrt"), ("cpu", ["--gears", "1,4"], "Ascend310P3"),
    ("cpu", ["--precision", "banana"], "fp32, fp16, int8"), ("cpu", ["--device", "3"], "Ascend310P3"),
    ("pytorch", ["--precision", "fp16"], "gpu with pytorch"), ("cpu", ["--runner", "acl"], "ais_bench, acl"),
    ("gpu", ["--precision_mode", "force_fp32"], "Ascend310P3"), ("Ascend310P3", ["--precision", "fp16"], "gpu"),
    ("Ascend310P3", ["--precision_mode", "fp16"], "force_fp16, force_fp32"),
    ("gpu", ["--runner", "tensorrt", "--precision", "bf16"], "gpu with pytorch: fp32, fp16, bf16")])
def test_an_option_that_the_target_does_not_take(capsys, target, options, who):
    line = refused(capsys, "--targets", target, *options)
    assert f"{' '.join(options[-2:])} is not for {target}" in line and who in line


def test_with_several_targets_an_option_goes_to_those_that_take_it(capsys):
    taken = {job.target: job.options for job in jobs_of("--targets", "cpu", "gpu", "--precision", "fp16")}
    assert taken == {"cpu": {}, "gpu": {"precision": "fp16"}}
    assert "is not for cpu, pytorch" in refused(capsys, "--targets", "cpu", "pytorch", "--precision", "fp16")


def test_the_name_of_a_target_can_say_int8(capsys):
    jobs = jobs_of("--targets", "cpu", "cpu-int8", "--precision", "fp32", *CALIBRATED)
    assert [(job.machine, job.precision, job.dumps().name) for job in jobs] == \
        [("cpu", "fp32", "cpu_bs16"), ("cpu", "int8", "cpu-int8_bs16")]
    assert "pytorch with pytorch has no int8" in refused(capsys, "--targets", "pytorch-int8")


def test_layers_that_int8_leaves_float_have_a_precision_of_their_own(capsys):
    given = ("--float_layers", "bf16", *CALIBRATED)
    for target in (["openvino-int8"], ["openvino", "--precision", "int8"]):
        *_, mirrored, _ = commands("--targets", *target, *given)
        assert flags(mirrored)["--precision"] == "bf16"
    float32, int8 = jobs_of("--targets", "openvino", "openvino-int8", *given)
    assert not float32.options and int8.options == {"float_layers": "bf16"}
    assert "It is taken by openvino in int8: fp32, bf16" in refused(capsys, "--targets", "openvino", *given)


def test_the_table_says_who_got_an_option():
    from jobs.tables import who_got_options

    args = parse_args(["--targets", "cpu", "gpu", "--precision", "fp16"])
    assert who_got_options(make_choices(args)) == "--precision fp16: gpu"


@pytest.mark.parametrize("arguments, message", [
    (["--targets", "moon"], "unknown target moon"), (["--targets", "cpu", "--batch", "0"], "at least 1"),
    (["--targets", "cpu", "--batch", "4", "--batch", "8"], "given twice"), (["--targets"], "expected --targets"),
    (["--targets", "cpu", "--limit", "0"], "at least 1"), (["--targets", "cpu", "--repeat", "3"], "without --sweep"),
    (["--sweep", "--gears", "1"], "with --sweep"), (["--targets", "cpu", "--demo", "--cfg", "x"], "brings its own"),
    (["--targets", "cpu", "--gt_boxes", "--detections", "x"], "do not go together"),
    (["--targets", "cpu", "--person_class", "0", "--detections", "x"], "do not go together"),
    (["--targets", "cpu", "--person_class", "0", "--boxes", "annotated"], "do not go together"),
    (["--targets", "cpu", "--person_category", "0"], "needs --detections"),
    (["--targets", "gpu", "--device", "0,0"], "different ids"), (["--targets", "gpu", "--device", "one"], "ids"),
    (["--targets", "Ascend310P3", "--gears", "1,4"], "none for a batch of 16"),
    (["--targets", "Ascend310P3-int8", "--gears", "1,16", *CALIBRATED], "int8 is built for one batch size"),
    (["--targets", "cpu-int8", "--calibration", "nowhere"], "there are none in"),
    (["--targets", "cpu-int8", "--calibration", "."], "is not there. Give it, or bins with --calibration"),
    (["--targets", "cpu", "--model", "x.om"], "runs .onnx"),
    (["--targets", "cpu", "--model", "m_bs4.onnx"], "takes batches of 4, but --batch is 16"),
    (["--targets", "pytorch", "--model", "x.onnx"], "no model")])
def test_usage(capsys, arguments, message):
    assert message in refused(capsys, *arguments)


def test_all_that_is_missing_is_told_at_once(tmp_path, main):
    data = make_coco(tmp_path / "coco")
    (data / "annotations" / "person_keypoints_val2017.json").unlink()
    line = one_error(main("run", "--targets", "cpu", "--dataroot", data, "--checkpoint", "nope.pth", "--weights",
                          tmp_path / "w", "--cfg", "none.yaml", "--work", tmp_path / "work", "--gt_boxes"))
    assert all(word in line for word in ("nope.pth (--checkpoint)", "none.yaml (--cfg)", "person_keypoints"))
    assert not (tmp_path / "work").exists()


def test_packages_that_an_export_needs_are_missed_before_the_first_stage(capsys, monkeypatch):
    install(monkeypatch, but="torch")
    assert "cpu needs the Python packages torch" in refused(capsys, "--targets", "cpu")
    jobs_of("--targets", "cpu", "--model", "m.onnx")  # which needs none


def test_without_tensorrt_a_gpu_is_pytorchs(monkeypatch):
    install(monkeypatch, but="cuda")
    choice, = make_choices(parse_args(["--targets", "gpu"]))
    assert (choice.runner, "no cuda-python" in choice.reason) == ("pytorch", True)


def test_the_plan_is_printed_and_nothing_is_made(main, tmp_path):
    text = done(main("run", "--targets", "cpu", "--demo", "--plan", "--work", tmp_path / "work"))
    assert f"{tmp_path}/work/prep_data" in text and not (tmp_path / "work").exists()
    for line in (line for line in text.splitlines() if line.startswith("python3 ")):
        program = shlex.split(line)[1]
        assert program == "-m" or (ROOT / program).exists()


def test_rooms_answer_what_jobs_ask():
    for target in (*jobs.targets.TARGETS, "Ascend310P3"):
        for runner in jobs.targets.runners_of(target):
            room = jobs.targets.room_of(target, runner)
            assert all(callable(getattr(room, name)) for name in ("options", "missing_packages", "precision", "check",
                                                                  "find_people", "build", "run"))
