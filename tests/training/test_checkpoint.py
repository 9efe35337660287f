import errno
import json
import os

from tandem.core import files
from tandem.core import metadata as metadata_of_files
from tandem.core.errors import UserError
from tandem.training import checkpoint

import numpy as np
import pytest
from checkpoints import metadata
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
    checkpoint.write(path, ARRAYS, metadata(epoch_sums=[0.1 + 0.2, 1.0, 1.0, 2.0]))
    return path


def test_bits_and_metadata_come_back(path):
    arrays, found = checkpoint.read(path)
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype and arrays[name].shape == np.shape(array)
        assert arrays[name].tobytes() == np.ascontiguousarray(array).tobytes()
    assert found["epoch"] == 1
    assert found["epoch_sums"][0] == 0.1 + 0.2


@settings(max_examples=60)
@given(data=st.data())
def test_any_changed_or_missing_byte_is_noticed(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damage") / checkpoint.file_name(1)
    checkpoint.write(path, ARRAYS, metadata())
    content = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content = content[:position]
    else:
        content[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        arrays, found = checkpoint.read(path)
    except UserError:
        return
    # A space in the header's JSON may turn into another white space: then nothing has changed.
    assert found["epoch"] == 1
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
    checkpoint.write(folder / checkpoint.file_name(10), ARRAYS, metadata(epoch=2))
    checkpoint.write(folder / checkpoint.file_name(100), ARRAYS, metadata(epoch=3))
    newest = folder / checkpoint.file_name(100)
    newest.write_bytes(newest.read_bytes()[:-1])
    warnings = []
    taken, _, found = checkpoint.newest(folder, warnings.append)
    assert taken == folder / checkpoint.file_name(10) and found["epoch"] == 2
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


def nested(depth):
    return [nested(depth - 1)] if depth else []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epoch": -1}, "epoch: "),
        ({"epoch": 10**9}, "epoch 1000000000 of 3"),
        ({"epoch": 2**70}, "epoch: "),
        ({"epoch": 1.5}, "epoch: "),
        ({"epoch": "1"}, "epoch: "),
        ({"batch": -5}, "batch: "),
        ({"batch": 10}, "batch 10 of 10"),
        ({"steps_per_epoch": 0}, "steps_per_epoch: "),
        ({"epoch_sums": [0.0] * 3}, "epoch_sums"),
        ({"epoch_sums": [-1.0] * 4}, "epoch_sums.0: "),
        ({"window_sums": [float("nan")] * 4}, "window_sums.0: "),
        ({"window_seconds": float("inf")}, "window_seconds: "),
        ({"best": {"accuracy": 2.0, "epoch": 1}}, "best.accuracy: "),
        ({"best": None}, "best: "),
        ({"received": "x" * 64}, "received: "),
        ({"framework": "../paddle"}, "framework: "),
        ({"metrics": {"kind": "epoch"}}, "metadata has no metrics.epoch"),
        ({"class_names": []}, "class_names: "),
        ({"class_names": None}, "class_names: "),
        ({"class_names": [1, 2]}, "class_names.0: "),
        ({"class_names": ["a", "\x1b]0;owned\x07"]}, "class_names.1: should have no control characters"),
        ({"class_names": ["a", "\u202ebad"]}, "class_names.1: should have no control characters"),
        ({"class_names": ["a" * 256]}, "class_names.0: "),
        ({"versions": {"python": "\x1b[2J"}}, "versions.python: should have no control characters"),
        ({"config": []}, "config: "),
        ({"config": {"epochs": nested(500)}}, "its metadata is wrong"),
        ({"config": {"x": "y" * 5000}}, "bytes long, and 5000 is the most"),
        ({"more": 1}, "more: "),
        ({"format": 2}, "format 2, but this Tandem reads 1"),
        ({"format": None}, "format: "),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_metadata_out_of_range_are_one_line_however_right_the_digest(tmp_path, monkeypatch, changes, message):
    monkeypatch.setattr(metadata_of_files, "LONGEST", 5000)
    checkpoint.write(tmp_path / "x.safetensors", ARRAYS, metadata(**changes))
    with pytest.raises(UserError) as caught:
        checkpoint.read(tmp_path / "x.safetensors")
    assert str(caught.value).startswith(f"{tmp_path / 'x.safetensors'}: ") and message in str(caught.value)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 500


@pytest.mark.parametrize("missing", metadata())
def test_metadata_that_are_missing_are_named(tmp_path, missing):
    held = metadata()
    del held[missing]
    checkpoint.write(tmp_path / "x.safetensors", ARRAYS, held)
    with pytest.raises(UserError, match=f"its metadata has no {missing}; use another"):
        checkpoint.read(tmp_path / "x.safetensors")


@pytest.mark.parametrize("text", ["", "{", "null", "[" * 100_000, "\x00"])
def test_metadata_that_are_no_json(tmp_path, text):
    from safetensors.numpy import save_file

    arrays = {"x": np.zeros(2)}
    save_file(arrays, tmp_path / "x.safetensors", {"tandem": text, "digest": checkpoint._digest(arrays, text)})
    with pytest.raises(UserError, match="its metadata is wrong"):
        checkpoint.read(tmp_path / "x.safetensors")


def test_arrays_of_a_dtype_that_no_run_writes(tmp_path):
    checkpoint.write(tmp_path / "x.safetensors", {"a": np.zeros(2, np.int8), "b": np.zeros(2, np.uint16)}, metadata())
    with pytest.raises(UserError, match="holds arrays of I8, U16, which no run writes"):
        checkpoint.read(tmp_path / "x.safetensors")


def test_an_empty_array_of_an_impossible_shape(tmp_path):
    array = {"dtype": "F32", "shape": [0, 2**62], "data_offsets": [0, 0]}
    header = json.dumps({"__metadata__": {"tandem": "{}", "digest": ""}, "a": array}).encode()
    (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(UserError, match=r"damaged or not a checkpoint .*too big"):
        checkpoint.read(tmp_path / "x.safetensors")


def test_a_fifo_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.safetensors")
    with pytest.raises(UserError, match="is a FIFO or a device; name a checkpoint"):
        checkpoint.read(tmp_path / "x.safetensors")
    with pytest.raises(UserError, match="/dev/zero: is a FIFO or a device"):
        checkpoint.read("/dev/zero")


@pytest.mark.parametrize(
    "changes",
    [
        {"mean": None},
        {"std": None},
        {"mean": np.zeros(3)},
        {"mean": np.zeros((3, 9, 9))},
        {"std": np.zeros((3, 1, 1))},
        {"std": np.full((3, 1, 1), np.nan)},
        {"mean": np.full((3, 1, 1), np.inf)},
    ],
)
def test_how_to_normalise_images_is_checked(changes):
    held = {"mean": np.zeros((3, 8, 8)), "std": np.ones((3, 1, 1))}
    arrays = {f"preprocessing/{name}": array for name, array in held.items()}
    assert checkpoint.preprocessing(arrays, 8, "x")[0] is arrays["preprocessing/mean"]
    changed = {f"preprocessing/{name}": array for name, array in (held | changes).items() if array is not None}
    with pytest.raises(UserError, match="x: does not say how to normalise images of 8 pixels"):
        checkpoint.preprocessing(changed, 8, "x")
