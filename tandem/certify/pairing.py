"""Which layer of one framework's network is which of the other's, and which array is which.

Layers pair off by name where names and shapes agree, and by a map of yours. The rest is found: two layers of one kind
and shape are the same if they lie in the same place of the data's flow. Layers whose neighbours are paired already are
in the same place; so pairs spread from those that can be told from all others, whatever the order in which blocks are
written. Where several layers still look alike, they pair off in the order of execution, and the pairing says so.
"""

import dataclasses
import math
from collections import Counter

from tandem.certify.sameness import Difference
from tandem.config import yaml_text
from tandem.core.errors import UserError
from tandem.frameworks.base import FRAMEWORKS, TITLES

ROUNDS = 12
"""How many layers away a difference between two neighbourhoods may lie, at first: then less far."""

ALIKE = {
    "ReLU6": "ReLU",
    "leaky ReLU": "ReLU",
    "hard sigmoid": "sigmoid",
    "hard swish": "swish",
    "global max pool": "global average pool",
    "max pool": "average pool",
}
"""Kinds that a wrong port may take for each other: such layers are paired, and then differ."""

CHANNELS_LAST = ("dense", "layer norm")
"""Kinds of layers that work on the last axis in Paddle, too. Of kinds that neither side knows it is not known."""


@dataclasses.dataclass
class Pairing:
    """Which layers and arrays are the same.

    Attributes:
        layers: by Paddle's name, TensorFlow's.
        how: by Paddle's name, how the pair was found: "name", "map", "flow" or "order".
        last: by Paddle's name, whether its channels are the last axis in Paddle; only where that is known.
        arrays: by Paddle's name, TensorFlow's and the shape in Paddle.
        containers: the names of layers of layers that both have.
        rectifying: Paddle's names of the layers that are a ReLU or a ReLU6 in both. Of what comes back to them where
            they gave 0, nothing passes: it does not matter there, as at the zeros that pad a max pool behind them.
        alone: by framework, the layers without a partner that hold arrays; what they are in words.
        weightless: by framework, the layers without a partner that hold none.
        alone_arrays: by framework, the arrays of paired layers that the other does not have.
        elsewhere: by Paddle's name, TensorFlow's: arrays that layers of another make hold there; see `_elsewhere`.
    """

    layers: dict = dataclasses.field(default_factory=dict)
    how: dict = dataclasses.field(default_factory=dict)
    last: dict = dataclasses.field(default_factory=dict)
    arrays: dict = dataclasses.field(default_factory=dict)
    containers: list = dataclasses.field(default_factory=list)
    rectifying: list = dataclasses.field(default_factory=list)
    alone: dict = dataclasses.field(default_factory=dict)
    weightless: dict = dataclasses.field(default_factory=dict)
    alone_arrays: dict = dataclasses.field(default_factory=dict)
    elsewhere: dict = dataclasses.field(default_factory=dict)

    def without_partner(self):
        """A `Difference` for each array, and each layer with some, that only one framework has."""
        names = [(name, framework) for framework, found in self.alone.items() for name in found]
        names += [(name, framework) for framework, found in self.alone_arrays.items() for name in found]
        return [Difference("initial state", name, math.inf, f"only in {framework}") for name, framework in names]

    @property
    def guessed(self):
        """Paddle's names of the layers that were paired by the order of execution only."""
        return [name for name, how in self.how.items() if how == "order"]

    def renamed(self, layers, arrays):
        """What `SecondEngine.rename` takes, for TensorFlow's `layers` (names) and `arrays` (name to shape).

        Those without a partner keep their names, with a mark where a paired one has the same.
        """
        back = {theirs: ours for ours, theirs in self.layers.items()}
        of_arrays = {theirs: (ours, shape) for ours, (theirs, shape) in self.arrays.items()}
        taken = {*self.layers, *(name for name, _ in of_arrays.values())}
        own = {name: f"{name} ({TITLES['tensorflow']})" if name in taken else name for name in (*layers, *arrays)}
        layers = {name: back.get(name, own[name]) for name in layers}
        arrays = {name: of_arrays.get(name, (own[name], shape)) for name, shape in arrays.items()}
        return layers, arrays


def read_names(path):
    """Read a YAML map of layers, such as `pairing.yaml`: Paddle's names to TensorFlow's.

    Raises:
        UserError: it cannot be read, or is no such map.
    """
    return check_names(yaml_text.read(yaml_text.text_of(path, "map of layers"), path), path)


def check_names(names, origin):
    """Check that `names`, from the file `origin`, is a map of names to names, each once. Returns it.

    Raises:
        UserError: it is not.
    """
    if not isinstance(names, dict) or not all(isinstance(name, str) for pair in names.items() for name in pair):
        raise UserError(f"{origin}: not a map of layers; write Paddle's name: TensorFlow's, each as text in quotes")
    twice = {name for name in names.values() if list(names.values()).count(name) > 1}
    if twice:
        raise UserError(f"{origin}: {', '.join(sorted(twice))} is given to several layers; give each once")
    return names


def pair(calls, given=None):
    """Find the `Pairing` of two networks.

    Args:
        calls: by framework, what `layer_calls` of its inspection.py returns.
        given: a map of Paddle's names of layers to TensorFlow's; it may leave layers out.

    Raises:
        UserError: `given` names a layer that is not there.
    """
    sides = {framework: _layers(calls[framework]) for framework in FRAMEWORKS}
    first, second = sides.values()
    found = {}  # by Paddle's name: TensorFlow's, and how it was found
    for ours, theirs in (given or {}).items():
        for framework, name in zip(FRAMEWORKS, (ours, theirs), strict=True):
            if name not in sides[framework]:
                raise UserError(f"names: {name} is not a layer of the {TITLES[framework]} network; see --show-pairing")
        found[ours] = theirs, "map"
    for label in ("label", "kind", "weighted"):
        taken = {theirs for theirs, _ in found.values()}
        for name in [name for name in first if name in second and name not in found and name not in taken]:
            if getattr(first[name], label) == getattr(second[name], label):
                found[name] = name, "name"
    for label in ("label", "kind"):
        for weighted in (True, False):
            _spread(first, second, found, weighted, label)
    pairing = _pairing(first, second, found)
    kinds = [{call["name"]: call["kind"] for call in calls[framework]} for framework in FRAMEWORKS]
    pairing.rectifying = [
        ours for ours, theirs in pairing.layers.items() if {kinds[0][ours], kinds[1][theirs]} <= {"ReLU", "ReLU6"}
    ]
    for call in calls[FRAMEWORKS[0]]:
        if call["name"] in pairing.layers and (call["arrays"] or call["kind"].endswith("pool")):
            pairing.last[call["name"]] = call["kind"] in CHANNELS_LAST
    return pairing


@dataclasses.dataclass(eq=False)
class Call:
    """A call of a layer, with the calls whose outputs it takes, and those that take its own. "" is of the images."""

    layer: str
    sources: list = dataclasses.field(default_factory=list)
    readers: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Layer:
    """A layer that computes by itself. Attributes: as in `layer_calls`, and what it is, for pairing."""

    name: str
    type: str
    arrays: dict
    settings: dict
    label: tuple  # the same for what may be the same layer
    kind: str | tuple  # the same for what a wrong port may take for each other
    weighted: bool  # the same for what may be the same where the names are: whether it has arrays
    number: int
    calls: list = dataclasses.field(default_factory=list)


def _layers(calls):
    """By name, a `Layer` for each layer of `calls`.

    The flow is kept by call: one ReLU may be called all over a network, which would tie together what is far apart.
    """
    layers, made_by, images = {}, [], Call("")
    times = Counter(call["name"] for call in calls)
    for call in calls:
        if call["name"] not in layers:
            kind = call["kind"]
            main = max(call["arrays"].values(), key=math.prod, default=None)
            if call["container"]:  # which is here only if it holds arrays
                label, coarse = ("container", math.prod(main)), "container"
            elif main is None:
                # A pool that one side calls twice is two on the other: neither of these is its partner.
                label = (kind, math.prod(call["shape"]), times[call["name"]])
                # A padding of another size may be of another convolution, which here pads by itself.
                coarse = label if kind == "padding" else (ALIKE.get(kind, kind), times[call["name"]])
            elif kind in ("convolution", "dense"):
                matrix = kind == "dense" or math.prod(main[2:]) == 1
                # A dense layer is a 1x1 convolution.
                label = ("matrix", *(main[:2] if kind == "convolution" else main[::-1])) if matrix else (kind, *main)
                coarse = "product"
            elif kind.endswith("norm"):
                label, coarse = (kind, *main), "norm"
            else:
                label, coarse = ("own", math.prod(main)), "own"
            number = len(layers)
            weighted = main is not None
            made = Layer(call["name"], call["type"], call["arrays"], call["settings"], label, coarse, weighted, number)
            layers[call["name"]] = made
        this = Call(call["name"], [made_by[source] if source >= 0 else images for source in call["sources"]])
        for source in this.sources:
            source.readers.append(this)
        layers[call["name"]].calls.append(this)
        made_by.append(this)
    return layers


def _spread(first, second, found, weighted, label):
    """Add to `found` the pairs of layers with, or without, arrays that can be told from all others, and spread.

    `label` is the attribute that both of a pair have in common.
    """
    while True:
        looks = _alike(first, second, found, weighted, label)
        alone = ([group for group in groups if len(group[0]) == len(group[1]) == 1] for groups in looks)
        even = ([group for group in groups if len(group[0]) == len(group[1])] for groups in looks)
        if pairs := next(filter(None, alone), None):
            found |= {ours: (theirs, "flow") for (ours,), (theirs,) in pairs}
        elif groups := next(filter(None, even), None):
            # Several look alike: the first of them, in the order of execution.
            ours, theirs = min(groups, key=lambda group: first[group[0][0]].number)
            found[ours[0]] = theirs[0], "order"
        else:
            return


def _alike(first, second, found, weighted, label):
    """The unpaired layers of both sides in groups that look alike: lists of groups, from the widest look to none.

    A layer looks as its `label` says, and as what lies before and behind it does. A layer of a label that the other
    side does not have is looked through. A look of one width tells pools between layers first, and then it does not:
    a wrong port may lack one.
    """
    names = {framework: {} for framework in FRAMEWORKS}  # Paddle's, of those that are paired
    for ours, (theirs, _) in found.items():
        for framework, name in zip(FRAMEWORKS, (ours, theirs), strict=True):
            names[framework][name] = ours
    sides = dict(zip(FRAMEWORKS, (first, second), strict=True))
    labels = {
        framework: {getattr(layer, label) for name, layer in layers.items() if name not in names[framework]}
        for framework, layers in sides.items()
    }
    common = set.intersection(*labels.values())
    looks = {}
    for side, (framework, layers) in enumerate(sides.items()):
        paired = names[framework]
        open_ = {
            name
            for name, layer in layers.items()
            if name not in paired and bool(layer.arrays) == weighted and getattr(layer, label) in common
        }
        near = _near(layers, open_ | paired.keys())
        begin = {name: ("pair", paired[name]) if name in paired else getattr(layers[name], label) for name in near}
        for pools in (True, False):
            look = begin
            for rounds in range(ROUNDS + 1):
                if rounds:
                    further = {name: _look(name, look, near, pools) for name in near if name not in paired}
                    look = begin | further
                groups = looks.setdefault((rounds, pools), {})
                for name in layers:
                    # Where one side pads before a convolution, the other's convolution may pad by itself.
                    if name in open_ and (rounds or layers[name].label[0] != "padding"):
                        groups.setdefault(look[name], ([], []))[side].append(name)
    return [[group for group in looks[width].values() if all(group)] for width in sorted(looks, reverse=True)]


def _look(name, look, near, pools):
    """What the layer `name` looks like from one layer further away than in `look`, as a hash."""
    sides = (sorted(hash((look.get(other), pools and pool)) for other, pool in ends) for ends in near[name])
    return hash((look[name], *map(tuple, sides)))


def _near(layers, counted):
    """By name, of the layers `counted`: the nearest ones before and behind, through others, and if through a pool."""

    def reach(name, ends):
        seen, near = set(), set()
        waiting = [(other, False) for call in layers[name].calls for other in getattr(call, ends)]
        while waiting:
            call, pool = waiting.pop()
            if (call, pool) in seen:
                continue
            seen.add((call, pool))
            if not call.layer or call.layer in counted:
                near.add((call.layer, pool))
            else:
                pool = pool or "pool" in str(layers[call.layer].kind)
                waiting += [(other, pool) for other in getattr(call, ends)]
        return near

    return {name: (reach(name, "sources"), reach(name, "readers")) for name in layers if name in counted}


def _pairing(first, second, found):
    pairing = Pairing()
    for name in first:
        if name in found:
            pairing.layers[name], pairing.how[name] = found[name]
            ours, theirs = first[name], second[found[name][0]]
            pairs = [((ours, x), (theirs, y)) for x, y in _arrays(ours, theirs).items()]
            pairing.arrays |= {_full(*x): (_full(*y), ours.arrays[x[1]]) for x, y in pairs}

    def without_partner():
        """By framework, the arrays that are not paired: each layer, and the name of the array in it."""
        paired = set(pairing.arrays), {theirs for theirs, _ in pairing.arrays.values()}
        for layers, known in zip((first, second), paired, strict=True):
            arrays = ((layer, array) for layer in layers.values() for array in layer.arrays)
            yield [array for array in arrays if _full(*array) not in known]

    for ours, theirs in _elsewhere(*without_partner()):
        pairing.elsewhere[_full(*ours)] = _full(*theirs)
        pairing.arrays[_full(*ours)] = _full(*theirs), ours[0].arrays[ours[1]]
    partners = {name: name for name in pairing.layers}, {theirs: ours for ours, theirs in pairing.layers.items()}
    for framework, layers, partner, rest in zip(FRAMEWORKS, (first, second), partners, without_partner(), strict=True):
        alone, arrays = {}, []
        for layer, array in rest:
            if layer.name in partner:
                arrays.append(f"{partner[layer.name]}.{array}")
            else:
                told = alone.setdefault(layer.name or "the network itself", [layer.type])
                told.append(str(list(layer.arrays[array])))
        pairing.alone[framework] = {name: f"{kind} {', '.join(shapes)}" for name, (kind, *shapes) in alone.items()}
        pairing.alone_arrays[framework] = arrays
        bare = (layer for name, layer in layers.items() if name not in partner and not layer.arrays)
        pairing.weightless[framework] = {layer.name: layer.type for layer in bare}
    return pairing


def _full(layer, array):
    """The name of an array in the network, which itself has no name."""
    return f"{layer.name}.{array}".lstrip(".")


def _elsewhere(ours, theirs):
    """Of the arrays without a partner, those that layers of another make hold: pairs of the same shape.

    A parameter of a block on one side, such as a scale of its channels, is that of a layer of one's own on the other. A
    separable convolution is one layer in Keras, and two in Paddle. Of several of one shape, those with the same name
    pair off first, and then in order.
    """
    alike = {}
    for side, arrays in enumerate((ours, theirs)):
        for layer, array in arrays:
            shape = tuple(length for length in layer.arrays[array] if length != 1)
            alike.setdefault(shape, ([], []))[side].append((layer, array))
    for pair in alike.values():
        makes = {layer.kind for side in pair for layer, _ in side}
        if len(pair[0]) == len(pair[1]) and makes & {"own", "container"}:
            for array in pair[0]:
                partner = next((other for other in pair[1] if other[1] == array[1]), pair[1][0])
                pair[1].remove(partner)
                yield array, partner


def _arrays(ours, theirs):
    """By the last part of Paddle's name, TensorFlow's: those of equal names and shapes; then in order."""

    def fits(shape, other):
        shape, other = ([length for length in x if length != 1] for x in (shape, other))
        return shape == other or (len(shape) == 2 and shape == other[::-1])

    same = {name: name for name, shape in ours.arrays.items() if fits(shape, theirs.arrays.get(name, (0, 0)))}
    rest = [name for name in theirs.arrays if name not in same]
    for name, shape in ours.arrays.items():
        other = next((x for x in rest if fits(shape, theirs.arrays[x])), None)
        if name not in same and other is not None:
            same[name] = other
            rest.remove(other)
    return same
