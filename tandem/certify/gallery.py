"""The gallery: switch each trap of tandem/traps on, certify its probe, and tell where the certificate saw it."""

import difflib
from typing import NamedTuple

from tandem import traps
from tandem.certify.certificate import certify
from tandem.config.load import check_config
from tandem.core.errors import UserError
from tandem.traps.differences import size
from tandem.traps.trap import BATCH_SIZE, PROBES, STEPS, Trap

from rich.table import Table


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
    certificate = certify(probe, _settings(probe), workers, steps=STEPS, batch_size=BATCH_SIZE)
    if not certificate.passed:
        raise UserError(f"the probe {probe} fails without any trap: {certificate.first or certificate.trained}")
    return {framework: record["version"] for framework, record in certificate.records.items()}


def spring(trap, workers):
    """Switch `trap` on and certify its probe: a `Found`."""
    if trap.not_probed:
        return Found(trap, None, True)
    on = {trap.framework: trap.name}
    try:
        certificate = certify(trap.name, _settings(trap.probe), workers, steps=STEPS, batch_size=BATCH_SIZE, traps=on)
        first = certificate.rounded or certificate.first
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
            drawn.add_row(trap.name, "-", "", "not tried", "", "")
        elif first is None:
            drawn.add_row(trap.name, "NO", "", "", "", "")
        else:
            caught, layer = "yes" if passed else "ELSEWHERE", first["layer"] or first["name"]
            error = "-" if first["error"] is None else size(first)
            drawn.add_row(trap.name, caught, str(first["step"]), first["phase"], layer, error)
    return drawn


def _settings(probe):
    return check_config(PROBES[probe], f"the probe {probe}")


def _probes(selected):
    return list(dict.fromkeys(trap.probe for trap in selected if not trap.not_probed))
