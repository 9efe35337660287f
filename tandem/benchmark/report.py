"""The report of a benchmark: tables in the terminal and a chart."""

import statistics
import textwrap
from pathlib import Path

from tandem.benchmark.measure import STOCK, figures_of, title
from tandem.frameworks.base import TITLES
from tandem.report.pictures import plain
from tandem.report.plots import FRAMEWORK_COLORS

from matplotlib.figure import Figure
from rich import box
from rich.table import Table

WAITING = 0.05
"""So many cores may the waiting processes use."""

LOOPS = {"paddle": "Paddle fit", "tensorflow": "Keras fit"}
"""The titles of the frameworks' stock loops."""

BARS = {
    ("paddle", "forward"): "#a8c8e8",
    ("paddle", "training"): FRAMEWORK_COLORS["paddle"],
    ("tensorflow", "forward"): "#ffcf9f",
    ("tensorflow", "training"): FRAMEWORK_COLORS["tensorflow"],
    "stock": "#8c8c8c",
    "stock_settings": "#bdbdbd",
    "workers": "#7f9f7f",
    "peer": "#b05050",
}
"""The colours of the bars in `chart`, by what was timed, or by framework and that."""


def describe(figures):
    """The machine and what was measured, in one line. The threads are Tandem's; stock Paddle uses one."""
    about, records = figures["machine"], {name: device["record"] for name, device in figures["devices"].items()}
    gpus = sorted({record["name"] for record in records.values() if record["device"] == "gpu"})
    versions = ", ".join(f"{name} {record['version']}" for name, record in records.items())
    return (
        f"{', '.join([*gpus, about['cpu']])}, {about['cores']} cores, one thread each; Python {about['python']}, "
        f"numpy {about['numpy']}, {versions}; {figures['rounds']} steps each, in turn, after "
        f"{figures['burn_in']} of warm-up"
    )


def tables(figures):
    """Yield a rich Table for each result in the `figures` of `benchmark`, and one of its ratios."""
    for result in figures["results"]:
        shown = _table(title(result), ("", 21))
        for heading in ("ms a step", "images/s", "GFLOP/s", "of the\nceiling", "memory,\nGB"):  # 78 characters in all
            shown.add_column(heading, justify="right", width=9)
        for framework, measured in result["measured"].items():
            for what, timed in measured.items():
                shown.add_row(label(framework, what), *_cells(timed))
            shown.add_section()
        yield shown
        if result["ratios"]:
            shown = _table("", ("", 20), ("is", 10), ("95 % interval", 14), ("as fast as", 20), ("", 7))
            for found in result["ratios"]:
                interval = found["interval"]
                shown.add_row(
                    label(*found["of"]),
                    f"{found['ratio']:.2f} times",
                    f"{interval[0]:.2f} to {interval[1]:.2f}" if interval else "",
                    label(*found["over"]),
                    found["verdict"] or "",
                )
            yield shown


def chart(figures):
    """Draw the images/s in the `figures` of `tandem.benchmark.measure.benchmark` as bars, a panel for each config."""
    panels = {}
    for result in figures["results"]:
        panels.setdefault(result["config"], []).append(result)
    # A line for the title of each result, and one for each bar.
    counts = [sum(1 + sum(map(len, result["measured"].values())) for result in panel) for panel in panels.values()]
    figure = Figure(figsize=(9, 0.24 * sum(counts) + 0.6 * len(panels) + 0.9), layout="constrained")
    column = figure.subplots(len(panels), squeeze=False, height_ratios=counts)[:, 0]
    for axes, (config, panel) in zip(column, panels.items(), strict=True):
        line, ticks = 0, {}
        for result in panel:
            place = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points", "va": "center"}
            about = f"batch size {result['batch_size']}, {result['precision']}"
            axes.annotate(about, (0, line), (4, -2), **place, fontsize=9, weight="bold")
            for framework, measured in result["measured"].items():
                for what, timed in measured.items():
                    line += 1
                    ticks[line] = label(framework, what)
                    if "missing" in timed:
                        axes.annotate(timed["missing"], (0, line), (4, 0), **place, fontsize=8, color="0.25")
                        continue
                    speed, share = timed["images_per_second"], timed["share_of_ceiling"]
                    bar = axes.barh(line, speed, 0.84, color=BARS.get((framework, what)) or BARS[what])
                    text = f"{speed:,.1f}" + (f"  ({share:.0%} of the ceiling)" if share else "")
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


def growth_tables(figures):
    """Yield a rich Table for each axis in the `figures` of `tandem.benchmark.growth.growth`."""
    for axis, points in figures["axes"].items():
        shown = _table(axis.replace("_", " "), ("", 8))
        frameworks = [name for name in points[0] if name != "value"]
        for framework in frameworks:
            for heading, width in ((f"{TITLES[framework]}\nms a step", 11), ("images/s", 9), ("GFLOP/s", 8), ("GB", 6)):
                shown.add_column(heading, justify="right", width=width)
        for point in points:
            cells = []
            for timed in (point[name] for name in frameworks):
                milliseconds, speed, operations, _, memory = _cells(timed)
                cells += [milliseconds, speed, operations, memory]
            shown.add_row(str(point["value"]), *cells)
        yield shown


def waits_table(figures):
    """A rich Table of the `figures` of `tandem.benchmark.waits.waits`: the median of each, and all."""
    shown = _table("", ("", 40))
    shown.add_column("s", justify="right", width=8)
    shown.add_column("each", justify="right", width=28)
    for found in figures["waits"]:
        what = " ".join(filter(None, (found["what"], found["config"], TITLES.get(found["framework"]))))
        seconds = found["seconds"]
        shown.add_row(what, f"{statistics.median(seconds):.2f}", ", ".join(f"{one:.2f}" for one in seconds))
    return shown


def label(framework, what):
    """The title of what was timed, for tables and charts."""
    if what in STOCK:
        return LOOPS[framework] + (", tuned" if what == "stock_settings" else "")
    return "PyTorch training" if what == "peer" else f"{TITLES[framework]} {what}"


def ceiling(figures):
    """The best matrix product in any framework measured, in one line."""
    speeds = (f"{precision} {speed:,.0f} GFLOP/s" for precision, speed in figures["ceiling"].items())
    return f"Ceiling, the best matrix product in any framework measured: {', '.join(speeds) or 'none'}"


def notes(figures):
    """How the figures in the tables are defined, as lines of text; then what allows no verdict."""
    shown = {what for result in figures["results"] for _, what in figures_of(result)}
    lines = [
        f"{ceiling(figures)}. Memory copy: {figures['copy']['gigabytes_per_second']:,.1f} GB/s, read plus written",
        f"Input pipeline: {figures['pipeline']['images_per_second']:,.0f} augmented images/s on one core",
        "ms a step: the median; images/s and GFLOP/s are of it. GFLOP/s: 2 for each MAC of the network, 3 times that "
        "in training. Memory: the peak; on a CPU, of the whole process",
        "Times as fast: the median of the ratios of two steps of one round, and its interval by the sign test",
    ]
    if shown & set(STOCK):
        lines.append(
            "Keras' fit and Paddle's Model.fit train a network of their own layers, SE-ResNeXt branch by branch as the "
            "article writes it. Tuned: with Tandem's threads, environment variables and kernels"
        )
    if "workers" in shown:
        lines.append(f"Workers: {figures['workers']} processes, which share the cores and each batch")
    if "peer" in shown:
        lines.append("PyTorch: eager, channels last, on the CPU; SE-ResNeXt's branches as one grouped convolution")
    return [*lines, *(line for result in figures["results"] for line in doubts(result))]


def doubts(result):
    """Lines on the figures of a result that allow no verdict: ratios, and times that cannot be."""
    lines = []
    for found in result["ratios"]:
        if found["doubt"]:
            pair = f"{label(*found['of'])} over {label(*found['over'])}"
            lines.append(f"No verdict on {title(result)}, {pair}: {found['doubt']}")
    for framework, measured in result["measured"].items():
        if {"forward", "training"} <= measured.keys() and "missing" not in measured["forward"]:
            forward, training = (statistics.median(measured[what]["seconds"]) for what in ("forward", "training"))
            if forward > training:
                lines.append(
                    f"No verdict on {title(result)}, {TITLES[framework]}: a forward pass took {forward / training:.2f} "
                    "times as long as a training step, which holds one; measure again"
                )
    if result["waiting_cores"] > WAITING:
        lines.append(
            f"No verdict on {title(result)}: the waiting processes used {result['waiting_cores']:.2f} cores, which "
            "those that were measured lacked"
        )
    return lines


def _table(name, *columns):
    """An empty table; `columns` are headings and widths."""
    shown = Table(title=name, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=0)
    for heading, width in columns:
        shown.add_column(heading, width=width)
    return shown


def _cells(timed):
    """The cells of a row, for a result of `figure` or what is missing."""
    if "missing" in timed:
        return timed["missing"], *[""] * 4
    memory, operations, share = (timed[of] for of in ("peak_memory", "gigaflops_per_second", "share_of_ceiling"))
    return (
        f"{timed['median_milliseconds']:,.1f}",
        f"{timed['images_per_second']:,.1f}",
        "" if operations is None else f"{operations:,.1f}",
        "" if share is None else f"{share:.0%}",
        f"{memory / 1e9:.2f}" if memory else "",
    )
