"""Arrays that go from process to process: the same, in the same order, and nothing of what was there before.

And what may be read and replaced.
"""

import os
import struct
import tracemalloc
import zipfile

from tandem.core import files
from tandem.core.errors import UserError

import numpy as np
import pytest


def test_what_is_read_is_what_was_written(tmp_path):
    arrays = {
        "output/conv1.relu#2": np.arange(24.0).reshape(2, 3, 4).transpose(2, 0, 1),
        "loss": np.float64(0.1),
        "batch": np.arange(3, dtype=np.uint8),
        "empty": np.zeros((0, 2), np.float32),
    }
    files.write_arrays(tmp_path / "trace", {"old": np.ones(5), **arrays, "older": np.ones(2)})
    files.write_arrays(tmp_path / "trace", arrays)
    read = files.read_arrays(tmp_path / "trace")
    assert list(read) == list(arrays)
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)


def test_what_is_no_file_is_not_replaced(tmp_path):
    """Root could replace /dev/null."""
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UserError, match=r"fifo: cannot be written \(it is no file\)"):
        files.write_file(tmp_path / "fifo", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["fifo"] and not (tmp_path / "fifo").is_file()


def test_a_file_longer_than_memory_is_not_read(tmp_path):
    """One with holes may be of any length."""
    with (tmp_path / "x").open("wb") as file:
        file.truncate(1 << 42)
    with pytest.raises(UserError, match=r"x: is 4398.0 GB long, and less memory is free"):
        files.check_plain(tmp_path / "x")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_a_member_that_is_longer_than_it_says_takes_no_memory(tmp_path, method):
    length = 50_000_000
    with zipfile.ZipFile(tmp_path / "x.zip", "w", method) as archive:
        archive.writestr("member", bytes(length))
    content = (tmp_path / "x.zip").read_bytes()
    (tmp_path / "x.zip").write_bytes(content.replace(struct.pack("<I", length), struct.pack("<I", 1000)))
    tracemalloc.start()
    with zipfile.ZipFile(tmp_path / "x.zip") as archive, pytest.raises(zipfile.BadZipFile):
        files.read_member(archive, archive.getinfo("member"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000
