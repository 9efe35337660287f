"""The stock networks are the same networks, they are measured as they come, and a failure is one clear line."""

import json
import subprocess
import sys

from tandem.benchmark import measure as benchmark
from tandem.benchmark import report as benchmark_report
from tandem.config.load import check_config
from tandem.core.errors import UserError
from tandem.core.paths import ROOT
from tandem.frameworks.base import FRAMEWORKS

import pytest

SETTINGS = {
    "network": {
        "name": "se_resnext",
        "num_block": 1,
        "depth": 2,
        "out_dims": [4, 8],
        "cardinality": 2,
        "reduction_ratio": 2,
    },
    "data": {"source": "digits", "image_size": 8},
    "schedule": {"name": "constant"},
    "epochs": 1,
    "batch_size": 2,
}

# Counts in one process what is trained and what is not, for the stock network and for Tandem's; and looks whether
# the stock module has set what the framework reads.
COMPARE = """
import importlib, json, math, os, sys
framework, parameters = sys.argv[1], json.loads(sys.argv[2])
stock = importlib.import_module(f"tandem.frameworks.{framework}.stock").build(10, **parameters)
variables = {name: os.environ.get(name) for name in ("TF_ENABLE_ONEDNN_OPTS", "MKL_DEBUG_CPU_TYPE")}
modules = [name for name in sys.modules if name.startswith("tandem.")]
from tandem.config import networks
ours = networks.build(networks.SEResNeXt(name="se_resnext", **parameters), framework, 10)
if framework == "paddle":
    import paddle as library
    inputs = library.zeros([2, 3, 8, 8])
    split = lambda model: ([p for p in model.parameters() if p.trainable], model.state_dict().values())
else:
    import tensorflow as library
    inputs = library.zeros([2, 8, 8, 3])
    split = lambda model: (model.trainable_variables, model.variables)
shapes = [tuple(model(inputs).shape) for model in (ours, stock)]
counts = [[sum(math.prod(v.shape) for v in part) for part in split(model)] for model in (ours, stock)]
print(json.dumps({"variables": variables, "modules": modules, "shapes": shapes, "counts": counts}))
"""


def run_python(code, *arguments):
    """What a fresh interpreter that runs `code` prints, as JSON."""
    command = [sys.executable, "-c", code, *arguments]
    environment = benchmark.clean_environment()
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_stock_network_is_tandems_unmerged_and_sets_nothing(framework):
    parameters = {name: value for name, value in SETTINGS["network"].items() if name != "name"}
    found = run_python(COMPARE, framework, json.dumps(parameters))
    ours, stock = found["counts"]
    assert ours == stock
    assert 0 < ours[0] < ours[1]  # the running statistics are not trained
    assert found["shapes"] == [[2, 10], [2, 10]]
    packages = {"tandem.frameworks", f"tandem.frameworks.{framework}"}
    assert set(found["modules"]) - packages == {f"tandem.frameworks.{framework}.stock"}
    assert set(found["variables"].values()) == {None}


# Each measurement of a framework, in one process to load it once only.
MEASURE = """
import json, sys
from tandem.benchmark import measure as benchmark
framework, *settings = sys.argv[1], *map(json.loads, sys.argv[2:])
measured = {
    "tandem": benchmark.measure_tandem(framework, settings[0], 2),
    "stock": [benchmark.measure_stock(framework, values, 2, tandem_settings=True) for values in settings],
}
print(json.dumps(measured))
"""


@pytest.mark.slow
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_steps_take_time_and_memory(framework):
    """Of SE-ResNeXt, and of LeNet-5, which Tandem builds for the stock loop, too."""
    lenet5 = {**SETTINGS, "network": {"name": "lenet5"}, "data": {"image_size": 32}}
    settings = (check_config(values, "test").model_dump_json() for values in (SETTINGS, lenet5))
    measured = run_python(MEASURE, framework, *settings)
    tandem = measured["tandem"]
    for seconds in (part["seconds"] for part in (tandem["forward"], tandem["training"], *measured["stock"])):
        assert len(seconds) == 2
        assert min(seconds) > 0
    if sys.platform == "linux":
        assert 1e6 < tandem["forward"]["peak_memory"] <= tandem["training"]["peak_memory"]
    # The first convolution alone: 3x3, 3 to 4 channels, at 8x8 places.
    assert tandem["macs"] > 9 * 3 * 4 * 64


def test_a_tandem_network_in_the_stock_loop_leaves_the_environment_alone():
    """Its layers set variables as they are imported, one of which Paddle reads later than that."""
    code = """
import json, os, sys
from tandem.benchmark import measure as benchmark
import paddle
before = dict(os.environ)
benchmark.measure_stock("paddle", json.loads(sys.argv[1]), 1)
print(json.dumps(sorted(before.items() ^ os.environ.items())))
"""
    values = {**SETTINGS, "network": {"name": "lenet5"}, "data": {"image_size": 32}}
    assert run_python(code, json.dumps(check_config(values, "test").model_dump(mode="json"))) == []


def test_pipeline_and_copy_take_time():
    assert benchmark.measure("pipeline")["images_per_second"] > 1000
    assert benchmark.measure("copy")["gigabytes_per_second"] > 0


def test_device_multiplies_and_says_what_is_unsupported():
    settings = check_config({**SETTINGS, "device": "cpu"}, "test").model_dump(mode="json")
    precisions = ("float32", "bfloat16")
    device = benchmark.measure("device", framework="paddle", settings=settings, precisions=precisions)
    assert list(device["gigaflops_per_second"]) == ["float32"]
    assert device["gigaflops_per_second"]["float32"] > 0
    assert "Paddle does not compute in bfloat16 on this CPU" in device["unsupported"]["bfloat16"]
    assert device["record"]["device"] == "cpu"


def test_failed_measurement_is_one_line():
    with pytest.raises(UserError) as caught:
        benchmark.measure("tandem", framework="paddle", settings={}, steps=2)
    assert "\n" not in str(caught.value)
    assert "measuring tandem paddle failed (tandem.core.errors.UserError: benchmark: " in str(caught.value)


def test_arithmetic_of_a_figure():
    found = [{"seconds": [0.4, 0.5], "peak_memory": 7}, {"seconds": [0.9], "peak_memory": 9}]
    figure = benchmark.figure(found, batch_size=32, operations=2 * 3 * 10**9)
    assert figure["seconds"] == [0.4, 0.5, 0.9]
    assert figure["mean_milliseconds"] == pytest.approx(600)
    assert figure["std_milliseconds"] == pytest.approx(1000 * ((0.04 + 0.01 + 0.09) / 3) ** 0.5)
    assert figure["images_per_second"] == 64
    assert figure["gigaflops_per_second"] == pytest.approx(6 * 64)
    assert figure["peak_memory"] == 9


# Fakes that replace the measurements: the stock loop takes twice as long as Tandem.
FAKES = """
import json, sys
from tandem import __main__
from tandem.benchmark import measure as benchmark
seconds = {"tandem": 0.5, "stock": 1.0, "stock_settings": 0.75}
def measure(what, framework=None, settings=None, steps=0, precisions=()):
    if what == "pipeline":
        return {"images_per_second": 250_000.0}
    if what == "copy":
        return {"gigabytes_per_second": 20.0}
    if what == "device":
        unsupported = {"bfloat16": "it only pretends"} if framework == "paddle" and "bfloat16" in precisions else {}
        speed = {"paddle": 80, "tensorflow": 100}[framework]
        speeds = {precision: speed for precision in precisions if precision not in unsupported}
        record = {"version": "1", "device": "cpu"}
        return {"record": record, "unsupported": unsupported, "gigaflops_per_second": speeds}
    timed = {"seconds": [seconds[what]] * steps}
    if what != "tandem":
        return timed
    forward = {"seconds": [seconds[what] / 2] * steps, "peak_memory": 1e9}
    return {"macs": 5 * 10**8, "forward": forward, "training": {**timed, "peak_memory": 2e9}}
benchmark.measure = measure
try:
    __main__.app(["benchmark", *sys.argv[1:]])
except SystemExit as ended:
    assert not ended.code
names = ("paddle", "tensorflow", "keras", "tandem.frameworks.environment")
print(json.dumps([name for name in names if name in sys.modules]))
"""


def test_driver_loads_no_framework_and_reports(tmp_path):
    """The command itself: every config in every framework, batch size and precision, as tables, JSON and a chart."""
    path, chart = tmp_path / "figures.json", tmp_path / "chart.png"
    options = ["--batch-size", "6", "--batch-size", "12", "--precision", "float32", "--precision", "bfloat16"]
    assert run_python(FAKES, *options, "--steps", "3", "--json", str(path), "--chart", str(chart)) == []
    figures = json.loads(path.read_text())
    assert figures.keys() == {
        *("machine", "steps", "rounds", "burn_in", "conventions", "devices"),
        *("ceiling", "copy", "pipeline", "results"),
    }
    assert figures["ceiling"] == {"float32": 100, "bfloat16": 100}
    assert len(figures["results"]) == 2 * 2 * 2 * 2
    for result in figures["results"]:
        if result["precision"] == "float32":
            speeds = {what: result[what]["images_per_second"] / result["batch_size"] for what in benchmark.PASSES}
            assert speeds == pytest.approx({"forward": 4, "training": 2, "stock": 1, "stock_settings": 4 / 3})
            assert result["speedup"] == pytest.approx({"stock": 2, "stock_settings": 1.5})
            assert len(result["stock"]["seconds"]) == 6
            # 2 x 5e8 operations forward, 3 times that in training, of 2 batches a second.
            assert result["training"]["gigaflops_per_second"] == pytest.approx(6 * result["batch_size"])
            assert result["training"]["share_of_ceiling"] == pytest.approx(0.06 * result["batch_size"])
        elif result["framework"] == "paddle":
            assert (result["missing"], result["reason"]) == ("unsupported", "it only pretends")
            assert not result.keys() & benchmark.PASSES.keys()
        else:
            assert result.keys() & benchmark.PASSES.keys() == {"forward", "training"}
    assert "2 x 3 steps" in benchmark_report.describe(figures)
    # A config and batch size: in float32 four rows a framework; in bfloat16 one of Paddle, two of TensorFlow.
    assert [table.row_count for table in benchmark_report.tables(figures)] == [8, 3] * 4
    assert chart.read_bytes().startswith(b"\x89PNG")


def test_figures_that_allow_no_verdict_are_flagged():
    def result(forward, training):
        about = {"config": "x.yaml", "framework": "paddle", "batch_size": 2, "precision": "float32"}
        return {**about, "forward": {"seconds": forward}, "training": {"seconds": training}}

    assert benchmark_report.doubts(result([1.0] * 5, [2.0, 2.0, 2.1, 2.2, 9.0])) == []  # one straggler is none
    (line,) = benchmark_report.doubts(result([1.0] * 5, [2.0, 2.0, 3.0, 4.0, 4.0]))
    assert line.startswith(
        "No verdict on x, batch size 2, float32, Paddle, training: the middle half of its steps spre"
    )
    (line,) = benchmark_report.doubts(result([3.0], [2.0]))
    assert "a forward pass took 1.50 times as long as a training step" in line


def test_stock_loops_can_be_left_out(tmp_path):
    path = tmp_path / "figures.json"
    run_python(FAKES, "--no-stock", "--framework", "paddle", "--json", str(path))
    for result in json.loads(path.read_text())["results"]:
        assert result.keys() & benchmark.PASSES.keys() == {"forward", "training"}


@pytest.mark.parametrize("option", ["--json", "--chart"])
@pytest.mark.parametrize("path", ["", "nowhere/figures"])
def test_figures_that_cannot_be_written_are_rejected_before_measuring(tmp_path, option, path):
    command = [sys.executable, "-m", "tandem", "benchmark", option, str(tmp_path / path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert "cannot be written" in ended.stderr
