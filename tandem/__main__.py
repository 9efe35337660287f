"""The commands: python -m tandem COMMAND. Each imports what it needs when it runs, so that --help is quick."""

from tandem.commands import (
    benchmark,
    certify,
    classify,
    compare,
    convert,
    curves,
    data,
    evaluate,
    export,
    features,
    summary,
    traps,
)
from tandem.commands.cli import make_app, run

app = make_app(no_args_is_help=True)


@app.callback()
def main():
    """The same CNN in PaddlePaddle and in TensorFlow."""


app.command()(benchmark.benchmark)
app.command()(certify.certify)
app.command()(compare.compare)
app.command()(curves.curves)
app.command()(convert.convert)
app.command()(evaluate.evaluate)
app.command()(export.export)
app.command()(classify.classify)
app.command()(features.features)
app.command()(summary.summary)
app.command()(data.data)
app.command()(traps.traps)


if __name__ == "__main__":
    run(app)
