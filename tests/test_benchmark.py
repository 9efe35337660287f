"""The stock networks are the same networks, they are measured as they come, and a failure is one clear line."""

import json
import subprocess
import sys

import pytest

from tandem import benchmark, config
from tandem.errors import UserError

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
stock = importlib.import_module(f"tandem.stock_{framework}").build(10, **parameters)
variables = {name: os.environ.get(name) for name in ("TF_ENABLE_ONEDNN_OPTS", "MKL_DEBUG_CPU_TYPE")}
modules = [name for name in sys.modules if name.startswith("tandem.")]
from tandem import networks
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
    ended = subprocess.run(command, cwd=benchmark.ROOT, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


@pytest.mark.parametrize("framework", benchmark.FRAMEWORKS)
def test_stock_network_is_tandems_unmerged_and_sets_nothing(framework):
    parameters = {name: value for name, value in SETTINGS["network"].items() if name != "name"}
    found = run_python(COMPARE, framework, json.dumps(parameters))
    ours, stock = found["counts"]
    assert ours == stock
    assert 0 < ours[0] < ours[1]  # the running statistics are not trained
    assert found["shapes"] == [[2, 10], [2, 10]]
    assert found["modules"] == [f"tandem.stock_{framework}"]
    assert set(found["variables"].values()) == {None}


@pytest.mark.parametrize("framework", benchmark.FRAMEWORKS)
@pytest.mark.parametrize("variant", ["tandem", "stock_settings"])  # "stock" is a part of the latter
def test_steps_take_time(framework, variant):
    settings = config.check(SETTINGS, "test").model_dump(mode="json")
    measured = benchmark.measure("steps", variant=variant, framework=framework, settings=settings, steps=2)
    assert len(measured["seconds"]) == 2
    assert min(measured["seconds"]) > 0


def test_pipeline_takes_time():
    assert benchmark.measure("pipeline")["images_per_second"] > 1000


def test_failed_measurement_is_one_line():
    with pytest.raises(UserError) as caught:
        benchmark.measure("steps", variant="tandem", framework="paddle", settings={}, steps=2)
    assert "\n" not in str(caught.value)
    assert "measuring steps paddle tandem failed (tandem.errors.UserError: benchmark: " in str(caught.value)


def test_driver_loads_no_framework_and_reports(tmp_path):
    """The command itself, with measurements that take no time: the second of two variants is twice as slow."""
    path = tmp_path / "figures.json"
    code = """
import json, sys
from tandem import __main__, benchmark
slowness = {"tandem": 0.5, "stock": 1.0, "stock_settings": 0.75}
benchmark.measure = lambda what, variant=None, steps=0, **others: (
    {"images_per_second": 250_000.0} if what == "pipeline" else {"seconds": [slowness[variant]] * steps, "version": "1"}
)
try:
    __main__.app(["benchmark", "--steps", "3", "--batch-size", "6", "--json", sys.argv[1]])
except SystemExit as ended:
    assert not ended.code
print(json.dumps([name for name in ("paddle", "tensorflow", "keras", "tandem.environment") if name in sys.modules]))
"""
    assert run_python(code, str(path)) == []
    figures = json.loads(path.read_text())
    assert len(figures["results"]) == 4
    for result in figures["results"]:
        assert result["images_per_second"] == {"tandem": 12, "stock": 6, "stock_settings": 8}
        assert result["speedup"] == {"stock": 2, "stock_settings": 1.5}
        assert len(result["seconds"]["stock"]) == 6
    assert "median of 2 x 3 steps" in benchmark.describe(figures)
    assert benchmark.table(figures).row_count == 4


@pytest.mark.parametrize("path", ["", "nowhere/figures.json"])
def test_figures_that_cannot_be_written_are_refused_before_measuring(tmp_path, path):
    command = [sys.executable, "-m", "tandem", "benchmark", "--json", str(tmp_path / path)]
    ended = subprocess.run(command, cwd=benchmark.ROOT, capture_output=True, text=True)
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert "cannot be written" in ended.stderr
