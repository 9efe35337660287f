"""How fast Tandem's training step is, against each framework's own high-level loop on a straightforward network.

What is compared, each in a process of its own, in turn, so that a noisy hour is noisy for all:

    tandem          the engine's training step on batches of uint8 images
    stock           the network of stock_*.py in Keras' `fit` or Paddle's `Model.fit`, for a user who sets nothing
    stock_settings  the same, with the threads, variables and kernels that Tandem chooses: the rest is the network

A step is forward, backward, update and metrics. Batches lie ready in memory on both sides; Keras' time has their
fetching in it (next to nothing on a CPU), and Tandem's their normalisation, which is done beforehand for the stock
loops. All compute in float32, on the same device.
"""

import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import data_utils
from tandem import config
from tandem.errors import UserError

ROOT = Path(__file__).parent.parent
CONFIGS = (ROOT / "configs" / "se_resnext_small.yaml", ROOT / "configs" / "se_resnext.yaml")
FRAMEWORKS = ("paddle", "tensorflow")
VARIANTS = ("tandem", "stock", "stock_settings")
WARM_UP = 2  # steps in which memory is allocated and graphs are compiled
NUM_CLASSES = 10

# The stock loops know nothing of these keys of a config, so Tandem must not gain or lose by them.
EQUAL = ("precision=float32", "device=auto", "threads=0")

# What Tandem sets, or Paddle for whatever comes after it: each process starts without.
VARIABLES = ("TF_ENABLE_ONEDNN_OPTS", "TF_CPP_MIN_LOG_LEVEL", "MKL_DEBUG_CPU_TYPE", "OMP_NUM_THREADS")


def benchmark(paths, frameworks, batch_size, steps, rounds, console):
    """Measure every config of `paths` in every one of `frameworks`, and the input pipeline alone.

    Args:
        paths: YAML files.
        frameworks: of `FRAMEWORKS`.
        batch_size: images in a step, for all configs.
        steps: how many are measured in a process, after `WARM_UP` others.
        rounds: how many processes measure each variant; the median is over all their steps.
        console: a rich Console for the progress bar.

    Returns:
        A dict for JSON: `machine`, `batch_size`, `steps`, `rounds`; `results`, one for each config and framework, with
        the `seconds` of every step and the median `images_per_second` of each variant, and the `speedup` of Tandem over
        the others; `pipeline`, augmented images/s on one core.

    Raises:
        UserError: a config is wrong, or a measurement failed.
    """
    overrides = [f"batch_size={batch_size}", *EQUAL]
    settings = {str(path): config.load(path, overrides).model_dump(mode="json") for path in paths}
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    versions, results = {}, []
    with Progress(*columns, console=console, transient=True) as progress:
        total = len(settings) * len(frameworks) * rounds * len(VARIANTS) + 1
        bar = progress.add_task("input pipeline", total=total)
        pipeline = measure("pipeline")
        for path, values in settings.items():
            for framework in frameworks:
                seconds = {variant: [] for variant in VARIANTS}
                for _ in range(rounds):
                    for variant in VARIANTS:
                        progress.update(bar, advance=1, description=f"{Path(path).stem} {framework} {variant}")
                        measured = measure("steps", variant=variant, framework=framework, settings=values, steps=steps)
                        seconds[variant] += measured["seconds"]
                        versions[framework] = measured["version"]
                results.append({"config": path, "framework": framework} | _compare(seconds, batch_size))
    return {
        "machine": machine() | {"versions": {"numpy": np.__version__} | versions},
        "batch_size": batch_size,
        "steps": steps,
        "rounds": rounds,
        "results": results,
        "pipeline": pipeline,
    }


def _compare(seconds, batch_size):
    medians = {variant: statistics.median(times) for variant, times in seconds.items()}
    return {
        "seconds": seconds,
        "images_per_second": {variant: batch_size / median for variant, median in medians.items()},
        "speedup": {variant: medians[variant] / medians["tandem"] for variant in VARIANTS[1:]},
    }


def machine():
    """What the figures depend on: the CPU's model, the cores this process may use, system and Python."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "cores": len(config.cores()),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def describe(figures):
    """The machine and what was measured, in a line. Its threads are Tandem's; stock Paddle takes one."""
    about = figures["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return (
        f"{about['cpu']}, {about['cores']} cores, a thread on each; Python {about['python']}, {versions}; float32, "
        f"batch size {figures['batch_size']}, median of {figures['rounds']} x {figures['steps']} steps"
    )


def table(figures):
    """A rich Table of what `benchmark` returns: images/s, and how many times the stock loops' speed Tandem's is."""
    shown = Table(
        caption="images/s in training, and ratios; set up: stock with Tandem's settings", caption_justify="left"
    )
    shown.add_column("config", no_wrap=True)
    shown.add_column("framework", no_wrap=True)
    for heading in ("Tandem", "stock", "set up", "Tandem\n/ stock", "Tandem\n/ set up"):
        shown.add_column(heading, justify="right")
    for result in figures["results"]:
        speeds = [f"{result['images_per_second'][variant]:,.1f}" for variant in VARIANTS]
        speedups = [f"{result['speedup'][variant]:.2f}" for variant in VARIANTS[1:]]
        shown.add_row(Path(result["config"]).stem, result["framework"], *speeds, *speedups)
    return shown


def clean_environment():
    """The environment of a user who has set none of `VARIABLES`, as a dict."""
    return {name: value for name, value in os.environ.items() if name not in VARIABLES}


def measure(what, **arguments):
    """Return what the function `what` of `MEASUREMENTS` returns with `arguments`, run in a process of its own.

    Raises:
        UserError: the process failed; says its last line.
    """
    ended = subprocess.run(
        [sys.executable, "-m", "tandem.benchmark", what, json.dumps(arguments)],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        errors="replace",
    )
    if ended.returncode:
        lines = ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"]
        name = " ".join([what, *(arguments[key] for key in ("framework", "variant") if key in arguments)])
        raise UserError(f"benchmark: measuring {name} failed ({lines[-1].strip()}); see to that, or leave it out")
    return json.loads(ended.stdout.splitlines()[-1])


def measure_steps(variant, framework, settings, steps):
    """The `seconds` of each of `steps` training steps, and the framework's `version`. In a process of its own.

    Args:
        variant: of `VARIANTS`.
        framework: of `FRAMEWORKS`.
        settings: a config as a dict.
        steps: how many.
    """
    settings = config.check(settings, "benchmark")
    count, size = (WARM_UP + steps) * settings.batch_size, settings.data.image_size
    split = _random_images(count, size)
    mean, deviation = data_utils.normalization(split.images, "channel")
    if variant == "tandem":
        engine = importlib.import_module(f"tandem.engine_{framework}").Engine(settings, NUM_CLASSES, mean, deviation)
        seconds = []
        for step, batch in enumerate(data_utils.evaluation_batches(split, settings.batch_size)):
            started = time.monotonic()
            engine.train_step(batch, settings.optimizer.learning_rate, step).numpy()
            seconds.append(time.monotonic() - started)
    else:
        if variant == "stock_settings":
            record = importlib.import_module(f"tandem.engine_{framework}").configure(settings)
        stock = importlib.import_module(f"tandem.stock_{framework}")
        model = stock.build(num_classes=NUM_CLASSES, **settings.network.model_dump(exclude={"name"}))
        if variant == "stock_settings" and framework == "tensorflow":
            # Keras compiles with XLA wherever a model says that it can be; Tandem does on a GPU only. On two cores of
            # an EPYC a step of SE-ResNeXt small, batch 32, took Keras 0.48 s with XLA and 0.37 s without.
            model.supports_jit = record["device"] == "gpu"
        images = ((split.images - mean) / deviation).astype(np.float32)
        seconds = stock.train(model, images, split.labels, settings.batch_size, **settings.optimizer.model_dump())
    return {"seconds": seconds[WARM_UP:], "version": sys.modules[framework].__version__}


def measure_pipeline():
    """`images_per_second` of `data_utils.batches` on one core: crop and flip, batches of 128 of 50,000 images."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(config.cores())})
    split = _random_images(50_000, 32)
    augmentation, fill = config.Augmentation(crop_padding=4, flip=True), data_utils.fill_color(split.images)
    seconds = []
    for epoch in range(10):
        started = time.monotonic()
        for _ in data_utils.batches(split, 128, 0, epoch, augmentation, fill):
            pass
        seconds.append(time.monotonic() - started)
    return {"images_per_second": len(split.labels) / statistics.median(seconds)}


MEASUREMENTS = {"steps": measure_steps, "pipeline": measure_pipeline}


def _random_images(count, size):
    """A Split of noise: what is in the images has no part in the speed."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, 3, size, size), np.uint8)
    return data_utils.Split(images, random.integers(0, NUM_CLASSES, count))


if __name__ == "__main__":
    print(json.dumps(MEASUREMENTS[sys.argv[1]](**json.loads(sys.argv[2]))))
