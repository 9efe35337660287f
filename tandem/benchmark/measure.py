"""The speed of each network in each framework, as a share of the machine's ceiling, and compared with stock loops.

Of one config, batch size and precision there are these variants, each in a process of its own:

    tandem          the engine: `forward`, from uint8 images to logits in evaluation mode; and `training`, a step of
                    forward, backward, update and metrics
    stock           training in the framework's own high-level loop, Keras' `fit` or Paddle's `Model.fit`, with default
                    settings, of a network of the framework's own layers; in float32 only
    stock_settings  the same with the threads, environment variables and kernels that Tandem chooses: what differs from
                    `tandem` is then the network and the loop
    workers         Tandem's training by several processes, which share the cores and each batch
    peer            training in PyTorch

All are alive at once and take their steps in turn, round by round (tandem/benchmark/turns.py). What is said of two
variants rests on the pairs of their steps (tandem/benchmark/ratios.py). Apart from these:

    device          the precisions that are unsupported, and the ceiling: the best speed of a matrix product
    copy, pipeline  bytes copied, and images cropped and flipped, per second: memory and loader apart from compute

The stock networks (tandem/frameworks/*/stock.py) are written as a user would, of the same shapes as Tandem's.
SE-ResNeXt is as the article writes it, branch by branch. A network of one's own is as its file has it.

All batches are in memory beforehand. Keras' time includes fetching them (next to nothing on a CPU). Tandem's time
includes their normalisation, which the others get done beforehand. All run on the same device, PyTorch on the CPU.

GFLOP/s count the operations that the network needs, whatever the framework computes. The forward pass of an image takes
2 for each MAC of convolutions and matrix products with weights (tandem/frameworks/layer_table.py). Training takes 3
times that: the backward pass has one product for the gradient of the weights and one for that of the inputs, each as
large.
"""

import contextlib
import functools
import importlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tandem.benchmark import ratios
from tandem.benchmark.turns import BURN_IN, Variant, clean_environment, take_turns
from tandem.benchmark.variants import random_split
from tandem.config import schema as config
from tandem.config.load import check_config, load_config
from tandem.core.errors import UserError
from tandem.core.machine import cores, machine
from tandem.core.paths import CONFIGS, child_environment
from tandem.core.patience import company
from tandem.data.batches import training_batches
from tandem.data.images import fill_color
from tandem.frameworks.base import TITLES, load_engine

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

DEFAULT = (CONFIGS / "lenet5.yaml", CONFIGS / "se_resnext_small.yaml")

PASSES = {"forward": 1, "training": 3, "stock": 3, "stock_settings": 3, "workers": 3, "peer": 3}
"""What is timed, and how many forward passes' operations it takes."""

STOCK = ("stock", "stock_settings")

PEER = "torch"
"""Whose `peer` is."""

CONVENTIONS = {
    "images_per_second": "batch size / median seconds of a step",
    "gigaflops_per_second": "images/s x 2 x MACs of an image's forward pass / 1e9; for training 3 times that",
    "share_of_ceiling": "of the best matrix product in this precision, in either framework, on all cores or the GPU, "
    "measured before and after all else",
    "peak_memory": "bytes after the warm-up; on a CPU of the whole process, with the framework's libraries; of workers "
    "the sum",
    "rounds": "all variants are alive; in each round each takes one step, in an order drawn anew; the others wait. A "
    "step of less than 0.25 s comes after an untimed one",
    "ratio": "median over the rounds of seconds of `over` / seconds of `of`, both of one round: so many times as fast",
    "interval": "of that median, 95 %, of the sign test: two of the ordered ratios; it takes 6 rounds",
    "verdict": "none where the interval contains 1, or the middle half of the ratios spreads by over 30 % of their "
    "median",
    "copy_gigabytes_per_second": "host memory, all cores, bytes read plus bytes written / 1e9",
}

# The stock loops do not have these settings, so Tandem is measured without them.
EQUAL = (
    "device=auto",
    "threads=0",
    "label_smoothing=0",
    "evaluation.ema_decay=null",
    "data.augmentation.mixup=0",
    "optimizer.parameter_groups={}",
)


def benchmark(paths, frameworks, batch_sizes, precisions, rounds, stock, workers, peer, console):
    """Measure every config in every batch size and precision; the machine's ceiling; the input pipeline.

    Args:
        paths: YAML files.
        frameworks: of `tandem.frameworks.base.FRAMEWORKS`.
        batch_sizes: images in a step.
        precisions: values of a config's `precision`.
        rounds: how many steps each variant takes, after `BURN_IN` warm-up steps.
        stock: whether to measure the stock loops, which compute in float32 only.
        workers: with how many processes to measure `workers`; 1 for not at all.
        peer: whether to measure PyTorch.
        console: a rich Console for the progress bar and a line after each measurement.

    Returns:
        A dict for JSON: `machine`, `rounds`, `burn_in`, `workers`, `conventions`; `devices`, by framework the result of
        `measure_device`; `ceiling`, GFLOP/s by precision; `copy` and `pipeline`; and `results`. A result has its
        `config`, `batch_size` and `precision`; the `macs` of an image, None if Tandem failed; in `measured`, by
        framework and what was timed, either `missing` ("unsupported" or "failed") and the `reason`, or the result of
        `figure` with `share_of_ceiling`; the list `ratios`, each with `of` and `over`, as [framework, what], and the
        result of `tandem.benchmark.ratios.compare`; and `waiting_cores`, how many cores the waiting processes used.

    Raises:
        UserError: a config is wrong, or the machine could not be measured. If a framework does not support a precision
            or fails, that is a result.
    """
    cases = [
        (str(path), load_config(path, [f"batch_size={batch_size}", f"precision={precision}", *EQUAL]))
        for path, batch_size, precision in itertools.product(paths, batch_sizes, precisions)
    ]
    device = functools.partial(measure, "device", settings=cases[0][1].model_dump(mode="json"), precisions=precisions)
    results = []
    with progress(console) as show:
        show("input pipeline")
        pipeline = measure("pipeline")
        show("memory copy")
        copy = measure("copy")
        devices = {}
        for framework in frameworks:
            show(f"ceiling, {TITLES[framework]}")
            devices[framework] = device(framework=framework)
        for path, settings in cases:
            about = {"config": path, "batch_size": settings.batch_size, "precision": settings.precision}
            parts = variants(settings, devices, rounds, stock, workers, peer)
            found = take_turns(parts, rounds, show, title(about))
            results.append({**about, **summarize(settings, devices, parts, *found)})
            for line in lines(results[-1]):
                console.print(line, soft_wrap=True, highlight=False)
        ceilings = {}
        for framework in frameworks:
            show(f"ceiling again, {TITLES[framework]}")  # the machine may have been busy the first time
            for found in (devices[framework], device(framework=framework)):
                for precision, speed in found["gigaflops_per_second"].items():
                    ceilings[precision] = max(speed, ceilings.get(precision, 0))
    for result in results:
        for timed in figures_of(result).values():
            if timed["gigaflops_per_second"] is not None:
                timed["share_of_ceiling"] = timed["gigaflops_per_second"] / ceilings[result["precision"]]
    return {
        "machine": machine(),
        "rounds": rounds,
        "burn_in": BURN_IN,
        "workers": workers,
        "conventions": CONVENTIONS,
        "devices": devices,
        "ceiling": ceilings,
        "copy": copy,
        "pipeline": pipeline,
        "results": results,
    }


def variants(settings, devices, rounds, stock, workers, peer):
    """What is measured of one case, for `take_turns`: by (framework, what was timed), a `Variant` and its work.

    Args:
        settings: the `Config` of the case.
        devices: of `benchmark`. Frameworks that do not support the precision are left out.
        rounds, stock, workers, peer: of `benchmark`.
    """
    values, parts = settings.model_dump(mode="json"), {}
    for framework, found in devices.items():
        if settings.precision in found["unsupported"]:
            continue
        tandem = Variant("tandem", framework=framework, settings=values)
        parts |= {(framework, work): (tandem, work) for work in ("forward", "training")}
        if stock and settings.precision == "float32":
            for what in STOCK:
                tuned = what == "stock_settings"
                loop = {"framework": framework, "steps": BURN_IN + 2 * rounds, "tandem_settings": tuned}
                parts[framework, what] = Variant("stock", settings=values, **loop), "training"
        if workers > 1:
            parts[framework, "workers"] = Variant("tandem", workers, framework=framework, settings=values), "training"
    if peer:
        parts[PEER, "peer"] = Variant("peer", settings=values), "training"
    return parts


def summarize(settings, devices, parts, answers, reasons, waiting):
    """A result of `benchmark` without what it is of, and without the share of the ceiling.

    Args:
        settings, devices, parts: of and from `variants`.
        answers, reasons, waiting: from `take_turns`.
    """
    macs = next((variant.facts["macs"] for variant, _ in parts.values() if variant.facts.get("macs")), None)
    measured = {framework: {} for framework in devices}
    for framework, found in devices.items():
        if settings.precision in found["unsupported"]:
            reason = found["unsupported"][settings.precision]
            measured[framework]["training"] = {"missing": "unsupported", "reason": reason}
    for framework, what in parts:
        name = framework, what
        if name in reasons:
            of = {"missing": "failed", "reason": reasons[name]}
        else:
            of = figure(answers[name], settings.batch_size, macs and 2 * PASSES[what] * macs)
        measured.setdefault(framework, {})[what] = of
    compared = [
        {"of": list(of), "over": list(over), **ratios.compare(answers[of]["seconds"], answers[over]["seconds"])}
        for of, over in pairs(devices)
        if of in answers and over in answers
    ]
    return {"macs": macs, "measured": measured, "ratios": compared, "waiting_cores": waiting}


def pairs(frameworks):
    """What is compared: pairs of (framework, what was timed), the first with the second."""
    of = {framework: (framework, "training") for framework in frameworks}
    for framework in frameworks:
        yield from ((of[framework], (framework, what)) for what in STOCK)
        yield of[framework], (PEER, "peer")
        yield (framework, "workers"), of[framework]
    yield from itertools.combinations(of.values(), 2)


def figure(answer, batch_size, operations):
    """The figures of measured steps; their definitions are in `CONVENTIONS`.

    Args:
        answer: the `seconds` of the steps, and `peak_memory` in bytes or None.
        batch_size: images in a step.
        operations: floating-point operations for an image; None where they are not known.
    """
    seconds = answer["seconds"]
    speed = batch_size / statistics.median(seconds)
    return {
        "seconds": seconds,
        "median_milliseconds": 1000 * statistics.median(seconds),
        "mean_milliseconds": 1000 * statistics.fmean(seconds),
        "std_milliseconds": 1000 * statistics.pstdev(seconds),
        "images_per_second": speed,
        "gigaflops_per_second": operations and operations * speed / 1e9,
        "share_of_ceiling": None,
        "peak_memory": answer["peak_memory"],
    }


def figures_of(result):
    """The figures of a result that are there, by (framework, what was timed)."""
    return {
        (framework, what): figure
        for framework, measured in result["measured"].items()
        for what, figure in measured.items()
        if "missing" not in figure
    }


def title(result):
    """What was measured."""
    return f"{Path(result['config']).stem}, batch size {result['batch_size']}, {result['precision']}"


def lines(result):
    """A line for each variant in the format of the article's `time_tensorflow_run`, or the reason why there is none."""
    for framework, measured in result["measured"].items():
        for what, timed in measured.items():
            name = {"training": "forward-backward"}.get(what, what)
            about = f"{title(result)}, {framework}: {name}"
            if "missing" in timed:
                yield f"{about}: {timed['missing']}: {timed['reason']}"
                continue
            mean, std = (timed[f"{of}_milliseconds"] / 1000 for of in ("mean", "std"))
            yield f"{about} across {len(timed['seconds'])} steps, {mean:.3f} +/- {std:.3f} sec / batch"


@contextlib.contextmanager
def progress(console):
    """A progress bar on `console`; gives show(what, done, total). Without a terminal, a line every ten seconds."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as bars:
        bar = bars.add_task("", total=None)

        def show(what, done=None, total=None):
            bars.update(bar, description=what, completed=done or 0, total=total)

        say = functools.partial(console.print, soft_wrap=True, highlight=False, markup=False)
        said = contextlib.nullcontext() if console.is_terminal else company(say, lambda: bars.tasks[0].description)
        with said:
            yield show


def measure(what, **arguments):
    """Run the function `what` of `MEASUREMENTS` with `arguments` in a process of its own, and return its result.

    Raises:
        UserError: the process failed; the message has its last line.
    """
    ended = subprocess.run(
        [sys.executable, "-m", "tandem.benchmark.measure", what, json.dumps(arguments)],
        env=child_environment(clean_environment()),
        capture_output=True,
        text=True,
        errors="replace",
    )
    if ended.returncode:
        said = ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"]
        name = f"{what} {arguments.get('framework', '')}".strip()
        raise UserError(f"benchmark: measuring {name} failed ({said[-1].strip()}); fix that, or leave it out")
    return json.loads(ended.stdout.splitlines()[-1])


def measure_device(framework, settings, precisions):
    """Measure the device in this framework, with Tandem's settings. It needs a process of its own.

    The matrix product is the framework's own: convolutions are computed with it, it runs on the same device and
    threads, and it has all precisions. NumPy may use another library and other kernels, and no GPU.

    Args:
        framework: of `tandem.frameworks.base.FRAMEWORKS`.
        settings: a config as a dict.
        precisions: to be tried.

    Returns:
        `record`, the device's settings in force; `unsupported`, the reason by precision; `gigaflops_per_second` by
        precision, the best of five products of square matrices.
    """
    engine, stock = load_engine(framework), importlib.import_module(f"tandem.frameworks.{framework}.stock")
    record = engine.configure(check_config({**settings, "precision": "float32"}, "benchmark"))
    size = 8192 if record["device"] == "gpu" else 2048
    unsupported, speeds = {}, {}
    for precision in precisions:
        try:
            engine.configure(check_config({**settings, "precision": precision}, "benchmark"))
        except UserError as error:
            unsupported[precision] = str(error)
            continue
        multiply = stock.matrix_product(size, precision)
        multiply()
        speeds[precision] = 2 * size**3 / min(_seconds(multiply) for _ in range(5)) / 1e9
    return {"record": record, "unsupported": unsupported, "gigaflops_per_second": speeds}


def measure_copy():
    """`gigabytes_per_second` of NumPy's copy on all cores, read plus written: the best of five copies of 256 MB."""
    threads = len(cores())
    sources = np.array_split(np.ones(32 * 2**20), threads)
    targets = [np.zeros_like(source) for source in sources]
    with ThreadPoolExecutor(threads) as pool:
        seconds = min(_seconds(lambda: list(pool.map(np.copyto, targets, sources))) for _ in range(5))
    return {"gigabytes_per_second": 2 * sum(source.nbytes for source in sources) / seconds / 1e9}


def measure_pipeline():
    """`images_per_second` of `training_batches` on one core: crop and flip, in batches of 128, of 50,000 images."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(cores())})
    split = random_split(50_000, 32)
    augmentation, fill = config.Augmentation(crop_padding=4, flip=True), fill_color(split.images)
    seconds = []
    for epoch in range(10):
        started = time.monotonic()
        for _ in training_batches(split, 128, 0, epoch, augmentation, fill):
            pass
        seconds.append(time.monotonic() - started)
    return {"images_per_second": len(split.labels) / statistics.median(seconds)}


MEASUREMENTS = {"device": measure_device, "copy": measure_copy, "pipeline": measure_pipeline}


def _seconds(work):
    """How long `work` takes."""
    started = time.monotonic()
    work()
    return time.monotonic() - started


if __name__ == "__main__":
    print(json.dumps(MEASUREMENTS[sys.argv[1]](**json.loads(sys.argv[2]))))
