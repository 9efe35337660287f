"""The twins compute the same thing, in float64, step by step from the same state; and are written alike."""

import ast
import json
import subprocess
import sys
from pathlib import Path

from tandem.core.paths import ROOT

import numpy as np
import pytest

HERE = Path(__file__).parent
FRAMEWORKS = ("paddle", "tensorflow")
STEPS = range(4)
LEARNING_RATES = (0.1, 0.05, 0.2, 0.01)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each framework's worker found, and `folder` with its arrays."""
    folder = tmp_path_factory.mktemp("twins")
    results = {"folder": folder}
    for framework in FRAMEWORKS:
        command = [sys.executable, HERE / "twin_worker.py", framework, folder]
        finished = subprocess.run(command, capture_output=True, text=True)
        assert finished.returncode == 0, finished.stderr
        results[framework] = json.loads(finished.stdout.splitlines()[-1])
    return results


def arrays(found, name):
    return [dict(np.load(found["folder"] / f"{framework}-{name}.npz")) for framework in FRAMEWORKS]


def error(a, b, largest):
    """As docs/design.md has it: max|a - b| / max(max|b|, 1e-4 x the largest entry of the phase)."""
    return np.abs(a - b).max() / max(np.abs(b).max(), 1e-4 * largest)


def test_both_start_from_the_same_bits(found):
    paddle, tensorflow = arrays(found, 0)
    assert paddle.keys() == tensorflow.keys()
    assert all(paddle[name].tobytes() == tensorflow[name].tobytes() for name in paddle)


@pytest.mark.parametrize("step", STEPS)
def test_one_step_from_the_same_state_agrees_in_every_element(found, step):
    paddle, tensorflow = arrays(found, step + 1)
    assert paddle.keys() == tensorflow.keys()
    for kind in ("velocity/", "ema/", ".running_", ""):
        names = [name for name in paddle if kind in name and not (kind == "" and ("/" in name or "running" in name))]
        largest = max(np.abs(paddle[name]).max() for name in names)
        for name in names:
            assert error(tensorflow[name], paddle[name], largest) < 1e-11, (kind, name)


@pytest.mark.parametrize("step", STEPS)
def test_losses_and_hits_agree_in_training_and_evaluation(found, step):
    paddle, tensorflow = arrays(found, f"sums-{step}")
    for part in ("train", "evaluated"):
        assert paddle[part] == pytest.approx(tensorflow[part], rel=1e-12)
        loss, right, right_in_5 = paddle[part]
        assert loss > 0 and 0 <= right <= right_in_5 <= 6


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_float32_training_path_is_the_float64_one(found, framework):
    """The fused batch norm, its running variance, the compiled step."""
    exact = dict(np.load(found["folder"] / "paddle-2.npz"))
    trained = dict(np.load(found["folder"] / f"{framework}-float32.npz"))
    for kind in ("velocity/", "ema/", ".running_", ".weight"):
        names = [name for name in exact if kind in name and ("/" in kind) == ("/" in name)]
        largest = max(np.abs(exact[name]).max() for name in names)
        for name in names:
            assert trained[name].dtype == np.float32
            assert error(trained[name], exact[name], 100 * largest) < 1e-4, name


def cross_entropy(logits, labels):
    """Of each image, by NumPy."""
    smoothing = float(np.float32(0.1))
    largest = logits.max(axis=1, keepdims=True)
    log_softmax = logits - largest - np.log(np.exp(logits - largest).sum(axis=1, keepdims=True))
    target = np.full_like(logits, smoothing / logits.shape[1])
    target[np.arange(len(labels)), labels] += 1 - smoothing
    return -(target * log_softmax).sum(axis=1)


def hits(logits, labels):
    """How many are right, and right in the top 5, by NumPy."""
    # Of equals the first wins: that is what argmax and a stable sort say. And NaN is never right.
    order = np.argsort(-logits, axis=1, kind="stable")
    ranks = [list(order[row]).index(label) for row, label in enumerate(labels) if not np.isnan(logits[row]).any()]
    return [sum(rank < 1 for rank in ranks), sum(rank < 5 for rank in ranks)]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_cross_entropy_and_hits_are_what_numpy_says(found, framework):
    result = dict(np.load(found["folder"] / f"{framework}-losses.npz"))
    logits, labels = result["logits"], result["labels"]
    assert result["losses"] == pytest.approx(cross_entropy(logits, labels), rel=1e-12, nan_ok=True)
    assert result["sums"][1:].tolist() == hits(logits, labels)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_mixup_is_what_numpy_says(found, framework):
    result = dict(np.load(found["folder"] / f"{framework}-mixes.npz"))
    logits, labels = result["logits"], result["labels"]
    assert np.abs(logits - result["of_together"]).max() < 1e-12 * np.abs(logits).max()
    losses = 0.75 * cross_entropy(logits, labels) + 0.25 * cross_entropy(logits, labels[result["permutation"]])
    assert result["loss"] == pytest.approx(losses.mean(), rel=1e-12)
    assert result["sums"].tolist() == [pytest.approx(losses.sum(), rel=1e-9), *hits(logits, labels)]
    # The batch decides, not the config, which has mixup here.
    logits = result["plain_logits"]
    expected = cross_entropy(logits, labels).sum()
    assert result["plain_sums"].tolist() == [pytest.approx(expected, rel=1e-9), *hits(logits, labels)]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_averages_are_the_formula(found, framework):
    """From NumPy: e = 0.9*e + 0.1*w, of weights and statistics; at first e is w."""
    decay = float(np.float32(0.9))
    before = arrays(found, 0)[0]
    names = [name for name in before if "/" not in name]
    assert any(name.endswith(".running_var") for name in names)
    assert all(before[f"ema/{name}"].tobytes() == before[name].tobytes() for name in names)
    for step in STEPS:
        before, after = arrays(found, step)[0], arrays(found, step + 1)[FRAMEWORKS.index(framework)]
        for name in names:
            expected = decay * before[f"ema/{name}"] + (1 - decay) * after[name]
            assert np.abs(after[f"ema/{name}"] - expected).max() <= 1e-15 * max(1, np.abs(expected).max()), name


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_averages_and_mirror_images_evaluate_as_by_hand(found, framework):
    result = dict(np.load(found["folder"] / f"{framework}-evaluations.npz"))
    assert found[framework]["as_it_was"]
    assert result["ema"] == pytest.approx(result["ema_by_hand"], rel=1e-13)
    assert result["ema"][0] != pytest.approx(result["plain"][0], rel=1e-3)
    logits, labels = (result["logits"] + result["mirrored_logits"]) / 2, result["labels"]
    assert result["ema_flip"].tolist() == [
        pytest.approx(cross_entropy(logits, labels).sum(), rel=1e-12),
        *hits(logits, labels),
    ]
    paddle, tensorflow = arrays(found, "evaluations")
    assert all(paddle[name] == pytest.approx(tensorflow[name], rel=1e-11) for name in paddle)


def test_momentum_and_decay_are_the_formula(found):
    """From NumPy: d = g + decay*w; v = m*v + d; w -= lr*(d + m*v)."""
    momentum = float(np.float32(0.9))
    states = [arrays(found, step)[0] for step in range(3)]
    for name in ("fc.weight", "features.stage2.block1.body.split.group.conv.weight", "features.first.bn.weight"):
        for step in (0, 1):
            before, after = states[step], states[step + 1]
            direction = after[f"velocity/{name}"] - momentum * before[f"velocity/{name}"]
            expected = before[name] - LEARNING_RATES[step] * (direction + momentum * after[f"velocity/{name}"])
            assert np.abs(after[name] - expected).max() < 1e-14


def test_every_parameter_gets_a_gradient(found):
    before, after = arrays(found, 0)[0], arrays(found, 1)[0]
    decay = float(np.float32(0.01))
    for name in before:
        if f"velocity/{name}" in before:
            gradient = after[f"velocity/{name}"] - decay * before[name]
            assert np.abs(gradient).max() > 1e-18, name


@pytest.mark.parametrize("channels", [3, 100])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_grouped_convolution_is_what_numpy_says(found, framework, channels):
    result = dict(np.load(found["folder"] / f"{framework}-grouped-{channels}.npz"))
    x, weight = result["x"], result["weight"]
    padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))[:, :, ::2, ::2]
    halves = [
        np.einsum("nihwyx,oiyx->nohw", inputs, kernels)
        for inputs, kernels in zip(np.split(windows, 2, axis=1), np.split(weight, 2), strict=True)
    ]
    expected = np.concatenate(halves, axis=1)
    for index in range(3 if framework == "paddle" else 1):
        assert np.abs(result[f"y-{index}"] - expected).max() < 1e-12
        # sum(y^2) is quadratic in x and in the weight: half its gradient times either is the sum itself
        assert (result[f"x-{index}"] * x).sum() == pytest.approx(2 * (expected**2).sum(), rel=1e-12)
        assert (result[f"weight-{index}"] * weight).sum() == pytest.approx(2 * (expected**2).sum(), rel=1e-12)


@pytest.mark.parametrize("channels", [3, 100])
def test_gradients_of_the_grouped_convolution_agree(found, channels):
    paddle, tensorflow = arrays(found, f"grouped-{channels}")
    for index in range(3):
        for kind in ("y", "x", "weight"):
            assert np.abs(paddle[f"{kind}-{index}"] - tensorflow[f"{kind}-0"]).max() < 1e-11


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_own_saving_and_loading(found, framework):
    assert found[framework]["native"]["same"]


def test_both_summaries_count_the_same_numbers(found):
    paddle, tensorflow = (found[framework]["native"]["numbers"] for framework in FRAMEWORKS)
    assert paddle == tensorflow


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(found, framework):
    missing, extra, misshapen = found[framework]["states"]["messages"]
    assert "1 missing: fc.bias" in missing
    assert "1 unexpected: extra" in extra
    assert "1 of another shape: fc.bias (2,) for (7,)" in misshapen
    assert found[framework]["states"]["unchanged"]


def test_what_cannot_be_had_is_refused(found):
    bfloat16, float16, gpu = found["paddle"]["refused"]
    assert bfloat16.startswith("precision: Paddle does not compute in bfloat16 on this CPU")
    assert float16.startswith("precision: Paddle does not compute in float16 on this CPU")
    assert gpu.startswith("device: gpu is not available")
    assert all(message.startswith("device: gpu") for message in found["tensorflow"]["refused"])


def test_sixteen_bits_in_tensorflow(found):
    low = found["tensorflow"]["low"]
    assert [low[name]["dtype"] for name in ("float32", "bfloat16", "float16")] == ["float32", "bfloat16", "float16"]
    for precision in ("bfloat16", "float16"):
        assert low[precision]["losses"] != low["float32"]["losses"]
        assert low[precision]["losses"][0] == pytest.approx(low["float32"]["losses"][0], rel=0.02)
        assert low[precision]["losses"][2] < low[precision]["losses"][0]


def test_a_keras_input_does_not_round_the_images(found):
    assert found["tensorflow"]["inputs"] == {"float32": "float32", "float64": "float64", "bfloat16": "float32"}


def test_an_overflow_leaves_out_the_step_and_halves_the_scale(found):
    low = found["tensorflow"]["low"]
    assert low["scale"] == [65536.0, 3]
    assert low["overflow"] == [2.0**125, 0]
    assert low["skipped"]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_run_never_loads_the_other_framework(found, framework):
    assert not found[framework]["other_loaded"]


def public(path):
    """Names, parameters and methods of what a module offers, in order."""
    parts = []
    for node in ast.parse((ROOT / path).read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            parts.append((node.name, [a.arg for a in node.args.args] if isinstance(node, ast.FunctionDef) else None))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                    parts.append((f"{node.name}.{method.name}", [a.arg for a in method.args.args]))
    return parts


def test_engines_have_the_same_interface():
    tensorflow_only = {"arrays_of"}  # Paddle's model names its arrays itself
    paddle, tensorflow = (public(f"tandem/frameworks/{framework}/engine.py") for framework in FRAMEWORKS)
    assert paddle == [part for part in tensorflow if part[0] not in tensorflow_only]


def signatures(path, name):
    """The methods that the class `name` offers, in order, and the parameters of each.

    Without annotations, which only the protocol has.
    """
    module = ast.parse((ROOT / path).read_text())
    (found,) = (node for node in module.body if isinstance(node, ast.ClassDef) and node.name == name)
    methods = {}
    for node in found.body:
        if isinstance(node, ast.FunctionDef) and (node.name == "__init__" or not node.name.startswith("_")):
            for argument in ast.walk(node.args):
                if isinstance(argument, ast.arg):
                    argument.annotation = None
            methods[node.name] = ast.unparse(node.args)
    return list(methods.items())


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_engines_have_the_methods_of_the_protocol(framework):
    """With its parameters and defaults, and in its order."""
    protocol = signatures("tandem/frameworks/base.py", "Engine")
    assert signatures(f"tandem/frameworks/{framework}/engine.py", "Engine") == protocol
    assert {"__init__", "train_step", "trace", "load_state"} < dict(protocol).keys()
    assert ("evaluate", "self, batch, flip=False") in protocol


def test_the_second_engine_has_the_methods_of_its_protocol():
    protocol = signatures("tandem/frameworks/base.py", "SecondEngine")
    assert signatures("tandem/frameworks/tensorflow/second.py", "SecondEngine") == protocol
    assert "replay" in dict(protocol)


def test_layers_have_the_same_names_and_arguments():
    keras_only = {"build", "call", "forward", "get_config", "from_config"}
    # What a stock layer becomes that cannot be the same as it is. Keras' average pooling can, for example.
    adopted = {"AdaptiveAvgPool2D", "BatchNorm", "BatchNormalization", "Dropout2D", "SpatialDropout2D"}
    sides = []
    for framework in FRAMEWORKS:
        parts = public(f"tandem/frameworks/{framework}/layers.py")
        sides.append(
            [
                (name, [{"kernel": "weight"}.get(argument, argument) for argument in arguments or []])
                for name, arguments in parts
                if name.split(".")[-1] not in keras_only and name.split(".")[0] not in adopted
            ]
        )
    assert sides[0] == sides[1]


def test_kernels_have_the_same_names_and_arguments():
    # Paddle's own batch norm is one kernel in every type, and its strided convolution does not write beyond its memory.
    tensorflow_only = {"batch_norm", "plain_batch_norm", "valid_conv2d"}
    paddle, tensorflow = (public(f"tandem/frameworks/{framework}/kernels.py") for framework in FRAMEWORKS)
    assert paddle == [part for part in tensorflow if part[0] not in tensorflow_only]
    assert tensorflow_only < {name for name, _ in tensorflow}


def test_the_networks_have_the_articles_methods_in_its_order():
    methods = ["conv_bn_layer", "transform_layer", "split_layer", "transition_layer"]
    methods += ["squeeze_excitation_layer", "residual_layer", "build_SEnet"]
    for path in ("se_resnext_fluid.py", "se_resnext_tensorflow.py"):
        names = [name.removeprefix("SE_ResNeXt.") for name, _ in public(path) if name.startswith("SE_ResNeXt.")]
        assert names[:7] == methods
