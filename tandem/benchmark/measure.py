"""The speed of each network in each framework, as a share of the machine's ceiling, and compared with stock loops.

Each measurement runs in a process of its own. They take turns, so that a busy hour slows all of them:

    tandem          the engine: `forward`, from uint8 images to logits in evaluation mode; then `training`, a step of
                    forward, backward, update and metrics
    stock           training in the framework's own high-level loop, Keras' `fit` or Paddle's `Model.fit`, with default
                    settings; in float32 only
    stock_settings  the same with the threads, environment variables and kernels that Tandem chooses: what differs from
                    `tandem` is then the network and the loop
    device          the precisions that are unsupported, and the ceiling: the best speed of a matrix product
    copy, pipeline  bytes copied, and images cropped and flipped, per second: memory and loader apart from compute

The stock loops train SE-ResNeXt as the article writes it, branch by branch (tandem/frameworks/*/stock.py). The other
networks have no branches to merge, so the loops train what Tandem's builder returns, a real paddle.nn.Layer or
keras.Model. There, Tandem's dropout is ordinary dropout.

All batches are in memory beforehand. Keras' time includes fetching them (next to nothing on a CPU). Tandem's time
includes their normalisation, which the stock loops get done beforehand. All run on the same device.

GFLOP/s count the operations that the network needs, whatever the framework computes. The forward pass of an image takes
2 for each MAC of convolutions and matrix products with weights (tandem/frameworks/layer_table.py). Training takes 3
times that: the backward pass has one product for the gradient of the weights and one for that of the inputs, each as
large.
"""

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

import data_utils
from tandem.config import networks
from tandem.config import schema as config
from tandem.config.load import check_config, load_config
from tandem.core.errors import UserError
from tandem.core.machine import cores, machine
from tandem.core.paths import CONFIGS, child_environment
from tandem.data.batches import evaluation_batches, training_batches
from tandem.data.images import fill_color, normalization
from tandem.frameworks.base import load_engine

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

DEFAULT = (CONFIGS / "lenet5.yaml", CONFIGS / "se_resnext_small.yaml")
STOCK = ("stock", "stock_settings")
BURN_IN = 2  # warm-up steps, in which memory is allocated and graphs are compiled
NUM_CLASSES = 10

PASSES = {"forward": 1, "training": 3, "stock": 3, "stock_settings": 3}
"""What is timed, and how many forward passes' operations it takes."""

CONVENTIONS = {
    "images_per_second": "batch size / median seconds of a step",
    "gigaflops_per_second": "images/s x 2 x MACs of an image's forward pass / 1e9; for training 3 times that",
    "share_of_ceiling": "of the best matrix product in this precision, in either framework, on all cores or the GPU, "
    "measured before and after all else",
    "peak_memory": "bytes; on a CPU of the whole process, including the framework's libraries",
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

# Variables that Tandem sets, or Paddle when it loads. Each process starts without them.
VARIABLES = ("TF_ENABLE_ONEDNN_OPTS", "TF_CPP_MIN_LOG_LEVEL", "MKL_DEBUG_CPU_TYPE", "OMP_NUM_THREADS")


def benchmark(paths, frameworks, batch_sizes, precisions, steps, rounds, stock, console):
    """Measure every config in every framework, batch size and precision; the machine's ceiling; the input pipeline.

    Args:
        paths: YAML files.
        frameworks: of `tandem.frameworks.base.FRAMEWORKS`.
        batch_sizes: images in a step.
        precisions: values of a config's `precision`.
        steps: measured steps in each process, after `BURN_IN` warm-up steps.
        rounds: how many processes measure each variant; figures are over all their steps.
        stock: whether to measure the stock loops, which compute in float32 only.
        console: a rich Console for the progress bar and a line after each measurement.

    Returns:
        A dict for JSON: `machine`, `steps`, `rounds`, `burn_in`, `conventions`; `devices`, by framework the result of
        `measure_device`; `ceiling`, GFLOP/s by precision; `copy` and `pipeline`; and `results`, each with its `config`,
        `framework`, `batch_size` and `precision`. A result has either `missing` ("unsupported" or "failed") and its
        `reason`; or the `macs` of an image, the results of `figure` with `share_of_ceiling` for `forward`, `training`
        and perhaps those of `STOCK`, and the `speedup` of Tandem's training over the latter.

    Raises:
        UserError: a config is wrong, or the machine could not be measured. If a framework does not support a precision
            or fails, that is a result.
    """
    cases = [
        (str(path), framework, load_config(path, [f"batch_size={batch_size}", f"precision={precision}", *EQUAL]))
        for path, batch_size, precision, framework in itertools.product(paths, batch_sizes, precisions, frameworks)
    ]
    variants = {precision: ("tandem", *(STOCK if stock and precision == "float32" else ())) for precision in precisions}
    first = cases[0][2].model_dump(mode="json")
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("input pipeline", total=None)
        pipeline = measure("pipeline")
        progress.update(bar, description="ceiling")
        copy = measure("copy")
        device = functools.partial(measure, "device", settings=first, precisions=precisions)
        devices = {framework: device(framework=framework) for framework in frameworks}
        possible = [case for case in cases if case[2].precision not in devices[case[1]]["unsupported"]]
        progress.reset(bar, total=rounds * sum(len(variants[settings.precision]) for _, _, settings in possible))
        results = []
        for path, framework, settings in cases:
            result = {
                "config": path,
                "framework": framework,
                "batch_size": settings.batch_size,
                "precision": settings.precision,
            }
            results.append(result)
            about = f"{title(result)}, {framework}"
            say = functools.partial(console.print, soft_wrap=True, highlight=False)
            if settings.precision in devices[framework]["unsupported"]:
                result |= {"missing": "unsupported", "reason": devices[framework]["unsupported"][settings.precision]}
                say(f"{about}: unsupported")
                continue
            measured = {variant: [] for variant in variants[settings.precision]}
            try:
                for _ in range(rounds):
                    for variant, found in measured.items():
                        progress.update(bar, description=f"{about}: {variant}")
                        values = settings.model_dump(mode="json")
                        found.append(measure(variant, framework=framework, settings=values, steps=steps))
                        progress.advance(bar)
            except UserError as error:  # out of memory, for example; the other results are still useful
                result |= {"missing": "failed", "reason": str(error)}
                say(f"{about}: {error}")
                continue
            result |= summarize(measured, settings)
            for what in PASSES:
                if what in result:
                    say(f"{about}: {time_line(what, result[what])}")
        progress.update(bar, description="ceiling")  # again: the machine may have been busy the first time
        ceilings = {}
        for found in (*devices.values(), *(device(framework=framework) for framework in frameworks)):
            for precision, speed in found["gigaflops_per_second"].items():
                ceilings[precision] = max(speed, ceilings.get(precision, 0))
    for result in results:
        for of in (result[what] for what in PASSES if what in result):
            of["share_of_ceiling"] = of["gigaflops_per_second"] / ceilings[result["precision"]]
    return {
        "machine": machine(),
        "steps": steps,
        "rounds": rounds,
        "burn_in": BURN_IN,
        "conventions": CONVENTIONS,
        "devices": devices,
        "ceiling": ceilings,
        "copy": copy,
        "pipeline": pipeline,
        "results": results,
    }


def summarize(measured, settings):
    """The figures of a result, without the share of the ceiling.

    Args:
        measured: by variant, the results of `measure_tandem` or `measure_stock` in each round.
        settings: the `Config` that was measured.

    Returns:
        `macs`, the result of `figure` for each of `PASSES` that was measured, and `speedup`.
    """
    macs = measured["tandem"][0]["macs"]
    timed = {what: [found[what] for found in measured["tandem"]] for what in ("forward", "training")}
    timed |= {variant: measured[variant] for variant in STOCK if variant in measured}
    figures = {what: figure(found, settings.batch_size, 2 * PASSES[what] * macs) for what, found in timed.items()}
    speeds = {what: of["images_per_second"] for what, of in figures.items()}
    speedup = {variant: speeds["training"] / speeds[variant] for variant in STOCK if variant in speeds}
    return {"macs": macs, **figures, "speedup": speedup}


def figure(found, batch_size, operations):
    """The figures of measured steps; their definitions are in `CONVENTIONS`.

    Args:
        found: for each round, a dict with the `seconds` of its steps and perhaps `peak_memory` in bytes.
        batch_size: images in a step.
        operations: floating-point operations for an image.
    """
    seconds = [second for part in found for second in part["seconds"]]
    speed = batch_size / statistics.median(seconds)
    peaks = [part["peak_memory"] for part in found if part.get("peak_memory")]
    return {
        "seconds": seconds,
        "mean_milliseconds": 1000 * statistics.fmean(seconds),
        "std_milliseconds": 1000 * statistics.pstdev(seconds),
        "images_per_second": speed,
        "gigaflops_per_second": operations * speed / 1e9,
        "peak_memory": max(peaks, default=None),
    }


def title(result):
    """What was measured, without the framework."""
    return f"{Path(result['config']).stem}, batch size {result['batch_size']}, {result['precision']}"


def time_line(what, timed):
    """A line in the format of the article's `time_tensorflow_run`."""
    name = {"training": "forward-backward"}.get(what, what)
    mean, std = (timed[f"{of}_milliseconds"] / 1000 for of in ("mean", "std"))
    return f"{name} across {len(timed['seconds'])} steps, {mean:.3f} +/- {std:.3f} sec / batch"


def clean_environment():
    """The environment without `VARIABLES`, as a dict."""
    return {name: value for name, value in os.environ.items() if name not in VARIABLES}


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
        lines = ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"]
        name = f"{what} {arguments.get('framework', '')}".strip()
        raise UserError(f"benchmark: measuring {name} failed ({lines[-1].strip()}); fix that, or leave it out")
    return json.loads(ended.stdout.splitlines()[-1])


def measure_tandem(framework, settings, steps):
    """Time the engine's forward passes and training steps. It needs a process of its own.

    Args:
        framework: of `tandem.frameworks.base.FRAMEWORKS`.
        settings: a config as a dict.
        steps: how many of each.

    Returns:
        `forward` and `training`, each with the `seconds` of its steps and the `peak_memory` so far, in bytes or None;
        and `macs`, of the forward pass of one image.
    """
    from tandem.frameworks.layer_table import describe, totals

    settings = check_config(settings, "benchmark")
    split, mean, std = _data(settings, steps)
    engine = load_engine(framework).Engine(settings, NUM_CLASSES, mean, std)
    batches = list(evaluation_batches(split, settings.batch_size))
    rate = settings.optimizer.learning_rate
    works = {  # forward first, so that its peak memory does not include training's
        "forward": lambda step: engine.predict(batches[step].images),
        "training": lambda step: engine.train_step(batches[step], rate, step).numpy(),
    }
    measured = {}
    for what, work in works.items():
        seconds = [_seconds(work, step) for step in range(BURN_IN + steps)]
        measured[what] = {"seconds": seconds[BURN_IN:], "peak_memory": engine.peak_memory()}
    rows = describe(engine, settings.data.image_size)
    return {**measured, "macs": totals(rows)["macs"]}


def measure_stock(framework, settings, steps, tandem_settings=False):
    """Time `steps` training steps in the framework's own loop: their `seconds`. It needs a process of its own.

    Args:
        framework: of `tandem.frameworks.base.FRAMEWORKS`.
        settings: a config as a dict.
        steps: how many.
        tandem_settings: whether to use the threads, environment variables and kernels that Tandem chooses.
    """
    settings = check_config(settings, "benchmark")
    split, mean, std = _data(settings, steps)
    if tandem_settings:
        record = load_engine(framework).configure(settings)
    stock = importlib.import_module(f"tandem.frameworks.{framework}.stock")
    if settings.network.name == "se_resnext":
        model = stock.build(num_classes=NUM_CLASSES, **settings.network.model_dump(exclude={"name"}))
    else:
        # Importing Tandem's layers sets environment variables. The framework has read them by now, but Paddle's MKL
        # reads its own at the first matrix product.
        variables = dict(os.environ)
        model = networks.build(settings.network, framework, NUM_CLASSES)
        os.environ.clear()
        os.environ.update(variables)
    if tandem_settings and framework == "tensorflow":
        # Keras compiles every model that supports it with XLA. Tandem uses XLA on a GPU only. On two cores of an EPYC,
        # a step of the small SE-ResNeXt, batch 32, took Keras 0.48 s with XLA and 0.37 s without.
        model.supports_jit = record["device"] == "gpu"
    images = ((split.images - mean) / std).astype(np.float32)
    optimizer = settings.optimizer.model_dump(exclude={"parameter_groups"})
    seconds = stock.train(model, images, split.labels, settings.batch_size, **optimizer)
    return {"seconds": seconds[BURN_IN:]}


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
    split = _random_images(50_000, 32)
    augmentation, fill = config.Augmentation(crop_padding=4, flip=True), fill_color(split.images)
    seconds = []
    for epoch in range(10):
        started = time.monotonic()
        for _ in training_batches(split, 128, 0, epoch, augmentation, fill):
            pass
        seconds.append(time.monotonic() - started)
    return {"images_per_second": len(split.labels) / statistics.median(seconds)}


MEASUREMENTS = {
    "tandem": measure_tandem,
    "stock": measure_stock,
    "stock_settings": functools.partial(measure_stock, tandem_settings=True),
    "device": measure_device,
    "copy": measure_copy,
    "pipeline": measure_pipeline,
}


def _data(settings, steps):
    """Images for the warm-up and `steps`, as a Split, and the mean and std to normalise them with."""
    split = _random_images((BURN_IN + steps) * settings.batch_size, settings.data.image_size)
    return split, *normalization(split.images, "channel")


def _random_images(count, size):
    """A Split of noise: the content of the images does not affect the speed."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, 3, size, size), np.uint8)
    return data_utils.Split(images, random.integers(0, NUM_CLASSES, count))


def _seconds(work, *arguments):
    """How long `work` takes."""
    started = time.monotonic()
    work(*arguments)
    return time.monotonic() - started


if __name__ == "__main__":
    print(json.dumps(MEASUREMENTS[sys.argv[1]](**json.loads(sys.argv[2]))))
