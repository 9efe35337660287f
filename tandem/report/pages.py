"""Pages for the browser: one file each, without scripts, that needs nothing else."""

import io
from pathlib import Path

import jinja2


def render(template, **values):
    """The page that `template` (a file of templates/) makes of `values`. What is text in them is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["number"] = number
    return environment.get_template(template).render(values)


def number(error):
    """An error, short; None stands for what is no number."""
    return "-" if error is None else "0" if error == 0 else f"{error:.1e}"


def to_svg(figure, title):
    """A matplotlib figure as an <svg> element; `title` is what a screen reader says."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Title": title})
    return text.getvalue()[text.getvalue().index("<svg") :]
