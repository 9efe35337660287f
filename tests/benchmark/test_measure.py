"""The stock networks are the same networks, they are measured as they come, and a failure is one clear line."""

import importlib.util
import json
import math
import subprocess
import sys

from tandem.__main__ import app
from tandem.benchmark import measure as benchmark
from tandem.benchmark import report as benchmark_report
from tandem.benchmark.turns import clean_environment, take_turns
from tandem.config import networks
from tandem.config.load import check_config, load_config
from tandem.core.errors import UserError
from tandem.core.paths import CONFIGS, ROOT
from tandem.frameworks.base import FRAMEWORKS

import pytest
from typer.testing import CliRunner

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

# In one process: looks whether the stock module has set what the framework reads; then gives, of every shipped network
# and of other forms, the shape of the logits and the sorted shapes of what is trained, stock and Tandem's.
COMPARE = """
import importlib, json, os, sys
framework, networks_of = sys.argv[1], json.loads(sys.argv[2])
stock = importlib.import_module(f"tandem.frameworks.{framework}.stock")
variables = {name: os.environ.get(name) for name in ("TF_ENABLE_ONEDNN_OPTS", "MKL_DEBUG_CPU_TYPE")}
modules = [name for name in sys.modules if name.startswith("tandem.")]
from tandem.config import networks
from pydantic import TypeAdapter
if framework == "paddle":
    import paddle as library
    inputs = library.zeros([2, 3, 32, 32])
    trained = lambda model: [list(p.shape) for p in model.parameters() if p.trainable]
else:
    import tensorflow as library
    inputs = library.zeros([2, 32, 32, 3])
    trained = lambda model: [list(p.shape) for p in model.trainable_variables]
found = []
for values in networks_of:
    ours = networks.build(TypeAdapter(networks.Network).validate_python(values), framework, 7)
    theirs = stock.NETWORKS[values.pop("name")](7, **values)
    found.append([[list(model(inputs).shape), sorted(trained(model))] for model in (ours, theirs)])
print(json.dumps({"variables": variables, "modules": modules, "found": found}))
"""


def run_python(code, *arguments):
    """What a fresh interpreter that runs `code` prints, as JSON."""
    command = [sys.executable, "-c", code, *arguments]
    environment = clean_environment()
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


FORMS = (
    ("lenet5",),
    ("simple_cnn",),
    ("alexnet",),
    ("alexnet_32", "network.lrn=false"),
    ("vgg16", "network.depth=11"),
    ("vgg16_plain", "network.conv_dropout=false"),
    ("resnet20", "network.depth=14"),
    ("resnet20", "network.depth=20", "network.bottleneck=true"),
    ("resnet_fast", "network.blocks=2"),
    ("quickstart",),
)
"""Configs, and what is set in them: small ones of every network, and the forms that they come in."""


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_stock_networks_are_tandems_and_set_nothing(framework):
    """SE-ResNeXt's branches are merged in Tandem's, so there only the number of parameters is the same."""
    forms = [load_config(CONFIGS / f"{name}.yaml", overrides).network.model_dump() for name, *overrides in FORMS]
    assert {form["name"] for form in forms} == set(networks.names())
    found = run_python(COMPARE, framework, json.dumps(forms))
    for form, ((our_logits, ours), (logits, stock)) in zip(forms, found["found"], strict=True):
        assert our_logits == logits == [2, 7], form
        if form["name"] == "se_resnext":
            assert sum(map(math.prod, ours)) == sum(map(math.prod, stock))
        else:
            assert ours == stock, form
    packages = {"tandem.frameworks", f"tandem.frameworks.{framework}"}
    assert set(found["modules"]) - packages == {f"tandem.frameworks.{framework}.stock"}
    assert set(found["variables"].values()) == {None}


@pytest.mark.slow
def test_variants_take_steps_in_time_and_memory():
    """Each variant of both frameworks, in turn."""
    settings = check_config({**SETTINGS, "device": "cpu"}, "test")
    devices = {framework: {"unsupported": {}} for framework in FRAMEWORKS}
    parts = benchmark.variants(settings, devices, rounds=2, stock=True, workers=2, peer=None)
    answers, reasons, waiting = take_turns(parts, 2, lambda *_: None, "test")
    assert reasons == {}
    assert set(answers) == {
        (framework, what)
        for framework in FRAMEWORKS
        for what in ("forward", "training", "stock", "stock_settings", "workers")
    }
    result = benchmark.summarize(settings, devices, parts, answers, reasons, waiting)
    for framework in FRAMEWORKS:
        measured = result["measured"][framework]
        for figure in measured.values():
            assert len(figure["seconds"]) == 2 and min(figure["seconds"]) > 0
        if sys.platform == "linux":
            assert 1e6 < measured["forward"]["peak_memory"] <= measured["training"]["peak_memory"]
    # The first convolution alone: 3x3, 3 to 4 channels, at 8x8 places.
    assert result["macs"] > 9 * 3 * 4 * 64


def test_an_own_network_in_the_stock_loop_leaves_the_environment_alone(tmp_path):
    """Tandem's layers set variables as they are imported, one of which Paddle reads later than that."""
    code = """
import json, os, sys
from tandem.benchmark import variants
from tandem.config.load import check_config
import paddle
before, told = dict(os.environ), []
class Turn:
    ready, wait, done = (lambda self, *_, **__: told.append(1),) * 3
variants.stock(Turn(), "paddle", check_config(json.loads(sys.argv[1]), "test"), 1)
assert len(told) == 3
print(json.dumps(sorted(before.items() ^ os.environ.items())))
"""
    own = tmp_path / "own_net.py"
    own.write_text((CONFIGS.parent / "lenet.py").read_text().replace("lenet5_", "own_net_"))
    values = {**SETTINGS, "network": {"name": "own", "file": str(own)}, "data": {"image_size": 32}}
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
        benchmark.measure("device", framework="paddle", settings={}, precisions=[])
    assert "\n" not in str(caught.value)
    assert "measuring device paddle failed (tandem.core.errors.UserError: benchmark: " in str(caught.value)


def test_arithmetic_of_a_figure():
    answer = {"seconds": [0.4, 0.5, 0.9], "peak_memory": 9}
    figure = benchmark.figure(answer, batch_size=32, operations=2 * 3 * 10**9)
    assert figure["seconds"] == [0.4, 0.5, 0.9]
    assert figure["median_milliseconds"] == pytest.approx(500)
    assert figure["mean_milliseconds"] == pytest.approx(600)
    assert figure["std_milliseconds"] == pytest.approx(1000 * ((0.04 + 0.01 + 0.09) / 3) ** 0.5)
    assert figure["images_per_second"] == 64
    assert figure["gigaflops_per_second"] == pytest.approx(6 * 64)
    assert figure["peak_memory"] == 9
    assert benchmark.figure(answer, 32, None)["gigaflops_per_second"] is None


# Fakes that replace the measurements: the stock loop takes twice as long as Tandem, and one variant fails.
FAKES = """
import json, sys
from tandem import __main__
from tandem.benchmark import growth, measure as benchmark
seconds = {"forward": 0.25, "training": 0.5, "stock": 1.0, "stock_settings": 0.75, "workers": 0.4, "peer": 0.3}
def measure(what, framework=None, settings=None, precisions=()):
    if what == "pipeline":
        return {"images_per_second": 250_000.0}
    if what == "copy":
        return {"gigabytes_per_second": 20.0}
    unsupported = {"bfloat16": "it only pretends"} if framework == "paddle" and "bfloat16" in precisions else {}
    speed = {"paddle": 80, "tensorflow": 100}[framework]
    speeds = {precision: speed for precision in precisions if precision not in unsupported}
    record = {"version": "1", "device": "cpu"}
    return {"record": record, "unsupported": unsupported, "gigaflops_per_second": speeds}
def take_turns(parts, rounds, show, about, most_seconds=None):
    reasons = {name: "no memory" for name in parts if name == ("tensorflow", "stock")}
    for name, (variant, _) in parts.items():
        if variant.kind == "tandem":
            variant.facts = {"macs": 5 * 10**8}
    def answer(name):
        slow = variant_of(name).arguments["settings"]["batch_size"] / 4 if most_seconds else 1
        return {"seconds": [seconds[name[1]] * slow] * rounds, "peak_memory": 2e9}
    variant_of = lambda name: parts[name][0]
    return {name: answer(name) for name in parts if name not in reasons}, reasons, 0.0
benchmark.measure, benchmark.take_turns, growth.take_turns = measure, take_turns, take_turns
try:
    __main__.app(["benchmark", *sys.argv[1:]])
except SystemExit as ended:
    assert not ended.code
names = ("paddle", "tensorflow", "keras", "tandem.frameworks.environment")
print(json.dumps([name for name in names if name in sys.modules]))
"""


def test_driver_loads_no_framework_and_reports(tmp_path):
    """The command itself: every config in every batch size and precision, as tables, JSON and a chart."""
    path, chart = tmp_path / "figures.json", tmp_path / "chart.png"
    options = ["--batch-size", "6", "--batch-size", "12", "--precision", "float32", "--precision", "bfloat16"]
    options += ["--rounds", "7", "--workers", "2"]
    assert run_python(FAKES, *options, "--json", str(path), "--chart", str(chart)) == []
    figures = json.loads(path.read_text())
    assert figures.keys() == {
        *("machine", "rounds", "burn_in", "workers", "conventions", "devices"),
        *("ceiling", "copy", "pipeline", "results"),
    }
    assert figures["ceiling"] == {"float32": 100, "bfloat16": 100}
    assert len(figures["results"]) == 2 * 2 * 2
    for result in figures["results"]:
        found = benchmark.figures_of(result)
        verdicts = {(*of["of"], *of["over"]): (of["ratio"], of["verdict"]) for of in result["ratios"]}
        paddle, tensorflow = (result["measured"][framework] for framework in FRAMEWORKS)
        # 2 x 5e8 operations forward, 3 times that in training, of 2 batches a second.
        training = found["tensorflow", "training"]
        assert training["gigaflops_per_second"] == pytest.approx(6 * result["batch_size"])
        assert training["share_of_ceiling"] == pytest.approx(0.06 * result["batch_size"])
        assert verdicts["tensorflow", "workers", "tensorflow", "training"] == (pytest.approx(1.25), "faster")
        if result["precision"] == "float32":
            assert set(paddle) == {"forward", "training", "stock", "stock_settings", "workers"}
            assert tensorflow["stock"] == {"missing": "failed", "reason": "no memory"}
            assert verdicts["paddle", "training", "paddle", "stock"] == (2, "faster")
            assert verdicts["tensorflow", "training", "tensorflow", "stock_settings"] == (1.5, "faster")
            assert verdicts["paddle", "training", "tensorflow", "training"] == (1, None)
        else:
            assert paddle == {"training": {"missing": "unsupported", "reason": "it only pretends"}}
            assert tensorflow.keys() == {"forward", "training", "workers"}
    assert "7 steps each, in turn" in benchmark_report.describe(figures)
    # In float32 a table of ten variants and one of seven ratios; in bfloat16 one of four and one of one.
    assert [table.row_count for table in benchmark_report.tables(figures)] == [10, 6, 4, 1] * 4
    assert sum("the interval contains 1" in line for line in benchmark_report.notes(figures)) == 4
    assert chart.read_bytes().startswith(b"\x89PNG")


def test_growth_goes_as_far_as_a_step_is_short(tmp_path):
    path, chart = tmp_path / "figures.json", tmp_path / "chart.png"
    assert run_python(FAKES, "--grow", "--json", str(path), "--chart", str(chart)) == []
    axes = json.loads(path.read_text())["axes"]
    assert [point["value"] for point in axes["batch_size"]] == [8, 16, 32]  # a step of 32 takes 4 s
    assert axes["batch_size"][0]["paddle"]["images_per_second"] == pytest.approx(8)
    assert all(len(points) == 1 for name, points in axes.items() if name != "batch_size")
    assert chart.read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="PyTorch is installed")
def test_a_peer_that_is_not_installed_is_one_line():
    ended = subprocess.run(
        [sys.executable, "-m", "tandem", "benchmark", "--peer", "torch"], cwd=ROOT, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    assert "PyTorch is not installed" in line and "pip install torch" in line


def test_figures_that_allow_no_verdict_are_flagged():
    def result(forward, training, waiting=0.0, doubt=None):
        measured = {"paddle": {"forward": {"seconds": forward}, "training": {"seconds": training}}}
        ratio = {"of": ["paddle", "training"], "over": ["paddle", "stock"], "doubt": doubt}
        about = {"config": "x.yaml", "batch_size": 2, "precision": "float32"}
        return {**about, "measured": measured, "ratios": [ratio], "waiting_cores": waiting}

    assert benchmark_report.doubts(result([1.0] * 5, [2.0] * 5)) == []
    (line,) = benchmark_report.doubts(result([1.0], [2.0], doubt="the interval contains 1"))
    assert line.startswith(
        "No verdict on x, batch size 2, float32, Paddle training over Paddle fit: the interval contains 1"
    )
    (line,) = benchmark_report.doubts(result([3.0], [2.0]))
    assert "a forward pass took 1.50 times as long as a training step" in line
    (line,) = benchmark_report.doubts(result([1.0], [2.0], waiting=0.3))
    assert "the waiting processes used 0.30 cores" in line


def test_stock_loops_can_be_left_out(tmp_path):
    path = tmp_path / "figures.json"
    run_python(FAKES, "--no-stock", "--framework", "paddle", "--json", str(path))
    for result in json.loads(path.read_text())["results"]:
        assert {framework: set(of) for framework, of in result["measured"].items()} == {
            "paddle": {"forward", "training"}
        }


@pytest.mark.parametrize("option", ["--json", "--chart"])
@pytest.mark.parametrize("path", ["", "nowhere/figures"])
def test_figures_that_cannot_be_written_are_rejected_before_measuring(tmp_path, option, path):
    command = [sys.executable, "-m", "tandem", "benchmark", option, str(tmp_path / path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert "cannot be written" in ended.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--grow", "--waits"], "--grow and --waits: are two measurements"),
        (["--grow", "--batch-size", "8"], "--batch-size: --grow and --waits measure what they always do"),
        (["--waits", "--rounds", "8"], "--rounds: --grow and --waits measure what they always do"),
        (["--waits", "--chart", "x.png"], "--chart: --waits draws none"),
    ],
)
def test_options_that_do_not_go_together_are_one_line(options, said):
    result = CliRunner().invoke(app, ["benchmark", *options])
    assert isinstance(result.exception, UserError) and str(result.exception).startswith(said)
