"""What is read is what was published, what is drawn depends on its arguments only, errors are clear."""

import errno
import functools
import hashlib
import http.server
import io
import itertools
import os
import pickle
import subprocess
import sys
import tarfile
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import data_utils
from tandem.errors import UserError

FILL = np.array([125, 123, 114], np.uint8)
NAMES = [b"airplane", b"automobile", b"bird", b"cat", b"deer", b"dog", b"frog", b"horse", b"ship", b"truck"]


def synthetic(count, size=32):
    """Images whose pixels differ from their neighbours, and labels that number the images."""
    pixels = np.arange(count * 3 * size * size, dtype=np.uint64) * np.uint64(2654435761) >> np.uint64(13)
    return data_utils.Split(pixels.astype(np.uint8).reshape(count, 3, size, size), np.arange(count))


def augmentation(crop_padding=0, flip=False, cutout=0, mixup=0):
    return SimpleNamespace(crop_padding=crop_padding, flip=flip, cutout=cutout, mixup=mixup)


def settings_for(source, directory=".", **changes):
    defaults = {
        "archive": None,
        "mirrors": (),
        "verify": True,
        "image_size": 32,
        "test_fraction": 0.25,
        "validation_fraction": 0.0,
        "normalization": "channel",
    }
    return SimpleNamespace(**{"source": source, "directory": str(directory), **defaults, **changes})


def fails(pattern):
    """Expect a UserError of one line that matches `pattern`."""
    return pytest.raises(UserError, match=rf"\A[^\n]*{pattern}[^\n]*\Z")


GOLDEN_BITS = "5a846e6a04ff1b43bd2787a0e6d044dd99d2a5e3c55a439fd4ba43493950b624"
GOLDEN_BATCHES = {  # by crop_padding, flip, cutout
    (0, False, 0): "1f9f39648e225a9d782925e3e42e049bd9d28b49629f4f2ecd0d8493e47911c3",
    (4, True, 0): "20a36ad71f38a7c7732a64c7219829d0b1a9bc33a6e7aa0fd6d821d5f325200f",
    (4, True, 16): "24c91ae95e31820f7ba1fb04245f3c922993bbeb46744960e2410334b4e81356",
}


# Randomness


def test_random_bits_are_the_golden_ones():
    bits = data_utils.random_bits(7, "shuffle", 3, 5, 1000)
    assert bits.dtype == np.uint64
    assert hashlib.sha256(bits.astype("<u8").tobytes()).hexdigest() == GOLDEN_BITS


def test_random_bits_depend_on_every_argument_and_on_nothing_else():
    base = (7, "shuffle", 3, 5, 8)
    first = data_utils.random_bits(*base)
    for other in [(8, *base[1:]), (7, "crop", 3, 5, 8), (7, "shuffle", 4, 5, 8), (7, "shuffle", 3, 6, 8)]:
        assert not np.intersect1d(first, data_utils.random_bits(*other)).size
    np.testing.assert_array_equal(first, data_utils.random_bits(*base))
    np.testing.assert_array_equal(first[:3], data_utils.random_bits(7, "shuffle", 3, 5, 3))


def test_random_bits_of_neighbouring_steps_do_not_overlap():
    streams = [data_utils.random_bits(0, "crop", epoch, step, 500) for epoch in range(3) for step in range(3)]
    assert len(np.unique(streams)) == 9 * 500


@given(below=st.integers(1, 2**32))
def test_random_integers_reach_both_ends(below):
    ends = np.array([0, 2**64 - 1], np.uint64)
    assert data_utils.random_integers(ends, below).tolist() == [0, below - 1]


def test_random_integers_are_uniform():
    counts = np.bincount(data_utils.random_integers(data_utils.random_bits(0, "u", 0, 0, 90_000), 9))
    assert len(counts) == 9 and abs(counts - 10_000).max() < 500


def test_permutation_is_one_and_differs_by_epoch():
    first, second = (data_utils.permutation(0, "shuffle", epoch, 1000) for epoch in (0, 1))
    np.testing.assert_array_equal(np.sort(first), np.arange(1000))
    assert (first == second).mean() < 0.02


# Augmentation, each against a loop over the images


def naive_crop(images, padding, top, left):
    cropped = np.empty_like(images)
    for i, image in enumerate(images):
        for channel, row, column in np.ndindex(image.shape):
            y, x = row + top[i] - padding, column + left[i] - padding
            inside = 0 <= y < image.shape[1] and 0 <= x < image.shape[2]
            cropped[i, channel, row, column] = image[channel, y, x] if inside else FILL[channel]
    return cropped


@settings(deadline=None, max_examples=40)
@given(size=st.integers(1, 9), padding=st.integers(1, 5), data=st.data())
def test_crop_equals_a_loop(size, padding, data):
    offsets = st.lists(st.integers(0, 2 * padding), min_size=3, max_size=3)
    top, left = np.array(data.draw(offsets)), np.array(data.draw(offsets))
    images = synthetic(3, size).images
    canvas = np.empty((4, 3, size + 2 * padding, size + 2 * padding), np.uint8)
    canvas[:] = FILL[:, None, None]
    for _ in range(2):  # the second time on a used canvas
        cropped = data_utils.crop(images, canvas, top, left)
        np.testing.assert_array_equal(cropped, naive_crop(images, padding, top, left))


@settings(deadline=None)
@given(size=st.integers(1, 33), flipped=st.lists(st.booleans(), min_size=4, max_size=4))
def test_flip_equals_a_loop(size, flipped):
    before = synthetic(4, size).images
    after = before.copy()
    data_utils.flip(after, np.array(flipped))
    for i in range(4):
        np.testing.assert_array_equal(after[i], before[i][:, :, ::-1] if flipped[i] else before[i])


@settings(deadline=None)
@given(size=st.integers(1, 9), side=st.integers(1, 12), data=st.data())
def test_cutout_equals_a_loop(size, side, data):
    centre = st.lists(st.integers(0, size - 1), min_size=3, max_size=3)
    row, column = np.array(data.draw(centre)), np.array(data.draw(centre))
    images = synthetic(3, size).images
    expected = images.copy()
    for i in range(3):
        for y, x in np.ndindex(size, size):
            if 0 <= y - row[i] + side // 2 < side and 0 <= x - column[i] + side // 2 < side:
                expected[i, :, y, x] = FILL
    data_utils.cutout(images, side, row, column, FILL)
    np.testing.assert_array_equal(images, expected)


def test_every_crop_offset_and_cutout_centre_is_drawn_and_half_the_images_are_flipped():
    # Each image says where its pixels came from: channel 0 the row, channel 1 the column.
    size, padding = 8, 2
    image = np.stack([*np.indices((size, size)) + 10, np.zeros((size, size), int)]).astype(np.uint8)
    split = data_utils.Split(np.repeat(image[None], 4000, axis=0), np.zeros(4000, np.int64))
    fill = np.array([0, 0, 200], np.uint8)

    (batch,) = data_utils.batches(split, 4000, 0, 0, augmentation(crop_padding=padding), fill)
    middle = batch.images[:, :2, 4, 4].astype(int) - 14
    offsets, counts = np.unique(middle, axis=0, return_counts=True)
    assert len(offsets) == 25 and offsets.min() == -2 and offsets.max() == 2
    assert counts.min() > 100

    (batch,) = data_utils.batches(split, 4000, 0, 0, augmentation(flip=True), fill)
    assert 1900 < (batch.images[:, 1, 0, 0] == 17).sum() < 2100

    (batch,) = data_utils.batches(split, 4000, 0, 0, augmentation(cutout=1), fill)
    holes = batch.images[:, 2] == 200
    assert (holes.sum(axis=(1, 2)) == 1).all()
    assert holes.sum(axis=0).min() > 30


# Batches


GOLDEN_WEIGHTS = 0.523619532585144, 0.9842820763587952
GOLDEN_PERMUTATION = [23, 80, 2, 42, 56, 11, 6, 104]


def test_first_batches_are_the_golden_ones():
    """The same bytes on any machine, in either framework, with any NumPy: never change these hashes."""
    split = synthetic(300)
    for options, golden in GOLDEN_BATCHES.items():
        digest = hashlib.sha256()
        for batch in data_utils.batches(split, 128, 1, 2, augmentation(*options), FILL):
            digest.update(batch.images.tobytes() + batch.labels.astype("<i8").tobytes())
        assert digest.hexdigest() == golden, options


@settings(deadline=None)
@given(
    count=st.integers(1, 40), batch_size=st.integers(1, 12), flip=st.sampled_from([True, "alternating"]), data=st.data()
)
def test_an_epoch_shows_every_image_once_and_resumes_at_any_step(count, batch_size, flip, data):
    split = synthetic(count, 4)
    options = (batch_size, 3, 1, augmentation(1, flip, 2), FILL)
    epoch = list(data_utils.batches(split, *options))
    steps = data_utils.steps_per_epoch(count, batch_size)
    assert len(epoch) == steps
    seen = [label for batch in epoch for label in batch.labels]
    assert len(seen) == len(set(seen)) == (count - 1 if count % batch_size == 1 and batch_size > 1 else count)
    first_step = data.draw(st.integers(0, steps))
    rest = list(data_utils.batches(split, *options, first_step=first_step))
    assert len(rest) == steps - first_step
    for batch, again in zip(epoch[first_step:], rest, strict=True):
        np.testing.assert_array_equal(batch.images, again.images)
        np.testing.assert_array_equal(batch.labels, again.labels)


def test_batches_pair_images_with_their_labels_and_leave_the_dataset_alone():
    split = synthetic(50)
    before = split.images.copy()
    for batch in data_utils.batches(split, 16, 0, 0, augmentation(), FILL):
        np.testing.assert_array_equal(batch.images, before[batch.labels])
    for batch in data_utils.batches(split, 16, 0, 0, augmentation(4, True, 8), FILL):
        assert batch.images.dtype == np.uint8 and batch.images.flags.c_contiguous
        assert batch.labels.dtype == np.int64
    np.testing.assert_array_equal(split.images, before)


def test_alternating_flips_show_each_image_from_its_other_side_in_every_epoch():
    split = synthetic(600)
    sides = []
    for epoch in range(4):
        mirrored = np.empty(600, bool)
        for batch in data_utils.batches(split, 64, 1, epoch, augmentation(flip="alternating"), FILL):
            plain = split.images[batch.labels]
            now = (batch.images != plain).any(axis=(1, 2, 3))
            np.testing.assert_array_equal(batch.images[now], plain[now][..., ::-1])
            mirrored[batch.labels] = now
        sides.append(mirrored)
    assert 250 < sides[0].sum() < 350
    for before, after in itertools.pairwise(sides):
        np.testing.assert_array_equal(after, ~before)


def test_batches_kept_are_not_overwritten_by_later_ones():
    iterator = data_utils.batches(synthetic(50), 16, 0, 0, augmentation(4, True, 8), FILL)
    first = next(iterator).images
    copy = first.copy()
    next(iterator)
    np.testing.assert_array_equal(first, copy)


def test_evaluation_batches_are_the_split_in_order():
    split = synthetic(33)
    parts = list(data_utils.evaluation_batches(split, 16))
    assert [len(part.labels) for part in parts] == [16, 16, 1]
    np.testing.assert_array_equal(np.concatenate([part.images for part in parts]), split.images)
    np.testing.assert_array_equal(np.concatenate([part.labels for part in parts]), split.labels)


# Mixup


def mixes(alpha, seed=1, epoch=2):
    options = augmentation(4, True, 8, mixup=alpha)
    return list(data_utils.batches(synthetic(300), 128, seed, epoch, options, FILL))


def test_mixup_leaves_images_and_labels_as_they_are_without_it():
    plain = data_utils.batches(synthetic(300), 128, 1, 2, augmentation(4, True, 8), FILL)
    for batch, mixed in zip(plain, mixes(0.4), strict=True):
        assert batch.permutation is None and batch.weight is None
        np.testing.assert_array_equal(batch.images, mixed.images)
        np.testing.assert_array_equal(batch.labels, mixed.labels)
        assert sorted(mixed.permutation) == list(range(len(mixed.labels)))
        assert mixed.permutation.dtype == np.int64


def test_the_first_mixes_are_the_golden_ones():
    """In either framework, and on resume: never change these numbers."""
    first, _, last = mixes(0.4)
    assert (first.weight, last.weight) == GOLDEN_WEIGHTS
    assert first.permutation[:8].tolist() == GOLDEN_PERMUTATION
    assert [batch.weight for batch in mixes(0.4, epoch=3)] != [batch.weight for batch in mixes(0.4)]


@pytest.mark.parametrize("alpha", [0.2, 0.4, 1.0, 3.0])
def test_mixup_weights_are_of_the_heavier_part_of_a_beta_distribution(alpha):
    bits = data_utils.random_bits(0, "test", 0, 0, (20_000, 2))
    weights = np.array([data_utils.mixup(alpha, row)[1] for row in bits])
    assert weights.min() >= 0.5 and weights.max() <= 1
    assert (weights.astype(np.float32) == weights).all() and ((1 - weights).astype(np.float32) == 1 - weights).all()
    # By NumPy's own generator: fold the distribution in the middle, and compare the two distribution functions.
    drawn = np.random.default_rng(0).beta(alpha, alpha, 100_000)
    drawn = np.sort(np.maximum(drawn, 1 - drawn))
    levels = np.linspace(0.5, 1, 50, endpoint=False)
    ours, theirs = (np.searchsorted(np.sort(values), levels) / len(values) for values in (weights, drawn))
    assert np.abs(ours - theirs).max() < 0.015  # the 99.9 % quantile of Kolmogorov and Smirnov


# Prefetching


def prefetch_threads():
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


@settings(deadline=None, max_examples=20)
@given(items=st.lists(st.none() | st.integers(), max_size=20), depth=st.integers(1, 4))
def test_prefetch_keeps_items_and_order(items, depth):
    assert list(data_utils.prefetch(items, depth)) == items
    assert not prefetch_threads()


@pytest.mark.parametrize("depth", [1, 2, 30])
def test_prefetch_raises_the_producers_exception_after_its_items(depth):
    def produce():
        yield from range(3)
        raise OSError("the disk is gone")

    got = []
    with pytest.raises(OSError, match="the disk is gone"):
        for item in data_utils.prefetch(produce(), depth):
            got.append(item)
    assert got == [0, 1, 2]
    assert not prefetch_threads()


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("taken", [1, 4])
def test_an_abandoned_prefetch_ends_its_thread(depth, taken):
    made = []

    def produce():
        for item in range(10**9):
            made.append(item)
            yield item

    iterator = data_utils.prefetch(produce(), depth)
    for _ in range(taken):
        next(iterator)
    time.sleep(0.05)  # the thread has filled the queue and waits
    assert len(made) <= taken + depth + 1
    start = time.perf_counter()
    iterator.close()
    assert time.perf_counter() - start < 0.9
    assert not prefetch_threads()


# Normalisation


def test_normalization_per_channel():
    images = synthetic(2100, 6).images  # more than one part
    mean, deviation = data_utils.normalization(images, "channel")
    assert mean.dtype == deviation.dtype == np.float64 and mean.shape == deviation.shape == (3, 1, 1)
    np.testing.assert_allclose(mean[:, 0, 0], images.mean(axis=(0, 2, 3)), rtol=1e-14)
    np.testing.assert_allclose(deviation[:, 0, 0], images.std(axis=(0, 2, 3)), rtol=1e-12)
    backwards = data_utils.normalization(images[::-1], "channel")
    assert (mean == backwards[0]).all() and (deviation == backwards[1]).all()


def test_normalization_of_a_constant_channel_divides_by_one():
    images = synthetic(10, 4).images.copy()
    images[:, 1] = 77
    mean, deviation = data_utils.normalization(images, "channel")
    assert mean[1, 0, 0] == 77 and deviation[1, 0, 0] == 1 and deviation[0, 0, 0] > 1


def test_normalization_by_the_mean_image_or_none():
    images = synthetic(7, 4).images
    mean, deviation = data_utils.normalization(images, "mean_image")
    np.testing.assert_array_equal(mean, images.astype(np.int64).sum(axis=0) / 7)
    assert mean.shape == (3, 4, 4) and deviation.tolist() == [[[255.0]]] * 3
    mean, deviation = data_utils.normalization(images, "none")
    assert mean.tolist() == [[[0.0]]] * 3 and deviation.tolist() == [[[255.0]]] * 3
    with fails("data.normalization: 'median'"):
        data_utils.normalization(images, "median")


def test_fill_color_is_the_rounded_mean():
    images = np.zeros((2, 3, 1, 1), np.uint8)
    images[1, :, 0, 0] = [1, 4, 255]
    images[0, :, 0, 0] = [0, 3, 254]
    assert data_utils.fill_color(images).tolist() == [0, 4, 254]
    assert data_utils.fill_color(images).dtype == np.uint8


# CIFAR-10's files, in a small synthetic edition


def dump(content):
    return pickle.dumps(content, protocol=4)


@pytest.fixture
def edition(monkeypatch):
    """Name to bytes of seven files of 20 images each, which the module takes for the published ones."""
    monkeypatch.setattr(data_utils, "IMAGES_PER_FILE", 20)
    files = {"batches.meta": dump({b"label_names": NAMES})}
    for i, name in enumerate(name for name in data_utils.FILES_MD5 if name != "batches.meta"):
        data = synthetic(120).images.reshape(120, 3072)[20 * i : 20 * i + 20].copy()
        files[name] = dump({b"data": data, b"labels": [j % 10 for j in range(20)], b"batch_label": b"x"})
    publish(monkeypatch, files)
    return files


def publish(monkeypatch, files):
    md5s = {name: hashlib.md5(files[name]).hexdigest() for name in data_utils.FILES_MD5}
    monkeypatch.setattr(data_utils, "FILES_MD5", md5s)


def lay(directory, files):
    folder = directory / data_utils.FOLDER
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def pack(path, files, mode="w:gz", extra=()):
    with tarfile.open(path, mode) as tar:
        folder = tarfile.TarInfo(data_utils.FOLDER)
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(folder)
        for name, content in {**files, "readme.html": b"<p>"}.items():
            member = tarfile.TarInfo(f"{data_utils.FOLDER}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in extra:
            tar.addfile(member)
    return path


def test_train_and_test_data_are_read_in_order(tmp_path, edition):
    lay(tmp_path, edition)
    train, test = data_utils.train_data(tmp_path), data_utils.test_data(tmp_path)
    assert train.images.shape == (100, 3, 32, 32) and train.images.dtype == np.uint8
    np.testing.assert_array_equal(np.concatenate([train.images, test.images]), synthetic(120).images)
    assert train.labels.dtype == np.int64 and train.labels.tolist() == list(range(10)) * 10
    assert data_utils.class_names(tmp_path)[:2] == ("airplane", "automobile")


def test_pickles_of_older_numpy_are_read(tmp_path, edition):
    """Where NumPy 2 says numpy._core, the published files, from Python 2, say numpy.core."""
    old = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I20\nI3072\nt"
    old += b"cnumpy\ndtype\n(S'u1'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntbI00\n"
    old += b"S'" + b"\\x07" * (20 * 3072) + b"'\ntb"
    edition["test_batch"] = b"(dS'data'\n" + old + b"sS'labels'\n(l" + b"I3\na" * 20 + b"s."
    lay(tmp_path, edition)
    images, labels = data_utils.test_data(tmp_path, verify=False)
    assert (images == 7).all() and (labels == 3).all()


class Command:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_hostile_pickle_is_refused_and_not_run(tmp_path, edition, protocol):
    trace = tmp_path / "ran"
    edition["data_batch_2"] = pickle.dumps({"data": Command(trace)}, protocol=protocol)
    lay(tmp_path, edition)
    with fails("data_batch_2: its md5"):
        data_utils.train_data(tmp_path)
    with fails(r"data_batch_2: .* refused, it asks for posix.system"):
        data_utils.train_data(tmp_path, verify=False)
    assert not trace.exists()
    pickle.loads(edition["data_batch_2"])
    assert trace.exists(), "the pickle is not hostile, so this test shows nothing"


@pytest.mark.parametrize("call", [("builtins", "eval"), ("numpy", "load"), ("numpy._core.multiarray", "scalar")])
def test_the_unpickler_admits_no_other_names(tmp_path, edition, call):
    module, name = call
    edition["test_batch"] = f"c{module}\n{name}\n.".encode()
    lay(tmp_path, edition)
    with fails(f"it asks for {module}.{name}"):
        data_utils.test_data(tmp_path, verify=False)


def batch(**changes):
    content = {"data": np.zeros((20, 3072), np.uint8), "labels": [0] * 20, **changes}
    return dump({key.encode(): value for key, value in content.items() if value is not None})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (batch()[:-1000], "refused"),
        (b"", "refused"),
        (b"not a pickle", "refused"),
        (dump([1, 2]), "no dictionary"),
        (batch(labels=None), "'labels'"),
        (batch(data=None), "'data'"),
        (batch(data=np.zeros((20, 3072), np.int8)), "'data'"),
        (batch(data=np.zeros((20, 3071), np.uint8)), "'data'"),
        (batch(data=np.zeros((19, 3072), np.uint8)), "'data'"),
        (batch(labels=[0] * 19), "'labels'"),
        (batch(labels=[0] * 19 + [10]), "a label"),
        (batch(labels=[0] * 19 + [-1]), "a label"),
        (batch(labels=[0] * 19 + [b"1"]), "a label"),
    ],
)
@pytest.mark.parametrize("verify", [True, False])
def test_a_batch_file_is_checked_whatever_its_md5(tmp_path, edition, monkeypatch, content, message, verify):
    edition["test_batch"] = content
    publish(monkeypatch, edition)
    lay(tmp_path, edition)
    with fails(f"test_batch: .*{message}"):
        data_utils.test_data(tmp_path, verify)


def test_bad_class_names_are_refused(tmp_path, edition):
    edition["batches.meta"] = dump({b"label_names": NAMES[:9]})
    lay(tmp_path, edition)
    with fails("batches.meta: .*'label_names'"):
        data_utils.class_names(tmp_path, verify=False)


def test_a_missing_batch_file_is_named(tmp_path, edition):
    del edition["data_batch_3"]
    lay(tmp_path, edition)
    with fails("data_batch_3: missing"):
        data_utils.train_data(tmp_path)


# CIFAR-10: download and unpack


def test_files_that_are_there_need_neither_archive_nor_network(tmp_path, edition):
    folder = lay(tmp_path, edition)
    assert data_utils.download_data(tmp_path, archive=tmp_path / "absent", mirrors=()) == folder


def test_a_changed_byte_is_named_and_kept(tmp_path, edition):
    content = bytearray(edition["data_batch_4"])
    content[len(content) // 2] ^= 1
    folder = lay(tmp_path, {**edition, "data_batch_4": bytes(content)})
    archive = pack(tmp_path / "c.tar.gz", edition)
    with fails("data_batch_4: its md5"):
        data_utils.download_data(tmp_path, archive)
    assert (folder / "data_batch_4").read_bytes() == content
    assert data_utils.download_data(tmp_path, archive, verify=False) == folder
    (folder / "data_batch_4").unlink()
    data_utils.download_data(tmp_path, archive)
    assert (folder / "data_batch_4").read_bytes() == edition["data_batch_4"]


@pytest.mark.parametrize("mode", ["w:gz", "w:xz"])
def test_a_local_archive_is_unpacked_and_nothing_else_is_left(tmp_path, edition, mode):
    archive = pack(tmp_path / "archive", edition, mode)
    target = tmp_path / "new" / "folder"
    folder = data_utils.download_data(target, archive)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == edition
    assert list(target.iterdir()) == [folder]
    assert archive.exists()


def member(name, kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    "hostile",
    [
        member("../x"),
        member("x"),
        member("/tmp/x"),
        member(f"{data_utils.FOLDER}/../x"),
        member(f"{data_utils.FOLDER}/.."),
        member(f"/{data_utils.FOLDER}/x"),
        member(f"{data_utils.FOLDER}/a/x"),
        member(f"{data_utils.FOLDER}/x", tarfile.SYMTYPE, "../../x"),
        member(f"{data_utils.FOLDER}/x", tarfile.LNKTYPE, f"{data_utils.FOLDER}/test_batch"),
        member(f"{data_utils.FOLDER}/x", tarfile.FIFOTYPE),
        member(f"{data_utils.FOLDER}/x", tarfile.DIRTYPE),
        member(data_utils.FOLDER, tarfile.SYMTYPE, "/tmp"),
    ],
    ids=lambda info: f"{info.name}-{info.type.decode()}",
)
def test_a_hostile_member_is_refused_and_nothing_is_left(tmp_path, edition, hostile):
    archive = pack(tmp_path / "a.tar.gz", edition, extra=[hostile])
    target = tmp_path / "target"
    target.mkdir()
    with fails("a.tar.gz: member .* is not a plain file"):
        data_utils.download_data(target, archive)
    assert not list(target.iterdir()) and sorted(p.name for p in tmp_path.iterdir()) == ["a.tar.gz", "target"]


@pytest.mark.parametrize("mode", ["w:gz", "w:xz"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9])
def test_a_truncated_archive_is_refused_and_nothing_is_left(tmp_path, edition, mode, share):
    archive = pack(tmp_path / "archive", edition, mode)
    content = archive.read_bytes()
    archive.write_bytes(content[: int(len(content) * share)])
    with fails("archive: (truncated|holds no)"):
        data_utils.download_data(tmp_path / "target", archive)
    assert not list((tmp_path / "target").iterdir())


def test_other_bad_archives_are_refused(tmp_path, edition):
    with fails("data.archive: .*absent is no file"):
        data_utils.download_data(tmp_path, tmp_path / "absent")
    text = tmp_path / "text"
    text.write_text("no archive\n" * 1000)
    with fails("text: truncated, or no tar archive"):
        data_utils.download_data(tmp_path, text)
    altered = pack(tmp_path / "altered", {**edition, "test_batch": edition["test_batch"] + b"."})
    with fails("altered: the md5 of test_batch"):
        data_utils.download_data(tmp_path, altered)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["altered", "text"]


@pytest.mark.parametrize("mode", ["w:gz", "w:xz"])
def test_an_archive_with_overwritten_bytes_is_refused(tmp_path, edition, mode):
    noise = b"".join(hashlib.sha256(bytes([i])).digest() for i in range(200))  # does not compress
    archive = pack(tmp_path / "archive", {"a": noise, **edition}, mode)
    content = archive.read_bytes()
    for start in range(1000, len(content) - 200, len(content) // 20):
        archive.write_bytes(content[:start] + b"\xff" * 100 + content[start + 100 :])
        with fails("archive: "):
            data_utils.download_data(tmp_path / "target", archive)
        assert not list((tmp_path / "target").iterdir())


def test_an_archive_without_one_of_the_files_is_refused(tmp_path, edition):
    del edition["data_batch_5"]
    archive = pack(tmp_path / "archive", edition)
    for verify in (True, False):
        with fails("archive: holds no cifar-10-batches-py/data_batch_5"):
            data_utils.download_data(tmp_path / "target", archive, verify=verify)


def test_only_the_missing_files_are_laid(tmp_path, edition):
    folder = lay(tmp_path, {"test_batch": b"the user's own"})
    data_utils.download_data(tmp_path, pack(tmp_path / "archive", edition), verify=False)
    assert (folder / "test_batch").read_bytes() == b"the user's own"
    assert (folder / "data_batch_1").read_bytes() == edition["data_batch_1"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_an_interrupted_unpacking_leaves_nothing(tmp_path, edition, monkeypatch, error):
    archive = pack(tmp_path / "archive", edition)
    extract = tarfile.TarFile.extract

    def fail_at_the_third(self, info, *args, **kwargs):
        if info.name.endswith("data_batch_3"):
            raise error
        extract(self, info, *args, **kwargs)

    monkeypatch.setattr(tarfile.TarFile, "extract", fail_at_the_third)
    with pytest.raises((KeyboardInterrupt, UserError)) as caught:
        data_utils.download_data(tmp_path / "target", archive)
    assert isinstance(error, KeyboardInterrupt) or "No space left" in str(caught.value)
    assert not list((tmp_path / "target").iterdir())


def test_a_place_that_cannot_be_written_is_named(tmp_path, edition):
    archive = pack(tmp_path / "archive", edition)
    (tmp_path / "file").touch()
    with fails("file/sub: cannot lay CIFAR-10 there"):
        data_utils.download_data(tmp_path / "file" / "sub", archive)


@pytest.fixture
def server(tmp_path):
    """A web server on this machine: (its folder, its address). `/cut` promises more bytes than it sends."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            if self.path != "/cut":
                return super().do_GET()
            content = (root / "good").read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])

        def log_message(self, *args):
            pass

    root = tmp_path / "served"
    root.mkdir()
    handler = functools.partial(Handler, directory=root)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield root, f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


@pytest.fixture
def mirrors(server, edition, monkeypatch):
    """Addresses that answer 404, with another file, with half of the file, and with the file."""
    root, address = server
    good = pack(root / "good", edition)
    (root / "other").write_bytes(good.read_bytes() + b"\0")
    monkeypatch.setattr(data_utils, "ARCHIVE_MD5", hashlib.md5(good.read_bytes()).hexdigest())
    return [f"{address}/{name}" for name in ("absent", "other", "cut", "good")]


def test_mirrors_are_tried_in_order_until_one_serves(tmp_path, edition, mirrors):
    folder = data_utils.download_data(tmp_path / "target", mirrors=mirrors)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == edition
    assert list((tmp_path / "target").iterdir()) == [folder]


def test_no_mirror_serves(tmp_path, edition, mirrors):
    """One line says what every mirror did and what to do; neither a wrong nor a partial file is taken."""
    unreachable = "http://127.0.0.1:1/cifar"
    with fails(r"absent: 404.*other: MD5.*cut: .*127.0.0.1:1/cifar: .*data.archive.*data.source: digits"):
        data_utils.download_data(tmp_path / "target", mirrors=[*mirrors[:3], unreachable])
    assert not list((tmp_path / "target").iterdir())
    with fails("data.mirrors: none serves"):
        data_utils.download_data(tmp_path / "target", mirrors=())


# The three sources


def test_load_cifar10_unpacks_reads_and_checks(tmp_path, edition):
    archive = pack(tmp_path / "archive", edition)
    data = settings_for("cifar10", tmp_path / "data", archive=str(archive), validation_fraction=0.2)
    dataset = data_utils.load(data, seed=0)
    assert [len(part.labels) for part in dataset[:3]] == [80, 20, 20]
    assert dataset.class_names == tuple(name.decode() for name in NAMES)
    with fails("data.image_size: "):
        data_utils.load(settings_for("cifar10", tmp_path / "data", image_size=48), seed=0)


def test_validation_is_a_random_part_by_the_seed(tmp_path, edition):
    lay(tmp_path, edition)

    def parts(seed):
        dataset = data_utils.load(settings_for("cifar10", tmp_path, validation_fraction=0.3), seed)
        return [[image.tobytes() for image in split.images] for split in (dataset.train, dataset.validation)]

    train, validation = parts(0)
    everything = [image.tobytes() for image in data_utils.train_data(tmp_path).images]
    assert sorted(train + validation) == sorted(everything) and len(validation) == 30
    assert parts(0) == [train, validation] and parts(1) != [train, validation]
    for fraction in (0.001, 0.999):
        with fails("data.validation_fraction: "):
            data_utils.load(settings_for("cifar10", tmp_path, validation_fraction=fraction), 0)


def test_digits():
    dataset = data_utils.load(settings_for("digits"), seed=0)
    again = data_utils.load(settings_for("digits"), seed=1)
    np.testing.assert_array_equal(dataset.test.images, again.test.images)
    assert dataset.validation is None and dataset.class_names == tuple("0123456789")
    for split in (dataset.train, dataset.test):
        assert split.images.dtype == np.uint8 and split.images.shape[1:] == (3, 32, 32)
        assert split.labels.dtype == np.int64 and (split.images[:, 0] == split.images[:, 2]).all()
        assert split.images.max() > 240 and split.images.min() == 0
    counts = np.bincount(dataset.train.labels), np.bincount(dataset.test.labels)
    assert sum(counts).sum() == 1797
    np.testing.assert_array_equal(counts[1], sum(counts) // 5)
    assert data_utils.load(settings_for("digits", image_size=28), 0).test.images.shape[2:] == (28, 28)


def save(path, color, mode="RGB", size=(8, 8), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path, **options)


def test_folder_with_train_and_test(tmp_path):
    for part in ("train", "test"):
        save(tmp_path / part / "red" / "1.png", (255, 0, 0))
        save(tmp_path / part / "green" / "1.PNG", (0, 255, 0), size=(40, 20))
        (tmp_path / part / "green" / "notes.txt").touch()
        (tmp_path / part / ".cache").mkdir()
    save(tmp_path / "train" / "red" / "2.jpg", (255, 0, 0))
    dataset = data_utils.load(settings_for("folder", tmp_path, image_size=16), seed=0)
    assert dataset.class_names == ("green", "red")
    assert dataset.train.labels.tolist() == [0, 1, 1] and dataset.test.labels.tolist() == [0, 1]
    assert dataset.train.labels.dtype == np.int64 and dataset.train.images.shape == (3, 3, 16, 16)
    assert dataset.test.images[:, :, 3, 3].tolist() == [[0, 255, 0], [255, 0, 0]]


def test_folder_split_by_a_fraction_of_each_class(tmp_path):
    for name, count in {"a": 8, "b": 12}.items():
        for i in range(count):
            save(tmp_path / name / f"{i}.png", (i * 10, 100, ord(name)))

    def parts(seed):
        dataset = data_utils.load(settings_for("folder", tmp_path), seed)
        return [[tuple(image[:, 0, 0].tolist()) for image in s.images] for s in (dataset.train, dataset.test)]

    train, test = parts(0)
    assert [color[2] for color in test] == [97] * 2 + [98] * 3
    assert len(set(train + test)) == 20
    assert parts(1) == [train, test]  # no seed is tested on images that another was trained on


def test_folder_errors_name_what_is_wrong(tmp_path):
    data = settings_for("folder", tmp_path)
    with fails("data.directory: .*absent is no folder"):
        data_utils.load(settings_for("folder", tmp_path / "absent"), 0)
    for path in ("train/a", "train/b", "test/a"):
        save(tmp_path / path / "1.png", (1, 2, 3))
    with fails("test/b: class 'b' is missing"):
        data_utils.load(data, 0)
    (tmp_path / "test" / "b").mkdir()
    with fails("test/b: holds no image"):
        data_utils.load(data, 0)
    save(tmp_path / "test" / "c" / "1.png", (1, 2, 3))
    save(tmp_path / "test" / "b" / "1.png", (1, 2, 3))
    with fails("train/c: class 'c' is missing"):
        data_utils.load(data, 0)
    (tmp_path / "test" / "c" / "1.png").unlink()
    (tmp_path / "test" / "c").rmdir()
    whole = (tmp_path / "test" / "b" / "1.png").read_bytes()
    for broken in (b"", b"no image", whole[:40], whole[: len(whole) * 2 // 3]):
        (tmp_path / "test" / "b" / "1.png").write_bytes(broken)
        with fails("b/1.png: cannot be read as an image"):
            data_utils.load(data, 0)


def test_folder_needs_two_classes_and_two_images_to_split(tmp_path):
    save(tmp_path / "a" / "1.png", (1, 2, 3))
    with fails("holds 1 class folder"):
        data_utils.load(settings_for("folder", tmp_path), 0)
    save(tmp_path / "b" / "1.png", (1, 2, 3))
    with fails("data.test_fraction: .*class a"):
        data_utils.load(settings_for("folder", tmp_path), 0)


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
    image = data_utils.read_image(tmp_path / name, 4)
    assert image.shape == (3, 4, 4) and image.dtype == np.uint8 and image.flags.c_contiguous
    if expected:
        assert (image == np.array(expected)[:, None, None]).all()


def test_read_image_of_a_palette_with_transparency(tmp_path):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([9, 9, 9, 50, 60, 70])
    image.save(tmp_path / "opaque.png")
    assert data_utils.read_image(tmp_path / "opaque.png", 4)[:, 0, 0].tolist() == [50, 60, 70]
    image.save(tmp_path / "clear.png", transparency=1)
    assert data_utils.read_image(tmp_path / "clear.png", 4)[:, 0, 0].tolist() == [255, 255, 255]


def test_read_image_turns_it_upright_and_cuts_out_the_centre(tmp_path):
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[0, :, 0] = 255  # the top row is red
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    upright = data_utils.read_image(tmp_path / "turned.png", 4)
    np.testing.assert_array_equal(upright.transpose(1, 2, 0), np.rot90(pixels, -1))

    wide = np.zeros((4, 12, 3), np.uint8)
    wide[:, 4:8] = 200
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert (data_utils.read_image(tmp_path / "wide.png", 4) == 200).all()


# The real CIFAR-10


def test_the_real_cifar10(cifar10_directory):
    dataset = data_utils.load(settings_for("cifar10", cifar10_directory), seed=0)
    assert dataset.train.images.shape == (50_000, 3, 32, 32) and dataset.test.images.shape == (
        10_000,
        3,
        32,
        32,
    )
    assert np.bincount(dataset.train.labels).tolist() == [5000] * 10
    assert np.bincount(dataset.test.labels).tolist() == [1000] * 10
    assert dataset.class_names == tuple(name.decode() for name in NAMES)
    mean, deviation = data_utils.normalization(dataset.train.images, "channel")
    np.testing.assert_allclose(mean.ravel(), [125.307, 122.950, 113.865], atol=1e-3)
    np.testing.assert_allclose(deviation.ravel(), [62.993, 62.089, 66.705], atol=1e-3)
    assert data_utils.fill_color(dataset.train.images).tolist() == [125, 123, 114]


def test_importing_data_utils_loads_no_framework_and_nothing_slow():
    code = (
        "import sys, data_utils; print({'paddle', 'tensorflow', 'sklearn', 'PIL', 'pooch', 'rich'} & set(sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"
