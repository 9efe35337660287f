"""How the cost of training grows: speed and memory against batch size, width, depth, image size and threads.

From one small network on, ResNet-20 in a small batch, one thing at a time grows. Each point has a process for each
framework, which take their steps in turn.
"""

import datetime

from tandem.benchmark.measure import CONVENTIONS, EQUAL, figure, progress
from tandem.benchmark.turns import BURN_IN, Variant, take_turns
from tandem.config.load import load_config
from tandem.core.machine import cores, machine
from tandem.core.paths import CONFIGS

CONFIG = CONFIGS / "resnet20.yaml"
BASE = {"batch_size": 32, "width": 16, "depth": 20, "image_size": 32, "threads": len(cores())}
"""Where all axes cross."""

VALUES = {
    "batch_size": (8, 16, 32, 64, 128, 256, 512),
    "width": (4, 8, 16, 32, 64),
    "depth": (8, 14, 20, 32, 56),
    "image_size": (8, 16, 32, 64, 96),
    "threads": tuple(range(1, len(cores()) + 1)),
}
"""The points of each axis, the smallest first. The width is the first stage's; the others have 2 and 4 times it."""

ROUNDS, SECONDS = 12, 8.0
"""Steps of a point; after so many seconds no more of them begin, but there are three."""

LONGEST = 3.0
"""Seconds of a step after which an axis goes no further."""


def growth(frameworks, console):
    """Measure training along every axis.

    Args:
        frameworks: of `tandem.frameworks.base.FRAMEWORKS`.
        console: a rich Console for the progress bar and a line after each point.

    Returns:
        A dict for JSON: `machine`, `date`, `config`, `base`, `burn_in`, `conventions`; and `axes`, by name the list of
        its points. A point has its `value` and, by framework, the result of `tandem.benchmark.measure.figure`, or
        `missing` and the `reason`.
    """
    axes, known = {}, {}
    with progress(console) as show:
        for axis, values in VALUES.items():
            axes[axis] = []
            for value in values:
                at = {**BASE, axis: value}
                if str(at) not in known:
                    known[str(at)] = measure_point(at, frameworks, show, f"{axis} {value}")
                point = known[str(at)]
                axes[axis].append({"value": value, **point})
                console.print(line(axis, axes[axis][-1]), soft_wrap=True, highlight=False)
                steps = [found["median_milliseconds"] for found in point.values() if "missing" not in found]
                if max(steps, default=0) > 1000 * LONGEST:
                    break
    return {
        "machine": machine(),
        "date": str(datetime.date.today()),
        "config": CONFIG.stem,
        "base": BASE,
        "burn_in": BURN_IN,
        "conventions": CONVENTIONS,
        "axes": axes,
    }


def measure_point(at, frameworks, show, about):
    """What a training step costs in each framework, as a point of `growth`.

    Args:
        at: where on each axis, as `BASE`.
        frameworks: of `growth`.
        show, about: of `take_turns`.
    """
    width = at["width"]
    overrides = [
        *EQUAL,
        "data.source=digits",  # which may have any size; the images are noise
        f"batch_size={at['batch_size']}",
        f"network.widths=[{width}, {2 * width}, {4 * width}]",
        f"network.depth={at['depth']}",
        f"data.image_size={at['image_size']}",
        f"threads={at['threads']}",
    ]
    settings = load_config(CONFIG, overrides).model_dump(mode="json")
    parts = {
        (framework, "training"): (Variant("tandem", framework=framework, settings=settings), "training")
        for framework in frameworks
    }
    answers, reasons, _ = take_turns(parts, ROUNDS, show, about, SECONDS)
    point = {}
    for (framework, what), (variant, _) in parts.items():
        if (framework, what) in reasons:
            point[framework] = {"missing": "failed", "reason": reasons[framework, what]}
        else:
            operations = 6 * variant.facts["macs"]
            point[framework] = figure(answers[framework, what], at["batch_size"], operations)
    return point


def line(axis, point):
    """A point in words."""
    said = [f"{axis} {point['value']}"]
    for framework, found in point.items():
        if framework == "value":
            continue
        if "missing" in found:
            said.append(f"{framework} {found['missing']} ({found['reason']})")
            continue
        speed, memory = found["images_per_second"], found["peak_memory"]
        said.append(f"{framework} {speed:,.0f} images/s" + (f", {memory / 1e9:.2f} GB" if memory else ""))
    return "  ".join(said)
