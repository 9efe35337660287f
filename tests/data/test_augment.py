"""Augmentation equals plain loops."""

import data_utils
from tandem.data.augment import crop, cutout, flip
from tandem.data.batches import training_batches

import numpy as np
from datasets import FILL, augmentation, synthetic
from hypothesis import given, settings
from hypothesis import strategies as st


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
        cropped = crop(images, canvas, top, left)
        np.testing.assert_array_equal(cropped, naive_crop(images, padding, top, left))


@settings(deadline=None)
@given(size=st.integers(1, 33), flipped=st.lists(st.booleans(), min_size=4, max_size=4))
def test_flip_equals_a_loop(size, flipped):
    before = synthetic(4, size).images
    after = before.copy()
    flip(after, np.array(flipped))
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
    cutout(images, side, row, column, FILL)
    np.testing.assert_array_equal(images, expected)


def test_every_crop_offset_and_cutout_centre_is_drawn_and_half_the_images_are_flipped():
    # Each image says where its pixels came from: channel 0 the row, channel 1 the column.
    size, padding = 8, 2
    image = np.stack([*np.indices((size, size)) + 10, np.zeros((size, size), int)]).astype(np.uint8)
    split = data_utils.Split(np.repeat(image[None], 4000, axis=0), np.zeros(4000, np.int64))
    fill = np.array([0, 0, 200], np.uint8)

    (batch,) = training_batches(split, 4000, 0, 0, augmentation(crop_padding=padding), fill)
    middle = batch.images[:, :2, 4, 4].astype(int) - 14
    offsets, counts = np.unique(middle, axis=0, return_counts=True)
    assert len(offsets) == 25 and offsets.min() == -2 and offsets.max() == 2
    assert counts.min() > 100

    (batch,) = training_batches(split, 4000, 0, 0, augmentation(flip=True), fill)
    assert 1900 < (batch.images[:, 1, 0, 0] == 17).sum() < 2100

    (batch,) = training_batches(split, 4000, 0, 0, augmentation(cutout=1), fill)
    holes = batch.images[:, 2] == 200
    assert (holes.sum(axis=(1, 2)) == 1).all()
    assert holes.sum(axis=0).min() > 30


# Batches
