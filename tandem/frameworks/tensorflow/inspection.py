"""What the layers of a built Keras network are, and which feeds which. Twin of paddle/inspection.py."""

import contextlib
from functools import partial

from tandem.frameworks import environment
from tandem.frameworks.tensorflow.layers import Dropout

with environment.loading():
    import tensorflow as tf

layers = tf.keras.layers

KINDS = {
    "convolution": (layers.Conv1D, layers.Conv2D, layers.Conv3D, layers.DepthwiseConv1D, layers.DepthwiseConv2D),
    "transposed convolution": (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose),
    "dense": (layers.Dense,),
    "batch norm": (layers.BatchNormalization,),
    "layer norm": (layers.LayerNormalization,),
    "group norm": (layers.GroupNormalization,),
    "PReLU": (layers.PReLU,),
    "ReLU": (layers.ReLU,),
    "leaky ReLU": (layers.LeakyReLU,),
    "ELU": (layers.ELU,),
    "max pool": (layers.MaxPooling2D,),
    "average pool": (layers.AveragePooling2D,),
    "global average pool": (layers.GlobalAveragePooling2D,),
    "global max pool": (layers.GlobalMaxPooling2D,),
    "flatten": (layers.Flatten,),
    "dropout": (Dropout, layers.Dropout, layers.SpatialDropout2D, layers.AlphaDropout),
    "upsampling": (layers.UpSampling2D,),
    "padding": (layers.ZeroPadding2D,),
}
"""The kinds of layers by the names that both frameworks' inspections use, and Keras' classes of each."""

ACTIVATIONS = {
    "relu": "ReLU",
    "relu6": "ReLU6",
    "leaky_relu": "leaky ReLU",
    "elu": "ELU",
    "selu": "SELU",
    "gelu": "GELU",
    "hard_sigmoid": "hard sigmoid",
    "hard_silu": "hard swish",
    "sigmoid": "sigmoid",
    "silu": "swish",
    "softplus": "softplus",
    "mish": "mish",
    "tanh": "tanh",
}
"""The kind of an `Activation` layer, by the name of its function."""

SETTINGS = {
    "kernel": ("kernel_size", "pool_size"),
    "stride": ("strides", "stride"),
    "padding": ("padding",),
    "dilation": ("dilation_rate",),
    "groups": ("groups",),
    "epsilon": ("epsilon",),
    "momentum": ("momentum",),
    "slope": ("negative_slope",),
    "alpha": ("alpha",),
    "rate": ("rate",),
    "ceil_mode": ("ceil_mode",),
    "scale_factor": ("size",),
    "largest": ("max_value",),
}
"""Settings by the names that both inspections use, and Keras' attributes that hold each."""


def layer_calls(engine, image_size):
    """Each call of a layer that computes by itself, in the order of execution.

    A layer computes by itself if it holds parameters or statistics, or has no layers inside.

    Args:
        engine: of this framework.
        image_size: height and width in pixels.

    Returns:
        A list of dicts: `name`, the layer's; `kind`, a key of `KINDS`, or else "own " or "Tandem's " and the `type`,
        the class's name; `settings`, by name; `arrays`, the shapes of what it holds by the last part of their names;
        `shape`, of the output for one image; `sources`, the indices of the calls whose outputs reach its input without
        another call between, -1 for the images; `container`, whether it has layers inside. The network itself comes
        last, named "", where it holds arrays; nothing is known of its sources.
    """
    arrays = {}
    for name in engine.shapes:
        if "/" not in name and name not in engine.constants:
            layer, _, last = name.rpartition(".")
            arrays.setdefault(layer, {})[last] = engine.shapes[name]
    calls, made_by = [], {}
    leaves = [(name, layer) for name, layer in engine._layers() if name in arrays or not _inside(layer)]
    by_name = dict(leaves)

    def note(name, inputs, output):
        layer = by_name[name]
        tensors = [x for x in tf.nest.flatten(inputs) if isinstance(x, tf.Tensor)]
        described = {"name": name, "kind": _kind(layer), "type": type(layer).__name__}
        described |= {"settings": settings(layer, tensors), "arrays": arrays.get(name, {})}
        shape = list(output.shape[1:])
        described["shape"] = [shape[-1], *shape[:-1]]
        described["sources"] = sorted(_sources(tensors, made_by))
        described["container"] = bool(_inside(layer))
        made_by[_key(output)] = len(calls)
        calls.append(described)
        return output

    with watched(leaves, note):
        run = tf.function(partial(engine.model, training=False))
        run.get_concrete_function(tf.TensorSpec([1, image_size, image_size, 3], engine.dtype))
    if "" in arrays:
        kind = type(engine.model).__name__
        calls.append({"name": "", "kind": f"own {kind}", "type": kind, "settings": {}, "arrays": arrays[""]})
        calls[-1] |= {"shape": [], "sources": [], "container": True}
    return calls


def settings(layer, inputs=()):
    """The settings of a stock layer that decide what it computes, by the names of `SETTINGS`, as plain values.

    Padding "same" is in pixels: top, bottom, left and right, for the `inputs` that it has got.
    """
    found = {}
    for setting, attributes in SETTINGS.items():
        value = next((getattr(layer, name) for name in attributes if hasattr(layer, name)), None)
        if isinstance(value, (bool, int, float, str)):
            found[setting] = value
        elif isinstance(value, (list, tuple)) and all(isinstance(x, int) for x in value):
            found[setting] = value[0] if len(set(value)) == 1 else list(value)
    if found.get("padding") == "valid":
        found["padding"] = 0
    if found.get("padding") == "same" and inputs and len(inputs[0].shape) == 4:
        found["padding"] = _same(inputs[0].shape[1:3], found)
    if isinstance(layer, layers.AveragePooling2D):
        found["exclusive"] = True  # Keras has no other
    if not layer.trainable:
        found["trainable"] = False
    return found


@contextlib.contextmanager
def watched(named, see):
    """In it, the output of each of the layers `named`, (name, layer), is what `see(name, inputs, output)` returns.

    Keras has no hooks. The output of a layer with weights is that before its `activation`, where it has one.
    """

    def call(name, layer, call, *inputs, **options):
        activation = vars(layer).get("activation")  # of an LSTM it is a property, and lies inside
        if activation in (None, tf.keras.activations.linear) or not layer.weights:
            output = call(*inputs, **options)
            return see(name, inputs, output) if isinstance(output, tf.Tensor) else output
        layer.activation = lambda x: activation(see(name, inputs, x))
        try:
            return call(*inputs, **options)
        finally:
            layer.activation = activation

    for name, layer in named:
        layer.call = partial(call, name, layer, layer.call)
    try:
        yield
    finally:
        for _, layer in named:
            del layer.call


def _inside(layer):
    return list(layer._flatten_layers(include_self=False, recursive=False))


def _kind(layer):
    if isinstance(layer, layers.Activation):
        name = getattr(layer.activation, "__name__", "")
        return ACTIVATIONS.get(name, f"own {name}")
    if isinstance(layer, layers.ReLU) and layer.max_value == 6:
        return "ReLU6"
    if isinstance(layer, layers.GroupNormalization) and layer.groups == -1:
        return "instance norm"
    whose = "Tandem's" if type(layer).__module__.startswith("tandem.") else "own"
    name = f"{whose} {type(layer).__name__}"
    return next((kind for kind, classes in KINDS.items() if isinstance(layer, classes)), name)


def _same(size, settings):
    """The pixels that padding "same" adds: [top, bottom, left, right], or one number if all are equal."""
    pads = []
    for axis, pixels in enumerate(size):
        kernel, stride, dilation = (
            value[axis] if isinstance(value := settings.get(name, 1), list) else value
            for name in ("kernel", "stride", "dilation")
        )
        total = max((-(-pixels // stride) - 1) * stride + (kernel - 1) * dilation + 1 - pixels, 0)
        pads += [total // 2, total - total // 2]
    return pads[0] if len(set(pads)) == 1 else pads


def _key(tensor):
    return tensor.op.name, tensor.value_index


def _sources(tensors, made_by):
    """The numbers of the calls in `made_by`, by the key of their output, that `tensors` come from; -1 for images."""
    sources, seen, waiting = set(), set(), list(tensors)
    while waiting:
        tensor = waiting.pop()
        key = _key(tensor)
        if key in seen:
            continue
        seen.add(key)
        if key in made_by:
            sources.add(made_by[key])
        elif tensor.op.type == "Placeholder" and tensor.dtype.is_floating:
            sources.add(-1)
        else:
            waiting += tensor.op.inputs
    return sources
