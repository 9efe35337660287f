"""The convolutions of oneDNN, by ctypes: Paddle's wheel holds its library, but its eager operators do not use it.

The functions are those of oneDNN 3's C API: https://uxlfoundation.github.io/oneDNN/v3.6/group_dnnl_api.html.
"""

import ctypes
import functools
import math
from pathlib import Path

from tandem.frameworks import environment

with environment.loading():
    import paddle

# Numbers of oneDNN's dnnl_types.h: DNNL_ARG_*, which name the arguments of a primitive ("of": the gradient of);
X, Y, WEIGHT, OF_X, OF_Y, OF_WEIGHT = 1, 17, 33, 129, 145, 161
# dnnl_query_*_md, which ask it for their layouts; and others.
LAYOUTS = {X: 129, OF_X: 130, WEIGHT: 131, OF_WEIGHT: 132, Y: 133, OF_Y: 134}
CPU, IN_ORDER, FLOAT32, ANY, TRAINING, DIRECT, IMPLEMENTATION = 1, 1, 3, 1, 64, 1, 8


class _Version(ctypes.Structure):
    _fields_ = [("major", ctypes.c_int)]


class _Argument(ctypes.Structure):
    _fields_ = [("number", ctypes.c_int), ("memory", ctypes.c_void_p)]


def _load():
    """The library that Paddle has loaded; None where there is none, or one of another version."""
    file = Path(paddle.__file__).parent / "libs" / "libdnnl.so.3"
    if not file.exists():
        return None
    library = ctypes.CDLL(str(file))
    library.dnnl_version.restype = ctypes.POINTER(_Version)
    library.dnnl_primitive_desc_query_md.restype = ctypes.c_void_p
    library.dnnl_memory_desc_get_size.restype = ctypes.c_size_t
    return library if library.dnnl_version().contents.major == 3 else None


def _call(function, *arguments):
    status = getattr(_library, f"dnnl_{function}")(*arguments)
    if status:
        raise RuntimeError(f"oneDNN: {function} returned status {status}")


class _Object:
    """What `dnnl_<function>` makes of the arguments; `dnnl_<kind>_destroy` ends it with this object."""

    def __init__(self, kind, function, *arguments):
        self._as_parameter_ = ctypes.c_void_p()  # what ctypes passes for this object
        self.destroy = getattr(_library, f"dnnl_{kind}_destroy")  # when Python ends, modules are empty before this is
        _call(function, ctypes.byref(self._as_parameter_), *arguments)

    def __del__(self):
        if self._as_parameter_:
            self.destroy(self._as_parameter_)


_library = _load()
found = _library is not None
"""Whether Paddle has oneDNN 3: its wheels for Linux on x86-64 do."""

if found:
    _engine = _Object("engine", "engine_create", CPU, ctypes.c_size_t(0))
    _stream = _Object("stream", "stream_create", _engine, IN_ORDER)


def is_safe(weight_shape, stride):
    """Whether oneDNN's gradient of the weight stays within its memory: see `valid_conv2d` of tensorflow/kernels.py."""
    _, channels, kernel_size, _ = weight_shape
    return kernel_size > 1 or stride == 1 or channels >= 16


class Convolution:
    """A convolution of float32 images of one shape, and its gradients.

    It takes and gives tensors in Paddle's layout. In between they have those that oneDNN chooses, such as blocks of 16
    channels.

    Args:
        x_shape: [N, in_channels, H, W], none of them 0.
        weight_shape: [out_channels, in_channels / groups, kernel_size, kernel_size].
        stride, padding, groups: of `kernels.plain_conv2d`; they must be safe, see `is_safe`.

    Raises:
        RuntimeError: there is no such convolution.
    """

    def __init__(self, x_shape, weight_shape, stride, padding, groups):
        images, _, *size = x_shape
        out_channels, *_, kernel_size = weight_shape
        out_size = [(length + 2 * padding - kernel_size) // stride + 1 for length in size]
        self.x_shape, self.weight_shape, self.y_shape = x_shape, weight_shape, [images, out_channels, *out_size]
        if groups > 1:
            weight_shape = [groups, out_channels // groups, *weight_shape[1:]]
        self.x, self.weight, self.y = _row_major(x_shape), _row_major(weight_shape), _row_major(self.y_shape)
        self.any_x, self.any_weight = _any(x_shape), _any(weight_shape)
        self.geometry = [_int64(number, number) for number in (stride, 0, padding, padding)]
        arguments = TRAINING, DIRECT, self.any_x, self.any_weight, None, _any(self.y_shape), *self.geometry
        layouts = {X: self.x, WEIGHT: self.weight, Y: self.y}
        self.forward = _Kernel("convolution_forward", arguments, layouts)
        self.own_y = self.forward.layout(Y)
        self.to_own_y = _Reorder(self.y, self.own_y)

    # Both gradients take y in the layout of `forward`. With one of their own choice, strides took up to twice as long.

    @functools.cached_property
    def gradient_of_x(self):
        """The kernel that takes the gradient of y in its own layout, and the weight."""
        arguments = DIRECT, self.any_x, self.any_weight, self.own_y, *self.geometry, self.forward.description
        layouts = {OF_Y: self.own_y, WEIGHT: self.weight, OF_X: self.x}
        return _Kernel("convolution_backward_data", arguments, layouts)

    @functools.cached_property
    def gradient_of_weight(self):
        """The kernel that takes the gradient of y in its own layout, and x."""
        arguments = DIRECT, self.any_x, self.any_weight, None, self.own_y, *self.geometry, self.forward.description
        layouts = {OF_Y: self.own_y, X: self.x, OF_WEIGHT: self.weight}
        return _Kernel("convolution_backward_weights", arguments, layouts)

    @property
    def is_slow(self):
        """Whether one of the three is oneDNN's reference, which took 100 times as long as its other kernels.

        For most shapes with fewer than 16 channels a group, it has no other for the gradient of the weight.
        """
        return any(kernel.is_reference for kernel in (self.forward, self.gradient_of_x, self.gradient_of_weight))

    def convolve(self, x, weight):
        """The images after the convolution, [N, out_channels, H', W']."""
        return self.forward(x, weight, into=paddle.empty(self.y_shape, "float32"))

    def differentiate(self, x, weight, of_y, needs_x, needs_weight):
        """The gradients of x and of the weight, or None for one that is not needed, by that of y."""
        of_x = of_weight = None
        of_y = self.to_own_y(of_y)
        if needs_x:
            of_x = self.gradient_of_x(of_y, weight, into=paddle.empty(self.x_shape, "float32"))
        if needs_weight:
            of_weight = self.gradient_of_weight(of_y, x, into=paddle.empty(self.weight_shape, "float32"))
        return of_x, of_weight


class _Kernel:
    """A primitive between arguments that have other layouts than its own.

    Args:
        kind, arguments: of the function that describes it.
        layouts: by the number of each argument, the layout that it has; that of the result is last.
    """

    def __init__(self, kind, arguments, layouts):
        self.description = _Object("primitive_desc", f"{kind}_primitive_desc_create", _engine, *arguments, None)
        self.primitive = _Object("primitive", "primitive_create", self.description)
        *inputs, self.result = layouts
        self.inputs = {number: _Reorder(layouts[number], self.layout(number)) for number in inputs}
        self.from_own = _Reorder(self.layout(self.result), layouts[self.result])

    @property
    def is_reference(self):
        """Whether it is oneDNN's own reference."""
        name = ctypes.c_char_p()
        _call("primitive_desc_query", self.description, IMPLEMENTATION, 0, ctypes.byref(name))
        return name.value.startswith(b"ref")

    def layout(self, number):
        """The layout of the argument that it chose."""
        return ctypes.c_void_p(_library.dnnl_primitive_desc_query_md(self.description, LAYOUTS[number], 0))

    def __call__(self, *tensors, into):
        """Compute from the `tensors`, in the order of the layouts; the result goes `into` that tensor, and is it."""
        arguments = {
            number: (reorder.target, reorder(tensor))
            for (number, reorder), tensor in zip(self.inputs.items(), tensors, strict=True)
        }
        result = into if self.from_own.same else _room(self.from_own.source)
        _execute(self.primitive, {**arguments, self.result: (self.from_own.source, result)})
        return self.from_own(result, into)


class _Reorder:
    """From one layout to another. Where they are the `same` it does nothing."""

    def __init__(self, source, target):
        self.source, self.target = source, target
        self.same = bool(_library.dnnl_memory_desc_equal(source, target))
        if not self.same:
            arguments = source, _engine, target, _engine, None
            self.description = _Object("primitive_desc", "reorder_primitive_desc_create", *arguments)
            self.primitive = _Object("primitive", "primitive_create", self.description)

    def __call__(self, tensor, into=None):
        """The tensor in the other layout: a new one, or `into`."""
        if self.same:
            return tensor
        into = _room(self.target) if into is None else into
        _execute(self.primitive, {X: (self.source, tensor), Y: (self.target, into)})
        return into


def _execute(primitive, tensors):
    """Compute with the (layout, tensor) of each argument by its number."""
    memories = {
        number: _Object("memory", "memory_create", layout, _engine, ctypes.c_void_p(tensor.data_ptr()))
        for number, (layout, tensor) in tensors.items()
    }
    arguments = [_Argument(number, memory._as_parameter_) for number, memory in memories.items()]
    _call("primitive_execute", primitive, _stream, len(arguments), (_Argument * len(arguments))(*arguments))
    _call("stream_wait", _stream)


def _room(layout):
    """A tensor of as many bytes as `layout` takes."""
    return paddle.empty([_library.dnnl_memory_desc_get_size(layout) // 4], "float32")


def _row_major(shape):
    """Paddle's layout."""
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    arguments = len(shape), _int64(*shape), FLOAT32, _int64(*strides)
    return _Object("memory_desc", "memory_desc_create_with_strides", *arguments)


def _any(shape):
    """What leaves the layout to the primitive."""
    return _Object("memory_desc", "memory_desc_create_with_tag", len(shape), _int64(*shape), FLOAT32, ANY)


def _int64(*numbers):
    return (ctypes.c_int64 * len(numbers))(*numbers)
