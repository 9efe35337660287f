"""The report of a benchmark: tables in the terminal and a chart."""

import itertools
import statistics
import textwrap
from pathlib import Path

from tandem.benchmark.measure import BURN_IN, PASSES, STOCK, title
from tandem.frameworks.base import TITLES
from tandem.report.pictures import plain
from tandem.report.plots import FRAMEWORK_COLORS

from matplotlib.figure import Figure
from rich import box
from rich.table import Table

SPREAD = 0.3
"""The middle half of a figure's steps may spread so far, over their median, before nothing can be said by it."""

LOOPS = {"paddle": "Paddle fit", "tensorflow": "Keras fit"}
"""The titles of the frameworks' stock loops."""

BARS = {
    ("paddle", "forward"): "#a8c8e8",
    ("paddle", "training"): FRAMEWORK_COLORS["paddle"],
    ("tensorflow", "forward"): "#ffcf9f",
    ("tensorflow", "training"): FRAMEWORK_COLORS["tensorflow"],
    "stock": "#8c8c8c",
    "stock_settings": "#bdbdbd",
}
"""The colours of the bars in `chart`; those of the stock loops are the same for both frameworks."""


def describe(figures):
    """The machine and what was measured, in one line. The threads are Tandem's; stock Paddle uses one."""
    about, records = figures["machine"], {name: device["record"] for name, device in figures["devices"].items()}
    gpus = sorted({record["name"] for record in records.values() if record["device"] == "gpu"})
    versions = ", ".join(f"{name} {record['version']}" for name, record in records.items())
    return (
        f"{', '.join([*gpus, about['cpu']])}, {about['cores']} cores, one thread each; Python {about['python']}, "
        f"numpy {about['numpy']}, {versions}; {figures['rounds']} x {figures['steps']} steps after {BURN_IN} of warm-up"
    )


def tables(figures):
    """Yield a rich Table for each config, batch size and precision in the `figures` of `benchmark`."""
    for name, results in itertools.groupby(figures["results"], title):
        shown = Table(title=name, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=0)
        shown.add_column("", width=19)
        columns = ("ms a step", 16), ("images/s", 8), ("GFLOP/s", 7), ("of the\nceiling", 7), ("memory,\nGB", 7)
        for heading, width in (*columns, ("Tandem\nis", 7)):  # 78 characters in all
            shown.add_column(heading, justify="right", width=width)
        for result in results:
            if "missing" in result:
                shown.add_row(label(result["framework"], result["missing"]))
            for what in PASSES:
                if what in result:
                    shown.add_row(label(result["framework"], what), *_cells(result, what))
            shown.add_section()
        yield shown


def chart(figures):
    """Draw the images/s in the `figures` of `tandem.benchmark.measure.benchmark` as bars, a panel for each config."""
    panels = {}
    for result in figures["results"]:
        panels.setdefault(result["config"], []).append(result)
    # A line for the title of each result, and one for each bar.
    lines = [sum(1 + len(PASSES.keys() & result.keys()) for result in panel) for panel in panels.values()]
    figure = Figure(figsize=(9, 0.24 * sum(lines) + 0.6 * len(panels) + 0.9), layout="constrained")
    column = figure.subplots(len(panels), squeeze=False, height_ratios=lines)[:, 0]
    for axes, (config, panel) in zip(column, panels.items(), strict=True):
        line, ticks = 0, {}
        for result in panel:
            framework = result["framework"]
            name = f"{TITLES[framework]}, batch size {result['batch_size']}, {result['precision']}"
            axes.annotate(
                f"{name}: {result['missing']}" if "missing" in result else name,
                (0, line),
                (4, -2),
                xycoords=axes.get_yaxis_transform(),
                textcoords="offset points",
                va="center",
                fontsize=9,
                weight="bold",
            )
            for what in (what for what in PASSES if what in result):
                line += 1
                ticks[line] = label(framework, what)
                speed, share = (result[what][of] for of in ("images_per_second", "share_of_ceiling"))
                bar = axes.barh(line, speed, 0.84, color=BARS.get(what) or BARS[framework, what])
                text = f"{speed:,.1f}  ({share:.0%} of the ceiling)"
                axes.bar_label(bar, [text], padding=4, fontsize=8, color="0.25")
            line += 1
        axes.set_yticks(list(ticks), ticks.values(), fontsize=8)
        axes.tick_params("y", length=0)
        axes.tick_params("x", labelsize=8)
        axes.set_ylim(line - 0.4, -0.6)
        axes.margins(x=0.3)  # room for the text after the longest bar
        axes.set_xlim(0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(plain(Path(config).stem), fontsize=11, loc="left")
    column[-1].set_xlabel("images/s", fontsize=9)
    about = "\n".join(line for text in (describe(figures), ceiling(figures)) for line in textwrap.wrap(text, 130))
    figure.suptitle(plain(about), fontsize=8, color="0.35")
    return figure


def label(framework, what):
    """The title of what was timed, for tables and charts."""
    loop = LOOPS[framework]
    return {"stock": loop, "stock_settings": f"{loop}, tuned"}.get(what, f"{TITLES[framework]} {what}")


def ceiling(figures):
    """The best matrix product in any framework measured, in one line."""
    speeds = (f"{precision} {speed:,.0f} GFLOP/s" for precision, speed in figures["ceiling"].items())
    return f"Ceiling, the best matrix product in any framework measured: {', '.join(speeds) or 'none'}"


def notes(figures):
    """How the figures in the tables are defined, as lines of text."""
    lines = [
        f"{ceiling(figures)}. Memory copy: {figures['copy']['gigabytes_per_second']:,.1f} GB/s, read plus written",
        f"Input pipeline: {figures['pipeline']['images_per_second']:,.0f} augmented images/s on one core",
        "Times: mean ± std of a step. images/s and GFLOP/s: of the median step. GFLOP/s: 2 for each MAC of the "
        "network, 3 times that in training. Memory: the peak so far; on a CPU, of the whole process",
    ]
    if any(variant in result for result in figures["results"] for variant in STOCK):
        lines.append(
            "Tandem is: the speed of its training divided by this loop's. Tuned: with Tandem's threads, environment "
            "variables and kernels. Keras' fit and Paddle's Model.fit train SE-ResNeXt as the article writes it, "
            "branch by branch, and other networks as Tandem builds them"
        )
    return [*lines, *(line for result in figures["results"] for line in doubts(result))]


def doubts(result):
    """Lines on the figures of a result that allow no verdict: their steps spread too far, or they cannot be."""
    about = f"{title(result)}, {TITLES[result['framework']]}"
    lines = []
    for what in (what for what in PASSES if what in result):
        seconds = result[what]["seconds"]
        lower, median, upper = (
            statistics.quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else seconds * 3
        )
        if upper - lower > SPREAD * median:
            lines.append(
                f"No verdict on {about}, {what}: the middle half of its steps spreads by "
                f"{(upper - lower) / median:.0%} of their median; measure again, with more --rounds"
            )
    if {"forward", "training"} <= result.keys():
        forward, training = (statistics.median(result[what]["seconds"]) for what in ("forward", "training"))
        if forward > training:
            lines.append(
                f"No verdict on {about}: a forward pass took {forward / training:.2f} times as long as a training "
                "step, which holds one; measure again"
            )
    return lines


def _cells(result, what):
    of = result[what]
    memory = of["peak_memory"]
    return (
        f"{of['mean_milliseconds']:,.1f} ± {of['std_milliseconds']:,.1f}",
        f"{of['images_per_second']:,.1f}",
        f"{of['gigaflops_per_second']:,.1f}",
        f"{of['share_of_ceiling']:.0%}",
        f"{memory / 1e9:.2f}" if memory else "",
        f"{result['speedup'][what]:.2f} x" if what in STOCK else "",
    )
