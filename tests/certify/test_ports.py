"""Right ports in stock layers pass, whatever their names; of wrong ones every mistake is named in one run."""

import math
from pathlib import Path

from tandem.certify.pairing import pair
from tandem.certify.steps import certify
from tandem.config.load import check_config
from tandem.core.errors import UserError
from tandem.frameworks.base import FRAMEWORKS

import pytest

FILE = str(Path(__file__).parent / "pairs" / "ports.py")
IDENTICAL, CONSTANTS = "identical", "same up to float32 constants"


@pytest.fixture(scope="module")
def certified(workers):
    """A function from a kind of ports.py, how it is written, and a map of names, to its certificate; each made once."""
    known = {}

    def certified(kind, how, names=()):
        if (kind, how, names) not in known:
            known[kind, how, names] = made(workers, kind, how, dict(names) or None)
        return known[kind, how, names]

    return certified


def made(workers, kind, how, names):
    network = {"name": "own", "file": FILE, "options": {"kind": kind, "how": how}}
    values = {
        "network": network,
        "schedule": {"name": "constant"},
        "epochs": 1,
        "precision": "float64",
        "batch_size": 5,
    }
    return certify(kind, check_config(values, kind), workers, steps=1, names=names)


@pytest.mark.parametrize(
    ("kind", "how", "verdict"),
    [
        ("activation", "prelu", IDENTICAL),
        pytest.param("activation", "dropout", IDENTICAL, marks=pytest.mark.slow),
        ("auxiliary", "right", IDENTICAL),
        ("depthwise", "right", IDENTICAL),
        ("elsewhere", "right", IDENTICAL),
        ("shared", "tied", IDENTICAL),
        ("batch_norm", "given", CONSTANTS),
        ("convnext", "right", CONSTANTS),
        ("inception", "right", CONSTANTS),
        ("nested", "right", CONSTANTS),
        ("typical", "right", CONSTANTS),
    ],
)
def test_a_right_port_passes(certified, kind, how, verdict):
    found = certified(kind, how)
    assert found.verdict == verdict, (found.first, [str(entry) for entry in found.apart])
    assert found.passed
    assert all(entry.why for entry in found.apart)  # each with the constant behind it


@pytest.mark.parametrize(
    ("how", "words"), [("hard_sigmoid", "slope"), ("leaky", "slope"), ("selu", "scale and alpha"), ("relu6", "")]
)
def test_a_constant_kept_as_float32_is_named(certified, how, words):
    found = certified("activation", how)
    assert found.verdict == (CONSTANTS if words else IDENTICAL)
    assert [(entry.layer, words in entry.why) for entry in found.apart] == ([("act", True)] if words else [])


@pytest.mark.parametrize(
    ("kind", "how", "wrong"),
    [
        ("activation", "leaky_defaults", {"act": "slope 0.01 against 0.3"}),
        pytest.param("activation", "relu6_for_relu", {"act": "kind ReLU against ReLU6"}, marks=pytest.mark.slow),
        ("batch_norm", "defaults", {"bn1": "epsilon 1e-05 against 0.001; momentum 0.9 against 0.99"}),
        ("batch_norm", "frozen", {"bn1": "frozen batch norm uses its statistics in Keras, and the batch's in Paddle"}),
        pytest.param("convnext", "tanh", {"act": "output"}, marks=pytest.mark.slow),
        ("convnext", "epsilon", {"norm": "epsilon 1e-06 against 0.001"}),
        ("depthwise", "same", {"dw": "padding 1 against [0, 1, 0, 1]"}),
        ("inception", "include_pad", {"pool": "exclusive False against True"}),
        ("inception", "order", {"fc": "the same values in another order"}),
        (
            "typical",
            "wrong",
            {
                "bn1": "epsilon 1e-05 against 0.001; momentum 0.9 against 0.99",
                "conv2": "padding 1 against [0, 1, 0, 1]",
                "fc": "what lies between conv2 and fc: the same values in another order",
            },
        ),
    ],
)
def test_every_mistake_of_a_wrong_port_is_named_in_one_run(certified, kind, how, wrong):
    found = certified(kind, how)
    assert found.verdict == "different"
    different = {entry.layer: str(entry) for entry in found.apart if not entry.constant}
    assert different.keys() == wrong.keys()
    for layer, words in wrong.items():
        assert words in different[layer]


def test_what_only_one_side_has_and_changes_nothing_is_a_note(certified):
    assert any(
        "only TensorFlow has: " in note and "perm (Permute)" in note for note in certified("typical", "right").notes
    )
    notes = certified("auxiliary", "right").notes
    assert "Parameters that the loss does not depend on, in both: aux.weight, aux.bias" in notes


def test_arrays_that_another_layer_holds_are_compared_and_told(certified):
    (note,) = (note for note in certified("elsewhere", "right").notes if "another layer" in note)
    assert "scale is held_1.held" in note and "depthwise.weight is separable_conv2d.depthwise_kernel" in note
    assert "gradients" in certified("elsewhere", "right").phases
    (entry,) = certified("elsewhere", "before").apart
    assert (entry.layer, entry.theirs[1]) == ("pad", "ZeroPadding2D")


def test_a_layer_is_of_the_class_that_its_user_wrote(certified):
    """Also where the engine computes it by a layer of Tandem's."""
    found = certified("nested", "right")
    assert {"BatchNorm", "AdaptiveAvgPool2D", "BatchNormalization"} <= {
        *found.layers.values(),
        *(kind for entry in found.apart for kind in (entry.type, entry.theirs[1])),
    }


def test_random_numbers_of_a_framework_are_told(certified):
    found = certified("activation", "noise")
    assert found.verdict == "different"
    assert sum("the network draws random numbers itself" in note for note in found.notes) == 1
    assert not any("random numbers" in note for note in certified("activation", "relu6_for_relu").notes)


def test_a_map_decides_which_layers_are_the_same(certified):
    crossed = {"aux": "fc", "fc": "aux"}
    found = certified("auxiliary", "right", names=tuple(crossed.items()))
    assert found.verdict == "different"
    assert crossed.items() <= found.pairing.layers.items()
    with pytest.raises(UserError, match="names: nothing is not a layer of the Paddle network"):
        certified("auxiliary", "right", names=(("nothing", "fc"),))


def call(name, kind="convolution", shape=(8, 3, 3, 3), sources=(-1,)):
    """What inspection.py says of a layer."""
    arrays = {"weight": shape} if shape else {}
    described = {"name": name, "kind": kind, "type": kind, "settings": {}, "arrays": arrays, "shape": [8, 4, 4]}
    return described | {"sources": list(sources), "container": False}


def paired(first, second, given=None):
    return pair(dict(zip(FRAMEWORKS, (first, second), strict=True)), given)


def test_blocks_written_in_another_order_pair_off_by_what_they_feed():
    """A bottleneck whose shortcut comes first on one side: two convolutions of one shape, one before another."""
    square, wide = (8, 8, 1, 1), (8, 8, 3, 3)
    first = [call("stem"), call("a", shape=square, sources=[0]), call("b", shape=wide, sources=[1])]
    first += [call("short", shape=square, sources=[0]), call("end", "dense", (8, 10), [2, 3])]
    second = [call("0"), call("1", shape=square, sources=[0]), call("2", shape=square, sources=[0])]
    second += [call("3", shape=wide, sources=[2]), call("4", "dense", (8, 10), [3, 1])]
    found = paired(first, second)
    assert found.layers == {"stem": "0", "a": "2", "b": "3", "short": "1", "end": "4"}
    assert not found.guessed


def test_layers_that_nothing_tells_apart_pair_off_in_order_and_that_is_said():
    branches = [call("a", shape=(4, 3, 1, 1)), call("b", shape=(4, 3, 1, 1))]
    found = paired(
        [*branches, call("c", "dense", (8, 10), [0, 1])],
        [call("x", shape=(4, 3, 1, 1)), call("y", shape=(4, 3, 1, 1)), call("z", "dense", (8, 10), [0, 1])],
    )
    assert found.layers == {"a": "x", "b": "y", "c": "z"}
    assert found.guessed == ["a"]
    given = paired(
        [*branches, call("c", "dense", (8, 10), [0, 1])],
        [call("x", shape=(4, 3, 1, 1)), call("y", shape=(4, 3, 1, 1)), call("z", "dense", (8, 10), [0, 1])],
        {"a": "y"},
    )
    assert given.layers["b"] == "x"
    assert not given.guessed


def test_an_array_or_a_layer_of_one_side_only_is_a_difference():
    first = [call("a"), call("b", "dense", (8, 10), [0])]
    second = [call("x"), call("more", "batch norm", (8,), [0]), call("y", "dense", (8, 10), [1])]
    second[0]["arrays"]["bias"] = (8,)
    found = paired(first, second)
    assert {(each.name, each.what) for each in found.without_partner()} == {
        ("more", "only in tensorflow"),
        ("a.bias", "only in tensorflow"),
    }
    assert all(math.isinf(each.error) for each in found.without_partner())


def test_a_dense_layer_is_a_1x1_convolution():
    found = paired([call("a", shape=(8, 3, 1, 1))], [call("x", "dense", (3, 8))])
    assert found.arrays == {"a.weight": ("x.weight", (8, 3, 1, 1))}
