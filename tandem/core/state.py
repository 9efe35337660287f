"""The state of a run as a dict from canonical name to NumPy array, the same for both frameworks.

`conv.weight` (OIHW), `bn.weight`, `bn.bias`, `bn.running_mean`, `bn.running_var`, `fc.weight` ([in, out]), `fc.bias`,
each after the path of its block, such as `features.stage1.block2.`; `velocity/<parameter>` for each parameter; with
`evaluation.ema_decay` also `ema/<name>` for each weight and statistic, its EMA over the steps; with float16 also
`loss_scale/scale` and `loss_scale/good_steps`.
The twins' tensors are paired by name, never by order.
"""

from tandem.core.errors import UserError

PADDLE_STATISTICS = {"_mean": "running_mean", "_variance": "running_var"}
"""Paddle's names of tensors to the canonical ones, where they differ."""


def check(state, shapes, origin):
    """Check that `state` has exactly the names and shapes of `shapes` (name to tuple); `origin` says where it is from.

    Raises:
        UserError: names are missing or unexpected, or shapes differ; lists them.
    """
    missing = sorted(shapes.keys() - state.keys())
    unexpected = sorted(state.keys() - shapes.keys())
    differing = [
        f"{name} {tuple(state[name].shape)} for {tuple(shapes[name])}"
        for name in sorted(shapes.keys() & state.keys())
        if tuple(state[name].shape) != tuple(shapes[name])
    ]
    faults = (("missing", missing), ("unexpected", unexpected), ("of another shape", differing))
    if any(names for _, names in faults):
        listed = "; ".join(f"{len(names)} {what}: {_some(names)}" for what, names in faults if names)
        raise UserError(f"{origin}: does not fit the configured network ({listed}); use the config it was made with")


def from_paddle(name):
    """The canonical name of Paddle's `name`: stage1.bn._mean is stage1.bn.running_mean."""
    *path, last = name.split(".")
    return ".".join([*path, PADDLE_STATISTICS.get(last, last)])


def is_statistic(name):
    """Whether the array `name` is a running mean or variance."""
    return name.rpartition(".")[2] in PADDLE_STATISTICS.values()


def kind(name, shapes):
    """The parameter group of `name`: a field of `ParameterGroups` in config/schema.py, or None if it is in no group.

    Args:
        name: canonical.
        shapes: of all weights and statistics, by name.
    """
    layer, _, last = name.rpartition(".")
    if f"{layer}.running_var" in shapes:
        return {"weight": "batch_norm_scale", "bias": "batch_norm_bias"}.get(last)
    if len(shapes[name]) == 4:
        return "first_convolution" if name == first_convolution(shapes) else "convolution"
    if last == "bias":
        return "bias"
    return "dense" if len(shapes[name]) == 2 else None


def first_convolution(shapes):
    """The name of the first convolution's weight in `shapes`, or None."""
    return next((name for name, shape in shapes.items() if len(shape) == 4), None)


def grouped(optimizer, shapes):
    """The parameters in a configured parameter group.

    Args:
        optimizer: the settings of that name.
        shapes: of all that the state holds, by name.

    Returns:
        A dict from name to (learning rate factor, weight decay): see `ParameterGroups` in config/schema.py.
    """
    found = {}
    for name in shapes:
        if f"velocity/{name}" in shapes:
            group = getattr(optimizer.parameter_groups, kind(name, shapes) or "", None)
            if group is not None:
                weight_decay = optimizer.weight_decay if group.weight_decay is None else group.weight_decay
                found[name] = group.learning_rate_factor, weight_decay
    return found


def unused(name, names):
    """`name`, or the first of name#2, name#3, ... that is not in `names` yet: a layer may be applied more than once."""
    number, free = 1, name
    while free in names:
        number += 1
        free = f"{name}#{number}"
    return free


def _some(names):
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
