"""What the layers of a built Paddle network are, and which feeds which. Twin of tensorflow/inspection.py."""

from tandem.frameworks import environment
from tandem.frameworks.paddle.layers import Dropout

with environment.loading():
    import paddle
    from paddle import nn

KINDS = {
    "convolution": (nn.Conv1D, nn.Conv2D, nn.Conv3D),
    "transposed convolution": (nn.Conv1DTranspose, nn.Conv2DTranspose, nn.Conv3DTranspose),
    "dense": (nn.Linear,),
    "batch norm": (nn.BatchNorm, nn.BatchNorm1D, nn.BatchNorm2D, nn.BatchNorm3D),
    "layer norm": (nn.LayerNorm,),
    "group norm": (nn.GroupNorm,),
    "instance norm": (nn.InstanceNorm1D, nn.InstanceNorm2D, nn.InstanceNorm3D),
    "PReLU": (nn.PReLU,),
    "ReLU": (nn.ReLU,),
    "ReLU6": (nn.ReLU6,),
    "leaky ReLU": (nn.LeakyReLU,),
    "ELU": (nn.ELU,),
    "SELU": (nn.SELU,),
    "GELU": (nn.GELU,),
    "hard sigmoid": (nn.Hardsigmoid,),
    "hard swish": (nn.Hardswish,),
    "sigmoid": (nn.Sigmoid,),
    "swish": (nn.Swish, nn.Silu),
    "softplus": (nn.Softplus,),
    "mish": (nn.Mish,),
    "tanh": (nn.Tanh,),
    "max pool": (nn.MaxPool2D,),
    "average pool": (nn.AvgPool2D,),
    "global average pool": (nn.AdaptiveAvgPool2D,),
    "global max pool": (nn.AdaptiveMaxPool2D,),
    "flatten": (nn.Flatten,),
    "dropout": (Dropout, nn.Dropout, nn.Dropout2D, nn.AlphaDropout),
    "upsampling": (nn.Upsample, nn.UpsamplingNearest2D, nn.UpsamplingBilinear2D),
    "padding": (nn.Pad2D, nn.ZeroPad2D),
}
"""The kinds of layers by the names that both frameworks' inspections use, and Paddle's classes of each."""

SETTINGS = {
    "kernel": ("_kernel_size", "kernel_size", "ksize"),
    "stride": ("_stride", "stride"),
    "padding": ("_padding", "padding"),
    "dilation": ("_dilation",),
    "groups": ("_groups", "groups", "_num_groups"),
    "epsilon": ("_epsilon",),
    "momentum": ("_momentum",),
    "slope": ("_negative_slope",),
    "alpha": ("_alpha",),
    "scale": ("_scale",),
    "approximate": ("_approximate",),
    "rate": ("p", "rate"),
    "ceil_mode": ("ceil_mode",),
    "exclusive": ("exclusive",),
    "scale_factor": ("scale_factor",),
}
"""Settings by the names that both inspections use, and Paddle's attributes that hold each."""


def layer_calls(engine, image_size):
    """Each call of a layer that computes by itself, in the order of execution.

    A layer computes by itself if it holds parameters or statistics, or has no layers inside.

    Args:
        engine: of this framework.
        image_size: height and width in pixels.

    Returns:
        A list of dicts: `name`, the layer's; `kind`, a key of `KINDS`, or else "own " and the `type`, the class's name;
        `settings`, by name; `arrays`, the shapes of what it holds by the last part of their names; `shape`, of the
        output for one image; `sources`, the indices of the calls whose outputs reach its input without another call
        between, -1 for the images; `container`, whether it has layers inside. The network itself comes last, named "",
        where it holds arrays; nothing is known of its sources.
    """
    arrays = {}
    for name in engine.shapes:
        if "/" not in name and name not in engine.constants:
            layer, _, last = name.rpartition(".")
            arrays.setdefault(layer, {})[last] = engine.shapes[name]
    calls, made_by = [], {}

    def note(name):
        def hook(layer, inputs, output):
            if not isinstance(output, paddle.Tensor):
                return
            sources = sorted(_sources([x for x in inputs if isinstance(x, paddle.Tensor)], made_by))
            described = {"name": name, "kind": _kind(layer), "type": type(layer).__name__, "settings": settings(layer)}
            described |= {"arrays": arrays.get(name, {}), "shape": list(output.shape[1:]), "sources": sources}
            described["container"] = bool(layer.sublayers())
            if output.grad_fn is not None:
                made_by[output.grad_fn.node_ptr()] = len(calls)
            calls.append(described)

        return hook

    engine.model.eval()
    leaves = [(name, layer) for name, layer in engine._layers() if name in arrays or not layer.sublayers()]
    hooks = [layer.register_forward_post_hook(note(name)) for name, layer in leaves]
    images = paddle.zeros([1, 3, image_size, image_size], engine.dtype)
    images.stop_gradient = False
    made_by[images.grad_fn.node_ptr()] = -1
    try:
        engine.model(images)
    finally:
        for hook in hooks:
            hook.remove()
    if "" in arrays:
        kind = type(engine.model).__name__
        calls.append({"name": "", "kind": f"own {kind}", "type": kind, "settings": {}, "arrays": arrays[""]})
        calls[-1] |= {"shape": [], "sources": [], "container": True}
    return calls


def settings(layer):
    """The settings of a stock layer that decide what it computes, by the names of `SETTINGS`, as plain values."""
    found = {}
    for setting, attributes in SETTINGS.items():
        value = next((getattr(layer, name) for name in attributes if hasattr(layer, name)), None)
        if isinstance(value, (bool, int, float, str)):
            found[setting] = value
        elif isinstance(value, (list, tuple)) and all(isinstance(x, int) for x in value):
            found[setting] = value[0] if len(set(value)) == 1 else list(value)
    if any(not parameter.trainable for parameter in layer.parameters(include_sublayers=False)):
        found["trainable"] = False
    return found


def _kind(layer):
    return next((kind for kind, classes in KINDS.items() if isinstance(layer, classes)), f"own {type(layer).__name__}")


def _sources(tensors, made_by):
    """The numbers of the calls in `made_by`, by the node of their output, that `tensors` come from; -1 for images."""
    sources, seen = set(), set()
    waiting = [tensor.grad_fn for tensor in tensors if tensor.grad_fn is not None]
    while waiting:
        node = waiting.pop()
        pointer = node.node_ptr()
        if pointer in made_by:
            sources.add(made_by[pointer])
        elif pointer not in seen:
            seen.add(pointer)
            waiting += [node for node in node.next_functions if node is not None]
    return sources
