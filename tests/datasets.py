"""Small datasets and images for tests, and how an error must read."""

from types import SimpleNamespace

import data_utils
from tandem.core.errors import UserError

import numpy as np
import pytest
from PIL import Image

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


def save(path, color, mode="RGB", size=(8, 8), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path, **options)
