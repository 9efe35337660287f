"""The commands: python -m tandem COMMAND. Each imports what it needs when it runs, so that --help is quick."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tandem.cli import Framework, make_app, run

app = make_app(no_args_is_help=True)


class Precision(StrEnum):
    """What a certificate may be made in: where both frameworks have it on any device."""

    float64 = "float64"
    float32 = "float32"


class AnyPrecision(StrEnum):
    """What a network may be trained in."""

    float32 = "float32"
    float64 = "float64"
    bfloat16 = "bfloat16"
    float16 = "float16"


Checkpoint = Annotated[
    Path, typer.Argument(metavar="CHECKPOINT", help="A checkpoint; or a run folder, for its newest whole one.")
]
ThisFramework = Annotated[
    Framework | None, typer.Option("--framework", help="What to compute in. Default: what wrote the checkpoint.")
]
ThisOverride = Annotated[
    list[str] | None,
    typer.Option("-o", metavar="KEY=VALUE", help="Set one key of its config, e.g. data.directory=/data or device=cpu."),
]
PythonPaddle = Annotated[Path | None, typer.Option(help="The Python that has Paddle. Default: this one.")]
PythonTensorFlow = Annotated[Path | None, typer.Option(help="The Python that has TensorFlow. Default: this one.")]
Averaged = Annotated[bool, typer.Option("--ema", help="Take the averages of its weights (ema_decay) in their place.")]


@app.callback()
def main():
    """The same CNN in PaddlePaddle and in TensorFlow."""


@app.command()
def benchmark(
    config: Annotated[
        list[Path] | None,
        typer.Option(
            help="A YAML file; may be repeated. Default: LeNet-5 and the small SE-ResNeXt; the full one, "
            "configs/se_resnext.yaml, takes about a quarter of an hour on two cores."
        ),
    ] = None,
    framework: Annotated[list[Framework] | None, typer.Option(help="May be repeated. Default: both.")] = None,
    batch_size: Annotated[list[int] | None, typer.Option(min=2, help="May be repeated. Default: 32.")] = None,
    precision: Annotated[
        list[AnyPrecision] | None, typer.Option(help="May be repeated. Default: float32, the only one of stock loops.")
    ] = None,
    stock: Annotated[bool, typer.Option(help="Whether to measure Keras' fit and Paddle's Model.fit, too.")] = True,
    steps: Annotated[int, typer.Option(min=1, help="Measured steps in each process, after 2 others.")] = 5,
    rounds: Annotated[int, typer.Option(min=1, help="Processes that measure each variant, in turn.")] = 2,
    json_path: Annotated[
        Path | None, typer.Option("--json", metavar="PATH", help="Also write all figures to this file.")
    ] = None,
    chart: Annotated[Path | None, typer.Option(metavar="PATH", help="Also draw the speeds, as this PNG.")] = None,
):
    """Measure speed, forward and in training: images/s, GFLOP/s, memory; against Keras' fit and Paddle's Model.fit."""
    import json
    import os

    from rich.console import Console

    from tandem import benchmark, benchmark_report, checkpoint, pictures
    from tandem.errors import UserError
    from tandem.workers import FRAMEWORKS

    for option, path in (("--json", json_path), ("--chart", chart)):
        if path and (path.is_dir() or not os.access(path.absolute().parent, os.W_OK)):
            raise UserError(f"{option} {path}: cannot be written; name a file in a folder that can")
    if chart and chart.suffix.lower() != ".png":
        raise UserError(f"--chart {chart}: the chart is a PNG; end its name in .png")
    figures = benchmark.benchmark(
        config or benchmark.CONFIGS,
        framework or FRAMEWORKS,
        batch_size or (32,),
        precision or ("float32",),
        steps,
        rounds,
        stock,
        Console(stderr=True),
    )
    console = Console(highlight=False)
    if json_path:
        checkpoint.write_file(json_path, (json.dumps(figures, indent=2) + "\n").encode())
    console.print(benchmark_report.describe(figures), soft_wrap=True)
    for table in benchmark_report.tables(figures):
        console.print(table)
    for line in benchmark_report.notes(figures):
        console.print(line, soft_wrap=True)
    if chart:
        pictures.save(benchmark_report.chart(figures), chart)


@app.command()
def certify(
    network: Annotated[
        str,
        typer.Argument(
            help="A network's name, a config, or a checkpoint, a run, or your own mynet.py with its builders."
        ),
    ],
    override: Annotated[
        list[str] | None, typer.Option("-o", metavar="KEY=VALUE", help="Set one key, e.g. network.lrn=true.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Training steps.")] = 10,
    batch_size: Annotated[int, typer.Option(min=2, help="Images in a step.")] = 4,
    device: Annotated[str | None, typer.Option(help="auto, cpu, gpu or gpu:N; short for -o device=...")] = None,
    precision: Annotated[Precision, typer.Option(help="What to compare in.")] = "float64",
    output: Annotated[
        Path | None, typer.Option(help="Where to write the certificate. Default: certificates/NETWORK.")
    ] = None,
    python_paddle: PythonPaddle = None,
    python_tensorflow: PythonTensorFlow = None,
):
    """Prove that a network computes the same in both frameworks; exit code 1 if it does not."""
    from rich.console import Console
    from rich.progress import Progress

    from tandem import certificate_report as report
    from tandem.certificate import certify, subject
    from tandem.workers import Workers

    console, stderr = Console(highlight=False, markup=False, soft_wrap=True), Console(stderr=True)
    settings, state = subject(network, [*(override or []), *([f"device={device}"] if device else [])])
    with (
        Progress(console=stderr, transient=True, disable=not stderr.is_terminal) as progress,
        Workers(_pythons(python_paddle, python_tensorflow)) as workers,
    ):
        bar = progress.add_task("Certifying", total=steps)
        certificate = certify(
            network,
            settings,
            workers,
            steps,
            batch_size,
            precision,
            state,
            report=lambda n: progress.update(bar, completed=n),
        )
    folder = output or Path("certificates", Path(network).stem)
    report.save(certificate, folder)
    console.print(report.to_table(certificate))
    for line in [*report.verdict(certificate), f"Certificate: {folder / 'certificate.html'}"]:
        console.print(line)
    if not certificate.passed:
        raise typer.Exit(1)


@app.command()
def compare(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file.")],
    override: Annotated[
        list[str] | None, typer.Option("-o", metavar="KEY=VALUE", help="Set one key, e.g. epochs=3 or device=gpu.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs in each framework. A verdict needs two at least.")] = 1,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Compare what is not the same, too; the page says so.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option(help="Where to write, or to go on. Default: comparisons/CONFIG.")
    ] = None,
    python_paddle: PythonPaddle = None,
    python_tensorflow: PythonTensorFlow = None,
):
    """Train a config in both frameworks and compare them: certified first, and only as far as the seeds allow.

    Exit code 1 if they are not the same. The same command goes on with what was stopped.
    """
    from rich.console import Console
    from rich.progress import Progress

    from tandem import comparison, comparison_report
    from tandem.certificate import STEPS
    from tandem.certificate_report import verdict

    console, stderr = Console(highlight=False, markup=False, soft_wrap=True), Console(stderr=True)
    folder = output or Path("comparisons", config.stem)
    pythons = _pythons(python_paddle, python_tensorflow)
    with Progress(console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
        bar = progress.add_task("Certifying", total=STEPS)
        found = comparison.begin(
            config, override or (), folder, seeds, pythons, lambda done: progress.update(bar, completed=done)
        )
    for line in verdict(found.certificate):
        console.print(line)
    if found.certificate.passed or anyway:
        try:
            comparison.run(found, folder, pythons, console.print)
        except comparison.Stopped:
            console.print("Stopped; the same command goes on")
            raise typer.Exit(130) from None
        console.print(comparison_report.to_table(found))
    comparison_report.save(found, folder)
    for line in [*comparison.verdicts(found), f"Report: {folder / 'report.html'}"]:
        console.print(line)
    if not found.certificate.passed:
        raise typer.Exit(1)


@app.command()
def curves(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders: what --run-dir named.")],
    output: Annotated[Path, typer.Option(help="The PNG to draw.")] = Path("curves.png"),
    epochs: Annotated[int | None, typer.Option(min=1, help="Only so many: for a short run on a long one.")] = None,
):
    """Show runs side by side, and draw their loss and error rate over one another."""
    from rich.console import Console

    from tandem.curves import read_runs, side_by_side
    from tandem.plots import draw_curves

    records = read_runs(runs, epochs)
    draw_curves(records, output)
    console = Console(highlight=False)
    console.print(side_by_side(records))
    console.print(f"Curves: {output}", soft_wrap=True)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A .safetensors, .pdparams or .keras; or a run folder.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="A .safetensors, .pdparams or .keras.")],
    config: Annotated[
        Path | None, typer.Option(help="The YAML file that names the network, where IN is no checkpoint.")
    ] = None,
    num_classes: Annotated[
        int | None, typer.Option(min=1, help="Length of the logits. Default: as many as the config's data has classes.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it is there.")] = False,
):
    """Convert weights and statistics between a checkpoint, Paddle's .pdparams and Keras' .keras.

    A run folder stands for its newest whole checkpoint. A checkpoint made from the others begins a run: --resume it.
    """
    from rich.console import Console

    from tandem.convert import convert

    console, errors = (Console(stderr=error, soft_wrap=True, markup=False, highlight=False) for error in (False, True))
    line = convert(source, target, config, num_classes, force, lambda line: errors.print(f"warning: {line}"))
    console.print(line)


@app.command()
def evaluate(
    source: Checkpoint,
    framework: ThisFramework = None,
    override: ThisOverride = None,
    averaged: Averaged = False,
    flip: Annotated[
        bool, typer.Option("--flip", help="Go by the mean of the logits of each image and of its mirror image.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option(help="The folder to write to. Default: evaluation/NAME-FRAMEWORK.")
    ] = None,
):
    """Test a checkpoint: accuracy, top-5, loss, a table of the classes, the confusion matrix, the worst mistakes."""
    from rich.console import Console
    from rich.progress import Progress

    from tandem import checkpoint, evaluation
    from tandem.inference import Classifier

    console, stderr = Console(highlight=False, markup=False), _stderr()
    classifier = Classifier(source, framework, override, averaged, lambda line: stderr.print(f"warning: {line}"))
    how = ["ema"] * averaged + ["flip"] * flip
    folder = output or Path("evaluation", "-".join([classifier.name, classifier.framework, *how]))
    checkpoint.check_folder(folder)
    split = classifier.dataset().test
    with Progress(console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
        bar = progress.add_task("Testing", total=len(split.labels) * (2 if flip else 1))
        found = evaluation.evaluate(classifier, split, flip, lambda done: progress.update(bar, completed=done))
    written = evaluation.save(found, split.images, folder)
    for table in (evaluation.class_table(found), evaluation.confusion_table(found)):
        if table is not None:
            console.print(table)
    for line in evaluation.summary(found):
        console.print(line, soft_wrap=True)
    if classifier.has_averages:
        used, other = ("averaged", "without --ema: plain") if averaged else ("plain", "with --ema: averaged")
        console.print(f"These are figures of the {used} weights ({other} ones)", soft_wrap=True)
    console.print(f"Written: {', '.join(map(str, written))}", soft_wrap=True)


@app.command()
def export(
    source: Checkpoint,
    kind: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="onnx; saved_model, TensorFlow's; or paddle, its own.")
    ],
    framework: ThisFramework = None,
    override: ThisOverride = None,
    averaged: Averaged = False,
    output: Annotated[
        Path | None, typer.Option(help="Where to. Default: exported/NAME.onnx, or the folder exported/NAME-FORMAT.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a model that is there.")] = False,
):
    """Write a checkpoint's network, preprocessing inside, for use without Tandem; check that it computes the same.

    Input: images, uint8 [batch, 3, H, W]. Output: logits, float32 [batch, classes].
    """
    from rich.console import Console

    from tandem.export import export

    console, stderr = Console(highlight=False, markup=False, soft_wrap=True), _stderr()
    path, error = export(
        source, kind, framework, override, averaged, output, force, lambda line: stderr.print(f"warning: {line}")
    )
    console.print(f"{path}: logits differ from the engine's by {error:.1e} of the largest")


@app.command()
def classify(
    source: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="A checkpoint, a run folder, or an exported .onnx.")
    ],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Image files, or folders of them.")],
    framework: ThisFramework = None,
    override: ThisOverride = None,
    averaged: Averaged = False,
    top: Annotated[int, typer.Option(min=1, help="How many classes to name.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
):
    """Tell what is in images of any size and mode: the likeliest classes and their probabilities."""
    import json

    from tandem.errors import UserError
    from tandem.inference import Classifier, OnnxClassifier, image_files

    stderr = _stderr()
    files = image_files(images)
    if source.suffix.lower() != ".onnx":
        classifier = Classifier(source, framework, override, averaged, lambda line: stderr.print(f"warning: {line}"))
    elif framework or override or averaged:
        raise UserError(f"{source}: an exported model is as it is; leave out --framework, -o and --ema")
    else:
        classifier = OnnxClassifier(source)
    found = []
    for path, classes in classifier.classify(files, top):
        if as_json:
            found.append({"image": str(path), "top": [{"class": name, "probability": part} for name, part in classes]})
        else:
            print(f"{path}: {', '.join(f'{name} {part:.2%}' for name, part in classes)}")
    if as_json:
        about = {"checkpoint": str(classifier.path), "framework": classifier.framework}
        print(json.dumps({**about, "averaged": classifier.averaged, "images": found}, indent=2))


@app.command()
def features(
    source: Checkpoint,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="An image file.")],
    layer: Annotated[
        str | None, typer.Option(help="The layer, e.g. conv1. Default: the first convolution. See summary.")
    ] = None,
    framework: ThisFramework = None,
    override: ThisOverride = None,
    averaged: Averaged = False,
    output: Annotated[Path | None, typer.Option(help="The folder to write to. Default: features/IMAGE.")] = None,
):
    """Look inside: what a layer makes of an image, as a picture and as .npy; and the first convolution's filters."""
    import data_utils
    from tandem import checkpoint
    from tandem.features import extract
    from tandem.inference import Classifier

    stderr = _stderr()
    classifier = Classifier(source, framework, override, averaged, lambda line: stderr.print(f"warning: {line}"))
    folder = output or Path("features", image.stem)
    checkpoint.check_folder(folder)
    pixels = data_utils.read_image(image, classifier.settings.data.image_size)
    for path in extract(classifier, pixels, layer, folder):
        print(path)


@app.command()
def summary(
    network: Annotated[
        str,
        typer.Argument(
            metavar="NETWORK", help="A network's name, a config, a checkpoint, a run, or your own mynet.py."
        ),
    ],
    override: Annotated[
        list[str] | None, typer.Option("-o", metavar="KEY=VALUE", help="Set one key, e.g. network.depth=32.")
    ] = None,
    num_classes: Annotated[
        int | None, typer.Option(min=1, help="Length of the logits. Default: as many as its data has classes.")
    ] = None,
):
    """Show the layers of both twins side by side: output shape, parameters, multiply-adds."""
    import sys

    from rich.console import Console

    from tandem import summary
    from tandem.workers import Workers

    stderr = _stderr()
    with Workers() as workers:
        found = summary.summarize(
            network, override or (), workers, num_classes, lambda line: stderr.print(f"warning: {line}")
        )
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 160)
    console.print(summary.to_table(found, network))
    for line in summary.verdict(found):
        console.print(line, soft_wrap=True)


@app.command()
def data(
    config: Annotated[
        Path | None, typer.Argument(metavar="CONFIG", help="A YAML file. Default: CIFAR-10 as the networks take it.")
    ] = None,
    override: Annotated[
        list[str] | None, typer.Option("-o", metavar="KEY=VALUE", help="Set one key, e.g. data.directory=/data.")
    ] = None,
    output: Annotated[Path, typer.Option(help="The PNG to draw samples in.")] = Path("data.png"),
):
    """Fetch, check and show the images: counts, mean and deviation; samples before and after augmentation."""
    from rich.console import Console

    import data_utils
    from tandem import checkpoint, pictures, samples
    from tandem.cli import CONFIGS
    from tandem.config import load
    from tandem.errors import UserError

    settings = load(config or CONFIGS / "se_resnext.yaml", override or ())
    if output.is_dir():
        raise UserError(f"--output {output}: is a folder; name a file")
    checkpoint.check_folder(output.parent)
    dataset = data_utils.load(settings.data, settings.seed)
    pictures.save(samples.draw(dataset, settings), output)
    console = Console(highlight=False, markup=False)
    console.print(samples.class_table(dataset))
    for line in [*samples.summary(dataset, settings), f"Samples: {output}"]:
        console.print(line, soft_wrap=True)


@app.command()
def traps(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME...]", help="Which. Default: all.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="Where to write what came of all of them, e.g. docs/differences.md.")
    ] = None,
):
    """Switch on each known way to differ, and show where the certificate sees it; exit code 1 if it does not."""
    from rich.console import Console
    from rich.progress import Progress

    from tandem import checkpoint, gallery
    from tandem.errors import UserError
    from tandem.workers import Workers

    console, stderr = Console(highlight=False), Console(stderr=True)
    selected = gallery.chosen(names)
    if output and names:
        raise UserError("--output: the page holds every trap; leave out the names")
    with (
        Progress(console=stderr, transient=True, disable=not stderr.is_terminal) as progress,
        Workers() as workers,
    ):
        bar = progress.add_task("Traps", total=gallery.parts(selected))
        found, versions = gallery.run(
            selected, workers, lambda what, done: progress.update(bar, description=what, completed=done)
        )
    console.print(gallery.table(found))
    if not all(one.passed for one in found):
        raise typer.Exit(1)
    if output:
        checkpoint.write_file(output, gallery.page(found, versions, output).encode())
        console.print(f"Written: {output}", soft_wrap=True)


def _pythons(paddle, tensorflow):
    """The interpreters that were named, by framework."""
    return {name: str(python) for name, python in (("paddle", paddle), ("tensorflow", tensorflow)) if python}


def _stderr():
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    run(app)
