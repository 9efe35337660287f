"""Certifies the pairs of the zoo, and tells as plain values what came of it, for results/zoo.json.

At random weights and on random pixels, in float64.
"""

import re
import subprocess
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from tandem.certify.certificate import BACKWARD, DRAWN_STEPS
from tandem.certify.steps import certify
from tandem.config.load import check_config
from tandem.core.errors import UserError
from tandem.core.machine import machine
from tandem.core.paths import ROOT
from tandem.frameworks.base import FRAMEWORKS, TITLES

PAIRS = {"shipped": "", "adapted": "_adapted"}
"""The pairs of a network, and what the name of their file ends with."""

STEPS = 1
"""Training steps from the initial state. Those from a drawn state follow."""

SMALLEST = {"inception_v3": {"image_size": 75, "batch_size": 8}}
"""What a network needs more of than `USUAL`: InceptionV3 ends in one pixel, and batch norm needs a few values."""

USUAL = {"image_size": 64, "batch_size": 5}
"""Pixels a side, and images in a step."""


def certify_network(network, workers, report=None):
    """Certify both pairs of a network of the zoo: an entry of results/zoo.json, as a dict.

    Args:
        network: one of `NETWORKS`.
        workers: a `tandem.frameworks.workers.Workers`.
        report: called with the pair, and how many steps of `steps()` are done; or None.

    Raises:
        UserError: a pair cannot be built, or a framework's process stopped.
    """
    report = report or (lambda pair, done: None)
    sizes = USUAL | SMALLEST.get(network, {})
    entry = {"command": f"tandem zoo {network}", "commit": _commit(), "machine": _machine()}
    entry |= {"date": datetime.now(UTC).date().isoformat(), "steps": STEPS, **sizes}
    for number, (pair, ending) in enumerate(PAIRS.items()):
        before = number * steps()
        report(pair, before)
        certificate = certify(
            f"{network}, {pair}",
            settings(f"{network}{ending}", **sizes),
            workers,
            STEPS,
            sizes["batch_size"],
            report=lambda done, pair=pair, before=before: report(pair, before + done),
        )
        if certificate.first is not None and certificate.first["phase"] == "running":
            framework, what = certificate.first["name"], certificate.first["what"]
            hint = "; with too little memory, TMPDIR=FOLDER keeps tensors on the disk" if "SIGKILL" in what else ""
            raise UserError(f"{network}, {pair}: {TITLES[framework]} stopped: {what}{hint}")
        entry[pair] = told(certificate)
    entry["versions"] = {framework: certificate.records[framework]["version"] for framework in FRAMEWORKS}
    return entry


def steps():
    """How many training steps a pair takes in all."""
    return STEPS + DRAWN_STEPS


def right(entry):
    """Whether the pair as shipped differs in what is named, and the adapted pair does not differ."""
    shipped, adapted = (entry[pair] for pair in PAIRS)
    return shipped["verdict"] == "different" and bool(shipped["apart"]) and adapted["passed"]


def told(certificate):
    """Of a `Certificate`, what the page of the zoo says, as plain values."""
    pairing = certificate.pairing
    return {
        "passed": certificate.passed,
        "verdict": certificate.verdict,
        "paired": dict(Counter(pairing.how.values())),
        "alone": {framework: len(layers) for framework, layers in pairing.alone.items()},
        "weightless": {framework: dict(Counter(layers.values())) for framework, layers in pairing.weightless.items()},
        "apart": _grouped(certificate.apart),
        "first": certificate.first,
        "rounded": certificate.rounded,
        "forward": _worst(certificate, backward=False),
        "backward": _worst(certificate, backward=True),
        "seconds": round(certificate.seconds),
    }


def _grouped(apart):
    """The layers `apart` that differ in the same way, together: a list of dicts, in the order of their first layers.

    A group has: how many (`count`); the `first` one's name; the `types` in Paddle and TensorFlow; the `settings`, and
    the quantities (`what`), that differ; `why`; what is `only` on one side; the worst `error`, None where it is not
    finite; and whether a float32 `constant` explains all of it.
    """
    groups = {}
    for entry in apart:
        what = list(dict.fromkeys(re.sub(r"(passes back) to .*", r"\1", quantity) for quantity in entry.what))
        why = re.sub(r"^what lies between .* and \S+?(:|$)", r"what lies before it\1", entry.why)
        only = sorted({words for words in entry.what.values() if words.startswith("only in ")})
        types, settings = [entry.type, entry.theirs[1]], {x: list(y) for x, y in entry.settings.items()}
        if why.startswith("only in"):
            types[0] = types[0].partition(" ")[0]  # without its shapes
        # Not by `what`: of one mistake some quantities of a layer may be too close to tell.
        key = str((types, settings, why, only, entry.constant))
        error = entry.error if entry.error < float("inf") else None
        if key not in groups:
            groups[key] = {"count": 0, "first": entry.layer, "types": types, "settings": settings, "what": what}
            groups[key] |= {"why": why, "only": only, "error": error, "constant": entry.constant}
        group = groups[key]
        group["count"] += 1
        group["what"] += [quantity for quantity in what if quantity not in group["what"]]
        group["error"] = None if None in (error, group["error"]) else max(error, group["error"])
    return list(groups.values())


def _worst(certificate, backward):
    """The largest error of the phases that depend on gradients, or of the others; None if it is not finite."""
    errors = [x["error"] for phase, x in certificate.phases.items() if phase.endswith(BACKWARD) == backward]
    return None if None in errors else max(errors, default=0.0)


def settings(name, image_size, batch_size):
    """The config of the file `name`.py of the zoo."""
    file = Path(__file__).with_name(f"{name}.py")
    values = {
        "network": {"name": "own", "file": str(file), "options": {"image_size": image_size}},
        "data": {"image_size": image_size},
        "schedule": {"name": "constant"},
        "epochs": 1,
        "batch_size": batch_size,
        "precision": "float64",
    }
    return check_config(values, name)


def _machine():
    """The CPU and how many cores it has for us, in words."""
    here = machine()
    return f"{here['cpu']}, {here['cores']} cores"


def _commit():
    """That of the checkout, with -dirty where its files were changed; None outside of one."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=7", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
