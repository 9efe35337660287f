"""Initial weights: their scales and bits; whitening and Dirac kernels."""

import hashlib

from tandem.core.initial_weights import dirac, initial_state, whitened

import numpy as np
import pytest

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


def test_whitened_takes_patches_apart_and_makes_them_vary_alike():
    rng = np.random.default_rng(0)
    # Like photographs: neighbours, and the three channels, are nearly alike; far from the mean, too.
    images = rng.normal(size=(20, 3, 12, 12), scale=10).cumsum(axis=1).cumsum(axis=2).cumsum(axis=3) + 5
    weight = rng.normal(size=(60, 3, 3, 3)).astype(np.float32)
    filters = whitened(weight, images)
    assert filters.shape == weight.shape and filters.dtype == np.float32
    assert (filters[1:54:2] == -filters[0:54:2]).all()
    assert (filters[54:] == weight[54:]).all()  # 27 components, each with its negative, are all there are

    patches = [image[:, y : y + 3, x : x + 3].ravel() for image in images for y in range(10) for x in range(10)]
    outputs = np.array(patches) @ filters[0:54:2].reshape(27, 27).T
    moments = outputs.T @ outputs / len(patches)
    assert moments == pytest.approx(np.eye(27), abs=5e-4)  # the epsilon is small beside the variances here
    lengths = np.linalg.norm(filters[0:54:2].reshape(27, -1), axis=1)
    assert (np.diff(lengths) > 0).all() and lengths[-1] > 30 * lengths[0]  # the largest component first

    assert (whitened(weight[:7], images) == filters[:7]).all()
    assert np.isfinite(whitened(weight, np.zeros_like(images))).all()  # nothing varies there


@pytest.mark.parametrize(("out_channels", "in_channels", "size"), [(9, 4, 3), (4, 4, 5), (3, 7, 1)])
def test_the_first_filters_pass_channels_on(out_channels, in_channels, size):
    rng = np.random.default_rng(1)
    weight = rng.normal(size=(out_channels, in_channels, size, size)).astype(np.float32)
    found = dirac(weight)
    assert found.dtype == np.float32
    patch = rng.normal(size=(in_channels, size, size))
    outputs = np.tensordot(found, patch, 3)
    passed = min(out_channels, in_channels)
    assert (outputs[:passed] == patch[:passed, size // 2, size // 2]).all()
    assert found[passed:] == pytest.approx(weight[passed:] / np.sqrt(6), rel=1e-6)
