"""One pass: the joints that a model finds itself are those of the two folders, ties included, on every backend."""
from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ascend_cases import run
from conftest import done, dumps_in, one_error, patch_model, read_score, write_config
from tensorrt_build_cases import plan_of

from contract.onnx_file import read_facts
from contract.spec import KEYPOINTS
from pose.decoders import DECODERS, heatmaps_to_keypoints
from pose.heatmaps import FLIP_SHIFTS, flip_back
from pose.spec import PoseSpec, load_spec
from tests.emulator import environment
from tests.heatmap_cases import gaussians

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxsim")

from networks.one_pass import FINDERS, Decode  # noqa: E402
from networks.onnx_export import export_module  # noqa: E402
from tests.tensorrt_emulator import environment as gpu_environment  # noqa: E402

HEIGHT, WIDTH = 16, 12
SIZES = {"input_size": (64, 48), "heatmap_size": (HEIGHT, WIDTH)}
# TensorRT 8.4's list (onnx-tensorrt, docs/operators.md) without Mod; the emulated atc knows its own.
OPERATORS = {"Cast", "Sub", "Mul", "Add", "Div", "Transpose", "Gather", "Concat", "Constant", "Reshape", "ReduceMax",
             "ArgMax", "Greater", "Less", "And", "Where", "GatherElements", "Sign", "Sigmoid", "Softmax", "MatMul",
             "ReduceSum"}
OF_DARK = {"Conv", "Clip", "Log", "Abs"}
ROW_BYTES = 17 * 3 * 4


def spec_of(decode: str) -> PoseSpec:
    return PoseSpec(**SIZES, decode=decode)


def both_heatmaps(kind: str, people: int = 6) -> np.ndarray:
    """(2 N, 17, h, w): of crops and then of their mirror images, of one kind."""
    rng = np.random.default_rng(5)
    maps = rng.standard_normal((2 * people, 17, HEIGHT, WIDTH)).astype(np.float32)
    if kind == "people":  # some at the border, where a peak stays, and some joints that are not there
        tops = gaussians(rng.uniform((-1, -1), (WIDTH, HEIGHT), (2 * people, 17, 2)), HEIGHT, WIDTH)
        tops[0, :3] = 0
        return tops + 0.01 * np.abs(maps)
    if kind == "ties":
        return np.round(maps)
    if kind == "nothing positive":
        return -np.abs(np.round(maps))
    if kind == "zeros":
        return maps * 0
    if kind == "huge":
        return maps * np.float32(1e30)
    if kind == "borders":
        maps[:, :, 2:-2, 2:-2] -= 9
    return maps


def oracle(maps: np.ndarray, decode: str, flip_shift: str) -> np.ndarray:
    """(N, 17, 3) x, y in pixels of the crop and scores, by the stages' own arithmetic in numpy."""
    normal, mirrored = np.split(maps, 2) if flip_shift else (maps, None)
    both = [normal] if mirrored is None else [normal, FLIP_SHIFTS[flip_shift](flip_back(mirrored))]
    positions, scores = DECODERS[decode].decode(both)
    return np.concatenate([positions * 4, scores[..., None]], axis=2)


def decoder_in_onnx(decode: str, flip_shift: str, opset: int):
    spec = spec_of(decode).one_pass(flip_shift)
    model = export_module(Decode(spec).eval(), torch.zeros(2, 17, HEIGHT, WIDTH), "maps", KEYPOINTS, opset, True)
    allowed = OPERATORS | {"Identity"} | (OF_DARK if decode == "dark" else set())
    assert {node.op_type for node in model.graph.node} <= allowed
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def test_every_decoder_can_be_inside_a_model():
    assert FINDERS.keys() == DECODERS.keys() - {KEYPOINTS}


@pytest.mark.parametrize("decode, flip_shift, opset", [
    *((decode, shift, 11) for decode in FINDERS for shift in ("clean", None)), ("peak", "original", 11),
    ("peak", "clean", 13), ("mmpose-1.x", "clean", 17), ("regression_softmax", "clean", 13)])
def test_the_graph_reads_heatmaps_as_the_stages_do(decode, flip_shift, opset):
    """Peaks bit for bit, with ties, at borders, and where nothing is positive; expectations to rounding. DARK
    divides by second derivatives, which noise has of any size."""
    session = decoder_in_onnx(decode, flip_shift, opset)
    for kind in ("people",) if decode == "dark" else ("noise", "ties", "nothing positive", "zeros", "huge", "borders"):
        if kind == "huge" and decode.startswith("regression"):
            continue  # numpy's exp overflows
        maps = both_heatmaps(kind)
        found, expected = session.run(None, {"maps": maps})[0], oracle(maps, decode, flip_shift)
        if decode == "dark":
            np.testing.assert_array_equal(found[..., 2], expected[..., 2])
            np.testing.assert_allclose(found, expected, atol=1e-3)
        elif DECODERS[decode].of_the_mean:
            np.testing.assert_array_equal(found, expected, err_msg=kind)
        else:
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5, err_msg=kind)


def test_the_columns_are_those_of_the_reference():
    """At the published size, as the reference tells the smear: 17 holds column 15, 33 to 47 hold column 31."""
    clean, original = (PoseSpec().one_pass(shift).inside.columns for shift in ("clean", "original"))
    mirrored = list(range(47, -1, -1))
    assert list(clean) == [mirrored[0], *mirrored[:-1]]
    smeared = [0, *range(16), 15, *range(17, 32), *[31] * 15]
    assert list(original) == [mirrored[column] for column in smeared]


@pytest.fixture(scope="module")
def work(coco, script, tmp_path_factory) -> SimpleNamespace:
    """Bins of bytes, a heatmap model of random weights, its one-pass models, and the dumps of both ways."""
    folder = tmp_path_factory.mktemp("one_pass")
    cfg = write_config(folder / "small.yaml")
    patch_model(folder / "m.onnx")
    done(script("preprocess.py", "--dataroot", coco, "--detections", coco / "detections.json", "--cfg", cfg, "--dtype",
                "uint8", "--output", folder / "bins", "--output_flip", folder / "bins_flip"))
    for dtype in ("uint8", "float32"):
        done(script("pth2onnx.py", cfg, folder / "m.onnx", folder / "m.onnx", "--one_pass", "--also_heatmaps",
                    "--dtype", dtype, "--batch", 4))
    done(script("infer.py", "--model", folder / "m_one_pass.onnx", "--input", folder / "bins", "--output",
                folder / "results", "--output_dirname", "one"))
    return SimpleNamespace(folder=folder, cfg=cfg, coco=coco, bins=folder / "bins", one=folder / "results" / "one")


def crops_in(folder: Path) -> np.ndarray:
    return np.stack([np.fromfile(path, np.uint8).reshape(64, 48, 3) for path in sorted(folder.glob("*.bin"))])


def two_folders(work: SimpleNamespace, crops: np.ndarray) -> np.ndarray:
    """What two runs of the heatmap model and the stages' decoding make of the crops' bytes."""
    from networks.fastpose import PixelInput

    spec = load_spec(work.cfg)
    session = onnxruntime.InferenceSession(str(work.folder / "m.onnx"), providers=["CPUExecutionProvider"])
    tensors = PixelInput(spec.mean, spec.std)(torch.from_numpy(crops)).numpy()
    maps = [session.run(None, {"image": np.ascontiguousarray(rows)})[0] for rows in (tensors, tensors[..., ::-1])]
    return oracle(np.concatenate(maps), "peak", "clean")


def test_dumps_are_those_of_two_folders_and_204_bytes(work):
    assert {path.stat().st_size for path in work.one.glob("*.bin")} == {ROW_BYTES}
    assert json.loads((work.one / "settings.json").read_text())["outputs"] == {"keypoints": [17, 3]}
    np.testing.assert_array_equal(dumps_in(work.one, (17, 3)), two_folders(work, crops_in(work.bins)))


@pytest.mark.parametrize("levels", [2, 3])
def test_ties_of_real_bytes_fall_alike(work, levels):
    """Crops of few grey levels, whose heatmaps are full of equal values."""
    crops = np.random.default_rng(levels).integers(0, levels, (5, 8, 6, 1), np.uint8) * 255 // (levels - 1)
    crops = np.ascontiguousarray(np.broadcast_to(crops.repeat(8, 1).repeat(8, 2), (5, 64, 48, 3)).astype(np.uint8))
    session = onnxruntime.InferenceSession(str(work.folder / "m_one_pass.onnx"), providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(session.run(None, {"image": crops})[0], two_folders(work, crops))


def test_files_of_one_batch_are_static_and_plain(work):
    for name in ("m_bs4_one_pass", "m_bs4_one_pass_float32", "m_bs4_one_pass_heatmaps"):
        model = onnx.load(str(work.folder / f"{name}.onnx"))
        onnx.checker.check_model(model, full_check=True)
        assert {node.op_type for node in model.graph.node} <= OPERATORS | {"Conv"}
        for value in onnx.shape_inference.infer_shapes(model, strict_mode=True).graph.value_info:
            assert all(size.dim_value > 0 for size in value.type.tensor_type.shape.dim), value.name
    shape = [size.dim_value for size in model.graph.output[0].type.tensor_type.shape.dim]
    assert model.graph.output[0].name == "output" and shape == [4, 17, HEIGHT, WIDTH]


def test_the_graph_for_float32_crops_finds_the_same(work):
    from networks.fastpose import PixelInput

    spec, crops = load_spec(work.cfg), crops_in(work.bins)[:4]
    tensors = np.ascontiguousarray(PixelInput(spec.mean, spec.std)(torch.from_numpy(crops)).numpy())
    found, expected = (onnxruntime.InferenceSession(str(work.folder / f"m_bs4_one_pass{dtype}.onnx")).run(
        None, {"image": rows})[0] for dtype, rows in (("_float32", tensors), ("", crops)))
    np.testing.assert_array_equal(found, expected)


def test_a_rerun_keeps_the_file_and_other_options_replace_it(work, main, tmp_path):
    export = ("pth2onnx", work.cfg, work.folder / "m.onnx", tmp_path / "m.onnx", "--one_pass")
    assert "written" in done(main(*export)) and "kept" in done(main(*export))
    assert "written" in done(main(*export, "--flip_shift", "original"))
    assert "written" in done(main(*export, "--no_flip"))


def test_an_onnx_file_of_one_batch_size_serves_any(work, main, tmp_path):
    patch_model(tmp_path / "one.onnx", 1)
    done(main("pth2onnx", work.cfg, tmp_path / "one.onnx", tmp_path / "one.onnx", "--one_pass", "--batch", 3))
    crops = crops_in(work.bins)[:3]
    session = onnxruntime.InferenceSession(str(tmp_path / "one_bs3_one_pass.onnx"))
    np.testing.assert_array_equal(session.run(None, {"image": crops})[0], two_folders(work, crops))


def test_a_real_network_on_real_crops(shared, main, tmp_path):
    """Trained on COCO, exported by mxnet at opset 8: every joint of every golden crop, bit for bit."""
    from networks.fastpose import PixelInput

    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    cfg = write_config(tmp_path / "u.yaml", (256, 192), (64, 48), "TYPE: Ultralight", MEAN=mean, STD=std)
    source = shared / "models" / "ultralight_simplepose.onnx"
    done(main("pth2onnx", cfg, source, tmp_path / "u.onnx", "--one_pass"))
    crops = np.load(shared / "golden" / "crops.npz")["crop_u8"]
    found = onnxruntime.InferenceSession(str(tmp_path / "u_one_pass.onnx")).run(None, {"image": crops})[0]
    tensors = PixelInput(mean, std)(torch.from_numpy(crops)).numpy()
    maps = [onnxruntime.InferenceSession(str(source)).run(None, {"data": np.ascontiguousarray(rows)})[0]
            for rows in (tensors, tensors[..., ::-1])]
    expected = oracle(np.concatenate(maps), "peak", "clean")
    np.testing.assert_array_equal(found[..., :2], expected[..., :2])
    np.testing.assert_allclose(found[..., 2], expected[..., 2], rtol=0, atol=1e-6)


@pytest.mark.parametrize("arguments, message", [
    (["CFG", "ONNX", "--no_flip"], "--no_flip: only with --one_pass"),
    (["CFG", "ONNX", "--flip_shift", "original"], "--flip_shift: only with --one_pass"),
    (["CFG", "ONNX", "--one_pass", "--no_flip", "--flip_shift", "original"], "original: not with --no_flip"),
    (["CFG", "OTHER", "--one_pass"], "expected one of float32"),
    (["configs/bot_r50_market1501.yaml", "ONNX", "--one_pass"], "finds no joints"),
    (["TALL", "ONNX", "--one_pass"], "not of the shape of IMAGE_SIZE"),
    (["REGRESSION", "ONNX", "--one_pass", "--also_heatmaps"], "has no mean of heatmaps"),
    (["DONE", "ONNX", "--one_pass"], "the model does already")])
def test_bad_input_is_one_line(work, main, tmp_path, arguments, message):
    text = work.cfg.read_text()
    (tmp_path / "regression.yaml").write_text(text.replace("TYPE: MSELoss", "TYPE: L1JointRegression"))
    (tmp_path / "done.yaml").write_text(f"{text}DECODE: keypoints\n")
    places = {"CFG": work.cfg, "ONNX": work.folder / "m.onnx", "REGRESSION": tmp_path / "regression.yaml",
              "OTHER": patch_model(tmp_path / "other.onnx", input_size=(32, 32)), "DONE": tmp_path / "done.yaml",
              "TALL": write_config(tmp_path / "tall.yaml", (64, 48), (32, 12))}
    config, model, *flags = (places.get(argument, argument) for argument in arguments)
    assert message in one_error(main("pth2onnx", config, model, tmp_path / "out.onnx", *flags))


def test_postprocess_scores_them_as_two_folders_do(work, main, tmp_path):
    for name, suffix in (("two", ""), ("two_flip", "_flip")):
        done(main("pth2onnx", work.cfg, work.folder / "m.onnx", tmp_path / "plain.onnx", "--one_pass",
                  "--also_heatmaps", "--no_flip"))
        done(main("infer", "--model", tmp_path / "plain_one_pass_heatmaps.onnx", "--input", f"{work.bins}{suffix}",
                  "--output", tmp_path, "--output_dirname", name))
    score = ("postprocess", "--dataroot", work.coco, "--manifest", work.bins / "manifest.json", "--cfg", work.cfg)
    table = done(main(*score, "--dump_dir", work.one, "--output", tmp_path / "score_one"))
    done(main(*score, "--dump_dir", tmp_path / "two", "--dump_dir_flip", tmp_path / "two_flip", "--output",
              tmp_path / "score_two"))
    assert read_score(tmp_path / "score_one").results == read_score(tmp_path / "score_two").results
    assert read_score(tmp_path / "score_one").settings["one_pass"] and "people/s in the model" in table
    refused = main(*score, "--dump_dir", work.one, "--dump_dir_flip", tmp_path / "two_flip")
    assert "mirrored the crops itself" in one_error(refused)
    both = f"{tmp_path / 'two'},{tmp_path / 'two_flip'}"
    compared = main("compare", f"two={both}", f"one={work.one}", "--manifest", work.bins / "manifest.json", "--gate",
                    "fp32", "--dataroot", work.coco, "--json", tmp_path / "c.json", "--bootstrap", 0)
    assert compared.returncode == 0 and "tensors and heatmaps: not compared" in compared.stdout
    assert json.loads((tmp_path / "c.json").read_text())["pairs"][0]["levels"].keys() == {"keypoints", "score"}


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_dumps_of_ais_bench_tell_themselves_by_their_size(work, main, tmp_path, dtype):
    for path in work.one.glob("*.bin"):
        np.fromfile(path, np.float32).astype(dtype).tofile(tmp_path / path.name)
    score = ("postprocess", "--dataroot", work.coco, "--manifest", work.bins / "manifest.json", "--cfg", work.cfg,
             "--dump_dir", tmp_path, "--output", tmp_path / "score")
    done(main(*score))
    assert read_score(tmp_path / "score").settings["one_pass"]
    assert main("compare", work.one, tmp_path).returncode == 0  # without a manifest, of whole crops


def test_no_mirrored_bins_are_made(work, preprocess, tmp_path):
    done(preprocess("--no_flip"))
    assert (tmp_path / "out" / "manifest.json").exists() and not (tmp_path / "out_flip").exists()
    done(preprocess())  # the mirrored ones can follow, and those that are there are kept
    assert len(list((tmp_path / "out_flip").glob("*.bin"))) == len(list((tmp_path / "out").glob("*.bin")))


def test_torch_finds_them_too(main, coco, tmp_path):
    """The PyTorch room, from a checkpoint: against the ONNX file of the same checkpoint."""
    from networks.registry import build_network

    cfg = write_config(tmp_path / "narrow.yaml", (64, 32), (16, 8), "TYPE: FastPose, WIDTH: 0.05")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(build_network(load_spec(cfg)).state_dict(), tmp_path / "narrow.pth")
    done(main("preprocess", "--dataroot", coco, "--detections", coco / "detections.json", "--cfg", cfg, "--dtype",
              "uint8", "--output", tmp_path / "bins", "--no_flip"))
    done(main("pth2onnx", cfg, tmp_path / "narrow.pth", tmp_path / "narrow.onnx", "--one_pass"))
    infer = ("infer", "--cfg", cfg, "--input", tmp_path / "bins", "--output", tmp_path)
    done(main(*infer, "--model", tmp_path / "narrow.pth", "--one_pass", "flip", "--output_dirname", "torch"))
    done(main(*infer, "--model", tmp_path / "narrow_one_pass.onnx", "--output_dirname", "onnx"))
    ours, theirs = (dumps_in(tmp_path / name, (17, 3)) for name in ("torch", "onnx"))
    np.testing.assert_allclose(ours[..., 2], theirs[..., 2], rtol=0, atol=1e-5 * np.abs(theirs[..., 2]).max())
    assert (ours[..., :2] == theirs[..., :2]).mean() > 0.98  # near ties fall either way between two libraries


def test_predict_takes_the_model(work, coco):
    """In memory: the people of the same boxes, whichever file the model is."""
    from pose.photos import open_photos, read_photograph
    from prediction.estimator import Estimator

    photo = read_photograph(next(iter(open_photos(coco).all().values())))
    boxes = np.array([[10, 10, 60, 50], [60, 20, 50, 60]], np.float64)
    with Estimator(work.cfg, work.folder / "m_one_pass.onnx") as one:
        found = one(photo, (boxes, np.array([0.9, 0.8])))
        crops, corners = one.poser.crops(photo, np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1))
    assert len(crops) == 2 and crops[0].dtype == np.uint8 and len(found)
    decoded = dataclasses.replace(load_spec(work.cfg), decode=KEYPOINTS)
    keypoints, _ = heatmaps_to_keypoints(two_folders(work, np.stack(crops)), None, corners, decoded)
    assert all(any((person == other).all() for other in keypoints) for person in found.keypoints)


@pytest.mark.parametrize("runner", ["ais_bench", "acl"])
def test_an_emulated_card_gives_what_the_cpu_gives(work, tmp_path, runner):
    """AIPP in place of Cast, Sub and Mul; the nodes that read heatmaps stay float32."""
    model = shutil.copy(work.folder / "m_bs4_one_pass_float32.onnx", tmp_path)
    done(run(environment(), "-m", "ascend.atc", model, "--soc_version", "Ascend310P3", "--uint8", "--output",
             tmp_path / "m.om"))
    kept = (tmp_path / "m.atc" / "keep_dtype.txt").read_text().splitlines()
    assert set(kept) == set(read_facts(model).decoding) and any("ArgMax" in name for name in kept)
    assert "--keep_dtype=keep_dtype.txt" in json.loads((tmp_path / "m.om.json").read_text())["command"]
    stage = ["-m", "ascend.ais_bench"] if runner == "ais_bench" else ["infer.py", "--backend", "acl"]
    done(run(environment(), *stage, "--model", tmp_path / "m.om", "--cfg", work.cfg, "--input", work.bins, "--output",
             tmp_path, "--output_dirname", "card", "--batchsize", 4))
    np.testing.assert_array_equal(dumps_in(tmp_path / "card", (17, 3)), dumps_in(work.one, (17, 3)))


def test_the_emulated_atc_has_no_parser_for_what_canns_has_none(work, tmp_path):
    """GridSample came to ONNX with opset 16; a crop inside the graph would need it."""
    model = onnx.load(str(work.folder / "m_bs4_one_pass_float32.onnx"))
    model.graph.node[0].op_type = "GridSample"
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    finished = run(environment(), "-m", "ascend.atc", tmp_path / "m.onnx", "--soc_version", "Ascend310P3")
    assert finished.returncode == 2 and "GridSample" in finished.stdout + finished.stderr


@pytest.mark.parametrize("precision, sizes", [("fp16", ("--batch", 4)), ("fp32", ("--profile", "1,4,8"))])
def test_an_emulated_gpu_gives_what_the_cpu_gives(work, tmp_path, precision, sizes):
    """Where float16 is allowed, what reads heatmaps is built in float32."""
    model, engine = shutil.copy(work.folder / "m_one_pass.onnx", tmp_path), tmp_path / "m.engine"
    env = gpu_environment()
    done(run(env, "-m", "backends.tensorrt.build", model, *sizes, "--precision", precision, "--output", engine))
    kept = plan_of(engine)["float32_layers"]
    assert all(name.startswith("one_pass/decode") for name in kept)
    assert any("ReduceMax" in name for name in kept) == any("Sign" in name for name in kept) == (precision == "fp16")
    done(run(env, "infer.py", "--model", engine, "--cfg", work.cfg, "--input", work.bins, "--output", tmp_path,
             "--output_dirname", "gpu", "--batchsize", 4))
    np.testing.assert_array_equal(dumps_in(tmp_path / "gpu", (17, 3)), dumps_in(work.one, (17, 3)))


def test_trtexec_is_not_given_what_it_would_round(work, tmp_path):
    refused = run(gpu_environment(), "-m", "backends.tensorrt.build", work.folder / "m_bs4_one_pass.onnx",
                  "--precision", "fp16", "--output", tmp_path / "m.engine", "--trtexec", "print")
    assert "Build without --trtexec" in one_error(refused)
