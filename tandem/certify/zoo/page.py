"""The pages docs/zoo.md and docs/zoo.zh.md, from results/zoo.json and the `DIFFERENCES` of the zoo's modules.

What the pages say around these is in page.md.jinja and page.zh.md.jinja. zh.yaml has in Chinese what the modules, and
certificates, say in English.
"""

import datetime
import difflib
import importlib
import json
from pathlib import Path
from typing import Any, Literal

from tandem.certify.zoo import NETWORKS
from tandem.core.errors import UserError
from tandem.core.paths import ROOT
from tandem.traps.differences import size

import jinja2
import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from rich.table import Table

DATA = Path("results", "zoo.json")
"""In a checkout."""

SHIPPED = {
    "vgg16": ("VGG16", "vgg16", "VGG16"),
    "resnet50": ("ResNet50", "resnet50", "ResNet50"),
    "mobilenet": ("MobileNet", "mobilenet_v1", "MobileNet"),
    "mobilenet_v2": ("MobileNetV2", "mobilenet_v2", "MobileNetV2"),
    "mobilenet_v3_small": ("MobileNetV3 small", "mobilenet_v3_small", "MobileNetV3Small"),
    "densenet121": ("DenseNet121", "densenet121", "DenseNet121"),
    "inception_v3": ("InceptionV3", "inception_v3", "InceptionV3"),
}
"""A network's title, and its name in `paddle.vision.models` and in `keras.applications`."""

HERE = Path(__file__).parent


TOO_LITTLE = {"vgg16": 24}
"""Gigabytes of memory with which the adapted pair could not be certified: VGG16 has 138 million weights."""


class Record(BaseModel):
    """A piece of results/zoo.json: every field must be there, and no other may."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Group(Record):
    """Layers that differ in the same way: see `certified.told`."""

    count: int
    first: str
    types: tuple[str, str]
    settings: dict[str, tuple[Any, Any]]
    what: list[str]
    why: str
    only: list[str]
    error: float | None
    constant: bool


class Pair(Record):
    """What came of one pair: see `certified.told`."""

    passed: bool
    verdict: Literal["identical", "same up to float32 constants", "different"]
    paired: dict[Literal["name", "map", "flow", "order"], int]
    alone: dict[str, int]
    weightless: dict[str, dict[str, int]]
    apart: list[Group]
    first: dict | None
    rounded: dict | None
    forward: float | None
    backward: float | None
    seconds: int


class Entry(Record):
    """What came of a network: see `certified.certify_network`."""

    command: str
    commit: str | None
    machine: str
    date: datetime.date
    steps: int
    image_size: int
    batch_size: int
    shipped: Pair
    adapted: Pair
    versions: dict[Literal["paddle", "tensorflow"], str]


def chosen(names):
    """The networks of these names, or all.

    Raises:
        UserError: there is no such network.
    """
    for name in names or ():
        if name not in NETWORKS:
            near = difflib.get_close_matches(name, NETWORKS, n=1, cutoff=0)
            raise UserError(f"{name}: not in the zoo; did you mean {near[0]}?")
    return list(names or NETWORKS)


def load(root=ROOT):
    """The entries of results/zoo.json, by network, each as an `Entry` has it. Empty if there is no such file.

    Raises:
        UserError: it cannot be read, or is not as it must be; or this is no checkout.
    """
    path = root / DATA
    if not path.parent.is_dir():
        raise UserError(f"{path.parent}: no such folder; run this in a checkout of Tandem")
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        TypeAdapter(dict[Literal[NETWORKS], Entry]).validate_python(entries)
    except FileNotFoundError:
        return {}
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}; run tandem zoo anew") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); correct it, or remove it and run tandem zoo") from error
    return entries


def dumped(entries):
    """The text of results/zoo.json."""
    return json.dumps({name: entries[name] for name in NETWORKS if name in entries}, indent=1) + "\n"


def table(entries):
    """A rich Table: a row for each pair of the `entries`, by network."""
    drawn = Table(box=None)
    for column in ("network", "pair", "paired", "by order only", "verdict", "forward", "backward", "seconds"):
        drawn.add_column(column, justify="right" if column in ("paired", "by order only", "seconds") else "left")
    for network, entry in entries.items():
        for pair in ("shipped", "adapted"):
            found = entry[pair]
            paired = found["paired"]
            counts = str(sum(paired.values())), str(paired.get("order", 0))
            errors = (_error(found[way]) for way in ("forward", "backward"))
            drawn.add_row(network, pair, *counts, found["verdict"], *errors, str(found["seconds"]))
    return drawn


def pages(entries, root=ROOT):
    """The pages' texts, by their paths in the checkout `root`.

    Args:
        entries: of `load`.
        root: a folder.
    """
    return {root / "docs" / f"zoo{suffix}.md": _page(entries, suffix) for suffix in ("", ".zh")}


def chinese():
    """The texts in Chinese, by the English: those of `differences`, and those of `certificates`."""
    return yaml.safe_load((HERE / "zh.yaml").read_text(encoding="utf-8"))


def _page(entries, suffix):
    texts = chinese() if suffix else {"differences": {}, "certificates": {}}
    environment = jinja2.Environment(
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined
    )
    networks = [
        {
            "name": name,
            "title": SHIPPED[name][0],
            "paddle": SHIPPED[name][1],
            "keras": SHIPPED[name][2],
            "differences": [
                [_cell(texts["differences"].get(text, text)) for text in row]
                for row in importlib.import_module(f"tandem.certify.zoo.{name}").DIFFERENCES
            ],
            "certified": name in entries,
            "memory": TOO_LITTLE.get(name),
            **entries.get(name, {}),
        }
        for name in NETWORKS
    ]
    environment.filters |= {"error": _error, "cell": _cell, "types": _types, "kinds": _kinds}
    environment.filters["said"] = lambda text: texts["certificates"].get(text, text)
    environment.filters["settings"] = _settings
    template = (HERE / f"page{suffix}.md.jinja").read_text(encoding="utf-8")
    return environment.from_string(template).render(networks=networks)


def _error(error):
    """An error with one digit, or a dash where it is not finite."""
    if not error:
        return "-" if error is None else "0"
    return size({"error": error, "phase": ""})


def _cell(text):
    """`text` within a cell of a table, where | would end it."""
    return text.replace("|", r"\|")


def _types(types):
    """A layer's class in both frameworks, or its one class."""
    ours, theirs = types
    named = [f"`{name}`" for name in dict.fromkeys(filter(None, (ours, theirs)))]
    return " / ".join(named)


def _kinds(counts, comma=", "):
    """How many layers of which classes: `2 Rescaling, 1 Flatten`."""
    return comma.join(f"{count} {kind}" for kind, count in sorted(counts.items()))


def _settings(settings):
    """Each setting that differs: `epsilon 1e-05 / 0.001`."""
    return "; ".join(f"{name} {ours} / {theirs}" for name, (ours, theirs) in settings.items())
