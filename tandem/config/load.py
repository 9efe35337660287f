"""From YAML to frozen, checked settings. Every error is one line that names the file and the key."""

import copy
import difflib
from pathlib import Path
from typing import get_args

from tandem.config.schema import Config
from tandem.core.errors import UserError
from tandem.core.paths import CONFIGS

import yaml
from pydantic import ValidationError


def find_config(name):
    """The path of the config `name`: that file, or else the shipped config of this name (quickstart).

    Raises:
        UserError: it is neither; the message names similar ones.
    """
    path = Path(name)
    if path.exists() and not path.is_dir():
        return path
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
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a config ({error}); give a YAML text file") from error
    values = _parse(text, path)
    if not isinstance(values, dict):
        raise UserError(f"{path}: not a config; it must hold keys with values, as configs/quickstart.yaml does")
    return check_config(overridden(values, overrides), path)


def overridden(values, overrides):
    """`values` (a config as nested dicts) with `overrides` ("optimizer.learning_rate=0.05") applied.

    Raises:
        UserError: an override is not KEY=VALUE, or its key leads through a setting that is not a group.
    """
    values = copy.deepcopy(values)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not all(key.split(".")):
            raise UserError(f"-o {override}: not of the form KEY=VALUE, for example optimizer.learning_rate=0.05")
        *groups, last = key.split(".")
        group = values
        for name in groups:
            group = group.setdefault(name, {})
            if not isinstance(group, dict):
                raise UserError(f"-o {override}: {name} is not a group of settings; see the config")
        group[last] = _parse(text, f"-o {override}")
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


def check_config(values, origin):
    """Make a `Config` of a dict. Errors name `origin`, the file or whatever it came from.

    Raises:
        UserError: a key is unknown, missing, has moved, or has a wrong value.
    """
    moved = [f"{old} is now {new}" for old, new in MOVED.items() if _holds(values, old.split("."))]
    if moved:
        raise UserError(f"{origin}: written for an earlier version of Tandem: {', '.join(moved)}; change it")
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{origin}: {_one_line(error)}") from error


def save_config(config, path):
    """Write the config, defaults included, as YAML that `load_config` reads back as an equal `Config`."""
    Path(path).write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), encoding="utf-8")


def _holds(values, path):
    """Whether the nested dict `values` has the key at `path`."""
    for key in path:
        if not isinstance(values, dict) or key not in values:
            return False
        values = values[key]
    return True


class _Loader(yaml.SafeLoader):
    """Rejects a duplicate key; YAML's own loader takes the last one."""

    def construct_mapping(self, node, deep=False):
        """The mapping of `node`."""
        keys = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in keys:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key.value}", key.start_mark)
            keys.add(str(key.value))
        return super().construct_mapping(node, deep)


def _parse(text, origin):
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        what = getattr(error, "problem", None) or str(error)
        raise UserError(f"{origin}: {where}not YAML ({what}); fix it there") from error


def _one_line(error):
    """The first of pydantic's errors as one line, and how many more there are."""
    # Unknown keys come first: one may be a misspelt missing key.
    first, *others = sorted(error.errors(), key=lambda error: error["type"] != "extra_forbidden")
    key, _ = _walk(first["loc"])
    if first["type"] == "extra_forbidden":
        known = sorted(_walk(first["loc"][:-1])[1].model_fields)
        nearest = difflib.get_close_matches(str(first["loc"][-1]), known, n=1, cutoff=0.5)
        line = f"{key}: unknown key; " + (f"did you mean {nearest[0]}?" if nearest else f"known are {', '.join(known)}")
    elif first["type"] == "missing":
        line = f"{key}: missing; add it"
    elif first["type"] == "union_tag_not_found":
        line = f"{key}.name: missing; add it"
    elif first["type"] == "union_tag_invalid":
        line = f"{key}.name: {first['ctx']['tag']!r} is unknown; use one of {first['ctx']['expected_tags']}"
    else:
        message = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
        line = f"{key}: {message}" if key else message  # a message without a key names it itself
        if not isinstance(first["input"], dict):
            line += f", not {first['input']!r}"
    return line + (f" (and {len(others)} more)" if others else "")


def _walk(location):
    """The dotted key at pydantic's `location`, without the tags it adds for unions; and the group of settings there."""
    keys, group = [], Config
    for part in location:
        if hasattr(group, "model_fields"):
            keys.append(part)
            group = group.model_fields[part].annotation if part in group.model_fields else None
            members = [member for member in get_args(group) if hasattr(member, "model_fields")]
            group = members[0] if len(members) == 1 else group  # a group that may be null
        elif get_args(group) and isinstance(part, str):
            group = next(
                member for member in get_args(group) if part in get_args(member.model_fields["name"].annotation)
            )
        else:
            keys.append(part)
    return ".".join(str(key) for key in keys), group
