"""Both frameworks agree with a third opinion: tests/reference.py, NumPy alone. So they cannot be wrong together.

A network joins by an entry in `reference_worker.NETWORKS` and one in `REFERENCES`.
"""

import functools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import reference as ref
from reference_worker import (
    CLASSES,
    DEVIATION,
    FORWARD_ONLY,
    LEARNING_RATE,
    MEAN,
    NETWORKS,
    SE_RESNEXT,
    STEP,
    batch,
    settings,
    state_of,
)

FRAMEWORKS = ("paddle", "tensorflow")
PAIRS = [(framework, name) for name in NETWORKS for framework in FRAMEWORKS]
WHOLE = [(framework, name) for framework, name in PAIRS if name not in FORWARD_ONLY]
DISTANCES = (1e-6, 1e-7)
"""How far central differences look. A ReLU or a maximum that changes sides in the wider is likely not in the other."""

REFERENCES = {
    "se_resnext": ref.se_resnext(**SE_RESNEXT),
    "mixed_net": ref.sequential(
        ("conv1", ref.conv2d(stride=2, padding=1)),
        ("norm1", ref.local_response_norm(5, 0.5, 0.75)),
        ("pool1", ref.max_pool(3, 2)),
        ("conv2", ref.conv2d(stride=1, padding=1, groups=2)),
        ("bn2", ref.batch_norm),
        ("relu2", ref.relu),
        ("pool2", ref.max_pool(2, 2, ceil_mode=True)),
        ("dropout2", ref.dropout(0.3)),
        ("shortcut", ref.average_pool_pad(8, 12)),
        ("se", ref.squeeze_excitation),
        ("flatten", ref.flatten),
        ("fc3", ref.dense),
        ("bn3", ref.batch_norm),
        ("relu3", ref.relu),
        ("dropout3", ref.dropout(0.5)),
        ("fc4", ref.dense),
    ),
    "resnet": ref.resnet_cifar(2, bottleneck=False),
    "resnet_fast": ref.resnet_fast(2),
    "resnet_bottleneck": ref.resnet_cifar(1, bottleneck=True),
    "lenet5": ref.lenet(["fc3", "fc4", "fc5"]),
    "simple_cnn": ref.lenet(["fc3", "fc4"]),
    "alexnet": ref.alexnet(stride=4, padding=1),
    "vgg": ref.vgg((1, 1, 2, 2, 2)),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where both workers have put their arrays."""
    folder = tmp_path_factory.mktemp("reference")
    command = [sys.executable, Path(__file__).parent / "reference_worker.py"]
    workers = [
        subprocess.Popen([*command, framework, folder], stderr=subprocess.PIPE, text=True) for framework in FRAMEWORKS
    ]
    for worker in workers:
        _, stderr = worker.communicate()
        assert worker.returncode == 0, stderr
    return folder


def arrays(folder, framework, name, what):
    return dict(np.load(folder / f"{framework}-{name}-{what}.npz"))


def shapes(folder, framework, name):
    return json.loads((folder / f"{framework}-{name}.json").read_text())


def weights_before(folder, name):
    """Parameters and statistics before the step."""
    return state_of({key: shape for key, shape in shapes(folder, "paddle", name).items() if "/" not in key})


def error(a, b, largest=0):
    """DESIGN.md: max|a - b| / max(max|b|, 1e-4 x the largest entry of the phase)."""
    return np.abs(a - b).max() / max(np.abs(b).max(), 1e-4 * largest)


def evaluate(name, weights, training):
    """The reference's run (with its outputs and statistics), logits and loss."""
    images, labels = batch(settings(name).data.image_size)[:2]
    run = ref.Run(weights, training, settings(name).seed, STEP)
    logits = run(REFERENCES[name], (images - MEAN) / DEVIATION, "")
    return run, logits, ref.cross_entropy(logits, labels, settings(name).label_smoothing)


@functools.cache
def evaluated(folder, name, training):
    """`evaluate` in the state before the step."""
    return evaluate(name, weights_before(folder, name), training)


@pytest.mark.parametrize("name", NETWORKS)
def test_both_have_the_same_names_and_shapes(folder, name):
    assert shapes(folder, "paddle", name) == shapes(folder, "tensorflow", name)


@pytest.mark.parametrize(("framework", "name"), PAIRS)
@pytest.mark.parametrize("mode", ["training", "evaluation"])
def test_every_layer_the_logits_and_the_loss_agree(folder, framework, name, mode):
    found = arrays(folder, framework, name, mode)
    run, logits, loss = evaluated(folder, name, mode == "training")
    assert logits.shape == found["logits"].shape == (len(logits), CLASSES)
    assert error(found["logits"], logits) < 1e-12
    assert abs(found["loss"] - loss) < 1e-12 * loss
    outputs = {key.removeprefix("output/"): array for key, array in found.items() if key.startswith("output/")}
    assert outputs.keys() <= run.outputs.keys()
    assert len(outputs) >= 10
    for layer, output in outputs.items():
        assert output.shape == run.outputs[layer].shape, layer
        assert error(output, run.outputs[layer]) < 1e-12, layer


@pytest.mark.parametrize(("framework", "name"), PAIRS)
def test_running_statistics_agree(folder, framework, name):
    run, _, _ = evaluated(folder, name, True)
    before, after = run.weights, arrays(folder, framework, name, "after")
    assert run.statistics.keys() == {key for key in after if ".running_" in key}
    for key, expected in run.statistics.items():
        assert error(after[key], expected) < 1e-12, key
        assert error(after[key], before[key]) > 1e-3, key


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in FORWARD_ONLY])
def test_gradients_agree_with_central_differences(folder, name):
    """Along random directions in all parameters at once, along the gradient, and along one in each parameter alone."""
    weights = weights_before(folder, name)
    both = [gradients_of(arrays(folder, framework, name, "training")) for framework in FRAMEWORKS]
    assert both[0].keys() == both[1].keys() == {key for key in weights if ".running_" not in key}
    rng = np.random.default_rng(3)

    def random(keys):
        return {key: rng.normal(size=weights[key].shape) for key in keys}

    directions = [both[0], *(random(both[0]) for _ in range(3)), *(random([key]) for key in both[0])]
    largest = norm(both[0])
    for direction in directions:
        unit = {key: array / norm(direction) for key, array in direction.items()}
        found = [sum((gradients[key] * array).sum() for key, array in unit.items()) for gradients in both]
        tolerance = 1e-6 * max(norm({key: both[0][key] for key in unit}), 1e-2 * largest)
        measured = (slope(name, weights, unit, distance) for distance in DISTANCES)
        assert any(np.abs(np.array(found) - expected).max() < tolerance for expected in measured), list(direction)


def gradients_of(found):
    return {key.removeprefix("gradient/"): array for key, array in found.items() if key.startswith("gradient/")}


def norm(direction):
    return np.sqrt(sum((array**2).sum() for array in direction.values()))


def slope(name, weights, unit, distance):
    """How fast the reference's loss grows along `unit`."""
    ahead, behind = (
        weights | {key: weights[key] + sign * distance * array for key, array in unit.items()} for sign in (1, -1)
    )
    return (evaluate(name, ahead, training=True)[2] - evaluate(name, behind, training=True)[2]) / (2 * distance)


@pytest.mark.parametrize(("framework", "name"), WHOLE)
def test_the_update_is_the_papers(folder, framework, name):
    before, after = state_of(shapes(folder, framework, name)), arrays(folder, framework, name, "after")
    optimizer = settings(name).optimizer
    norms = {key.removesuffix(".running_mean") for key in before if key.endswith(".running_mean")}
    groups = {}  # those of reference_worker.py
    if name == "resnet":
        groups = {"first.conv.weight": (0, 0.01)}
    elif name == "resnet_fast":
        groups = {f"{norm}.weight": (0, 0.01) for norm in norms} | {f"{norm}.bias": (0.3, 0.02) for norm in norms}
        groups |= {key: (1, 0.03) for key in before if key.startswith("stage") and key.endswith("conv.weight")}
        groups |= {"fc.weight": (2, 0.01), "fc.bias": (1, 0), "stem.conv.bias": (1, 0)}
        assert len(norms) == 12 and len(groups) == 39
    for key, gradient in gradients_of(arrays(folder, framework, name, "training")).items():
        factor, weight_decay = groups.get(key, (1, optimizer.weight_decay))
        weight, velocity = ref.momentum_step(
            before[key],
            before[f"velocity/{key}"],
            gradient,
            LEARNING_RATE * float(np.float32(factor)),
            optimizer.momentum,
            np.float32(weight_decay),
            optimizer.nesterov,
        )
        assert error(after[key], weight) < 1e-13, key
        assert error(after[f"velocity/{key}"], velocity) < 1e-13, key
