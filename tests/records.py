"""Records of metrics.jsonl, for tests that write one by hand."""

import json

AVERAGES = {"loss": 1.0, "accuracy": 0.5, "top5": 0.9}


def steps(**changes):
    """A record of steps, with `changes`."""
    record = {"kind": "batch", "framework": "paddle", "epoch": 1, "step": 1, "position": 0.5, "learning_rate": 0.1}
    return record | {"images_per_second": 9.0, "seconds": 1.0, "time": 0.0} | AVERAGES | changes


def epoch(**changes):
    """A record of an epoch, with `changes`."""
    return {"kind": "epoch", "epoch": 1, "step": 2, "train": AVERAGES, "time": 0.0} | changes


def write(folder, records):
    """Write `folder`/metrics.jsonl."""
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
