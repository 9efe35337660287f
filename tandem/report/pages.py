"""Self-contained HTML pages, without scripts."""

import io
import re
from pathlib import Path

import jinja2
from markupsafe import Markup, escape


def render(template, **values):
    """Render `template`, a file of templates/, with `values`; text in them is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["number"] = number
    environment.filters["code"] = code
    environment.filters["dotted"] = dotted
    return environment.get_template(template).render(values)


def number(error):
    """An error as short text. None, which stands for infinity and NaN, is "not finite"."""
    return "not finite" if error is None else "0" if error == 0 else f"{error:.1e}"


def code(text):
    """Text whose parts in backticks are code, as HTML."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))


def dotted(name):
    """A name with dots, as HTML that may break a line after each."""
    return Markup(escape(name).replace(".", Markup(".<wbr>")))


def to_svg(figure, title):
    """A matplotlib figure as an <svg> element; `title` is for screen readers."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Title": title})
    return text.getvalue()[text.getvalue().index("<svg") :]
