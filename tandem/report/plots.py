"""Pictures of training, drawn with matplotlib from the records of metrics.jsonl."""

import io
import itertools

from tandem.core import files

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

COLORS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#17becf")

FRAMEWORK_COLORS = {"paddle": "#1f77b4", "tensorflow": "#e8710a"}

STYLES = {
    "train": ("training", {"ls": "--", "lw": 1.0, "alpha": 0.6}),
    "validation": ("validation", {"ls": ":", "lw": 1.4, "marker": "^", "ms": 5}),
    "test": ("test", {"ls": "-", "lw": 1.4, "marker": "o", "ms": 4}),
    "test_ema": ("test (EMA)", {"ls": "-.", "lw": 1.4, "marker": "s", "ms": 4}),
}
"""What is drawn, what to call it, and how: the same in both panes of `draw_curves`."""

MARKERS = 20
"""How many at most, of one line."""


def draw_curves(runs, path, titles):
    """Draw loss and error rate of `runs` (label to records of metrics.jsonl) over one another; write the PNG `path`.

    The line style tells what was measured: training at every log line, the rest after every tested epoch. The colour
    tells whose it is: of one run, the framework's; of several, the run's. A run that changed frameworks has a colour
    for each, and a vertical line where it changed. `titles`: what to call the frameworks.

    Raises:
        UserError: it cannot be written.
    """
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    panes = dict(zip(("loss", "accuracy"), figure.subplots(1, 2), strict=True))
    colors, drawn = {}, set()
    rest = itertools.cycle(COLORS)
    for label, records in runs.items():
        stretches = _stretches(records)
        several = len({framework for framework, _ in stretches}) > 1
        ends = {}  # the last point of each line so far, from which the next framework's goes on
        for framework, stretch in stretches:
            title = titles.get(framework, framework)
            if len(runs) == 1 and framework in FRAMEWORK_COLORS:
                name, color = title, FRAMEWORK_COLORS[framework]
            else:
                name, color = f"{label}, {title}" if several else label, None
            color = colors.setdefault(name, color or next(rest))
            if ("train", "loss") in ends:
                for axes in panes.values():
                    _mark(axes, ends["train", "loss"][0], f"{title} from here", color)
            for part, measure in itertools.product(STYLES, panes):
                points = _points(stretch, part, measure)
                if points:
                    before = [ends[part, measure]] if (part, measure) in ends else []
                    line = zip(*[*before, *points], strict=True)
                    marks = (len(before), -(-len(points) // MARKERS))
                    panes[measure].plot(*line, color=color, markevery=marks, **STYLES[part][1])
                    ends[part, measure] = points[-1]
                    drawn.add(part)
    for axes, title, unit in zip(panes.values(), ("Loss", "Error rate"), ("cross entropy", "%"), strict=True):
        axes.set(title=title, xlabel="epoch", ylabel=unit, ylim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    handles = [Line2D([], [], color=color, lw=5, label=name) for name, color in colors.items()]
    handles += [
        Line2D([], [], color="0.3", label=title, **style) for part, (title, style) in STYLES.items() if part in drawn
    ]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=min(len(handles), 6), frameon=False, handlelength=3
    )
    content = io.BytesIO()
    figure.savefig(content, dpi=120, format="png")
    files.write_file(path, content.getvalue())


def _stretches(records):
    """`records` in the stretches that one framework trained: a list of (framework, records). An epoch is whose its
    last step was.
    """
    stretches = []
    for record in records:
        framework = record.get("framework", stretches[-1][0] if stretches else None)
        if not stretches or stretches[-1][0] != framework:
            stretches.append((framework, []))
        stretches[-1][1].append(record)
    return stretches


def _points(records, part, figure):
    """(epoch, loss or error in percent) of `part`: of training at every log line, else after every tested epoch."""
    if part == "train":
        found = [(record["position"], record[figure]) for record in records if record["kind"] == "batch"]
    else:
        found = [(record["epoch"], record[part][figure]) for record in records if part in record]
    return [(epoch, value if figure == "loss" else 100 * (1 - value)) for epoch, value in found]


def _mark(axes, epoch, text, color):
    """A vertical line, and beside it what begins there."""
    axes.axvline(epoch, color=color, lw=1.2, ls=(0, (1, 2)))
    place = {"xy": (epoch, 1), "xycoords": axes.get_xaxis_transform()}
    axes.annotate(text, **place, xytext=(4, -4), textcoords="offset points", va="top", fontsize=8, color=color)
