"""The state of a run as a dict from canonical name to NumPy array, the same for both frameworks.

`conv.weight` (OIHW), `bn.weight`, `bn.bias`, `bn.running_mean`, `bn.running_var`, `fc.weight` ([in, out]), `fc.bias`,
each behind the path of its block, such as `features.stage1.block2.`; `velocity/<parameter>` for each parameter; with
`ema_decay` also `ema/<name>` for each weight and statistic, its average over the steps; with float16 also
`loss_scale/scale` and `loss_scale/good_steps`.
Names pair the twins, never order.
"""

from tandem.core.errors import UserError

import numpy as np

PADDLE_STATISTICS = {"_mean": "running_mean", "_variance": "running_var"}
"""Paddle's names of tensors, where they differ from the canonical ones."""


def check(state, shapes, origin):
    """Check that `state` has exactly the names and shapes of `shapes` (name to tuple); `origin` says where it is from.

    Raises:
        UserError: names are missing or left over, or a shape differs; lists them.
    """
    missing = sorted(shapes.keys() - state.keys())
    extra = sorted(state.keys() - shapes.keys())
    differing = [
        f"{name} {tuple(state[name].shape)} for {tuple(shapes[name])}"
        for name in sorted(shapes.keys() & state.keys())
        if tuple(state[name].shape) != tuple(shapes[name])
    ]
    faults = (("missing", missing), ("left over", extra), ("of another shape", differing))
    if any(names for _, names in faults):
        listed = "; ".join(f"{len(names)} {what}: {_some(names)}" for what, names in faults if names)
        raise UserError(f"{origin}: does not fit the configured network ({listed}); use the config it was made with")


def from_paddle(name):
    """The canonical name of Paddle's `name`: stage1.bn._mean is stage1.bn.running_mean."""
    *path, last = name.split(".")
    return ".".join([*path, PADDLE_STATISTICS.get(last, last)])


def first_convolution(shapes):
    """The name of the first weight of a convolution in `shapes`.

    Raises:
        UserError: there is none.
    """
    for name, shape in shapes.items():
        if len(shape) == 4:
            return name
    raise UserError("whitening: the network has no convolution to hold the components; leave it out")


def exceptions(config, shapes):
    """Which parameters in `shapes` are not trained like the rest under `config`.

    Returns:
        A dict from name to (what its learning rate is multiplied with, its weight decay): see `whitening` and
        `optimizer.batch_norm_bias_factor` in tandem/config/schema.py.

    Raises:
        UserError: `whitening` without a convolution.
    """
    optimizer, found = config.optimizer, {}
    if config.whitening:
        found[first_convolution(shapes)] = 0.0, optimizer.weight_decay
    factor = optimizer.batch_norm_bias_factor
    if factor is not None:
        # Rounded as tandem/config/settings.py has it.
        weight_decay = float(np.float32(optimizer.weight_decay / factor))
        for name in shapes:
            layer = name.removesuffix(".running_var")
            if layer != name and not name.startswith("ema/"):
                found[f"{layer}.weight"] = 0.0, optimizer.weight_decay
                found[f"{layer}.bias"] = float(factor), weight_decay
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
