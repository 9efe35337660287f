import errno
import os

from tandem.core import files
from tandem.core.errors import UserError
from tandem.training import checkpoint

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

ARRAYS = {
    "conv.weight": np.arange(12, dtype=np.float32).reshape(2, 3, 2, 1).transpose(1, 0, 2, 3),  # not contiguous
    "loss_scale/scale": np.float32(65536.0),
    "velocity/fc.bias": np.array([np.pi, -0.0, 5e-324]),
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "run" / "checkpoints" / checkpoint.file_name(7)
    checkpoint.write(path, ARRAYS, {"epoch": 1, "epoch_sums": [0.1 + 0.2]})
    return path


def test_bits_and_metadata_come_back(path):
    arrays, metadata = checkpoint.read(path)
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype and arrays[name].shape == np.shape(array)
        assert arrays[name].tobytes() == np.ascontiguousarray(array).tobytes()
    assert metadata["epoch"] == 1
    assert metadata["epoch_sums"] == [0.1 + 0.2]


@settings(max_examples=60)
@given(data=st.data())
def test_any_changed_or_missing_byte_is_noticed(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damage") / checkpoint.file_name(1)
    checkpoint.write(path, ARRAYS, {"epoch": 1})
    content = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content = content[:position]
    else:
        content[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        arrays, metadata = checkpoint.read(path)
    except UserError:
        return
    # A space in the header's JSON may turn into another white space: then nothing has changed.
    assert metadata["epoch"] == 1
    assert all(arrays[name].tobytes() == np.ascontiguousarray(ARRAYS[name]).tobytes() for name in ARRAYS)


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_whole_and_nothing_else(path, monkeypatch, fails):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = path.read_bytes()
    monkeypatch.setattr(os, fails, full)
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\)"):
        checkpoint.write(path, {"x": np.zeros(3)}, {})
    monkeypatch.undo()
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == before


def test_the_newest_whole_one_is_taken_and_damage_reported(path):
    folder = path.parent
    checkpoint.write(folder / checkpoint.file_name(10), ARRAYS, {"epoch": 2})
    checkpoint.write(folder / checkpoint.file_name(100), ARRAYS, {"epoch": 3})
    newest = folder / checkpoint.file_name(100)
    newest.write_bytes(newest.read_bytes()[:-1])
    warnings = []
    found, _, metadata = checkpoint.newest(folder, warnings.append)
    assert found == folder / checkpoint.file_name(10) and metadata["epoch"] == 2
    assert len(warnings) == 1 and str(newest) in warnings[0]


def test_none_to_resume_from(tmp_path):
    with pytest.raises(UserError, match="no whole checkpoint"):
        checkpoint.newest(tmp_path, print)


def test_pruning_keeps_the_newest_and_the_best(path):
    for step in (8, 9, 10_000_000):
        checkpoint.write(path.parent / checkpoint.file_name(step), ARRAYS, {})
    checkpoint.write(path.parent / checkpoint.BEST, ARRAYS, {})
    (path.parent / f"{files.UNFINISHED}{checkpoint.file_name(11)}").touch()
    checkpoint.write(path.parent / checkpoint.file_name(20_000_000), ARRAYS, {})  # skipped as damaged, say
    checkpoint.prune(path.parent, 10_000_000, 2)
    left = {file.name for file in path.parent.iterdir()}
    assert left == {checkpoint.BEST, checkpoint.file_name(9), checkpoint.file_name(10_000_000)}


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\xff" * 100])
def test_files_that_are_none(tmp_path, content):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged or not a checkpoint"):
        checkpoint.read(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="no such checkpoint"):
        checkpoint.read(tmp_path / "x.safetensors")


def test_another_ones_safetensors(tmp_path):
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match="not one of Tandem's"):
        checkpoint.read(tmp_path / "x.safetensors")
