"""The scripts themselves, on SE-ResNeXt: killed, stopped, resumed, handed over, and given bad input."""

import json
import os
import signal
import subprocess
import sys
import time

from tandem.config.load import load_config
from tandem.core.initial_weights import initial_state, whitened
from tandem.core.paths import ROOT
from tandem.data.images import load_dataset, normalization
from tandem.training import checkpoint
from tandem.training.recorder import read_metrics

import numpy as np
import pytest

SCRIPTS = {"paddle": "se_resnext_fluid.py", "tensorflow": "se_resnext_tensorflow.py"}
TINY = """
network: {name: se_resnext, num_block: 1, depth: 3, cardinality: 2, out_dims: [8, 16], reduction_ratio: 2}
data: {source: digits, image_size: 16, augmentation: {mixup: 0.4}}
optimizer: {nesterov: true, parameter_groups: {first_convolution: {learning_rate_factor: 0}}}
schedule: {name: cosine}
epochs: 2
batch_size: 128   # 12 steps an epoch
log_period: 5
evaluation: {ema_decay: 0.9, flip_tta: true}
initial_weights: {whitening: true}
checkpoints: {every_minutes: 1.0e-9}
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("a folder with spaces") / "tiny.yaml"
    path.write_text(TINY)
    return path


def start(framework, *arguments):
    command = [sys.executable, ROOT / SCRIPTS[framework], *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_step(process, folder, step):
    while process.poll() is None:
        if any(file.name >= checkpoint.file_name(step) for file in (folder / "checkpoints").glob("step-*")):
            return
        time.sleep(0.01)
    raise AssertionError(process.stderr.read())


def last_weights(folder):
    _, arrays, metadata = checkpoint.newest(folder / "checkpoints", print)
    return {name: array.tobytes() for name, array in arrays.items()}, metadata


def losses(folder):
    return [record["loss"] for record in read_metrics(folder / "metrics.jsonl") if record["kind"] == "batch"]


@pytest.fixture(scope="module", params=SCRIPTS)
def whole(request, config, tmp_path_factory):
    """A framework and the folder of an uninterrupted run in it."""
    folder = tmp_path_factory.mktemp(request.param)
    process = start(request.param, "--config", config, "--run-dir", folder)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return request.param, folder


def test_the_first_convolution_is_whitened_and_stays(whole, config):
    weights = checkpoint.newest(whole[1] / "checkpoints", print)[1]
    settings = load_config(config)
    images = load_dataset(settings.data, settings.seed).train.images
    mean, std = normalization(images, settings.data.normalization)
    name = "features.first.conv.weight"
    start = initial_state({name: weights[name].shape}, settings.seed)[name]
    expected = whitened(start, (images - mean) / std)
    assert (weights[name] == expected).all() and (expected != start).any()
    assert np.abs(weights[f"ema/{name}"] - expected).max() < 1e-6


@pytest.mark.slow
def test_killed_after_an_epoch_and_resumed_it_ends_with_the_same_bits(whole, config, tmp_path):
    framework, whole = whole
    killed = tmp_path / "killed"
    process = start(framework, "--config", config, "--run-dir", killed, "-o", "checkpoints.every_minutes=1000")
    wait_for_step(process, killed, 12)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert last_weights(killed)[1]["step"] == 12 and last_weights(killed)[1]["batch"] == 0

    process = start(framework, "--resume", killed)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert last_weights(killed)[0] == last_weights(whole)[0]
    assert losses(killed) == losses(whole)


def test_killed_in_mid_epoch_and_resumed_it_ends_with_the_same_bits(whole, config, tmp_path):
    framework, whole = whole
    killed = tmp_path / "killed"
    process = start(framework, "--config", config, "--run-dir", killed)
    wait_for_step(process, killed, 15)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    _, metadata = last_weights(killed)
    assert metadata["step"] < 24 and metadata["batch"] > 0
    newest = checkpoint.newest_first(killed / "checkpoints")[0]
    newest.write_bytes(newest.read_bytes()[:1000])  # and the newest checkpoint is damaged

    process = start(framework, "--resume", killed)
    said, errors = process.communicate()
    assert process.returncode == 0, errors
    assert f"warning: skipped: {newest}: damaged" in said
    assert f"Resuming from {killed}" in said

    expected, metadata = last_weights(whole)
    assert metadata["step"] == 24
    assert last_weights(killed)[0] == expected
    assert losses(killed) == losses(whole)


def test_ctrl_c_writes_a_checkpoint_and_the_other_framework_goes_on(config, tmp_path):
    run = tmp_path / "run"
    process = start("paddle", "--config", config, "--run-dir", run, "-o", "checkpoints.every_minutes=1e-9")
    wait_for_step(process, run, 3)
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate()
    assert process.returncode == 130
    assert "Stopped; go on with --resume" in said and not errors

    process = start("tensorflow", "--resume", run, "-o", "checkpoints.every_minutes=1000")
    said, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "(written by paddle)" in said
    records = [r for r in read_metrics(run / "metrics.jsonl") if r["kind"] == "epoch"]
    assert [r["epoch"] for r in records] == [1, 2]
    assert json.loads((run / "environment.json").read_text())["framework"] == "tensorflow"

    # A checkpoint of another network is refused, and nothing is touched.
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert_refused(
        start("tensorflow", "--resume", run, "-o", "network.depth=4"), "does not fit the configured network", "depth"
    )
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_the_other_framework_goes_on_without_a_seam(whole, tmp_path):
    """From step 22 of 24: it ends where the one that began would have ended, up to float32's rounding."""
    framework, whole = whole
    other = {"paddle": "tensorflow", "tensorflow": "paddle"}[framework]
    process = start(other, "--resume", whole / "checkpoints" / checkpoint.file_name(22), "--run-dir", tmp_path / "run")
    said, errors = process.communicate()
    assert process.returncode == 0, errors
    assert f"(written by {framework})" in said
    ends = [read_metrics(folder / "metrics.jsonl")[-1] for folder in (whole, tmp_path / "run")]
    for part in ("train", "test"):
        assert ends[1][part] == pytest.approx(ends[0][part], rel=1e-4)
    arrays = [checkpoint.newest(folder / "checkpoints", print)[1] for folder in (whole, tmp_path / "run")]
    for name, expected in arrays[0].items():
        if "velocity/" not in name:
            assert np.abs(arrays[1][name] - expected).max() <= 1e-3 * np.abs(expected).max() + 1e-6, name


def assert_refused(process, *expected):
    """One line on stderr, exit code 2; no training began."""
    said, errors = process.communicate()
    assert process.returncode == 2 and "first step" not in said, errors
    (line,) = errors.splitlines()
    assert line.startswith("error: ")
    assert any(text in line for text in expected), line


@pytest.mark.parametrize(
    ("framework", "arguments", "expected"),
    [
        ("paddle", ["--device", "gpu"], "device: gpu is not available"),
        pytest.param("tensorflow", ["--device", "gpu"], "device: gpu is not available", marks=pytest.mark.slow),
        ("paddle", ["-o", "precision=bfloat16"], "precision: Paddle does not compute in bfloat16 on this CPU"),
        (
            "paddle",
            ["-o", "optimizer.learning_rate=-1"],
            "-o optimizer.learning_rate=-1: should be greater than 0",
        ),
        ("tensorflow", ["--run-dir", "/proc/run"], "/proc/run: cannot be written"),
    ],
)
def test_bad_input_gives_one_line_and_leaves_nothing(framework, arguments, expected, config, tmp_path):
    process = start(framework, "--config", config, "--run-dir", tmp_path / "run", *arguments)
    assert_refused(process, expected)
    assert os.listdir(tmp_path) == []
