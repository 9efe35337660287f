"""Fixtures that several test modules share."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

import data_utils

settings.register_profile("tandem", deadline=None)  # the machine is noisy, and no test is about time
settings.load_profile("tandem")


@pytest.fixture(scope="session")
def cifar10_directory(tmp_path_factory):
    """A folder that holds the real `cifar-10-batches-py`; where there is none at hand, the test is skipped.

    Looked for in $TANDEM_CIFAR10, then in ../shared/cifar10: unpacked there already, or as the archive.
    """
    shared = Path(__file__).parents[2] / "shared" / "cifar10"
    directory = Path(os.environ.get("TANDEM_CIFAR10", shared))
    if (directory / data_utils.FOLDER).is_dir():
        return directory
    archive = directory / "cifar-10-python.tar.xz"
    if not archive.is_file():
        pytest.skip("the real CIFAR-10 is not here; set TANDEM_CIFAR10 to its folder")
    unpacked = tmp_path_factory.mktemp("cifar10")
    data_utils.download_data(unpacked, archive=archive)
    return unpacked
