"""Digits, folders and image files, and their normalisation."""

import os
import unicodedata

from tandem.data.images import Passed, fill_color, find_images, load_dataset, normalization, read_image

import numpy as np
import pytest
from datasets import fails, save, settings_for, synthetic
from PIL import Image
from sklearn.datasets import load_digits


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
    # In their own size they are what scikit-learn has, whose file is read without it.
    small, known = load_dataset(settings_for("digits", image_size=8), 0), load_digits()
    for label in range(10):
        images = np.rint(known.images[known.target == label] * (255 / 16))
        is_test = np.arange(len(images)) % 5 == 4
        for split, chosen in ((small.train, ~is_test), (small.test, is_test)):
            np.testing.assert_array_equal(split.images[split.labels == label, 0], images[chosen])


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
    broken = {
        b"": r"is empty\)",
        b"<html>403</html>": "is of none of the formats BMP, GIF, ",
        whole[:40]: "",
        whole[: len(whole) * 2 // 3]: "",
    }
    for content, reason in broken.items():
        (tmp_path / "test" / "b" / "1.png").write_bytes(content)
        with fails(rf"b/1.png: cannot be read as an image \(.*{reason}"):
            load_dataset(data, 0)


def two_classes(folder, count=4):
    """`count` images of each of two classes."""
    for name in ("cat", "dog"):
        for number in range(count):
            save(folder / name / f"{number}.png", (number, 2, 3))
    return folder


def test_what_is_passed_over_is_counted_and_named_and_what_systems_leave_is_not(tmp_path):
    folder = two_classes(tmp_path / "images")
    for name in ("labels.csv", "cat/notes.txt", "cat/README"):
        (folder / name).write_text("x")
    save(folder / "cat" / "indoor" / "1.png", (1, 2, 3))
    (folder / "dog" / "d.jpg").mkdir()
    for name in ("cat/Thumbs.db", ".DS_Store", "cat/._0.png", "cat/desktop.ini"):
        (folder / name).write_bytes(b"x")
    for name in ("__MACOSX/cat", ".cache", "cat/@eaDir/0.png", "lost+found"):
        (folder / name).mkdir(parents=True)
    dataset = load_dataset(settings_for("folder", folder), 0)
    assert dataset.class_names == ("cat", "dog")
    assert dataset.notes == (
        f"passed over in {folder}: 3 files without an image in it (.csv, no ending, .txt); "
        "2 folders where none is looked for: cat/indoor/ (1 file), dog/d.jpg/ (0 files)",
    )


def test_what_lies_beside_train_and_test_is_passed_over(tmp_path):
    for part in ("Train", "TEST", "val"):
        two_classes(tmp_path / part)
    dataset = load_dataset(settings_for("folder", tmp_path), 0)
    assert [len(split.labels) for split in (dataset.train, dataset.test)] == [8, 8]
    assert dataset.notes == (f"passed over in {tmp_path}: 1 folder where none is looked for: val/ (8 files)",)
    os.rename(tmp_path / "TEST", tmp_path / "valid")
    with fails("holds train/, but no test/; rename val/, or add test/"):
        load_dataset(settings_for("folder", tmp_path), 0)


def test_the_content_decides_what_is_an_image(tmp_path):
    save(tmp_path / "a.jfif", (1, 2, 3), format="JPEG")
    save(tmp_path / "no_ending", (1, 2, 3), format="PNG")
    save(tmp_path / "a.txt", (1, 2, 3), format="WEBP")
    save(tmp_path / "gif.jpg", 9, "L", format="GIF")
    (tmp_path / "page.html").write_text("<html>")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("nowhere")
    passed = Passed()
    images, folders = find_images(tmp_path, passed)
    assert [path.name for path in images] == ["a.jfif", "a.txt", "gif.jpg", "no_ending"] and folders == []
    assert [path.name for path in passed.files] == ["link", "page.html", "pipe"]
    assert all(read_image(path, 4).shape == (3, 4, 4) for path in images)
    (tmp_path / "link.png").symlink_to("nowhere")
    with fails("link.png: is no file, or a link to none"):
        read_image(find_images(tmp_path, passed)[0][-1].with_name("link.png"), 4)


def test_class_names_are_compared_in_one_form_of_unicode(tmp_path):
    for part, form in {"train": "NFC", "test": "NFD"}.items():
        for name in ("café", "dog"):
            save(tmp_path / part / unicodedata.normalize(form, name) / "1.png", (1, 2, 3))
    assert load_dataset(settings_for("folder", tmp_path), 0).class_names == ("café", "dog")
    save(tmp_path / "test" / "café" / "1.png", (1, 2, 3))
    with fails("two folders have this name, written in two forms of Unicode"):
        load_dataset(settings_for("folder", tmp_path), 0)


def test_a_name_that_is_not_utf8_gets_one_line(tmp_path):
    two_classes(tmp_path)
    os.mkdir(os.fsencode(tmp_path) + b"/caf\xe9")
    with fails(r"caf\\xe9'?: its name is not UTF-8; rename it"):
        load_dataset(settings_for("folder", tmp_path), 0)


def test_floats_and_whole_numbers_of_32_bits_are_scaled_by_a_rule_or_refused(tmp_path):
    def saved(pixels):
        Image.fromarray(np.broadcast_to(pixels, (4, 4)).copy()).save(tmp_path / "x.tif")
        return read_image(tmp_path / "x.tif", 4)[:, 0, 0].tolist()

    assert saved(np.array([0, 1, 0, 1], np.float32) * 0 + np.float32(0.5)) == [128, 128, 128]
    assert saved(np.float32(1)) == [255, 255, 255]
    for pixels in (np.float32(1.5), np.float32(-0.1), np.float32("nan")):
        with fails("x.tif: cannot be read as an image .floats outside 0..1, from .*: what is white"):
            saved(pixels)
    with fails("x.tif: cannot be read as an image .whole numbers of 32 bits, from 300 to 300: what is white"):
        saved(np.int32(300))


def test_an_image_of_too_many_pixels_is_refused(tmp_path, monkeypatch):
    save(tmp_path / "x.png", 1, "L", (12, 10))
    for limit in (110, 50):  # Pillow warns of the first, and raises an error for twice as many
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with fails(f"x.png: has more than {limit} pixels"):
            read_image(tmp_path / "x.png", 4)


def test_damaged_exif_data_are_said_once_and_the_image_is_read(tmp_path):
    two_classes(tmp_path)
    cut = b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x05\x01\x12\x00\x02\x00\x00\x00\x20\x7f\xff\xff\xff"
    for name in ("e1.jpg", "e2.jpg", "e3.jpg", "e4.jpg"):
        save(tmp_path / "cat" / name, (1, 2, 3), exif=cut)
    notes = load_dataset(settings_for("folder", tmp_path), 0).notes
    assert any("cat/e1.jpg (and " in note and "Corrupt EXIF data" in note for note in notes)
    assert len(notes) <= 4


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
        ("I;16", 257 * 90, "x.pgm", [90, 90, 90]),
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


def test_lab_is_read_as_srgb(tmp_path):
    for light, grey in ((0, 0), (255, 255), (136, 127)):  # L* = 53.4 is the middle of sRGB
        save(tmp_path / "x.tiff", (light, 128, 128), "LAB")
        assert np.abs(read_image(tmp_path / "x.tiff", 4).astype(int) - grey).max() <= 2


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
