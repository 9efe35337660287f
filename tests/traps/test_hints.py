"""Hints name what is near a first difference, at most three traps, and nothing where nothing is. No framework loads."""

import dataclasses
import math

from tandem import traps
from tandem.certify.replay import Apart
from tandem.traps import hints

import pytest

FIRST = {"step": 0, "phase": "layer outputs", "name": "stem", "layer": "Conv2D", "error": 1.0, "what": ""}


def known(**parts):
    return traps.known({**FIRST, **parts})


@pytest.mark.parametrize(
    ("first", "best"),
    [
        # By the layer: the same mistakes in the layers of either framework.
        ({"layer": "DepthwiseConv2D"}, "same_padding"),
        ({"layer": "BatchNormalization", "error": 5e-4}, "bn_epsilon"),
        ({"layer": "SyncBatchNorm", "error": 3e-9}, "bn_epsilon_double"),
        ({"layer": "Dense"}, "dense_transposed"),
        ({"layer": "MaxPooling2D", "error": 0.4}, "max_pool_zeros"),
        # By the size: Keras' `Activation` may be any.
        ({"layer": "Activation", "error": 1.2e-4}, "gelu_tanh"),
        ({"layer": "Activation", "error": 1.1e-7}, "hard_sigmoid_rounded"),
        ({"layer": "GELU", "error": 1e-9}, "gelu_float32"),
        ({"layer": "GELU", "error": 2e-4}, "gelu_tanh"),
        ({"phase": "velocities", "error": 5e-10}, "decay_double"),
        ({"phase": "velocities", "error": 0.03}, "decay_decoupled"),
        ({"phase": "statistics", "layer": "BatchNorm2D", "error": 1e-7}, "bn_momentum_double"),
        ({"phase": "loss", "layer": "", "error": 5e-3}, "smoothing_over_the_others"),
        # By the kind: what is missing or of another shape is not a number.
        ({"phase": "initial state", "error": None, "what": "only in paddle"}, "conv_bias"),
        ({"phase": "output gradients", "error": None, "what": "no gradient in paddle (None)"}, "gradient_stopped"),
        (
            {"phase": "output gradients", "what": "the gradient in tensorflow is zero everywhere"},
            "gradient_stopped",
        ),
        (
            {"layer": "AvgPool2D", "error": None, "what": "paddle has the shape (2, 3), tensorflow (3, 2)"},
            "average_floor",
        ),
        ({"phase": "output gradients", "layer": "MaxPool2D", "error": None, "what": "not finite"}, "max_of_axes"),
        ({"phase": "output gradients", "layer": "MaxPool2D", "error": 1e286}, "max_of_axes"),
        # By the step: what shows at once and what waits for a velocity.
        ({"phase": "velocities", "step": 1, "error": 0.9}, "momentum_default"),
        ({"phase": "velocities", "step": 0, "error": 0.9}, "gradients_clipped"),
        # In the compiled step of either framework.
        ({"phase": "tensorflow trains: parameters", "step": 1, "error": 0.5}, "rate_frozen"),
        ({"phase": "paddle trains: parameters", "step": 1, "error": 0.5}, "rate_frozen"),
        ({"phase": "paddle evaluates: evaluate", "step": 8, "layer": ""}, "evaluation_compiled_for_training"),
    ],
)
def test_the_best_hint(first, best):
    assert known(**first)[0] == best


@pytest.mark.parametrize(
    "first",
    [
        {"layer": "LayerNorm"},
        {"layer": "Linear", "error": 1e-8},
        {"layer": "SELU", "error": 0.5},
        {"layer": "LSTM", "error": None, "what": "not finite"},
        {"layer": "Conv2D", "error": None, "what": "only in tensorflow"},
        {"phase": "gradients"},
        {"phase": "loss", "layer": "", "error": 1e-8},
        {"phase": "loss", "layer": "", "error": None, "what": "not finite"},
        {"phase": "velocities", "error": 1e-5},
        {"phase": "initial state", "layer": "Linear", "error": None, "what": "only in paddle"},
        {"phase": "output gradients", "layer": "MaxPool2D", "error": 1e-6},
        {"phase": "paddle trains: EMA"},
        {"phase": "batch of 128: parameters"},
        {"phase": "free run", "layer": ""},
        {"phase": "running", "layer": "", "error": None, "what": "its process died of SIGSEGV"},
    ],
)
def test_no_hint_where_nothing_is_near(first):
    assert known(**first) == []


def test_no_hint_without_a_difference():
    assert traps.known(None) == []


def test_at_most_three():
    first = {**FIRST, "phase": "loss", "layer": ""}
    near = [trap for trap in traps.TRAPS.values() if trap.shows == ("loss", "")]
    assert len(near) > hints.MOST
    assert len(hints.known(first, near)) == hints.MOST


def test_a_trap_that_was_not_seen_yet_is_no_hint():
    new = dataclasses.replace(traps.TRAPS["same_padding"], name="new")
    assert hints.known(FIRST, [new]) == []


def test_families_are_of_layers_that_traps_show_in():
    shown = {trap.shows[1] for trap in traps.TRAPS.values() if trap.shows}
    assert all(family & shown for family in hints.FAMILIES)


@pytest.mark.parametrize(
    ("layer", "settings", "error", "why", "hints"),
    [
        # By the settings.
        ("BatchNorm2D", {"epsilon": (1e-5, 1e-3), "momentum": (0.9, 0.99)}, 0.3, "", ["bn_epsilon", "bn_momentum"]),
        ("Conv2D", {"padding": (1, "same")}, 0.9, "", ["same_padding"]),
        ("MaxPool2D", {"padding": (1, "same")}, 0.9, "", ["max_pool_same"]),
        ("ReLU", {"kind": ("ReLU", "ReLU6")}, 0.2, "", ["relu6_for_relu"]),
        ("Conv2D", {"stride": (2, 1)}, 0.9, "", []),
        # By the size of the error.
        ("AvgPool2D", {}, 0.6, "", ["average_counts_padding"]),
        ("AvgPool2D", {}, 1e-5, "", []),
        # By where it differs.
        ("Linear", {}, 1.0, "what lies before it: the same values in another order, as of ...", ["flatten_order"]),
        ("Linear", {}, 1.0, "what lies before it", []),
    ],
)
def test_hints_of_a_layer_that_differs_by_itself(layer, settings, error, why, hints):
    entry = Apart("layer", layer, ("layer", layer), error, {"output": f"{error:.1e}"}, settings, why)
    assert traps.of_layer(entry) == hints
    assert traps.of_layer(Apart("layer", layer, entry.theirs, error, entry.what, settings, why, constant=True)) == []


def test_a_hint_of_a_layer_that_gets_no_gradient():
    what = {"gradient of bias": "is missing in Paddle", "running_mean": "2.4e-07"}
    entry = Apart("bn", "BatchNorm2D", ("bn", "BatchNormalization"), math.inf, what)
    assert traps.of_layer(entry) == ["bn_one_frozen"]
    entry.what = {"gradient of bias": "2.0e-01"}
    assert traps.of_layer(entry) == []
