"""The certificate: it passes what is the same, and names the first place where anything differs."""

import json
import re
import subprocess
import sys

from tandem.certify import report as certificate_report
from tandem.certify.certificate import DRAWN_STEPS, TOLERANCES, Certificate
from tandem.certify.drawn import drawn_state
from tandem.certify.sameness import compare, relative_error
from tandem.certify.steps import WORKER, certify
from tandem.certify.subject import subject
from tandem.commands.init import init
from tandem.config.load import check_config
from tandem.core.errors import UserError
from tandem.core.paths import ROOT
from tandem.frameworks.workers import Workers
from tandem.training import checkpoint

import numpy as np
import pytest
from checkpoints import metadata
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

TINY = {
    "network": {"name": "se_resnext", "num_block": 1, "depth": 3, "cardinality": 2, "out_dims": [4, 8]},
    "data": {"source": "digits", "image_size": 9},
    "optimizer": {"nesterov": True},
    "schedule": {"name": "constant"},
    "epochs": 1,
}

# Your own file, with stock layers. At stride 2 "same" pads 0 before and 1 after, where Paddle pads 1 and 1.
OWN = """
def {name}_paddle(num_classes):
    from paddle import nn

    return nn.Sequential(
        ("conv1", nn.Conv2D(3, 4, 3, padding=1)),
        ("relu1", nn.ReLU()),
        ("conv2", nn.Conv2D(4, 4, 3, stride=2, padding=1, bias_attr={bias_attr})),
        ("flatten", nn.Flatten()),
        ("fc", nn.Linear(4 * 16 * 16, num_classes)),
    )


def {name}_tensorflow(num_classes):
    from tensorflow.keras import Sequential, layers

    {before}
    return Sequential(
        [
            layers.Conv2D(4, 3, padding="same", name="conv1"),
            layers.ReLU(name="relu1"),
            layers.Conv2D(4, 3, strides=2, padding="same", name="conv2"),
            layers.Flatten(name="flatten"),
            layers.Dense(num_classes, name="fc"),
        ]
    )
"""


@pytest.fixture(scope="module")
def clean(workers):
    return certify("tiny", check_config(TINY, "test"), workers, steps=2)


def test_the_twins_pass_with_every_phase_and_step(clean):
    assert clean.passed and clean.first is None and not clean.notes, (clean.first, clean.trained, clean.notes)
    names, steps = len(clean.layers), 2 + DRAWN_STEPS
    assert (clean.steps, clean.total_steps, clean.batch_size) == (2, steps, 5)
    assert clean.phases["images"]["compared"] == clean.phases["logits"]["compared"] == steps
    assert clean.phases["layer outputs"]["compared"] == steps * names > 80
    assert clean.phases["output gradients"]["compared"] == steps * names
    for phase in ("gradients", "velocities", "parameters"):
        assert clean.phases[phase]["compared"] == steps * 31
        assert len(clean.phases[phase]["errors"]) == steps
    assert clean.phases["statistics"]["compared"] == steps * 14
    assert clean.phases["evaluation: layer outputs"]["compared"] == 2 * names  # in each of the two states
    assert clean.phases["batch of 128: parameters"]["compared"] == 31
    assert all(entry["error"] < 1e-11 for entry in clean.phases.values())
    assert clean.phases["gradients"]["error"] > 0  # two implementations never agree to the last bit
    assert [step["frameworks"] < 1e-9 and 0 < step["nudged"] < 1e-9 for step in clean.free_run] == [True, True]


def test_each_framework_trains_and_evaluates_as_it_was_traced(clean):
    for framework in ("paddle", "tensorflow"):
        for kind, count in {"statistics": 14, "velocities": 31, "parameters": 31, "loss and hits": 3}.items():
            entry = clean.phases[f"{framework} trains: {kind}"]
            assert entry["compared"] % count == 0 and entry["compared"] >= (2 + DRAWN_STEPS) * count
            assert entry["error"] == 0  # to the last bit
        for what in ("evaluate", "evaluate with flip", "predict", "state after evaluation"):
            assert clean.phases[f"{framework} evaluates: {what}"]["error"] < 1e-13


def test_the_table_has_all_layers_in_their_order(clean):
    assert set(clean.table) == set(clean.layers)
    for name, row in clean.table.items():
        assert 0 <= row["output"] < 1e-12 and 0 <= row["backward"] < 1e-11
        holds = clean.layers[name] in ("Conv2D", "BatchNorm2D", "Linear")
        assert (row["parameters"] is not None) == holds, name
    names = list(clean.table)
    assert names.index("features.first.conv") < names.index("features.stage1.block1") < names.index("fc")


def test_what_is_trained_is_what_was_certified(clean):
    for framework in ("paddle", "tensorflow"):
        assert {path["precision"] for path in clean.trained[framework].values()} == {"float32"}
        assert {"loss and hits", "velocities", "parameters", "evaluate", "predict"} < clean.trained[framework].keys()
        assert 0 < clean.trained[framework]["statistics"]["error"] < 1e-5
        assert 0 < clean.trained[framework]["predict"]["error"] < 1e-5


def test_the_tricks_of_the_recipes_pass_too(workers):
    """EMA, a phase of its own; mixup, label smoothing, whitening, Dirac initialisation, parameter groups."""
    tricks = {"evaluation": {"ema_decay": 0.9}, "label_smoothing": 0.1}
    tricks["initial_weights"] = {"whitening": True, "dirac": True}
    groups = {"first_convolution": {"learning_rate_factor": 0}, "batch_norm_bias": {"learning_rate_factor": 0.3}}
    tricks["optimizer"] = TINY["optimizer"] | {"parameter_groups": groups}
    tricks["data"] = TINY["data"] | {"augmentation": {"mixup": 0.4}}
    tricks["batch_size"] = 5
    found = certify("tiny", check_config(TINY | tricks, "test"), workers, steps=2)
    assert found.passed and found.first is None
    assert found.phases["EMA"]["compared"] == (2 + DRAWN_STEPS) * (31 + 14)
    assert all(entry["error"] < 1e-11 for entry in found.phases.values())
    for framework in ("paddle", "tensorflow"):
        assert 0 < found.trained[framework]["EMA"]["error"] < 1e-3


def test_a_drawn_state_is_large_and_nowhere_zero():
    shapes = {
        "conv.weight": (8, 3, 3, 3),
        "fc.weight": (64, 10),
        "bn.weight": (64,),
        "bn.bias": (64,),
        "fc.bias": (10,),
    }
    shapes |= {"bn.running_mean": (64,), "bn.running_var": (64,), "velocity/conv.weight": (8, 3, 3, 3)}
    shapes |= {"ema/bn.running_var": (64,), "ema/conv.weight": (8, 3, 3, 3)}
    state = {name: np.zeros(shape) for name, shape in shapes.items()}
    drawn, again, other = (drawn_state(state, 0, step) for step in (8, 8, 9))
    assert {name: array.shape for name, array in drawn.items()} == shapes
    for name, array in drawn.items():
        assert array.dtype == np.float64 and np.array_equal(array, array.astype(np.float32))
        assert array.all() and len(np.unique(array)) > array.size / 2
        assert np.array_equal(array, again[name]) and not np.array_equal(array, other[name])
    assert not np.array_equal(drawn["conv.weight"], drawn["ema/conv.weight"])
    assert min(drawn["bn.running_var"].min(), drawn["ema/bn.running_var"].min()) >= 0.5
    assert drawn["bn.weight"].max() > 2.5 and np.abs(drawn["bn.bias"]).min() >= 0.25
    assert drawn["bn.bias"].min() < 0 < drawn["bn.bias"].max()


def own_network(folder, name, bias_attr="None", before="pass"):
    path = folder / f"{name}.py"
    path.write_text(OWN.format(name=name, bias_attr=bias_attr, before=before))
    return path


@pytest.mark.slow
def test_your_own_network_with_a_mistake_fails_at_its_layer(tmp_path):
    folder = tmp_path / "a folder with spaces"
    folder.mkdir()
    network = own_network(folder, "mynet")
    command = [sys.executable, "-m", "tandem", "certify", network.name, "--steps", "2", "-o", "data.source=digits"]
    ended = subprocess.run(
        command, cwd=folder, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True
    )
    assert ended.returncode == 1, ended.stderr
    assert "First difference: step 0, layer outputs. Layer: conv2 (Conv2D). Error" in ended.stdout
    assert "Paddle trains" in ended.stdout and "TensorFlow trains" in ended.stdout
    written = folder / "certificates" / "mynet"
    found = json.loads((written / "certificate.json").read_text())
    assert not found["passed"] and found["first"]["name"] == "conv2" and found["steps"] == 2
    assert "conv2" in (written / "certificate.html").read_text()


def test_a_bias_on_one_side_only_is_a_missing_name(workers, tmp_path):
    network = own_network(tmp_path, "biased", bias_attr="False")
    found = certify(network, *subject(network, ["data.source=digits"])[:1], workers, steps=1)
    assert found.first["phase"] == "initial state"
    assert (found.first["name"], found.first["what"]) == ("conv2.bias", "only in tensorflow")


def test_a_network_that_cannot_be_built_is_an_error_with_its_line(workers, tmp_path):
    network = own_network(tmp_path, "broken", before="1 / 0")
    with pytest.raises(UserError, match=r"^tensorflow: broken.py, line 17: ZeroDivisionError"):
        certify(network, *subject(network, ["data.source=digits"])[:1], workers, steps=1)


def test_a_file_without_the_builders_is_an_error(workers, tmp_path):
    network = own_network(tmp_path, "unlike")
    network = network.rename(tmp_path / "like.py")
    with pytest.raises(UserError, match=r"like.py: has no like_paddle; write the twin builders like_paddle and like_t"):
        certify(network, *subject(network, ["data.source=digits"])[:1], workers, steps=1)


def test_what_init_writes_passes(workers, tmp_path, capsys):
    network = tmp_path / "fresh.py"
    init(network)
    assert capsys.readouterr().out == f"Written: {network}. Next: tandem certify {network}\n"
    # In float64 alone, and without a larger step: there is then no second path to certify.
    options = ["data.source=digits", "precision=float64", "batch_size=5"]
    found = certify(network, subject(network, options)[0], workers, steps=1)
    assert found.passed and list(found.layers)[:3] == ["pad1", "conv1", "bn1"], found.first


def test_a_process_that_dies_is_a_failure_and_not_an_end(tmp_path):
    text = OWN.format(name="mortal", bias_attr="None", before="pass").replace(
        'layers.ReLU(name="relu1")', 'layers.Lambda(lambda x: __import__("os").abort(), name="relu1")'
    )
    network = tmp_path / "mortal.py"
    network.write_text(text.replace("lambda x:", "lambda x: x if x.shape[0] != 5 else"))
    with Workers(WORKER) as workers:
        found = certify(network, *subject(network, ["data.source=digits"])[:1], workers, steps=1)
    assert found.first["phase"] == "running" and found.first["name"] == "tensorflow"
    assert found.first["what"] == "its process died of SIGABRT"
    assert certificate_report.verdict(found)[-1].startswith("FAILED")


def test_it_begins_with_the_state_of_a_checkpoint(workers, tmp_path):
    """A state of a run, in float32, crosses to both frameworks with every bit, and the next steps pass."""
    settings = check_config(TINY | {"precision": "float64", "batch_size": 5}, "test")
    certify("tiny", settings, workers, steps=1)  # leaves a state of this network
    random = np.random.default_rng(0)
    shapes = {name: array.shape for name, array in workers.read("state")["paddle"].items()}
    arrays = {name: random.uniform(0.1, 1, shape).astype(np.float32) for name, shape in shapes.items()}
    path = tmp_path / "step-000000001.safetensors"
    held = metadata(config=settings.model_dump(mode="json"))
    checkpoint.write(path, arrays | {"preprocessing/mean": np.zeros(3)}, held)
    settings, state = subject(path)
    found = certify(path, settings, workers, steps=1, state=state)
    assert found.passed
    assert found.phases["initial state"]["error"] == 0
    assert found.phases["initial state"]["compared"] == 2 * len(arrays)
    assert found.phases["layer outputs"]["compared"] == (1 + DRAWN_STEPS) * len(found.layers)


# Negative controls: what a step of two equal frameworks would give, with one thing changed.


def step_of_equals():
    random = np.random.default_rng(0)
    trace = {"output/conv": random.normal(size=(2, 3, 4, 4)), "output/bn": random.normal(size=(2, 3, 4, 4))}
    trace |= {"logits": random.normal(size=(2, 10)), "loss": np.array(2.3)}
    state = {}
    for name, shape in {"conv.weight": (3, 3, 3, 3), "bn.weight": (3,), "bn.bias": (3,)}.items():
        trace[f"gradient/{name}"] = random.normal(size=shape)
        state[name], state[f"velocity/{name}"] = random.normal(size=(2, *shape))
    state |= {"bn.running_mean": random.normal(size=3), "bn.running_var": random.uniform(1, 2, 3)}
    state |= {f"ema/{name}": array.copy() for name, array in state.items() if "/" not in name}
    return trace, state


def judged(change):
    """The first difference after `change` of (trace, state) on TensorFlow's side."""
    (trace, state), (changed_trace, changed_state) = step_of_equals(), step_of_equals()
    change(changed_trace, changed_state)
    found = Certificate("test", {"precision": "float64"}, 1, 2, TOLERANCES["float64"], "", "", {}, layers={"bn": "BN"})
    found.judge_step(3, {"paddle": trace, "tensorflow": changed_trace}, {"paddle": state, "tensorflow": changed_state})
    return found.first


def nothing(trace, state):
    pass


def one_element_of_a_gradient(trace, state):
    trace["gradient/conv.weight"][1, 2, 0, 1] *= 1 + 1e-8


def unequal_weights(trace, state):
    state["conv.weight"][0, 0, 0, 0] += 1e-8


def swapped_names(trace, state):
    state["bn.weight"], state["bn.bias"] = state["bn.bias"], state["bn.weight"]


def swapped_layers(trace, state):
    trace["output/conv"], trace["output/bn"] = trace["output/bn"], trace["output/conv"]


def not_a_number(trace, state):
    state["velocity/bn.bias"][1] = np.nan


def a_missing_layer(trace, state):
    del trace["output/bn"]


def an_extra_parameter(trace, state):
    state["conv.bias"] = np.zeros(3)


def another_shape(trace, state):
    trace["output/bn"] = trace["output/bn"][:, :, :3]


def a_statistic(trace, state):
    state["bn.running_var"] *= 1 + 1e-9


def an_ema(trace, state):
    state["ema/bn.running_var"] *= 1 + 1e-9


@pytest.mark.parametrize(
    ("change", "phase", "name", "what"),
    [
        (one_element_of_a_gradient, "gradients", "conv.weight", ""),
        (unequal_weights, "parameters", "conv.weight", ""),
        (swapped_names, "parameters", "bn.weight", ""),
        (swapped_layers, "layer outputs", "conv", ""),
        (not_a_number, "velocities", "bn.bias", "not finite"),
        (a_missing_layer, "layer outputs", "bn", "only in paddle"),
        (an_extra_parameter, "parameters", "conv.bias", "only in tensorflow"),
        (another_shape, "layer outputs", "bn", "paddle has the shape (2, 3, 4, 4), tensorflow (2, 3, 3, 4)"),
        (a_statistic, "statistics", "bn.running_var", ""),
        (an_ema, "EMA", "bn.running_var", ""),
    ],
)
def test_each_change_of_one_thing_fails_at_its_place(change, phase, name, what):
    first = judged(change)
    assert (first["step"], first["phase"], first["name"], first["what"]) == (3, phase, name, what)
    assert first["layer"] == ("BN" if name.startswith("bn") else "")


def test_no_change_passes():
    assert judged(nothing) is None


def test_both_not_finite_is_a_failure_too():
    both = {"a": {"x": np.array([np.nan])}, "b": {"x": np.array([np.nan])}}
    assert compare(both, "phase")[0].what == "not finite"


finite = st.floats(-1e6, 1e6, width=32)


@given(arrays(np.float64, 5, elements=finite), st.integers(0, 4), st.floats(1e-6, 1e6))
def test_the_error_sees_every_element(array, index, change):
    changed = array.copy()
    changed[index] += change
    error = relative_error(changed, array, 1e-4)
    assert error == pytest.approx(change / max(np.abs(array).max(), 1e-4), rel=1e-6)
    assert relative_error(array, array, 1e-4) == 0


def test_the_page_is_self_contained(clean, tmp_path):
    certificate_report.save(clean, tmp_path / "new folder")
    page = (tmp_path / "new folder" / "certificate.html").read_text()
    assert "<script" not in page and not re.search(r"(src|href)=[\"'](?!#)", page)
    rows = {row["phase"]: row for row in certificate_report.folded(clean)}
    assert {"Paddle trains", "TensorFlow evaluates", "batch of 128"} < rows.keys()
    assert all(f"<td>{phase}</td>" in page and row["error"] in page for phase, row in rows.items())
    assert json.loads((tmp_path / "new folder" / "certificate.json").read_text())["passed"]
    assert "PASSED" in certificate_report.verdict(clean)[-1]


def test_a_python_that_ends_at_once_is_one_line():
    values = check_config(TINY, "test").model_dump(mode="json")
    with (
        pytest.raises(UserError, match=r"paddle: its process ended \(exit code 0\)"),
        Workers(WORKER, {"paddle": "true"}) as workers,
    ):
        workers.ask("describe", settings=values, num_classes=10)


RAISING = """
def raising_paddle(num_classes):
    from paddle import nn

    return nn.Sequential(("flatten", nn.Flatten()), ("fc", nn.Linear(3 * 32 * 32, num_classes)))


def raising_tensorflow(num_classes):
    from tensorflow.keras import Sequential, layers

    class Raising(layers.Dense):
        def call(self, x, training=False):
            if training:
                raise ValueError("not in training")
            return super().call(x)

    return Sequential([layers.Flatten(name="flatten"), Raising(num_classes, name="fc")])
"""


def test_workers_answer_in_turn_after_one_raised(workers, tmp_path):
    """The two commands of a step are sent at once: neither's answer may be left for the next."""
    path = tmp_path / "raising.py"
    path.write_text(RAISING)
    settings, _ = subject(str(path), ["data.source=digits"])
    for _ in range(2):
        found = certify(str(path), settings, workers, steps=2)
        assert found.first["phase"] == "running" and "not in training" in found.first["what"]
    rows = workers.ask("describe", settings=settings.model_dump(mode="json"), num_classes=10)
    assert [row["name"] for row in rows["paddle"]] == ["flatten", "fc"]
