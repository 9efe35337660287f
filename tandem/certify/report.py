"""The report of a certificate: a table in the terminal and an HTML page."""

import json
import math
import re
import shlex
from pathlib import Path

from tandem import traps
from tandem.certify.certificate import BACKWARD, DRAWN_STEPS
from tandem.core import files
from tandem.frameworks.base import TITLES
from tandem.report import pages
from tandem.report.pages import number

import yaml
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.table import Table

DRAWN = ("first drawn step", "second drawn step")
"""What the steps from a drawn state are called."""

NOT_IN_TABLE = ("free run", "running")
"""Phases that are not of a traced training step; all others of this kind have a colon in their name."""


def save(certificate, folder, overrides=()):
    """Write `certificate.json` and the self-contained page `certificate.html` into `folder`, each atomically.

    Of your own network also `pairing.yaml`: which layers are the same.

    Args:
        certificate: a `Certificate`.
        folder: it need not exist.
        overrides: the changes of the config that were asked for, each `KEY=VALUE`.

    Raises:
        UserError: they cannot be written.
    """
    text = json.dumps(certificate.to_dict(), indent=2) + "\n"
    files.write_file(Path(folder, "certificate.json"), text.encode())
    files.write_file(Path(folder, "certificate.html"), to_html(certificate, overrides).encode())
    if certificate.pairing is not None:
        head = "# Layers: Paddle's name, TensorFlow's. Change what is wrong, and give it back: --names pairing.yaml\n"
        names = yaml.safe_dump(certificate.pairing.layers, sort_keys=False, allow_unicode=True)
        files.write_file(Path(folder, "pairing.yaml"), (head + names).encode())


def pairing_table(certificate):
    """A rich Table of the layers that were paired, and how; and of those without a partner."""
    pairing = certificate.pairing
    table = Table(title=f"{certificate.network}: which layers are the same")
    for column in ("Paddle", "TensorFlow", "paired by"):
        table.add_column(column, overflow="fold")
    for name, theirs in pairing.layers.items():
        table.add_row(name, theirs, pairing.how[name])
    for layers in (pairing.alone, pairing.weightless):
        for name in layers.get("paddle", {}):
            table.add_row(name, "", "")
        for name in layers.get("tensorflow", {}):
            table.add_row("", name, "")
    return table


def to_table(certificate):
    """A rich Table: a row for each phase, with the tensor of its worst error."""
    steps = f"{certificate.steps} step{'s' * (certificate.steps > 1)} and {DRAWN_STEPS} from a drawn state"
    table = Table(title=f"{certificate.network}: {steps}, {certificate.batch_size} images each")
    table.add_column("phase")
    table.add_column("arrays", justify="right")
    table.add_column("worst error", justify="right")
    table.add_column("step")
    table.add_column("its tensor", overflow="fold")
    for row in folded(certificate):
        style, mark = ("red", " TOO LARGE") if row["large"] else (None, "")
        table.add_row(row["phase"], str(row["compared"]), row["error"] + mark, row["when"], row["tensor"], style=style)
    return table


def folded(certificate):
    """The phases in fewer rows, of which all `paddle trains: ...` are one, and so on: a list of dicts.

    A row has: the `phase`; how many arrays were `compared`; the worst `error` against what passes, as text; its
    `tensor` and `when`, both empty if it is 0; whether it is too `large`; whether the `first` difference is in it.
    """
    groups = {}
    for phase, entry in certificate.phases.items():
        groups.setdefault(phase.partition(":")[0], {})[phase] = entry
    first, rows = certificate.first or {"phase": ""}, []
    for group, entries in groups.items():
        worst = max(entries, key=lambda phase: _error(entries[phase]) / certificate.tolerance(phase))
        entry, kind = entries[worst], worst.partition(": ")[2]
        error, name = entry["error"], entry["name"]
        tensor = name if kind in ("", name) else f"{kind}: {name}"
        row = {"phase": titled(group), "compared": sum(entry["compared"] for entry in entries.values())}
        row |= {"error": "not comparable" if error is None else number(error)}
        row |= {"tensor": "" if error == 0 else tensor, "when": "" if error == 0 else when(certificate, worst, entry)}
        row |= {"large": _error(entry) > certificate.tolerance(worst), "first": first["phase"] in entries}
        rows.append(row)
    return rows


def verdict(certificate):
    """The result, as lines of text."""
    lines = [*map(titled, certificate.notes)]
    for framework, phases in certificate.trained.items():
        if all(entry["passed"] for entry in phases.values()):
            worst = max(phases, key=lambda phase: _error(phases[phase]) / phases[phase]["tolerance"])
            error, largest = number(phases[worst]["error"]), phases[worst]["tolerance"]
            low, high = phases[worst]["precision"], certificate.settings["precision"]
            lines.append(
                f"{TITLES[framework]} in {low} agrees with itself in {high}. "
                f"Worst: {worst}, {error}; up to {largest:g} passes"
            )
    lines += [f"{TITLES[framework]}: unsupported here: {why}" for framework, why in certificate.unsupported.items()]
    if certificate.free_run:
        lines.append(free_run(certificate))
    took = f"{certificate.seconds:.0f} s"
    if certificate.apart:
        lines.append("Layers that differ by themselves:")
        for entry in certificate.apart:
            names = traps.of_layer(entry)
            lines.append(f"  {entry}" + (f" (see {', '.join(names)})" if names else ""))
    if certificate.passed and certificate.apart:
        return [
            *lines,
            f"PASSED in {took}: same up to float32 constants. Each layer by itself differs by no more than float32 "
            f"does; all together every element is within {allowed(certificate)}",
        ]
    if certificate.passed:
        return [*lines, f"PASSED in {took}: identical. Every element is within {allowed(certificate)}"]
    if certificate.pairing is not None and certificate.pairing.guessed:
        guessed = ", ".join(f"{name}: {certificate.pairing.layers[name]}" for name in certificate.pairing.guessed)
        lines.append(f"Paired in the order of execution only; if that is wrong, give --names with them: {guessed}")
    known = _known(certificate)
    if known:
        lines.append("Known mistakes that look like this:")
        lines += [f"  {traps.TRAPS[name].title}: docs/differences.md#{name}" for name in known]
    return [*lines, f"FAILED in {took}. {failure(certificate)}"]


def _known(certificate):
    """The names of the traps that the layers which differ by themselves look like, or else the first difference."""
    of_layers = dict.fromkeys(name for entry in certificate.apart for name in traps.of_layer(entry))
    return list(of_layers) if certificate.apart else traps.known(certificate.first)


def failure(certificate):
    """What differs first, in short sentences: of the two, or else of each framework's lower precision; or nothing."""
    if certificate.first is not None:
        return " ".join(_first_difference(certificate, certificate.first))
    if certificate.verdict == "different":
        layers = [entry.layer for entry in certificate.apart if not entry.constant]
        return f"They differ in {', '.join(layers)}."
    sentences = list(_training_paths(certificate))
    if sentences:
        sentences.append(f"In {certificate.settings['precision']} the two frameworks agree.")
    return " ".join(sentences)


def _first_difference(certificate, first):
    """The sentences of `failure` for `Certificate.first`."""
    phase, name, step = first["phase"], first["name"], when(certificate, first["phase"], first)
    what = titled(first["what"])
    if phase == "running":
        yield f"{TITLES[name]} stopped, {step}: {what}."
        return
    group, _, kind = phase.partition(": ")
    framework, _, does = group.partition(" ")
    own = framework in TITLES
    if own:
        path = "training step" if does == "trains" else "evaluation"
        yield f"{TITLES[framework]}'s {path} differs from its own trace."
    yield f"First difference: {step}, {kind if own else phase.replace(': ', ', ')}."
    if name not in (phase, kind) and phase != "free run":
        of_layer = phase.endswith(("layer outputs", "output gradients"))
        yield f"{'Layer' if of_layer else 'Tensor'}: {name}{' (' + first['layer'] + ')' if first['layer'] else ''}."
    if what:
        yield f"{what[0].upper()}{what[1:]}."
    else:
        yield f"Error {number(first['error'])}; up to {certificate.tolerance(phase):g} passes."
    if own:
        yield "The traced networks agree."


def _training_paths(certificate):
    """The sentences of `failure` for `Certificate.trained`."""
    precision = certificate.settings["precision"]
    for framework, phases in certificate.trained.items():
        large = [phase for phase, entry in phases.items() if not entry["passed"]]
        if not large:
            continue
        phase, *others = large
        entry = phases[phase]
        path = "evaluation" if phase.startswith(("evaluate", "predict")) else "training step"
        yield f"In {entry['precision']}, {TITLES[framework]}'s {path} differs from its own in {precision}."
        yield f"First difference: {phase}. Tensor: {entry['name']}."
        error = "Not finite" if entry["error"] is None else f"Error {number(entry['error'])}"
        yield f"{error}; up to {entry['tolerance']:g} passes."
        if others:
            yield f"Also too large: {', '.join(others)}."


def when(certificate, phase, entry):
    """In which step the `entry` of a phase is. Those from a drawn state have names of their own.

    Evaluation follows the last step from the initial state; it also takes a drawn state, as the large batch does.
    """
    step, drawn = entry["step"], entry["step"] - certificate.steps
    if drawn < 0:
        return f"step {step}"
    if "evaluat" in phase.partition(":")[0]:
        return f"after step {step - 1}" if drawn == 0 else "drawn state"
    return DRAWN[drawn] if drawn < DRAWN_STEPS else "drawn state"


def titled(text):
    """`text` with the frameworks' titles in place of their names, but not where these are parts of other names."""
    return re.sub(rf"(?<![\w./])({'|'.join(TITLES)})(?![\w/]|\.\w)", lambda match: TITLES[match[0]], text)


def free_run(certificate):
    """How far the free run drifted apart, in a sentence."""
    steps, last = len(certificate.free_run), certificate.free_run[-1]
    return (
        f"Free run: after {steps} {'step' if steps == 1 else 'steps'} Paddle and TensorFlow differ by "
        f"{number(last['frameworks'])}; Paddle and itself, nudged in the last place, by {number(last['nudged'])}"
    )


def allowed(certificate):
    """The errors that pass, as text."""
    forward, backward = certificate.tolerances["forward"], certificate.tolerances["backward"]
    return f"{forward:g}" if forward == backward else f"{forward:g}, and {backward:g} where gradients matter"


def command(certificate, overrides):
    """The command line that certifies the same once more."""
    changes = [part for override in overrides for part in ("-o", override)]
    steps = ["--steps", certificate.steps, "--batch-size", certificate.batch_size]
    steps += ["--precision", certificate.settings["precision"]]
    return shlex.join(map(str, ["python", "-m", "tandem", "certify", certificate.network, *changes, *steps]))


def to_html(certificate, overrides=()):
    """The page: see tandem/report/pages.py."""
    first = certificate.first
    return pages.render(
        "certificate.html",
        certificate=certificate,
        allowed=allowed(certificate),
        failure=failure(certificate),
        elsewhere=first is None or ":" in first["phase"] or first["phase"] in NOT_IN_TABLE,
        known=[traps.TRAPS[name] for name in _known(certificate)],
        hints=[[traps.TRAPS[name] for name in traps.of_layer(entry)] for entry in certificate.apart],
        phases=folded(certificate),
        drawn_steps=DRAWN_STEPS,
        layers=_layers(certificate),
        notes=[*map(titled, certificate.notes)],
        errors=_draw_errors(certificate),
        free_run=free_run(certificate) if certificate.free_run else "",
        drift=_draw_free_run(certificate),
        titles=TITLES,
        command=command(certificate, overrides),
    )


def _layers(certificate):
    """Each layer of `Certificate.table`: name, type, the three errors, and which of them is too large.

    Where the two first differ, `first` says how: the layer itself, or the one that holds the parameter. Others have "".
    """
    first, rows = certificate.first or {"phase": "", "name": ""}, []
    marked = first["name"] if first["name"] in certificate.table else first["name"].rpartition(".")[0]
    in_table = first["phase"] and ":" not in first["phase"] and first["phase"] not in NOT_IN_TABLE
    for name, errors in certificate.table.items():
        cells = []
        for column, error in errors.items():
            largest = certificate.tolerances["forward" if column == "output" else "backward"]
            text = "" if error is None else titled(error) if isinstance(error, str) else number(error)
            cells.append((text, isinstance(error, str) or (error is not None and error > largest)))
        row = {"name": name or "the network itself", "type": certificate.layers.get(name.partition("#")[0], "")}
        rows.append(
            row
            | {"cells": cells, "first": titled(first["what"] or first["phase"]) if in_table and name == marked else ""}
        )
    return rows


def _draw_errors(certificate):
    """The errors of the phases that every step has, over the steps; empty if no line has two points."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots()
    steps = len(certificate.phases.get("images", {"errors": []})["errors"])
    for phase, entry in certificate.phases.items():
        if len(entry["errors"]) == steps:
            style = ".--" if phase.endswith(BACKWARD) else ".-"
            _draw_line(axes, entry["errors"], style, titled(phase))
    if not axes.lines:
        return ""
    for largest in dict.fromkeys(certificate.tolerances.values()):
        axes.axhline(largest, color="black", lw=1, ls=":", label=f"up to {largest:g} passes")
    if steps > certificate.steps:
        axes.axvspan(certificate.steps - 0.5, steps - 0.5, color="black", alpha=0.06, lw=0, label="drawn steps")
    axes.set(xlabel="step", ylabel="worst error")
    return _to_svg(figure, axes, "The worst error of each phase at every step")


def _draw_free_run(certificate):
    """The drift over the steps; empty if no line has two points."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots()
    for key, label in (
        ("frameworks", "Paddle and TensorFlow"),
        ("nudged", "Paddle and itself, nudged in the last place"),
    ):
        _draw_line(axes, [step[key] for step in certificate.free_run], ".-", label)
    if not axes.lines:
        return ""
    axes.set(xlabel="step", ylabel="largest error of a weight")
    return _to_svg(figure, axes, "How far free runs drift apart, step by step")


def _draw_line(axes, errors, style, label):
    """A line on a logarithmic axis, which has no place for 0; none where fewer than two points would be left."""
    points = [error or math.nan for error in errors]
    if sum(map(math.isfinite, points)) > 1:
        axes.semilogy(points, style, label=label, lw=1)


def _error(entry):
    """The error of an entry as a number: infinity where it is None."""
    return math.inf if entry["error"] is None else entry["error"]


def _to_svg(figure, axes, title):
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return pages.to_svg(figure, title)
