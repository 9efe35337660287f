"""Fixtures that several test modules share."""

import importlib
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import data_utils
from tandem.certify.steps import WORKER
from tandem.frameworks.base import FRAMEWORKS
from tandem.frameworks.workers import Workers

import pytest
from hypothesis import settings

settings.register_profile("tandem", deadline=None)  # the machine is noisy, and no test is about time
settings.load_profile("tandem")


LONGEST = (
    *(
        "test_resume",
        "test_traps",
        "test_networks",
        "test_certificate",
        "test_planted",
        "test_comparison",
        "test_twins",
    ),
    *("test_measure", "test_export", "test_reference", "test_convert", "test_ports", "test_inference", "test_replicas"),
)
"""The modules that take longest. They come first: two run at a time, and the last should be short."""


def pytest_collection_modifyitems(items):
    """Sort the tests by the place of their module in `LONGEST`."""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONGEST)))


@pytest.fixture(scope="session")
def workers():
    """Both frameworks' processes for certificates: a `Workers`."""
    with Workers(WORKER) as workers:
        yield workers


@pytest.fixture(scope="module")
def begin():
    """begin(framework, function, *arguments): a future, in a process for each framework, kept to save its start."""
    context = multiprocessing.get_context("spawn")
    pools = {framework: ProcessPoolExecutor(1, context) for framework in FRAMEWORKS}
    for framework, pool in pools.items():  # both load at once, which takes most of the time
        pool.submit(importlib.import_module, f"tandem.frameworks.{framework}.engine")
    yield lambda framework, function, *arguments: pools[framework].submit(function, *arguments)
    for pool in pools.values():
        pool.shutdown()


@pytest.fixture(scope="module")
def run_in(begin):
    """run_in(framework, function, *arguments): what it returns in the framework's process."""
    return lambda framework, function, *arguments: begin(framework, function, *arguments).result()


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
