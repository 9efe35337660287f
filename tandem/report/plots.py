"""Pictures of training, drawn with matplotlib from the records of metrics.jsonl."""

import itertools
from pathlib import Path

from tandem.core.errors import UserError

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

COLORS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd")

TITLES = {"paddle": "Paddle", "tensorflow": "TensorFlow"}
"""What to call the frameworks."""

FRAMEWORK_COLORS = {"paddle": "#1f77b4", "tensorflow": "#e8710a"}


def draw_curves(runs, path):
    """Draw loss and error rate of `runs` (label to records of metrics.jsonl) over one another, as the PNG `path`.

    Left: the training loss at every log line (thin) and the test loss after every tested epoch (dots). Right: training
    (dashed) and test error in percent after every (tested) epoch; squares: of the averaged weights. A dotted vertical
    line: from there on in the other framework.
    """
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    loss_axes, error_axes = figure.subplots(1, 2)
    for (label, records), color in zip(runs.items(), itertools.cycle(COLORS), strict=False):
        batches = [record for record in records if record["kind"] == "batch"]
        epochs = [record for record in records if record["kind"] == "epoch"]
        passes = [record["position"] for record in batches]
        loss_axes.plot(
            passes, [record["loss"] for record in batches], color=color, lw=1, alpha=0.8, label=f"{label}, train"
        )
        for before, after in itertools.pairwise(batches):
            if before.get("framework") != after.get("framework"):
                handed_over = f"{label}, {before['framework']} to {after['framework']}"
                for axes in (loss_axes, error_axes):
                    axes.axvline(before["position"], color=color, lw=1.2, ls=":", label=handed_over)
        tested = [record for record in epochs if "test" in record]
        losses = [record["test"]["loss"] for record in tested]
        loss_axes.plot([record["epoch"] for record in tested], losses, "o:", color=color, ms=4, label=f"{label}, test")
        for part, title, style in (("train", "train", "--"), ("test", "test", "o-"), ("test_ema", "test (EMA)", "s:")):
            having = [record for record in epochs if part in record]
            if having:
                ends = [record["epoch"] for record in having]
                errors = [100 * (1 - record[part]["accuracy"]) for record in having]
                error_axes.plot(ends, errors, style, color=color, ms=4, label=f"{label}, {title}")
    for axes, title, unit in ((loss_axes, "Loss", "cross entropy"), (error_axes, "Error rate", "%")):
        axes.set(title=title, xlabel="epoch", ylabel=unit, ylim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2, frameon=False)
    try:
        figure.savefig(path, dpi=120, format="png")
    except OSError as error:
        raise UserError(
            f"{Path(path)}: cannot be written ({error.strerror}); free room or choose another folder"
        ) from error
