"""tandem data."""

from pathlib import Path
from typing import Annotated

from tandem.commands.cli import at_work

import typer


def data(
    config: Annotated[
        Path | None, typer.Argument(metavar="CONFIG", help="A YAML file. Default: that of SE-ResNeXt, for CIFAR-10.")
    ] = None,
    override: Annotated[
        list[str] | None, typer.Option("-o", metavar="KEY=VALUE", help="Set one key, e.g. data.directory=/data.")
    ] = None,
    output: Annotated[Path, typer.Option(help="The PNG to draw samples to.")] = Path("data.png"),
):
    """Download, check and show the images: counts, mean and std; samples before and after augmentation.

    CIFAR-10 comes from the first of data.mirrors that serves it. Where none can be reached, name another URL of
    cifar-10-python.tar.gz, -o "data.mirrors=[URL]", or a copy of it, -o data.archive=FILE: its md5 is checked, as by
    md5sum FILE, which has to say c58f30108f718f92721af3b95e74349a.
    """
    with at_work("starting"):
        from tandem.config.load import load_config
        from tandem.core import files
        from tandem.core.errors import UserError
        from tandem.data.images import load_dataset
        from tandem.report import pictures
        from tandem.use import samples

        from rich.console import Console

    settings = load_config(config or "se_resnext", override or ())
    if output.is_dir():
        raise UserError(f"--output {output}: is a folder; name a file")
    files.check_folder(output.parent)
    with at_work("reading the images"):
        dataset = load_dataset(settings.data, settings.seed)
        pictures.save(samples.draw(dataset, settings), output)
        summary = samples.summary(dataset, settings)
    console = Console(highlight=False, markup=False)
    console.print(samples.class_table(dataset))
    for line in [
        *(f"warning: {note}" for note in dataset.notes),
        *summary,
        f"Samples: {output}",
    ]:
        console.print(line, soft_wrap=True)
