"""Arrays that go from process to process: the same, in the same order, and nothing of what was there before."""

from tandem.core import files

import numpy as np


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
