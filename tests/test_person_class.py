"""Detectors whose class 0 is no person: the class is named, or the detector is refused."""
from __future__ import annotations

import numpy as np
import pytest
from conftest import one_error
from detection_cases import random_weights, tiny_cfg

from contract.errors import UserError
from detection.blocks import BOX_ATTRIBUTES
from detection.darknet import read_cfg, write_weights
from detection.detector import Detector
from detection.export import export
from detection.onnx_graph import build_onnx

torch = pytest.importorskip("torch")
onnxruntime = pytest.importorskip("onnxruntime")

CLASSES = 5


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classes")
    (folder / "net.cfg").write_text(tiny_cfg(classes=CLASSES))
    network = read_cfg(folder / "net.cfg")
    weights = random_weights(network)
    write_weights(folder / "net.weights", network, weights)
    return folder / "net.cfg", folder / "net.weights", network, weights


def rows_of(network, weights, image: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(build_onnx(network, weights, 1).SerializeToString())
    return session.run(None, {"image": image})[0][0]


@pytest.mark.parametrize("person", range(CLASSES))
def test_the_rows_hold_the_class_that_was_named(files, person):
    """Against every class of the raw heads, taken apart by numpy."""
    from networks.darknet import build_darknet

    _, _, network, weights = files
    image = np.random.default_rng(0).random((1, *network.input_shape), np.float32)
    chosen = network.of_person(person)
    oracle = build_darknet(chosen, weights)
    with torch.inference_mode():
        heads, by_torch = oracle.heads(torch.from_numpy(image)), oracle(torch.from_numpy(image)).numpy()[0]
    expected = []
    for raw, head in zip(heads, network.heads):
        values = raw.numpy().reshape(len(head.anchors), BOX_ATTRIBUTES + CLASSES, -1)
        values = values.transpose(2, 0, 1).reshape(-1, BOX_ATTRIBUTES + CLASSES)
        others = np.delete(values[:, BOX_ATTRIBUTES:], person, axis=1).max(axis=1)
        expected.append(np.column_stack([values[:, :BOX_ATTRIBUTES], values[:, BOX_ATTRIBUTES + person], others]))
    expected = np.concatenate(expected)
    np.testing.assert_array_equal(by_torch, expected)
    np.testing.assert_allclose(rows_of(chosen, weights, image), expected, atol=1e-4 * np.abs(expected).max())


def test_a_detector_of_other_classes_is_refused_until_its_class_is_named(files, main, tmp_path):
    cfg, weights, _, _ = files
    (tmp_path / "val2017").mkdir()
    arguments = ("detect", "--dataroot", tmp_path, "--weights", weights, "--yolo_cfg", cfg)
    (tmp_path / "val2017" / "1.jpg").write_bytes(b"not opened")
    assert "this detector has 5 classes" in one_error(main(*arguments))
    assert "--person_class is 5, expected 0 to 4" in one_error(main(*arguments, "--person_class", 5))
    assert "1.jpg: " in one_error(main(*arguments, "--person_class", 3))
    with pytest.raises(UserError, match="5 classes"):
        export(cfg, weights, tmp_path / "net.onnx")
    with pytest.raises(UserError, match="goes with --weights"):
        Detector(model="net.onnx", cfg=cfg, person_class=3).spec()


def test_an_export_of_another_class_is_not_kept(files, tmp_path, capsys):
    cfg, weights, _, _ = files
    for person, words in ((3, "differs from torch"), (3, "kept"), (2, "differs from torch")):
        export(cfg, weights, tmp_path / "net.onnx", person_class=person)
        assert words in capsys.readouterr().out


@pytest.mark.parametrize("classes", [1, 80])
def test_coco_and_single_classes_need_no_number(tmp_path, classes):
    (tmp_path / "net.cfg").write_text(tiny_cfg(classes=classes))
    network = read_cfg(tmp_path / "net.cfg")
    assert network.of_person() == network


@pytest.mark.parametrize("name", ["net.names", "voc.names"])
def test_a_names_file_beside_the_cfg_says_the_class(files, tmp_path, capsys, name):
    cfg, weights, _, _ = files
    own = tmp_path / "net.cfg"
    own.write_bytes(cfg.read_bytes())
    (tmp_path / "others.names").write_text("person\ncar\n")  # of a detector of two classes
    (tmp_path / name).write_text("aeroplane\nbicycle\n Person \ncat\ndog\n\n")
    detector = Detector(weights, cfg=own)
    assert [head.person for head in detector.spec().layers.heads] == [2, 2]
    assert detector.origin()["person_class"] == 2
    assert [head.person for head in Detector(weights, cfg=own, person_class=4).spec().layers.heads] == [4, 4]
    for person, words in ((None, "differs from torch"), (2, "kept"), (3, "differs from torch")):
        export(own, weights, tmp_path / "net.onnx", person_class=person)
        assert words in capsys.readouterr().out


@pytest.mark.parametrize("names, words", [(b"person\ncar\n", "2 names, but net.cfg has 5 classes"),
                                          (b"a\nb\nc\nd\ne\n", "0 classes of this detector are called person"),
                                          (b"person\nb\nc\nd\nPerson\n", "2 classes"), (b"\xff\0\1", "is not text")])
def test_names_that_do_not_say_who_is_a_person_are_refused(tmp_path, names, words):
    (tmp_path / "net.cfg").write_text(tiny_cfg(classes=CLASSES))
    (tmp_path / "net.names").write_bytes(names)
    with pytest.raises(UserError, match=words):
        Detector("net.weights", cfg=tmp_path / "net.cfg").spec()
