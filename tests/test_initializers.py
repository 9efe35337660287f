import hashlib

import numpy as np
import pytest

from tandem.initializers import initial_state

SHAPES = {
    "conv.weight": (64, 32, 3, 3),
    "bn.weight": (64,),
    "bn.bias": (64,),
    "bn.running_mean": (64,),
    "bn.running_var": (64,),
    "fc.weight": (200, 100),
    "fc.bias": (100,),
}


def test_scales_are_he_and_glorot():
    state = initial_state(SHAPES, 0)
    assert state["conv.weight"].std() == pytest.approx(np.sqrt(2 / (32 * 9)), rel=0.02)
    assert np.abs(state["conv.weight"]).max() <= np.sqrt(6 / (32 * 9))
    assert state["fc.weight"].std() == pytest.approx(np.sqrt(2 / 300), rel=0.02)
    assert abs(state["conv.weight"].mean()) < 0.001


def test_batch_norm_and_biases_start_neutral():
    state = initial_state(SHAPES, 0)
    assert (state["bn.weight"] == 1).all() and (state["bn.running_var"] == 1).all()
    assert not any(state[name].any() for name in ("bn.bias", "bn.running_mean", "fc.bias"))


def test_a_function_of_seed_and_name_alone():
    one = initial_state(SHAPES, 1)["fc.weight"]
    assert (one == initial_state({"fc.weight": (200, 100)}, 1)["fc.weight"]).all()
    assert (one != initial_state(SHAPES, 2)["fc.weight"]).mean() > 0.99
    assert (one != initial_state({"gc.weight": (200, 100)}, 1)["gc.weight"]).mean() > 0.99


def test_the_same_bits_on_every_machine():
    array = initial_state({"conv.weight": (4, 3, 3, 3)}, 7)["conv.weight"]
    assert array.dtype == np.float32
    assert hashlib.sha256(array.tobytes()).hexdigest()[:16] == "2ba1ed2d839b5bb2"
