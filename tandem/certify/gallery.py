"""The gallery: switch each trap of tandem/traps on, certify its probe, and tell where the certificate saw it.

Those of several workers are all tried in one job a framework.
"""

import difflib
from typing import NamedTuple

from tandem import traps
from tandem.certify.replicas import to_lines, try_traps
from tandem.certify.steps import certify
from tandem.config.load import check_config
from tandem.core.errors import UserError
from tandem.traps.differences import size
from tandem.traps.trap import BATCH_SIZE, BOTH, PROBES, STEPS, WORKERS, Trap

from rich.table import Table


class Found(NamedTuple):
    """What came of a trap.

    Attributes:
        trap: a `Trap`.
        first: the certificate's first difference, or None: not caught, or not probed. Of several workers the larger of
            the two frameworks'.
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
    return Found(trap, first, _shows(trap, first))


def spring_in_workers(trapped):
    """Switch each of the traps `trapped` on in several workers, and compare them with one process: a list of `Found`.

    Raises:
        UserError: workers differ without any trap, or die.
    """
    found = []
    for probe in dict.fromkeys(trap.probe for trap in trapped):
        those = [trap for trap in trapped if trap.probe == probe]
        results = try_traps(_settings(probe), WORKERS, [trap.name for trap in those])
        clean = {framework: by_trap[None] for framework, by_trap in results.items()}
        if not all(result["passed"] for result in clean.values()):
            raise UserError(f"the probe {probe} fails without any trap: {'; '.join(to_lines(clean))}")
        for trap in those:
            firsts = [by_trap[trap.name]["first"] for by_trap in results.values()]
            wrong = [first for first in firsts if not _shows(trap, first)]
            first = wrong[0] if wrong else max(firsts, key=lambda first: first["error"])
            found.append(Found(trap, first, not wrong))
    return found


def _shows(trap, first):
    """Whether the first difference is where `trap` is known to show."""
    phase, layer = trap.shows
    return first is not None and first["phase"] == phase and layer in (None, first["layer"])


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
    versions, found, done = {}, {}, 0
    for probe in _probes(selected):
        report(f"{probe}, clean", done)
        versions = clean(probe, workers)
        done += 1
    shared = [trap for trap in selected if trap.framework == BOTH]
    for trap in selected:
        if trap.framework != BOTH:
            report(trap.name, done)
            found[trap.name] = spring(trap, workers)
            done += 1
    if shared:
        report("several workers", done)
        found |= {one.trap.name: one for one in spring_in_workers(shared)}
    return [found[trap.name] for trap in selected], versions


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
    return list(dict.fromkeys(trap.probe for trap in selected if not trap.not_probed and trap.framework != BOTH))
