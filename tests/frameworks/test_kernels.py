"""Each kernel that is there for speed equals its plain form, and TANDEM_FAST_KERNELS=0 takes the plain forms."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tandem.frameworks.base import FRAMEWORKS

import kernel_worker
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "bfloat16": 2.0**-7}
ROUNDINGS = 16
"""By how many units in the last place two sums of the same terms may differ."""


@pytest.fixture(scope="module", autouse=True)
def plain_steps(tmp_path_factory):
    """By framework, a process that was started with TANDEM_FAST_KERNELS=0, and its file; it works as others test."""
    folder = tmp_path_factory.mktemp("kernels")
    processes = {}
    for framework in FRAMEWORKS:
        file = folder / f"{framework}.npz"
        command = [sys.executable, kernel_worker.__file__, framework, file]
        environment = {**os.environ, "TANDEM_FAST_KERNELS": "0"}
        processes[framework] = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment), file
    yield processes
    for process, _ in processes.values():
        with process:
            process.kill()


@st.composite
def cases(draw):
    """Arguments of `kernel_worker.convolutions`. Half keep the size; in many an image is small for its channels."""
    keeps_size = draw(st.booleans())
    size = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    kernel_size = draw(st.sampled_from([1, 3, 5] if keeps_size else [1, 2, 3, 5]))
    stride = 1 if keeps_size else draw(st.sampled_from([1, 2, 3]))
    padding = kernel_size // 2 if keeps_size else draw(st.sampled_from([0, 1, 2]))
    assume(min(size) + 2 * padding >= kernel_size)
    return (
        draw(st.sampled_from([1, 2, 3, 5])),
        size,
        draw(st.sampled_from([1, 3, 8, 40])),
        draw(st.integers(1, 4)),
        kernel_size,
        stride,
        padding,
        draw(st.sampled_from([1, 2, 3])),
        draw(st.sampled_from(["float64", "float32"])),
        draw(st.sampled_from([2, 3, 8])),
    )


def agree(fast, plain, terms, eps):
    """Whether y and both gradients differ by rounding alone, in each element by the sum of its terms' sizes."""
    return [bool((np.abs(a - b) <= ROUNDINGS * eps * c).all()) for a, b, c in zip(fast, plain, terms, strict=True)]


@settings(max_examples=100)
@given(case=cases())
def test_paddles_convolution_in_threads_equals_one_operator(run_in, case):
    fast, plain, terms, counts = run_in("paddle", kernel_worker.shared, *case)
    assert counts["threads"] == (case[0] > 1)
    assert agree(fast, plain, terms, EPS[case[-2]]) == [True] * 3


@settings(max_examples=100)
@given(case=cases())
@example(case=(2, (5, 4), 3, 4, 1, 2, 0, 1, "float32", 2))  # of which oneDNN's own gradient writes beyond its memory
@example(case=(2, (5, 4), 3, 4, 1, 2, 1, 2, "float32", 2))
@example(case=(3, (9, 9), 40, 4, 1, 2, 0, 1, "float32", 2))
def test_paddles_convolution_by_onednn_equals_its_own(run_in, case):
    case = (*case[:-2], "float32", case[-1])
    inputs, _, kernel_size, stride, padding = case[2:7]
    fast, plain, terms, counts = run_in("paddle", kernel_worker.by_onednn, *case)
    assert counts["onednn"] == (kernel_size > 1 or stride == 1 or inputs >= 16 or padding == 0)
    assert agree(fast, plain, terms, EPS["float32"]) == [True] * 3


def test_no_convolution_is_left_to_onednns_reference(run_in):
    """On this CPU that of the weight has no other for 4, 8 and 12 channels: a hundred times as slow."""
    assert run_in("paddle", kernel_worker.slow_plans, (1, 3, 4, 8, 12, 16, 20, 32)) == []


def test_uses_of_onednn_agree_and_repeat(run_in):
    """A kernel used twice, a view, no image, and what needs no gradient; again, they are equal bit by bit."""
    found, again, counts = run_in("paddle", kernel_worker.uses_of_onednn)
    assert counts == {"threads": 0, "onednn": 12}  # all but the two of no image
    for (fast, plain), repeated in zip(found, again, strict=True):
        for one, other, same in zip(fast, plain, repeated, strict=True):
            assert (one is None) == (other is None) == (same is None)
            if one is not None:
                np.testing.assert_array_equal(one, same)
                np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_channels_that_do_not_match_are_refused_by_paddle(run_in):
    fast, plain = run_in("paddle", kernel_worker.refusals, (1, 3, 4, 4), (2, 5, 3, 3))
    assert fast == plain


@settings(max_examples=100)
@given(case=cases())
@example(case=(3, (5, 7), 40, 4, 3, 1, 1, 1, "float64", 2))
@example(case=(2, (3, 4), 13, 3, 5, 1, 2, 2, "float64", 2))
@example(case=(1, (7, 5), 3, 4, 3, 2, 1, 2, "float64", 2))
@example(case=(2, (4, 5), 3, 2, 2, 1, 1, 1, "float64", 2))
@example(case=(3, (4, 4), 40, 8, 3, 1, 1, 1, "bfloat16", 2))  # what the other gradient is for
@example(case=(5, (2, 2), 40, 8, 3, 1, 1, 1, "bfloat16", 2))
def test_tensorflows_convolution_equals_its_plain_form(run_in, case):
    _, (height, width), inputs, _, kernel_size, stride, padding, groups, dtype, _ = case
    fast, plain, terms, counts = run_in("tensorflow", kernel_worker.convolutions, "tensorflow", *case)
    same = stride == 1 and kernel_size == 2 * padding + 1
    assert counts["branches"] == (groups > 1)
    assert counts["same"] == (groups if same else 0)
    assert counts["gradient"] == (groups if same and height * width < inputs else 0)
    assert agree(fast, plain, terms, EPS[dtype]) == [True] * 3


def test_no_narrow_convolution_of_one_pixel_has_a_stride_in_tensorflow(run_in):
    """Of one, oneDNN's gradient of the weight writes beyond its memory: see `valid_conv2d`. Values stay the same."""
    for inputs, plain, strides, groups in (
        (15, False, [1], 1),
        (15, True, [1], 1),
        (16, False, [2], 1),
        (8, False, [1], 2),
    ):
        taken, (narrow, exact, terms) = run_in("tensorflow", kernel_worker.strided, inputs, groups, plain)
        assert taken == strides * groups
        assert agree(narrow, exact, terms, EPS["float32"]) == [True] * 3


def test_nor_has_one_of_keras_own_in_a_users_network(run_in):
    assert run_in("tensorflow", kernel_worker.stock_strides) == {"narrow": [1, 1], "apart": [1, 1], "wide": [2, 2]}


@settings(max_examples=60)
@given(
    shape=st.tuples(st.sampled_from([1, 2, 3, 5]), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)),
    offset=st.sampled_from([0.0, -3.0, 10.0]),
    scale=st.sampled_from([0.1, 1.0, 10.0]),
    training=st.booleans(),
    dtype=st.sampled_from(["float32", "bfloat16"]),
)
def test_tensorflows_fused_batch_norm_equals_the_composed_one(run_in, shape, offset, scale, training, dtype):
    """Per channel, each of them against float64: by the rounding of x that their subtraction of the mean magnifies."""
    results = run_in("tensorflow", kernel_worker.batch_norms, shape, offset, scale, training, dtype)
    fast, plain, exact, (x, gamma, dy), counts = results
    assert counts["fused"] == 1
    largest, of_dy = (np.abs(array).max(axis=(0, 1, 2)) for array in (x, dy))
    deviation = np.sqrt(exact[5] + 1e-5)
    magnified = (largest + np.abs(exact[4])) / deviation + 1
    normalised = np.abs(x - exact[4]).max(axis=(0, 1, 2)) / deviation + 1
    count = np.prod(shape[:3])
    scales = [
        np.abs(gamma) * magnified + 3,  # beta is in it
        np.abs(gamma) / deviation * of_dy * magnified * normalised**2,
        count * of_dy * magnified,
        count * of_dy,
        largest + np.abs(exact[4]),
        (largest + np.abs(exact[4])) ** 2,
    ]
    for index, size in enumerate(scales):
        # Images and their gradient are of `dtype`; all else is of float32, and so is what it is computed in.
        eps = ROUNDINGS * (EPS["float32"] if index > 1 else EPS[dtype]) * size
        assert (np.abs(fast[index] - exact[index]) <= eps).all(), index
        assert (np.abs(plain[index] - exact[index]) <= eps).all(), index


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("sizes", [(5,), (3, 2, 0), (1, 4)])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_batch_norm_of_slices_is_that_of_the_whole_batch(run_in, framework, sizes, dtype):
    shared, whole = run_in(framework, kernel_worker.batch_norm_of_slices, framework, sizes, dtype)
    for ours, theirs in zip(shared, whole, strict=True):
        assert np.abs(ours - theirs).max() < 50 * EPS[dtype] * np.abs(theirs).max()


def test_what_is_too_small_or_too_few_is_not_shared(run_in):
    """In Paddle: 64 channels of 16x16 pixels are 590,000 MACs to 4 channels with 3x3, and 147,000 to 1."""
    enough, small = (3, (16, 16), 64, 4, 3, 1, 1, 1, "float64"), (3, (16, 16), 64, 1, 3, 1, 1, 1, "float64")
    in_groups, single = (3, (16, 16), 4, 1, 3, 1, 1, 2, "float64"), (1, (16, 16), 64, 4, 3, 1, 1, 1, "float64")
    for case, threads, taken in ((enough, 2, 1), (small, 2, 0), (in_groups, 2, 1), (single, 2, 0), (enough, 1, 0)):
        counts = run_in("paddle", kernel_worker.convolutions, "paddle", *case, threads)[3]
        assert counts == {"threads": taken, "onednn": 0}, (case, threads)


@pytest.fixture(scope="module")
def steps(begin, plain_steps):
    """By framework: what `kernel_worker.step` gives with the fast forms, and with TANDEM_FAST_KERNELS=0."""
    fast = {framework: begin(framework, kernel_worker.fast_step, framework) for framework in FRAMEWORKS}
    found = {}
    for framework, (process, file) in plain_steps.items():
        said, _ = process.communicate()
        assert process.returncode == 0
        found[framework] = fast[framework].result(), (dict(np.load(file)), json.loads(said))
    return found


def test_the_switch_turns_off_what_is_there_for_speed(steps):
    (_, fast), (_, plain) = steps["paddle"]
    assert fast["float32"]["onednn"] > 0 and fast["float64"]["threads"] > 0
    none = {"threads": 0, "onednn": 0}
    assert plain == {"float32": none, "float64": none}
    (_, fast), (_, plain) = steps["tensorflow"]
    assert all(fast["float32"].values())
    assert all(fast["float64"][way] for way in ("branches", "same", "gradient")) and not fast["float64"]["fused"]
    none = {"branches": 0, "same": 0, "gradient": 0, "fused": 0}
    # In float64 TensorFlow has no gradient of a grouped convolution: branches are all there is.
    assert plain == {"float32": none, "float64": none | {"branches": fast["float64"]["branches"]}}


@pytest.mark.parametrize("precision, tolerance", [("float32", 1e-4), ("float64", 1e-12)])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_step_without_it_agrees(steps, framework, precision, tolerance):
    (fast, _), (plain, _) = steps[framework]
    assert fast.keys() == plain.keys()
    for kind in ("velocity/", ".running_", ".weight"):
        names = [
            name
            for name in fast
            if name.startswith(precision) and kind in name and ("/velocity/" in name) == ("/" in kind)
        ]
        largest = max(np.abs(plain[name]).max() for name in names)
        for name in names:
            assert fast[name].dtype == precision
            error = np.abs(fast[name] - plain[name]).max() / max(np.abs(plain[name]).max(), 1e-2 * largest)
            assert error < tolerance, name


def test_another_value_of_the_switch_is_an_error_of_one_line():
    finished = subprocess.run(
        [sys.executable, "-m", "tandem", "evaluate", "nowhere"],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "TANDEM_FAST_KERNELS": "yes"},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 2
    assert finished.stderr == "error: TANDEM_FAST_KERNELS=yes: is neither 0 nor 1; set one of them, or unset it\n"


KEEPS = """
import resource
from tandem.frameworks import environment
import numpy as np
environment.keep_memory()
np.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the C library is another")
@pytest.mark.parametrize("switch, keeps", [("1", True), ("0", False)])
def test_freed_memory_is_kept(switch, keeps):
    """The pages of 64 MB are not made anew. Without the fast forms they are, though some of 2 MB at once."""
    said = subprocess.run(
        [sys.executable, "-c", KEEPS],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "TANDEM_FAST_KERNELS": switch},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert (int(said) < 16) == keeps
