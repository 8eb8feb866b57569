"""Crops: equal to AlphaPose's by digest, and what can be known of a warp without it."""
from __future__ import annotations

import hashlib
import json
import struct
import zlib

import cv2
import numpy as np
import pytest
from conftest import IMAGENET_MEAN, IMAGENET_STD

from contract.errors import UserError
from contract.pixels import ALPHAPOSE_MEAN, ALPHAPOSE_STD
from pose.boxes import box_to_center_scale
from pose.coco import load_detections
from pose.crops import Normalizer, crop_person, get_affine, mirror, read_photograph
from pose.photos import open_photos

SIZE = (256, 192)


def sha256(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


@pytest.fixture(scope="module")
def golden(shared) -> dict:
    folder = shared / "golden"
    return {**np.load(folder / "crops.npz"), **json.loads((folder / "crops_sha256.json").read_text())}


def test_crops_and_mirrored_crops_are_alphaposes_by_sha256(shared, golden):
    detections = load_detections(shared / "golden" / "boxes.json")
    center, scale = box_to_center_scale(detections.bbox_xyxy, 192 / 256)
    normalize, photos = Normalizer(ALPHAPOSE_MEAN, ALPHAPOSE_STD), open_photos(shared / "data" / "coco_mini")
    assert len(detections) == len(golden["crop_f32_sha256"]) > 0
    for number, image_id in enumerate(detections.image_ids.tolist()):
        image = photos.read(image_id)
        assert image.shape[:2] == tuple(golden["img_hw_f32"][number])
        crop = crop_person(image, center[number], scale[number], SIZE)
        np.testing.assert_array_equal(crop, golden["crop_u8"][number], err_msg=f"box {number}")
        tensor = normalize(crop)
        assert sha256(crop) == golden["crop_u8_sha256"][number]
        assert sha256(tensor) == golden["crop_f32_sha256"][number]
        assert sha256(mirror(tensor)) == golden["flip_f32_sha256"][number]


def test_matrices_are_alphaposes(golden):
    for number, (center, scale) in enumerate(zip(golden["center_f32"], golden["scale_f32"])):
        np.testing.assert_array_equal(get_affine(center, scale, SIZE), golden["warp_fwd_f64"][number])


def test_a_crop_at_the_scale_of_the_photograph_is_a_piece_of_it():
    image = np.random.default_rng(0).integers(0, 256, (400, 300, 3), np.uint8)
    crop = crop_person(image, np.array([40 + 96, 70 + 128], np.float32), np.array([192, 256], np.float32), SIZE)
    np.testing.assert_array_equal(crop, image[70:70 + 256, 40:40 + 192])


def test_a_crop_at_half_the_scale_takes_every_second_pixel():
    image = np.random.default_rng(1).integers(0, 256, (600, 500, 3), np.uint8)
    crop = crop_person(image, np.array([20 + 192, 30 + 256], np.float32), np.array([384, 512], np.float32), SIZE)
    np.testing.assert_array_equal(crop, image[30:30 + 512:2, 20:20 + 384:2])


def test_black_where_the_box_leaves_the_photograph():
    image = np.full((100, 100, 3), 200, np.uint8)
    crop = crop_person(image, np.array([0, 50], np.float32), np.array([192, 256], np.float32), SIZE)
    assert not crop[:, :96].any() and (crop[128:170, 96:] == 200).all()
    assert not crop_person(image, np.array([-900, 50], np.float32), np.array([75, 100], np.float32), SIZE).any()


def test_a_box_of_no_size_gives_the_first_pixel():
    image = np.random.default_rng(2).integers(0, 256, (40, 50, 3), np.uint8)
    crop = crop_person(image, np.array([20, 20], np.float32), np.zeros(2, np.float32), SIZE)
    assert (crop == image[0, 0]).all()


@pytest.mark.parametrize("size", [(256, 192), (384, 288), (64, 48), (128, 128)])
def test_any_crop_size_keeps_centre_and_width(size):
    height, width = size
    matrix = get_affine(np.array([311.5, 203.25], np.float32), np.array([width * 2, height * 2], np.float32), size)
    np.testing.assert_allclose(matrix @ [311.5, 203.25, 1], [width / 2, height / 2], atol=1e-3)
    np.testing.assert_allclose(matrix @ [311.5 - width, 203.25, 1], [0, height / 2], atol=1e-3)
    np.testing.assert_allclose(matrix @ [311.5, 203.25 - height, 1], [width / 2, 0], atol=1e-3)


def test_normalised_values_follow_the_formula():
    crop = np.random.default_rng(3).integers(0, 256, (*SIZE, 3), np.uint8)
    tensor = Normalizer(ALPHAPOSE_MEAN, ALPHAPOSE_STD)(crop)
    assert tensor.shape == (3, *SIZE) and tensor.dtype == np.float32 and tensor.flags.c_contiguous
    for channel, mean in enumerate((0.406, 0.457, 0.480)):
        plane = crop[:, :, channel].astype(np.float32) / np.float32(255) - np.float32(mean)
        np.testing.assert_array_equal(tensor[channel], plane)


def test_a_crop_of_zeros_and_ones_is_not_divided():
    crop = np.random.default_rng(4).integers(0, 2, (*SIZE, 3), np.uint8)
    tensor = Normalizer(ALPHAPOSE_MEAN, ALPHAPOSE_STD)(crop)
    np.testing.assert_array_equal(tensor[0], crop[:, :, 0].astype(np.float32) - np.float32(0.406))
    crop[5, 5, 2] = 2
    divided = Normalizer(ALPHAPOSE_MEAN, ALPHAPOSE_STD)(crop)
    assert divided[2, 5, 5] == np.float32(2) / np.float32(255) - np.float32(0.48)


def test_other_statistics_agree_with_renormalising_ours():
    crop = np.random.default_rng(5).integers(0, 256, (*SIZE, 3), np.uint8)
    ours = Normalizer(ALPHAPOSE_MEAN, ALPHAPOSE_STD)(crop).transpose(1, 2, 0)
    expected = (ours + ALPHAPOSE_MEAN - np.array(IMAGENET_MEAN)) / IMAGENET_STD
    np.testing.assert_allclose(Normalizer(IMAGENET_MEAN, IMAGENET_STD)(crop).transpose(1, 2, 0), expected, atol=2e-6)


def test_mirror_reverses_the_width_and_is_contiguous():
    tensor = np.random.default_rng(6).standard_normal((2, 3, 5, 4)).astype(np.float32)
    mirrored = mirror(tensor)
    assert mirrored.flags.c_contiguous
    for x in range(4):
        np.testing.assert_array_equal(mirrored[..., x], tensor[..., 3 - x])


def test_photographs_are_rgb(tmp_path):
    image = np.zeros((32, 48, 3), np.uint8)
    image[:, :, 2] = 255  # red, in OpenCV's order
    cv2.imwrite(str(tmp_path / "red.jpg"), image)
    red, green, blue = read_photograph(tmp_path / "red.jpg")[16, 24]
    assert red > 200 and green < 60 and blue < 60


def test_grey_photographs_have_three_channels(tmp_path):
    cv2.imwrite(str(tmp_path / "grey.jpg"), np.full((32, 48), 77, np.uint8))
    assert read_photograph(tmp_path / "grey.jpg").shape == (32, 48, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_photograph_as_imread_does(tmp_path, orientation):
    image = cv2.resize(np.random.default_rng(7).integers(0, 256, (4, 6, 3), np.uint8), (48, 32))
    jpeg = cv2.imencode(".jpg", image)[1].tobytes()
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)  # the tag Orientation, one SHORT
    exif = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 1) + entry + struct.pack(">I", 0)
    path = tmp_path / "turned.jpg"
    path.write_bytes(jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:])
    turned = read_photograph(path)
    assert turned.shape == ((48, 32, 3) if orientation > 4 else (32, 48, 3))
    np.testing.assert_array_equal(turned, cv2.imread(str(path), cv2.IMREAD_COLOR)[:, :, ::-1])


def png(width: int, height: int) -> bytes:
    """A PNG file that claims a size and holds next to nothing."""
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b"")),
              (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks)


@pytest.mark.parametrize("content", [b"", b"not a photo", png(100000, 100000)],
                         ids=["empty", "text", "a size beyond OpenCV's limit"])
def test_what_is_no_photograph_is_named(tmp_path, content):
    path = tmp_path / "000000000001.jpg"
    path.write_bytes(content)
    with pytest.raises(UserError, match="000000000001.jpg"):
        read_photograph(path)


def test_a_photograph_cut_short_is_refused(tmp_path):
    """Not cropped with the grey that OpenCV's imread puts in place of what is missing."""
    image = np.random.default_rng(8).integers(0, 256, (64, 64, 3), np.uint8)
    jpeg = cv2.imencode(".jpg", image)[1].tobytes()
    path = tmp_path / "000000000001.jpg"
    for size in (len(jpeg) // 10, len(jpeg) // 2, len(jpeg) - 100):
        path.write_bytes(jpeg[:size])
        with pytest.raises(UserError, match="000000000001.jpg"):
            read_photograph(path)


def test_a_photograph_with_something_after_its_end_is_whole(tmp_path):
    image = np.random.default_rng(9).integers(0, 256, (64, 64, 3), np.uint8)
    (tmp_path / "a.jpg").write_bytes(cv2.imencode(".jpg", image)[1].tobytes() + bytes(99))
    assert read_photograph(tmp_path / "a.jpg").shape == (64, 64, 3)


def test_a_missing_photograph_is_named(tmp_path):
    with pytest.raises(UserError, match="000000000002.jpg"):
        read_photograph(tmp_path / "000000000002.jpg")
