"""The gallery: switch each trap of tandem/traps on, certify its probe, and write where the certificate saw it."""

import difflib
import os
import re
from pathlib import Path
from typing import NamedTuple

from tandem import traps
from tandem.certify.certificate import certify
from tandem.config.load import check_config
from tandem.core.errors import UserError
from tandem.core.files import ROOT
from tandem.traps.trap import PROBES, Trap

from rich.table import Table

BATCH_SIZE = 4

INTRODUCTION = """\
# Where PaddlePaddle and TensorFlow differ

The same network, written in PaddlePaddle and in TensorFlow, is not the same until each point below has been seen to.
Every entry says what each framework does, where its code or documentation says so, and what Tandem does so that both
compute the same, with the line on each side.

None of it is hearsay. Each trap was switched on in one of two twins that agree to 1e-14 without it. A certificate
(`python -m tandem certify`) then compared every element of every layer's output, of the loss, and of all gradients,
statistics, velocities and weights, in float64, from equal states, over {steps} steps of {batch_size} images with a
learning rate that changes. The entry says where it first saw a difference, and how large: the largest difference of two
elements, over the tensor's largest element. What could not be tried says why.

{count} traps, {tried} of them tried, on a CPU with PaddlePaddle {paddle} and TensorFlow {tensorflow}. Links lead to the
sources of PaddlePaddle 3.3.1, TensorFlow 2.21.0 and Keras 3.15.1. This page is written by
`python -m tandem traps --output docs/differences.md`; the mutations are in [tandem/traps/trap.py]({traps_py}).
"""


class Found(NamedTuple):
    """What came of a trap.

    Attributes:
        trap: a `Trap`.
        first: the certificate's first difference, or None: not caught, or not probed.
        passed: whether it was caught where it is known to show; true for what is not probed.
    """

    trap: Trap
    first: dict | None
    passed: bool


def chosen(names):
    """The traps of these names, or all.

    Raises:
        UserError: there is no such trap.
    """
    for name in names or ():
        if name not in traps.TRAPS:
            near = difflib.get_close_matches(name, traps.TRAPS, n=1, cutoff=0)
            raise UserError(f"{name}: no such trap; did you mean {near[0]}?")
    return [traps.TRAPS[name] for name in names or traps.TRAPS]


def clean(probe, workers):
    """Certify a probe, a key of `PROBES`, without any trap: the frameworks' versions.

    Raises:
        UserError: it does not pass, so that what it shows of a trap would mean nothing.
    """
    certificate = certify(probe, _settings(probe), workers, steps=2, batch_size=BATCH_SIZE)
    if not certificate.passed:
        raise UserError(f"the probe {probe} fails without any trap: {certificate.first or certificate.trained}")
    return {framework: record["version"] for framework, record in certificate.records.items()}


def spring(trap, workers):
    """Switch `trap` on and certify its probe: a `Found`."""
    if trap.not_probed:
        return Found(trap, None, True)
    on = {trap.framework: trap.name}
    try:
        first = certify(
            trap.name, _settings(trap.probe), workers, steps=trap.steps, batch_size=BATCH_SIZE, traps=on
        ).first
    except UserError as error:  # it cannot even be built
        first = {"step": 0, "phase": "building", "name": trap.framework, "layer": "", "error": None}
        first["what"] = str(error)
    phase, layer = trap.shows
    return Found(trap, first, first is not None and first["phase"] == phase and layer in (None, first["layer"]))


def run(selected, workers, report=None):
    """Certify the probes of the traps `selected`, then spring each: a list of `Found`, and the frameworks' versions.

    Args:
        selected: a list of `Trap`.
        workers: a `tandem.frameworks.workers.Workers`.
        report: called with what is being done, and how many parts of `parts(selected)` are done; or None.

    Raises:
        UserError: a probe does not pass without a trap.
    """
    report = report or (lambda what, done: None)
    versions, found, done = {}, [], 0
    for probe in _probes(selected):
        report(f"{probe}, clean", done)
        versions = clean(probe, workers)
        done += 1
    for trap in selected:
        report(trap.name, done)
        found.append(spring(trap, workers))
        done += 1
    return found, versions


def parts(selected):
    """How many parts `run` has."""
    return len(_probes(selected)) + len(selected)


def table(found):
    """A rich Table: a row a trap."""
    drawn = Table(box=None)
    for column in ("trap", "caught", "step", "phase", "layer", "error"):
        drawn.add_column(column, no_wrap=column != "phase")
    for trap, first, passed in found:
        if trap.not_probed:
            drawn.add_row(trap.name, "-", "", "not probed here", "", "")
        elif first is None:
            drawn.add_row(trap.name, "NO", "", "", "", "")
        else:
            caught, layer = "yes" if passed else "ELSEWHERE", first["layer"] or first["name"]
            error = "-" if first["error"] is None else size(first)
            drawn.add_row(trap.name, caught, str(first["step"]), first["phase"], layer, error)
    return drawn


def size(first):
    """How large a first difference is: one digit, or what it is if there is no number."""
    error = first["error"]
    if first["phase"] == "building":
        return "cannot be built"
    if error is None:
        return first["what"]
    if error >= 0.01:
        return f"{error:.1g}" if error < 9.5 else f"{error:.0f}"
    digit, exponent = f"{error:.0e}".split("e")
    return f"{digit}e{int(exponent)}"


def page(found, versions, path):
    """docs/differences.md as text.

    Args:
        found: of all traps.
        versions: by framework.
        path: where the page will be, since its links to the code are relative.

    Raises:
        UserError: a line of code that an entry points to is not there, or there are several.
    """
    links = {
        file: Path(os.path.relpath(ROOT / file, Path(path).absolute().parent)).as_posix() for file in _files(found)
    }
    introduction = INTRODUCTION.format(
        steps=2,
        batch_size=BATCH_SIZE,
        count=len(found),
        tried=sum(not trap.not_probed for trap, _, _ in found),
        traps_py=links["tandem/traps/trap.py"],
        **versions,
    )
    themes = dict.fromkeys(trap.theme for trap, _, _ in found)
    lines = [introduction, "| trap | changed twin | first difference | error |", "|---|---|---|---|"]
    for theme in themes:
        lines.append(f"| **{theme}** | | | |")
        lines += [_row(*one) for one in found if one.trap.theme == theme]
    for theme in themes:
        lines += ["", f"## {theme}"]
        for one in found:
            if one.trap.theme == theme:
                lines += _entry(*one, links)
    return "\n".join(lines) + "\n"


def line_of(file, marker):
    """The number and the text of the one line of `file`, relative to the repository, that holds `marker`.

    Raises:
        UserError: there is no such line, or there are several.
    """
    text = (ROOT / file).read_text(encoding="utf-8").splitlines()
    there = [(number, line.strip()) for number, line in enumerate(text, 1) if marker in line]
    if len(there) != 1:
        raise UserError(
            f"{file}: {len(there)} lines hold {marker!r}; correct the trap's `code` in tandem/traps/trap.py"
        )
    return there[0]


def _settings(probe):
    return check_config(PROBES[probe], f"the probe {probe}")


def _probes(selected):
    return list(dict.fromkeys(trap.probe for trap in selected if not trap.not_probed))


def _files(found):
    return {"tandem/traps/trap.py", *(file for trap, _, _ in found for file, _ in trap.code.values())}


def _row(trap, first, passed):
    link = f"[{trap.title}](#{trap.name})"
    if trap.not_probed:
        return f"| {link} | | not probed here | |"
    return f"| {link} | {_name(trap.framework)} | {_place(first)} | {size(first)} |"


def _place(first):
    layer = f", {first['layer']}" if first["layer"] else ""
    return f"step {first['step']}, {first['phase']}{layer}"


def _name(framework):
    return {"paddle": "Paddle", "tensorflow": "TensorFlow"}[framework]


def _entry(trap, first, passed, links):
    lines = ["", f'### <a id="{trap.name}"></a>{trap.title}', ""]
    lines += [f"- **Paddle:** {trap.paddle}", f"- **TensorFlow:** {trap.tensorflow}", f"- **Tandem:** {trap.here}"]
    if trap.not_probed:
        lines.append(f"- **Not probed here:** {trap.not_probed}")
    else:
        number, _ = line_of("tandem/traps/trap.py", f"def {trap.name}():")
        switch = f"[`{trap.name}`]({links['tandem/traps/trap.py']}#L{number})"
        where = f"step {first['step']}, {first['phase']}" + (f", `{first['name']}`" if first["layer"] else "")
        of = f" ({first['layer']})" if first["layer"] else ""
        lines.append(f"- **Seen:** with {switch} in the {_name(trap.framework)} twin: {where}{of}: {_size_of(first)}.")
    lines.append(f"- **Sources:** {', '.join(f'[{_label(source)}]({source})' for source in trap.sources)}")
    for framework, (file, marker) in trap.code.items():
        number, text = line_of(file, marker)
        lines += ["", f"{_name(framework)}, [{file}:{number}]({links[file]}#L{number})", "", f"```\n{text}\n```"]
    return lines


def _size_of(first):
    return size(first) if first["error"] is None else f"error {size(first)}"


def _label(source):
    """A source's path in its repository, or its address."""
    return re.sub(r"https://(github\.com/[^/]+/[^/]+/blob/[^/]+/)?", "", source, count=1)
