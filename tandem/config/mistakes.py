"""What is wrong with a config, in plain words: a key, and what to do about it."""

import difflib
import json
import re
from typing import NamedTuple, get_args

from tandem.config.schema import Config

from pydantic import ValidationError


class Mistake(NamedTuple):
    """A dotted key, and what is wrong there and what to do."""

    key: str
    what: str


MOST = 100
"""How many mistakes are told."""

ABBREVIATIONS = {"lr": "learning_rate", "wd": "weight_decay", "bs": "batch_size"}
"""Keys that people write and that no likeness of letters would find."""

_TYPES = {
    "bool_type": "should be true or false",
    "bool_parsing": "should be true or false",
    "dict_type": "should be a group of keys and values",
    "float_type": "should be a number, such as 0.1",
    "float_parsing": "should be a number, such as 0.1",
    "int_type": "should be a whole number, such as 10",
    "int_parsing": "should be a whole number, such as 10",
    "int_from_float": "should be a whole number, such as 10",
    "int_parsing_size": "should be a smaller number",
    "string_type": "should be text; put it in quotes",
}
"""By the type of pydantic's error, what it means where its own message speaks of Python."""


def check(values):
    """The `Config` that `values`, nested dicts, stand for, and the list of its `Mistake`s; no config if there are any.

    There are `MOST` at the most. Unknown keys come first: one may be a misspelt key that is missing.
    """
    try:
        return Config.model_validate(values), []
    except ValidationError as error:
        found = sorted(error.errors(include_url=False), key=lambda one: one["type"] != "extra_forbidden")
        return None, list(dict.fromkeys(_mistake(one, values) for one in found[:MOST]))


def nearest(name, known, cutoff=0.5):
    """The one of the texts `known` that is most like `name`, whatever its capitals and dashes, in a list; or none."""
    name = str(name).lower().replace("-", "_")
    return difflib.get_close_matches(ABBREVIATIONS.get(name, name), known, 1, cutoff)


def _mistake(error, values):
    """A `Mistake` of one of pydantic's errors."""
    kind, given = error["type"], error["input"]
    key, group = _walk(error["loc"])
    if kind == "extra_forbidden":
        return Mistake(key, _unknown(error["loc"], key, values))
    if kind == "missing" and isinstance(error["loc"][-1], int):  # in a list of fixed length
        return Mistake(key.rpartition(".")[0], f"should hold {len(get_args(group))} values, not {len(given)}")
    if kind in ("missing", "union_tag_not_found"):
        key = key if kind == "missing" else f"{key}.name"
        return Mistake(key, "missing; add it")
    if kind == "union_tag_invalid":
        name, known = error["ctx"]["tag"], re.findall("'(.*?)'", error["ctx"]["expected_tags"])
        if given["name"] is None:
            return Mistake(f"{key}.name", f"is empty; known are {', '.join(known)}")
        return Mistake(f"{key}.name", f"{_shown(name)} is unknown; {_did_you_mean(name, known)}")
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return Mistake(key, _no_group(key, group, given))
    should, _, hint = _TYPES.get(kind, "").partition(";")
    if given is None and should:
        return Mistake(key, f"{should}, but is empty; write it, or leave it out")
    if kind == "tuple_type":
        return Mistake(key, f"should be a list; write {key.rpartition('.')[2]}: [{_written(given)}]")
    if kind in ("too_long", "too_short"):
        limit, actual = error["ctx"].get("max_length", error["ctx"].get("min_length")), error["ctx"]["actual_length"]
        bound = "at most" if kind == "too_long" else "at least"
        return Mistake(key, f"should hold {bound} {limit} value{'s' * (limit != 1)}, not {actual}")
    if kind == "literal_error":
        known = re.findall("'(.*?)'", error["ctx"]["expected"])
        near = nearest(given, known) if isinstance(given, str) else []
        hint = f"; did you mean {near[0]}?" if near else ""
        expected = error["ctx"]["expected"].replace("False", "false").replace("True", "true")
        return Mistake(key, f"should be {expected}, not {_shown(given)}{hint}")
    if kind == "path":
        return Mistake(key, error["msg"])
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    # What a validator says of a whole group begins with the key.
    if (own := re.match(r"([a-z_.]+): ", message)) and kind == "value_error":
        return Mistake(".".join(filter(None, (key, own[1]))), message[own.end() :])
    if not key:
        return Mistake(key, message)
    return Mistake(key, f"{should or message}, not {_shown(given)}" + (f";{hint}" if hint else ""))


def _no_group(key, group, given):
    """What to write in place of `given` where a group of settings should be."""
    if given is None:
        return "is a group without keys; add one, or leave the group out"
    if names := _variants(group):
        near = nearest(given, names) if isinstance(given, str) else []
        known = f"; known are {', '.join(names)}" if not near else ""
        return (
            f"should be a group of settings, not {_shown(given)}; write {key}: {{name: {(near or ['NAME'])[0]}}}{known}"
        )
    return f"should be a group of keys and values, not {_shown(given)}"


def _unknown(location, key, values):
    """What to do about an unknown key: where it belongs, or which one was meant."""
    name, (above, group) = str(location[-1]), _walk(location[:-1])
    known = sorted(getattr(group, "model_fields", ()))
    if not above and not name[:1].isalpha():
        return f"unknown key; for a key that only holds an anchor, write x-{name.lstrip('._-') or 'NAME'}"
    if others := _other_variants(above, name):
        chosen = values[above].get("name")
        return f"{chosen} has no such setting, but {' and '.join(others)}; known are {', '.join(known)}"
    meant = ABBREVIATIONS.get(name.lower(), name.lower().replace("-", "_"))
    places = [path for path in _paths(Config) if path.rpartition(".")[2] == meant]
    if places and f"{above}.{meant}".lstrip(".") not in places:
        depth = min(path.count(".") for path in places)
        places = dict.fromkeys(path for path in places if path.count(".") == depth)
        first = next(iter(places))
        where = f"in {first.rpartition('.')[0]}" if "." in first else "at the top"
        return f"unknown key here; it belongs {where}: {' or '.join(places)}"
    if near := nearest(name, known):
        return f"unknown key; did you mean {near[0]}?"
    return f"unknown key; {_did_you_mean(name, list(_paths(Config)), known)}"


def _did_you_mean(name, candidates, known=None):
    """A question, if one of `candidates` is like `name`; and those that are `known`, if other than they."""
    by_name = {path.rpartition(".")[2]: path for path in reversed(candidates)}
    near = [by_name[one] for one in nearest(name, list(by_name), 0.5 if known is None else 0.7)]
    return (f"did you mean {near[0]}? " if near else "") + f"known are {', '.join(known or candidates)}"


def _paths(group, above=""):
    """All dotted keys of `group` and below, of all networks and schedules."""
    for name, field in group.model_fields.items():
        yield above + name
        for member in _members(field.annotation):
            yield from _paths(member, f"{above}{name}.")


def _members(annotation):
    """The groups of settings that a key of this type may hold: itself, or those of a union."""
    return [one for one in (annotation, *get_args(annotation)) if hasattr(one, "model_fields")]


def _variants(group):
    """The names among which a group chooses, such as those of the networks; none if it does not choose."""
    members = _members(group)
    return [_name(member) for member in members] if len(members) > 1 else []


def _other_variants(key, name):
    """The networks, or the schedules, that have a setting `name`, where `key` is "network" or "schedule"."""
    members = _members(Config.model_fields[key].annotation) if key in Config.model_fields else []
    return [_name(member) for member in members if len(members) > 1 and name in member.model_fields]


def _name(variant):
    return get_args(variant.model_fields["name"].annotation)[0]


def _walk(location):
    """The dotted key at pydantic's `location`, without the tags it adds for unions; and the group of settings there."""
    keys, group = [], Config
    for part in location:
        if hasattr(group, "model_fields"):
            keys.append(part)
            group = group.model_fields[part].annotation if part in group.model_fields else None
            members = _members(group)
            group = members[0] if len(members) == 1 else group  # a group that may be null
        elif isinstance(part, str) and len(_members(group)) > 1:
            group = next(member for member in _members(group) if _name(member) == part)
        elif part != "[key]":
            keys.append(part)
    return ".".join(_key(key) for key in keys), group


def _key(key):
    """A key as it may be shown: one that a terminal would not show as it is, or that is long, is quoted and cut."""
    text = str(key)
    return text if text.isprintable() and len(text) <= 60 else f"{text!a:.60}"


def _shown(value):
    """A value as a message shows it, as in YAML, and not too long."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "nothing"}[value]
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _written(value):
    """A value as an element of a list to be written."""
    return value if isinstance(value, str) and len(value) <= 60 and value.isprintable() else _shown(value)
