"""Every network of configs/, and small ones of every kind: the builders of a pair compute the same thing in float64."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

from tandem.config.load import load_config
from tandem.core import dropout
from tandem.core.paths import ROOT

import numpy as np
import pytest

HERE = Path(__file__).parent
FRAMEWORKS = ("paddle", "tensorflow")
FILES = ("alexnet.py", "vgg.py", "resnet_cifar.py", "lenet.py")
PHASES = (
    *("evaluation/", "images", "output/", "logits", "loss", "sums", "output_gradient/", "gradient/"),
    *("after/velocity/", "after/running/", "after/"),
)

SMALL = {
    "resnet8_one_width": ({"name": "resnet_cifar", "depth": 8, "widths": [8, 8, 8]}, 16),
    "resnet14_odd": ({"name": "resnet_cifar", "depth": 14, "widths": [3, 5, 8]}, 13),
    "resnet_fast_odd": ({"name": "resnet_fast", "blocks": 2, "widths": [3, 5, 8]}, 13),
    "resnet11_bottleneck": ({"name": "resnet_cifar", "depth": 11, "widths": [4, 8, 16], "bottleneck": True}, 13),
}


def of_yaml(path):
    """The network of a config, and a size of images, as small as it takes."""
    network = load_config(path).network
    return network.model_dump(mode="json"), getattr(network, "image_size", getattr(network, "smallest_image", 8))


CASES = {**SMALL, **{path.stem: of_yaml(path) for path in sorted(ROOT.glob("configs/*.yaml"))}}
# Their many weights take long, and they have no layer that alexnet, vgg16, vgg16_fast and se_resnext_small lack.
SLOW = ("alexnet_32", "vgg16_best", "se_resnext", "se_resnext_best")
NAMES = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in CASES]
# Keras traces a Sequential anew for each layer as it loads: VGG takes 15 s, and has no layer that those here lack but
# BatchNorm1D, which is saved by itself.
SAVED = ("resnet14_odd", "resnet_fast_odd", "resnet11_bottleneck", "alexnet", "lenet5", "simple_cnn", "quickstart")


class Workers:
    """Both frameworks' processes."""

    def __init__(self, folder):
        self.folder = folder
        self.results = {}  # by case, since several configs train the same network
        self.processes = {
            framework: subprocess.Popen(
                [sys.executable, HERE / "network_worker.py", framework, folder],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for framework in FRAMEWORKS
        }

    def ask(self, case, look):
        """Each framework's answer, and as `seen` what `look` makes of both sides' arrays; kept."""
        key = json.dumps(case, sort_keys=True)
        if key not in self.results:
            for process in self.processes.values():
                process.stdin.write(key + "\n")
                process.stdin.flush()
            result = {framework: self._answer(process) for framework, process in self.processes.items()}
            result["seen"] = look(*[self._arrays(framework) for framework in FRAMEWORKS])
            for framework in FRAMEWORKS:
                shutil.rmtree(self.folder / framework)  # hundreds of megabytes
            self.results[key] = result
        return self.results[key]

    def _arrays(self, framework):
        paths = (self.folder / framework).iterdir()
        return {path.stem.replace("|", "/"): np.load(path, mmap_mode="r") for path in paths}

    def close(self):
        """Let them end."""
        for process in self.processes.values():
            process.stdin.close()
            process.wait()

    def _answer(self, process):
        lines = (line for line in process.stdout if line.startswith("{"))
        answer = json.loads(next(lines, '{"failed": "the worker died"}'))
        assert "failed" not in answer, answer["failed"]
        return answer


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    workers = Workers(tmp_path_factory.mktemp("networks"))
    yield workers
    workers.close()


@pytest.fixture(scope="module")
def found(workers):
    """A function from the name of a case to what was found there."""

    def find(name):
        network, image_size = CASES[name]
        return workers.ask({"network": network, "image_size": image_size, "native": name in SAVED}, errors)

    return find


@pytest.fixture(scope="module")
def layers(workers):
    """What the single layers gave, by framework."""
    sides = workers.ask({}, lambda *sides: [{name: np.array(array) for name, array in side.items()} for side in sides])[
        "seen"
    ]
    return dict(zip(FRAMEWORKS, sides, strict=True))


def errors(paddle, tensorflow):
    """phase: (largest error, its name); DESIGN.md: max|a - b| / max(max|b|, 1e-4 x the largest entry of the phase)."""
    assert sorted(paddle) == sorted(tensorflow)
    largest, found = {}, {}
    for name, array in paddle.items():
        largest[phase(name)] = max(largest.get(phase(name), 0), np.abs(array).max())
    for name, expected in paddle.items():
        actual = tensorflow[name]
        assert actual.shape == expected.shape and actual.dtype == expected.dtype == np.float64, name
        error = np.abs(actual - expected).max() / max(np.abs(expected).max(), 1e-4 * largest[phase(name)])
        if not error <= found.get(phase(name), (-1,))[0]:  # NaN is an error, too
            found[phase(name)] = float(error), name
    return found


def phase(name):
    if name.startswith("after/") and ".running_" in name:
        return "after/running/"
    return next(phase for phase in PHASES if name.startswith(phase))


@pytest.mark.parametrize("name", NAMES)
def test_one_step_from_the_same_state_agrees_in_every_element(found, name):
    result = found(name)
    assert result["paddle"]["start"] == result["tensorflow"]["start"]
    assert len(result["seen"]) >= len(PHASES) - 1  # without batch norm there are no statistics
    for error, where in result["seen"].values():
        assert error < 1e-10, where


@pytest.mark.parametrize("name", NAMES)
def test_layers_have_the_same_names_sizes_and_order(found, name):
    sides = [list(found(name)[framework]["shapes"].items()) for framework in FRAMEWORKS]
    assert sides[0] == sides[1]


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient(found, name, framework):
    assert found(name)[framework]["idle"] == []


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("name", SAVED)
def test_own_saving_and_loading(found, name, framework):
    assert found(name)[framework]["native"]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_sizes_of_the_articles_alexnet(found, framework):
    shapes = found("alexnet")[framework]["shapes"]
    names = ("conv1", "pool1", "conv2", "pool2", "conv5", "pool5")
    assert [shapes[f"output/{name}"][2:] for name in names] == [[side, side] for side in (6, 3, 3, 1, 1, 1)]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_numbers_of_parameters(found, framework):
    names = ("resnet20", "lenet5", "vgg16_plain", "alexnet", "vgg16")
    counts = {name: found(name)[framework]["parameters"] for name in names}
    # Published: pytorch-cifar-models 272,474 with convolutions as shortcuts; 62,006 in PyTorch's tutorial; Keras' VGG16
    # without its dense layers 14,714,688; AlexNet's convolutions in one column 3,747,200.
    assert counts["resnet20"] == 272_474
    assert counts["lenet5"] == 62_006
    assert counts["vgg16_plain"] == 14_714_688 + 513 * 2048 + 2049 * 2048 + 2049 * 10
    assert counts["alexnet"] == 3_747_200 + 257 * 4096 + 4097 * 4096 + 4097 * 10
    # Batch norm has a scale for each channel besides the convolution's bias, which is its shift.
    assert counts["vgg16"] == 14_714_688 + 4224 + 513 * 512 + 512 + 513 * 512 + 513 * 10


@pytest.mark.parametrize("path", FILES)
def test_builders_come_in_pairs(path):
    functions = [node for node in ast.parse((ROOT / path).read_text()).body if isinstance(node, ast.FunctionDef)]
    pairs = [node for node in functions if node.name.endswith(("_paddle", "_tensorflow"))]
    for paddle, tensorflow in zip(pairs[::2], pairs[1::2], strict=True):
        assert paddle.name.removesuffix("_paddle") == tensorflow.name.removesuffix("_tensorflow")
        assert ast.unparse(paddle.args) == ast.unparse(tensorflow.args).removesuffix(", *, name")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_max_pooling_takes_the_windows_cut_by_the_edge(layers, framework):
    results = layers[framework]
    for size in range(1, 9):
        x, y = results[f"ceil/{size}/x"], results[f"ceil/{size}/y"]
        rows, columns = (max(-(-(side - 3) // 2), 0) + 1 for side in x.shape[2:])
        assert y.shape == (2, 3, rows, columns)
        for row in range(rows):
            for column in range(columns):
                window = x[:, :, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
                assert (y[:, :, row, column] == window.max(axis=(2, 3))).all()
    windows = np.lib.stride_tricks.sliding_window_view(results["floor/x"], (3, 3), (2, 3))[:, :, ::2, ::2]
    assert (results["floor/y"] == windows.max(axis=(4, 5))).all()


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("size", [4, 5])
def test_local_response_norm_is_what_numpy_says(layers, framework, size):
    x, y = (layers[framework][f"lrn/{size}/{part}"] for part in "xy")
    for channel in range(x.shape[1]):
        first = channel - size // 2
        around = (x[:, max(first, 0) : first + size] ** 2).sum(axis=1)
        assert y[:, channel] == pytest.approx(x[:, channel] * (1 + 0.5 / size * around) ** -0.75, rel=1e-14)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_flattening_and_averaging(layers, framework):
    results = layers[framework]
    assert (results["flatten/y"] == results["flatten/x"].reshape(2, -1)).all()
    assert results["average/y"] == pytest.approx(results["average/x"].mean(axis=(2, 3)), rel=1e-14)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_dropout_masks_are_the_same_bits_everywhere(layers, framework):
    key = np.array([0x9E3779B9, 0xFFFFFFFF], np.uint32)
    for shape in ((2, 3, 4, 5), (7, 11)):
        masks = [mask for name, mask in layers[framework].items() if name.startswith(f"mask/{len(shape)}")]
        assert len(masks) == {"paddle": 2, "tensorflow": 1}[framework]  # Paddle's GPU has a way of its own
        assert all((mask == dropout.mask(key, shape, 0.3)).all() for mask in masks)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_outside_of_tandem_dropout_is_ordinary(layers, framework):
    results = layers[framework]
    assert (results["kept/y"] == results["kept/x"]).all()
    assert results["dropped/y"].max() == pytest.approx(1 / 0.6)
    assert (results["dropped/y"] == 0).mean() == pytest.approx(0.4, abs=0.03)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize(("dtype", "rel"), [("float64", 1e-12), ("float32", 1e-4)])
def test_batch_norm_of_dense_layers_keeps_the_biased_variance(layers, framework, dtype, rel):
    results = layers[framework]
    x, y = (results[f"norm/{dtype}/{part}"] for part in "xy")
    assert y.dtype == dtype
    mean, variance = x.mean(axis=0), x.var(axis=0)
    epsilon, momentum = float(np.float32(1e-5)), float(np.float32(0.9))
    assert y == pytest.approx((x - mean) / np.sqrt(variance + epsilon), rel=rel, abs=rel)
    running = np.stack([(1 - momentum) * mean, momentum + (1 - momentum) * variance])
    assert results[f"running/{dtype}"] == pytest.approx(running, rel=rel)
    if framework == "tensorflow":
        assert results[f"loaded/{dtype}"] == pytest.approx((x - running[0]) / np.sqrt(running[1] + epsilon), rel=rel)
