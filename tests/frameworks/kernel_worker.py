"""What test_kernels.py has done in a process of each framework's own.

As a script, python kernel_worker.py FRAMEWORK FILE: takes one step of training in each precision, writes the states
into FILE, and prints how often it took each fast form, as JSON.
"""

import contextlib
import functools
import importlib
import json
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from tandem.config.load import check_config
from tandem.data.batches import Batch
from tandem.frameworks import environment
from tandem.frameworks.base import load_engine

SIZE, CLASSES = 8, 5
PRECISIONS = ("float32", "float64")


def settings(precision):
    network = {"name": "se_resnext", "num_block": 1, "depth": 16, "cardinality": 2, "out_dims": [32, 64]}
    values = {
        "network": network | {"reduction_ratio": 4},
        "data": {"image_size": SIZE},
        "schedule": {"name": "constant"},
        "epochs": 1,
        "precision": precision,
        "device": "cpu",
        "threads": 2,
    }
    return check_config(values, "test")


@functools.cache
def kernels_of(framework):
    """The framework's kernels; it computes on two threads of the CPU, and chooses the fast forms."""
    load_engine(framework).configure(settings("float32"))  # before it computes: TensorFlow's threads are set once
    return importlib.import_module(f"tandem.frameworks.{framework}.kernels")


@contextlib.contextmanager
def counted(framework):
    """In it, how often each of the fast forms is taken is counted in the dict that it gives."""
    kernels = kernels_of(framework)
    if framework == "paddle":
        ways = {"threads": (kernels._ConvolutionInParts, "apply"), "onednn": (kernels._OneDNNConvolution, "apply")}
    else:
        tf = kernels.tf
        ways = {
            "branches": (kernels, "_in_branches"),
            "same": (kernels, "_same_conv2d"),
            "gradient": (tf, "custom_gradient"),
            "fused": (tf.compat.v1.nn, "fused_batch_norm"),
        }
    counts = {}
    with contextlib.ExitStack() as stack:
        mocks = {
            way: stack.enter_context(patch.object(owner, name, wraps=getattr(owner, name)))
            for way, (owner, name) in ways.items()
        }
        yield counts
        counts |= {way: mock.call_count for way, mock in mocks.items()}


def differentiate(framework, function, arrays, dtype):
    """y = function(*tensors), and the gradients of sum(y * dy) by each of them; dy is the last of `arrays`."""
    if framework == "paddle":
        import paddle

        *tensors, dy = (paddle.to_tensor(array, dtype=dtype, stop_gradient=False) for array in arrays)
        y = function(*tensors)
        y.backward(dy)
        return [tensor.numpy().astype(np.float64) for tensor in (y, *(tensor.grad for tensor in tensors))]
    import tensorflow as tf

    *tensors, dy = (tf.cast(array, dtype) for array in arrays)
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        y = function(*tensors)
    gradients = tape.gradient(y, tensors, dy)
    return [tf.cast(tensor, tf.float64).numpy() for tensor in (y, *gradients)]


def convolutions(framework, batch, size, inputs, outputs, kernel_size, stride, padding, groups, dtype, threads):
    """The convolution of random images [batch, groups * inputs, *size] to groups * outputs channels.

    Returns:
        y and its gradients by x and by the weight: of `conv2d`, of `plain_conv2d`, and as what rounding is measured by,
        where each term of their sums counts positive; and the counts of `counted`.
    """
    rng, kernels = np.random.default_rng(0), kernels_of(framework)
    after = [(length + 2 * padding - kernel_size) // stride + 1 for length in size]
    x, dy = rng.normal(size=(batch, groups * inputs, *size)), rng.normal(size=(batch, groups * outputs, *after))
    weight = rng.normal(size=(groups * outputs, inputs, kernel_size, kernel_size))
    if framework == "tensorflow":
        x, dy, weight = x.transpose(0, 2, 3, 1), dy.transpose(0, 2, 3, 1), weight.transpose(2, 3, 1, 0)
    else:
        kernels.set_threads(threads)

    def differentiated(kernel, arrays, dtype):
        def function(x, weight):
            return kernel(x, weight, stride, padding, groups)

        return differentiate(framework, function, arrays, dtype)

    arrays = x, weight, dy
    with patch.object(environment, "FAST_KERNELS", True), counted(framework) as counts:
        fast = differentiated(kernels.conv2d, arrays, dtype)
    plain = differentiated(kernels.plain_conv2d, arrays, dtype)
    terms = differentiated(kernels.plain_conv2d, [np.abs(array) for array in arrays], "float64")
    return fast, plain, terms, counts


def strided(inputs, groups, plain):
    """A 1x1 convolution with stride 2 of `groups` times `inputs` channels in TensorFlow.

    Returns:
        The strides of its operators in a compiled step; and y and both gradients in float32 by our kernel, the same in
        float64 by TensorFlow's own operator, which is not oneDNN's, and as what rounding is measured by.
    """
    import tensorflow as tf

    rng, kernels = np.random.default_rng(0), kernels_of("tensorflow")
    kernel = kernels.plain_conv2d if plain else kernels.conv2d
    x, dy = rng.normal(size=(5, 8, 10, groups * inputs)), rng.normal(size=(5, 4, 5, groups * 6))
    weight = rng.normal(size=(1, 1, inputs, groups * 6))

    def convolve(x, weight):
        with patch.object(environment, "FAST_KERNELS", not plain):
            return kernel(x, weight, 2, 0, groups)

    def own(x, weight):
        branches = zip(tf.split(x, groups, axis=3), tf.split(weight, groups, axis=3), strict=True)
        return tf.concat([tf.nn.conv2d(*branch, 2, "VALID") for branch in branches], axis=3)

    arguments = [tf.TensorSpec(array.shape, tf.float32) for array in (x, weight)]
    operators = tf.function(convolve).get_concrete_function(*arguments).graph.get_operations()
    strides = [operator.get_attr("strides")[1] for operator in operators if operator.type == "Conv2D"]
    arrays = x, weight, dy
    values = (
        differentiate("tensorflow", convolve, arrays, "float32"),
        differentiate("tensorflow", own, arrays, "float64"),
    )
    return strides, (*values, differentiate("tensorflow", own, [np.abs(array) for array in arrays], "float64"))


def stock_strides():
    """The strides of the operators of Keras' own 1x1 convolutions that are adopted; their values are as before."""
    from tandem.frameworks.tensorflow.layers import adopt

    import tensorflow as tf

    found = {}
    for name, inputs, strides in (("narrow", 7, 2), ("apart", 7, (1, 2)), ("wide", 16, 2)):
        layer, x = tf.keras.layers.Conv2D(5, 1, strides, padding="same"), tf.random.normal([2, 5, 6, inputs])
        before = layer(x)
        adopt(layer)
        np.testing.assert_allclose(layer(x), before, rtol=1e-5, atol=1e-6)
        operators = tf.function(layer).get_concrete_function(x).graph.get_operations()
        found[name] = next(operator.get_attr("strides")[1:3] for operator in operators if operator.type == "Conv2D")
    return found


def shared(*arguments):
    """`convolutions` in a Paddle without oneDNN, whose threads share a convolution of any size."""
    kernels = kernels_of("paddle")
    with patch.object(kernels, "_SHARED_OUT", 0), patch.object(kernels.onednn, "found", False):
        return convolutions("paddle", *arguments)


@contextlib.contextmanager
def slow_or_not():
    """In it, oneDNN computes every convolution that it can."""
    kernels = kernels_of("paddle")
    kernels._plan.cache_clear()
    with patch.object(kernels.onednn.Convolution, "is_slow", False):
        yield
    kernels._plan.cache_clear()


def by_onednn(*arguments):
    """`convolutions` in Paddle, by oneDNN also where it is slow."""
    with slow_or_not():
        return convolutions("paddle", *arguments)


def slow_plans(channels):
    """Of convolutions of so many channels, which are left to oneDNN though it is slow."""
    kernels = kernels_of("paddle")
    plans = {count: kernels._plan((2, count, 9, 9), (count, count, 3, 3), 1, 1, 1) for count in channels}
    return [count for count, plan in plans.items() if plan is not None and plan.is_slow]


def uses_of_onednn():
    """How a convolution is used by Paddle's autograd, each with (fast, plain) arrays, float32, that must agree."""
    import paddle

    rng, kernels = np.random.default_rng(0), kernels_of("paddle")
    x, weight = (rng.normal(size=shape).astype(np.float32) for shape in ((3, 4, 6, 5), (4, 2, 3, 3)))

    def twice(convolve, x, weight):
        return convolve(convolve(x, weight), weight)

    def of_a_view(convolve, x, weight):
        return convolve(x.transpose([0, 1, 3, 2])[1:], weight)

    def of_none(convolve, x, weight):
        return convolve(x[:0], weight)

    def once(convolve, x, weight):
        return convolve(x, weight)

    def differentiated(use, needs, fast):
        tensors = [
            paddle.to_tensor(array, stop_gradient=not need) for array, need in zip((x, weight), needs, strict=True)
        ]
        with patch.object(environment, "FAST_KERNELS", fast):
            y = use(lambda *arguments: kernels.conv2d(*arguments, 1, 1, 2), *tensors)
            if any(needs):
                (y * y).sum().backward()
        return [None if array is None else array.numpy() for array in (y, *(tensor.grad for tensor in tensors))]

    cases = [(use, (True, True)) for use in (twice, of_a_view, of_none)]
    cases += [(once, needs) for needs in ((True, False), (False, True), (False, False))]
    with slow_or_not(), counted("paddle") as counts:
        found = [[differentiated(*case, fast) for fast in (True, False)] for case in cases]
        again = [differentiated(*case, True) for case in cases]
    return found, again, counts


def refusals(x_shape, weight_shape):
    """What `conv2d` and `plain_conv2d` of Paddle raise of a convolution that cannot be."""
    import paddle

    kernels, said = kernels_of("paddle"), []
    for kernel in (kernels.conv2d, kernels.plain_conv2d):
        try:
            kernel(paddle.zeros(x_shape), paddle.zeros(weight_shape), 1, 0, 1)
        except Exception as error:
            said.append((type(error).__name__, str(error)))
    return said


def batch_norms(shape, offset, scale, training, dtype):
    """The batch norm of random images, NHWC, in TensorFlow.

    Returns:
        y, its gradients by x, gamma and beta, the mean and the variance: of `batch_norm` in `dtype`, and of
        `plain_batch_norm` in the same and in float64; x as it was in `dtype`, gamma and dy; the counts of `counted`.
    """
    import tensorflow as tf

    rng, kernels, channels = np.random.default_rng(0), kernels_of("tensorflow"), shape[-1]
    x = tf.cast(offset + scale * rng.normal(size=shape), dtype)
    gamma, beta, mean = (rng.normal(size=channels).astype(np.float32) for _ in range(3))
    variance, dy = rng.uniform(0.5, 2, channels).astype(np.float32), tf.cast(rng.normal(size=shape), dtype)

    def differentiated(kernel, wide):
        tensors = [tf.cast(tensor, wide or tensor.dtype) for tensor in (x, gamma, beta)]
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            y, *statistics = kernel(
                *tensors, *(tf.cast(array, wide or tf.float32) for array in (mean, variance)), 1e-5, training
            )
        gradients = tape.gradient(y, tensors, tf.cast(dy, y.dtype))
        return [tf.cast(tensor, tf.float64).numpy() for tensor in (y, *gradients, *statistics)]

    with patch.object(environment, "FAST_KERNELS", True), counted("tensorflow") as counts:
        fast = differentiated(kernels.batch_norm, None)
    plain, exact = differentiated(kernels.plain_batch_norm, None), differentiated(kernels.plain_batch_norm, tf.float64)
    x, dy = (tf.cast(tensor, tf.float64).numpy() for tensor in (x, dy))
    return fast, plain, exact, (x, gamma, dy), counts


class Known:
    """In place of a worker's Replicas: gives the sums that are `known`; what comes after is `asked` for."""

    def __init__(self, rank, count, known):
        self.rank, self.count, self.known, self.asked = rank, count, known, []

    def sum(self, tensors):
        self.asked.append(tensors)
        return self.known[len(self.asked) - 1] if len(self.asked) <= len(self.known) else tensors


def batch_norm_of_slices(framework, sizes, dtype):
    """y and its gradients by x, weight and bias, NCHW: of the batch norm of workers with slices of `sizes` in `dtype`.

    And the same of the whole batch by the framework's own in float64.
    """
    kernels, rng = kernels_of(framework), np.random.default_rng(0)
    replicas = importlib.import_module(f"tandem.frameworks.{framework}.replicas")
    x, dy = (rng.normal(size=(sum(sizes), 4, 3, 5)) for _ in range(2))
    x, weight, bias = 3 * x - 5, rng.normal(size=4), rng.normal(size=4)
    if framework == "tensorflow":
        x, dy = x.transpose(0, 2, 3, 1), dy.transpose(0, 2, 3, 1)
    edges = np.cumsum(sizes)[:-1]
    slices = list(zip(np.split(x, edges), np.split(dy, edges), strict=True))

    def take(known):
        workers = [Known(rank, len(sizes), known) for rank in range(len(sizes))]
        return workers, [
            differentiate(
                framework,
                lambda *tensors, worker=worker: replicas.batch_norm(*tensors, 1e-5, worker)[0],
                (part, weight, bias, dy),
                dtype,
            )
            for worker, (part, dy) in zip(workers, slices, strict=True)
        ]

    known = []
    with patch.object(environment, "FAST_KERNELS", True):
        while len(known) < len((taken := take(known))[0][0].asked):
            asked = zip(*(worker.asked[len(known)] for worker in taken[0]), strict=True)
            known.append([sum(tensors[1:], tensors[0]) for tensors in asked])
    y, of_x, of_weight, of_bias = zip(*taken[1], strict=True)
    shared = [np.concatenate(y), np.concatenate(of_x), sum(of_weight), sum(of_bias)]

    def own(x, weight, bias):
        if framework == "tensorflow":
            return kernels.plain_batch_norm(x, weight, bias, None, None, 1e-5, True)[0]
        import paddle

        statistics = paddle.zeros_like(weight.detach()), paddle.ones_like(weight.detach())
        return paddle.nn.functional.batch_norm(x, *statistics, weight, bias, training=True, epsilon=1e-5)

    return shared, differentiate(framework, own, (x, weight, bias, dy), "float64")


def step(framework):
    """The states after one step from one state, by precision and name, and the counts of `counted` by precision."""
    engine, arrays, counts = load_engine(framework), {}, {}
    rng = np.random.default_rng(0)
    batch = Batch(rng.integers(0, 256, (5, 3, SIZE, SIZE), dtype=np.uint8), rng.integers(0, CLASSES, 5))
    for precision in PRECISIONS:
        kernels_of(framework)
        twin = engine.Engine(settings(precision), CLASSES, np.full((3, 1, 1), 120.0), np.full((3, 1, 1), 60.0))
        with counted(framework) as counts[precision]:
            twin.train_step(batch, 0.1, 0).numpy()
        arrays |= {f"{precision}/{name}": array for name, array in twin.state().items()}
    return arrays, counts


def fast_step(framework):
    """`step` with the fast forms, whatever the environment says."""
    with patch.object(environment, "FAST_KERNELS", True):
        return step(framework)


if __name__ == "__main__":
    framework, file = sys.argv[1:]
    arrays, counts = step(framework)
    np.savez(file, **arrays)
    print(json.dumps(counts))
