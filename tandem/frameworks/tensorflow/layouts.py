"""How Keras lays out a layer's arrays, and how Paddle does, whose layouts are the canonical ones: see core/state.py."""

import math

from tandem.frameworks import environment

import numpy as np

with environment.loading():
    from tensorflow.keras import layers


def to_canonical(array, layer):
    """Keras' `array`, of a stock `layer` or of one of your own, as Paddle lays it out.

    Kernels of convolutions become [out, in / groups, ...], of depthwise ones [in * multiplier, 1, ...], of transposed
    ones [in, out, ...]; those of attention, which Keras keeps by heads, [in, out]. Of other layers, what has an entry a
    channel and pixel becomes channels first.
    """
    if isinstance(layer, layers.EinsumDense):
        array = array.reshape(_matrix(layer, array.shape))
    elif _depthwise(layer, array):
        *size, channels, multiplier = array.shape
        array = np.moveaxis(array, (-2, -1), (0, 1)).reshape(channels * multiplier, 1, *size)
    elif array.ndim >= 3 and _kernel(layer, array):
        array = np.moveaxis(array, (-1, -2), (0, 1))
    elif _has_pixels(array):
        array = np.moveaxis(array, -1, 0)
    return np.ascontiguousarray(array)


def from_canonical(array, layer, shape):
    """The inverse: the canonical `array` as Keras' `layer` wants it, of its `shape` there."""
    like = np.empty(shape, np.bool_)
    array = in_shape(array, to_canonical(like, layer).shape)
    if isinstance(layer, layers.EinsumDense):
        return array.reshape(shape)
    if _depthwise(layer, like):
        *size, channels, multiplier = shape
        return np.moveaxis(array.reshape(channels, multiplier, *size), (0, 1), (-2, -1))
    if like.ndim >= 3 and _kernel(layer, like):
        return np.moveaxis(array, (0, 1), (-1, -2))
    return np.moveaxis(array, 0, -1) if _has_pixels(like) else array


def in_shape(array, shape):
    """The canonical `array` of a layer as the same layer of another kind has it, in its `shape` there.

    A matrix [in, out] becomes a 1x1 kernel [out, in, 1, 1], or the reverse. Axes of length 1 come and go.
    """
    if (array.ndim == 2) != (len(shape) == 2) and array.size > max(array.shape):
        array = array.reshape(array.shape[:2]).T
    return np.ascontiguousarray(array.reshape(shape))


def _depthwise(layer, array):
    """Whether `array` is a depthwise kernel. A separable convolution has two kernels, of which this one is larger."""
    kinds = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
    if isinstance(layer, (layers.SeparableConv1D, layers.SeparableConv2D)):
        return array.ndim > 2 and array.shape == tuple(layer.depthwise_kernel.shape)
    return isinstance(layer, kinds) and array.ndim > 2


def _kernel(layer, array):
    """Whether `array` is the kernel of a convolution; of layers of your own, anything with four axes is."""
    stock = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
    transposed = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
    return array.ndim > 3 or isinstance(layer, (*stock, *transposed))


def _has_pixels(array):
    """Whether an array with three axes is [H, W, C]. [1, N, C] is of a sequence, such as an embedding of positions."""
    return array.ndim == 3 and array.shape[0] > 1


def _matrix(layer, shape):
    """The shape of an `EinsumDense`'s array with an axis for the inputs and one for the outputs, if those come last."""
    kernel, _, outputs = layer.equation.partition(",")[2].partition("->")
    inputs = [letter not in outputs for letter in kernel]
    if len(shape) != len(kernel):
        return (-1,)  # a bias
    return (math.prod(shape[: sum(inputs)]), -1) if all(inputs[: sum(inputs)]) else shape
