"""What a run folder is, and what is taken for one."""

from pathlib import Path

from tandem.core import files
from tandem.core.errors import UserError
from tandem.training import checkpoint, trust

BEFORE_CHECKPOINTS = {"config.yaml", "environment.json", "metrics.jsonl", "metrics.tmp", "events", trust.RECORD}
"""What a run writes before its first checkpoint, or begins to."""


def check(folder):
    """Refuse a folder without a checkpoint where a run folder is wanted.

    Raises:
        UserError: it holds none; the message names what it is, if that is known.
    """
    folder = Path(folder)
    if checkpoint.all_in(folder / "checkpoints"):
        return
    if (folder / "saved_model.pb").is_file():
        raise UserError(f"{folder}: a SavedModel, and not a run folder; give the run folder it was exported from")
    if (folder / "runs").is_dir() and (folder / "config.yaml").is_file():
        runs = ", ".join(path.name for path in sorted((folder / "runs").iterdir())[:2])
        raise UserError(f"{folder}: a comparison, and not a run folder; give one in {folder / 'runs'} ({runs}, ...)")
    if (folder / "certificate.html").is_file():
        raise UserError(f"{folder}: a certificate, and not a run folder; give the folder of a training run")
    if (folder / "metrics.jsonl").is_file():
        raise UserError(f"{folder}: a run that has no checkpoint yet; train it again with --run-dir {folder}")
    raise UserError(f"{folder}: not a run folder with a checkpoint; name one, or a checkpoint")


def holds_no_more_than_a_beginning(folder):
    """Whether all that `folder` holds is what a run writes before its first checkpoint; nothing is lost with it."""
    for path in Path(folder).iterdir():
        known = path.name in BEFORE_CHECKPOINTS or path.name.startswith((files.UNFINISHED, "events.out.tfevents."))
        empty = path.name == "checkpoints" and not checkpoint.all_in(path)
        if not (known or empty):
            return False
    return True
