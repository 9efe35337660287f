"""What certificates draw at random, in place of images that are not here."""

from tandem.certify.drawn import images_at_hand
from tandem.config.load import check_config

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
