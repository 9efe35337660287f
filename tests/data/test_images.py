"""Digits, folders and image files, and their normalisation."""

from tandem.data.images import fill_color, load_dataset, normalization, read_image

import numpy as np
import pytest
from datasets import fails, save, settings_for, synthetic
from PIL import Image


def test_normalization_per_channel():
    images = synthetic(2100, 6).images  # more than one part
    mean, std = normalization(images, "channel")
    assert mean.dtype == std.dtype == np.float64 and mean.shape == std.shape == (3, 1, 1)
    np.testing.assert_allclose(mean[:, 0, 0], images.mean(axis=(0, 2, 3)), rtol=1e-14)
    np.testing.assert_allclose(std[:, 0, 0], images.std(axis=(0, 2, 3)), rtol=1e-12)
    backwards = normalization(images[::-1], "channel")
    assert (mean == backwards[0]).all() and (std == backwards[1]).all()


def test_normalization_of_a_constant_channel_divides_by_one():
    images = synthetic(10, 4).images.copy()
    images[:, 1] = 77
    mean, std = normalization(images, "channel")
    assert mean[1, 0, 0] == 77 and std[1, 0, 0] == 1 and std[0, 0, 0] > 1


def test_normalization_by_the_mean_image_or_none():
    images = synthetic(7, 4).images
    mean, std = normalization(images, "mean_image")
    np.testing.assert_array_equal(mean, images.astype(np.int64).sum(axis=0) / 7)
    assert mean.shape == (3, 4, 4) and std.tolist() == [[[255.0]]] * 3
    mean, std = normalization(images, "none")
    assert mean.tolist() == [[[0.0]]] * 3 and std.tolist() == [[[255.0]]] * 3
    with fails("data.normalization: 'median'"):
        normalization(images, "median")


def test_fill_color_is_the_rounded_mean():
    images = np.zeros((2, 3, 1, 1), np.uint8)
    images[1, :, 0, 0] = [1, 4, 255]
    images[0, :, 0, 0] = [0, 3, 254]
    assert fill_color(images).tolist() == [0, 4, 254]
    assert fill_color(images).dtype == np.uint8


# CIFAR-10's files, in a small synthetic edition


def test_digits():
    dataset = load_dataset(settings_for("digits"), seed=0)
    again = load_dataset(settings_for("digits"), seed=1)
    np.testing.assert_array_equal(dataset.test.images, again.test.images)
    assert dataset.validation is None and dataset.class_names == tuple("0123456789")
    for split in (dataset.train, dataset.test):
        assert split.images.dtype == np.uint8 and split.images.shape[1:] == (3, 32, 32)
        assert split.labels.dtype == np.int64 and (split.images[:, 0] == split.images[:, 2]).all()
        assert split.images.max() > 240 and split.images.min() == 0
    counts = np.bincount(dataset.train.labels), np.bincount(dataset.test.labels)
    assert sum(counts).sum() == 1797
    np.testing.assert_array_equal(counts[1], sum(counts) // 5)
    assert load_dataset(settings_for("digits", image_size=28), 0).test.images.shape[2:] == (28, 28)


def test_folder_with_train_and_test(tmp_path):
    for part in ("train", "test"):
        save(tmp_path / part / "red" / "1.png", (255, 0, 0))
        save(tmp_path / part / "green" / "1.PNG", (0, 255, 0), size=(40, 20))
        (tmp_path / part / "green" / "notes.txt").touch()
        (tmp_path / part / ".cache").mkdir()
    save(tmp_path / "train" / "red" / "2.jpg", (255, 0, 0))
    dataset = load_dataset(settings_for("folder", tmp_path, image_size=16), seed=0)
    assert dataset.class_names == ("green", "red")
    assert dataset.train.labels.tolist() == [0, 1, 1] and dataset.test.labels.tolist() == [0, 1]
    assert dataset.train.labels.dtype == np.int64 and dataset.train.images.shape == (3, 3, 16, 16)
    assert dataset.test.images[:, :, 3, 3].tolist() == [[0, 255, 0], [255, 0, 0]]


def test_folder_split_by_a_fraction_of_each_class(tmp_path):
    for name, count in {"a": 8, "b": 12}.items():
        for i in range(count):
            save(tmp_path / name / f"{i}.png", (i * 10, 100, ord(name)))

    def parts(seed):
        dataset = load_dataset(settings_for("folder", tmp_path), seed)
        return [[tuple(image[:, 0, 0].tolist()) for image in s.images] for s in (dataset.train, dataset.test)]

    train, test = parts(0)
    assert [color[2] for color in test] == [97] * 2 + [98] * 3
    assert len(set(train + test)) == 20
    assert parts(1) == [train, test]  # no seed is tested on images that another was trained on


def test_folder_errors_name_what_is_wrong(tmp_path):
    data = settings_for("folder", tmp_path)
    with fails("data.directory: .*absent is not a folder"):
        load_dataset(settings_for("folder", tmp_path / "absent"), 0)
    for path in ("train/a", "train/b", "test/a"):
        save(tmp_path / path / "1.png", (1, 2, 3))
    with fails("test/b: class 'b' is missing"):
        load_dataset(data, 0)
    (tmp_path / "test" / "b").mkdir()
    with fails("test/b: holds no image"):
        load_dataset(data, 0)
    save(tmp_path / "test" / "c" / "1.png", (1, 2, 3))
    save(tmp_path / "test" / "b" / "1.png", (1, 2, 3))
    with fails("train/c: class 'c' is missing"):
        load_dataset(data, 0)
    (tmp_path / "test" / "c" / "1.png").unlink()
    (tmp_path / "test" / "c").rmdir()
    whole = (tmp_path / "test" / "b" / "1.png").read_bytes()
    for broken in (b"", b"no image", whole[:40], whole[: len(whole) * 2 // 3]):
        (tmp_path / "test" / "b" / "1.png").write_bytes(broken)
        with fails("b/1.png: cannot be read as an image"):
            load_dataset(data, 0)


def test_folder_needs_two_classes_and_two_images_to_split(tmp_path):
    save(tmp_path / "a" / "1.png", (1, 2, 3))
    with fails("holds 1 class folder"):
        load_dataset(settings_for("folder", tmp_path), 0)
    save(tmp_path / "b" / "1.png", (1, 2, 3))
    with fails("data.test_fraction: .*class a"):
        load_dataset(settings_for("folder", tmp_path), 0)


@pytest.mark.parametrize(
    ("mode", "color", "name", "expected"),
    [
        ("RGB", (10, 20, 30), "x.png", [10, 20, 30]),
        ("L", 90, "x.png", [90, 90, 90]),
        ("1", 1, "x.png", [255, 255, 255]),
        ("I;16", 257 * 90, "x.png", [90, 90, 90]),
        ("I;16", 65535, "x.tiff", [255, 255, 255]),
        ("RGBA", (10, 20, 30, 0), "x.png", [255, 255, 255]),
        ("RGBA", (10, 20, 30, 255), "x.webp", None),
        ("RGBA", (0, 0, 0, 128), "x.png", [127, 127, 127]),
        ("LA", (90, 0), "x.png", [255, 255, 255]),
        ("CMYK", (0, 0, 0, 0), "x.tiff", [255, 255, 255]),
    ],
)
def test_read_image_of_any_mode(tmp_path, mode, color, name, expected):
    save(tmp_path / name, color, mode, (7, 5))
    image = read_image(tmp_path / name, 4)
    assert image.shape == (3, 4, 4) and image.dtype == np.uint8 and image.flags.c_contiguous
    if expected:
        assert (image == np.array(expected)[:, None, None]).all()


def test_read_image_of_a_palette_with_transparency(tmp_path):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([9, 9, 9, 50, 60, 70])
    image.save(tmp_path / "opaque.png")
    assert read_image(tmp_path / "opaque.png", 4)[:, 0, 0].tolist() == [50, 60, 70]
    image.save(tmp_path / "clear.png", transparency=1)
    assert read_image(tmp_path / "clear.png", 4)[:, 0, 0].tolist() == [255, 255, 255]


def test_read_image_turns_it_upright_and_cuts_out_the_centre(tmp_path):
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[0, :, 0] = 255  # the top row is red
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    upright = read_image(tmp_path / "turned.png", 4)
    np.testing.assert_array_equal(upright.transpose(1, 2, 0), np.rot90(pixels, -1))

    wide = np.zeros((4, 12, 3), np.uint8)
    wide[:, 4:8] = 200
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert (read_image(tmp_path / "wide.png", 4) == 200).all()


# The real CIFAR-10
