"""What certificates draw at random, in place of images that are not here."""

from tandem.certify.drawn import images_at_hand, without_flat_parts
from tandem.config.load import check_config
from tandem.data.batches import Batch

import numpy as np
import pytest


@pytest.mark.parametrize(
    ("size", "why"), [(32, "CIFAR-10 is not here: see data.directory"), (75, "CIFAR-10 is not of 75 pixels")]
)
def test_random_pixels_take_the_place_of_a_cifar10_that_is_not_here(tmp_path, size, why):
    network = {"name": "resnet_cifar", "depth": 20}
    data = {"directory": str(tmp_path), "image_size": size}
    settings = check_config({"network": network, "schedule": {"name": "constant"}, "epochs": 1, "data": data}, "test")
    dataset, said = images_at_hand(settings.data, settings.seed)
    assert said == f"The images are random pixels, since {why}"
    assert dataset.train.images.shape == (500, 3, size, size)
    assert len(np.unique(dataset.train.images)) == 256 and set(dataset.train.labels) == set(range(10))
    assert not any(tmp_path.iterdir())  # nothing was downloaded


def test_no_part_of_an_image_stays_flat():
    black, white = np.zeros((2, 3, 32, 32), np.uint8), np.full((2, 3, 32, 32), 255, np.uint8)
    for images in (black, white, black + 7):
        found = without_flat_parts(Batch(images, np.arange(2)), 0, 1)
        distance = np.abs(found.images.astype(int) - images)
        assert found.images.dtype == np.uint8 and set(np.unique(distance)) == {0, 1}
        windows = np.lib.stride_tricks.sliding_window_view(found.images, (1, 3, 5, 5)).reshape(-1, 75)
        assert len(np.unique(windows, axis=0)) == len(windows)  # what two places of a convolution see differs
        assert (without_flat_parts(Batch(images, np.arange(2)), 0, 2).images != found.images).any()
