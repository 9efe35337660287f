"""From YAML to frozen, checked settings. Every error is one line that names the file and the key."""

import copy
import difflib
from pathlib import Path

from tandem.config import mistakes, yaml_text
from tandem.config.schedules import Schedule
from tandem.core import files
from tandem.core.errors import UserError
from tandem.core.paths import CONFIGS


def find_config(name):
    """The path of the config `name`: that file, or else the shipped config of this name (quickstart).

    Raises:
        UserError: it is neither; the message names similar ones.
    """
    path = Path(name)
    if path.is_file():
        return path
    if (path / "config.yaml").is_file():
        raise UserError(f"{name}: a folder; give the config in it, {path / 'config.yaml'}")
    if path.exists() and not path.is_dir():
        raise UserError(f"{name}: a device or a pipe, not a file; give a YAML file")
    shipped = CONFIGS / f"{path.stem}.yaml"
    if str(name) in (path.stem, shipped.name) and shipped.is_file():
        return shipped
    stems = sorted(other.stem for other in CONFIGS.glob("*.yaml"))
    beside = [str(other) for other in path.parent.glob("*.yaml")]
    near = [*difflib.get_close_matches(path.stem, stems, 2), *difflib.get_close_matches(str(path), beside, 2)]
    hint = f"did you mean {' or '.join(near)}?" if near else f"give a YAML file, or one of {', '.join(stems)}"
    raise UserError(f"{name}: no such config; {hint}")


def load_config(path, overrides=()):
    """Read the config `path`, apply `overrides` ("optimizer.learning_rate=0.05"), and check: a `Config`.

    Args:
        path: a YAML file, or the name of a shipped config: see `find_config`.
        overrides: keys and values, in the order in which they are set.

    Raises:
        UserError: the file is not there, cannot be read or is not YAML, or a key is unknown, missing or wrong.
    """
    path = find_config(path)
    return parse_config(yaml_text.text_of(path, "config"), path, overrides)


def parse_config(text, origin, overrides=()):
    """The `Config` of a YAML text. Keys at its top that begin with x- are places for anchors, and are left out.

    Raises:
        UserError: see `load_config`; the message begins with `origin`, or names the override that is wrong.
    """
    values = yaml_text.read(text, origin)
    if not isinstance(values, dict):
        raise UserError(f"{origin}: not a config; it must hold keys with values, as configs/quickstart.yaml does")
    return check_config({key: value for key, value in values.items() if not key.startswith("x-")}, origin, overrides)


def overridden(values, overrides):
    """`values` (a config as nested dicts) with `overrides` ("optimizer.learning_rate=0.05") applied.

    Another network or schedule ("schedule.name=constant") takes only those keys of the old one that all have.

    Raises:
        UserError: an override is not KEY=VALUE, or its key leads through a setting that is not a group.
    """
    values = copy.deepcopy(values)
    # First the names, which drop what belongs to the others.
    for override in sorted(overrides, key=lambda override: override.partition("=")[0] not in VARIANTS):
        key, equals, text = override.partition("=")
        *groups, last = names = key.split(".")
        if not equals or not all(names) or len(names) > yaml_text.DEPTH:
            raise UserError(f"-o {override:.80}: not of the form KEY=VALUE, for example optimizer.learning_rate=0.05")
        value = yaml_text.read(text, f"-o {override:.80}", has_lines=False)
        group = values
        for name in groups:
            if group.get(name) is None:
                group[name] = {}
            group = group[name]
            if not isinstance(group, dict):
                raise UserError(f"-o {override:.200}: {name} is not a group of settings; see the config")
        if key in VARIANTS and group.get(last) != value:
            for other in group.keys() - VARIANTS[key]:
                del group[other]
        group[last] = value
    return values


MOVED = {
    "whitening": "initial_weights.whitening",
    "identity_kernels": "initial_weights.dirac",
    "ema_decay": "evaluation.ema_decay",
    "flip_tta": "evaluation.flip_tta",
    "test_period": "evaluation.period",
    "optimizer.batch_norm_bias_factor": "optimizer.parameter_groups",
    "network.max_pool": "network.name: resnet_fast",
}
"""Keys of earlier configs and checkpoints, and those that replace them."""


VARIANTS = {"network.name": {"name"}, "schedule.name": {"name", *Schedule.model_fields}}
"""Keys that choose among groups of settings, and the settings that all of these have."""


def check_config(values, origin, overrides=()):
    """Make a `Config` of a dict, with `overrides` as in `load_config`.

    Raises:
        UserError: keys are unknown, missing, have moved, or have wrong values. The message lists all; each begins with
            `origin`, the file or whatever the values came from, or with the override that is wrong.
    """
    changed = overridden(values, overrides)
    moved = [f"{old} is now {new}" for old, new in MOVED.items() if _holds(changed, old.split("."))]
    if moved:
        raise UserError(f"{origin}: written for an earlier version of Tandem: {', '.join(moved)}; change it")
    config, found = mistakes.check(changed)
    if not found:
        return config
    before = mistakes.check(values)[1] if overrides else found
    by_origin = {}
    for mistake in sorted(found, key=lambda mistake: mistake not in before):
        blamed = str(origin) if mistake in before else _to_blame(mistake.key, overrides)
        named = "" if blamed.startswith(f"-o {mistake.key}=") else mistake.key
        by_origin.setdefault(blamed, []).append(": ".join(filter(None, (named, mistake.what))))
    lines = [f"{blamed}: {_listed(whats)}" for blamed, whats in by_origin.items()]
    raise UserError("; and ".join(lines))


def _to_blame(key, overrides):
    """The option that set `key`, or a group around it or a setting in it, last; all options, if none did."""
    for override in reversed(overrides):
        name = override.partition("=")[0]
        if f"{key}.".startswith(f"{name}.") or f"{name}.".startswith(f"{key}."):
            return f"-o {override:.200}"
    return " ".join(f"-o {override:.200}" for override in overrides)


def _listed(whats):
    """One mistake as it is, several with numbers."""
    if len(whats) == 1:
        return whats[0]
    return " ".join([f"{len(whats)} mistakes:", *(f"({number}) {what}" for number, what in enumerate(whats, 1))])


def save_config(config, path):
    """Write the config, defaults included, as YAML that `load_config` reads back as an equal `Config`.

    Raises:
        UserError: the file cannot be written.
    """
    files.write_file(path, yaml_text.write(config.model_dump(mode="json")).encode())


def _holds(values, path):
    """Whether the nested dict `values` has the key at `path`."""
    for key in path:
        if not isinstance(values, dict) or key not in values:
            return False
        values = values[key]
    return True
