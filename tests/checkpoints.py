"""The metadata of a checkpoint, for tests that write one by hand."""

CONFIG = {"network": {"name": "lenet5"}, "data": {"source": "digits"}, "schedule": {"name": "constant"}, "epochs": 3}


def metadata(**changes):
    """Those of a run in Paddle after an epoch of ten steps, with `changes`."""
    return {
        "config": CONFIG,
        "framework": "paddle",
        "epoch": 1,
        "batch": 0,
        "step": 10,
        "steps_per_epoch": 10,
        "epoch_sums": [0.0] * 4,
        "window_sums": [0.0] * 4,
        "best": {"accuracy": 0.5, "epoch": 1},
        "metrics": None,
        "versions": {"python": "3.11.7"},
        "class_names": [str(digit) for digit in range(10)],
        **changes,
    }
