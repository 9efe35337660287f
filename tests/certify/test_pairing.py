"""Which layer is which, from what inspection.py tells of each call."""

from tandem.certify.pairing import pair


def call(name, kind, shape, sources, arrays=None):
    return {"name": name, "kind": kind, "type": kind, "settings": {}, "shape": shape, "sources": sources} | {
        "container": False,
        "arrays": arrays or {},
    }


def bottleneck(names, relus):
    """Calls of a bottleneck with a shortcut: its layers called `names`, its activations `relus`."""
    first, norm, second, norm_2, third, norm_3, shortcut, norm_4 = names
    return [
        call(first, "convolution", [64, 8, 8], [-1], {"weight": [64, 64, 1, 1]}),
        call(norm, "batch norm", [64, 8, 8], [0], {"weight": [64]}),
        call(relus[0], "ReLU", [64, 8, 8], [1]),
        call(second, "convolution", [64, 8, 8], [2], {"weight": [64, 64, 3, 3]}),
        call(norm_2, "batch norm", [64, 8, 8], [3], {"weight": [64]}),
        call(relus[1], "ReLU", [64, 8, 8], [4]),
        call(third, "convolution", [256, 8, 8], [5], {"weight": [256, 64, 1, 1]}),
        call(norm_3, "batch norm", [256, 8, 8], [6], {"weight": [256]}),
        call(shortcut, "convolution", [256, 8, 8], [-1], {"weight": [256, 64, 1, 1]}),
        call(norm_4, "batch norm", [256, 8, 8], [8], {"weight": [256]}),
        call(relus[2], "ReLU", [256, 8, 8], [7, 9]),
    ]


def in_order(calls, order):
    """The `calls` in another order, in which each still comes after its sources."""
    return [
        {
            **calls[number],
            "sources": [order.index(source) if source >= 0 else -1 for source in calls[number]["sources"]],
        }
        for number in order
    ]


def test_an_activation_called_all_over_a_block_ties_nothing_together():
    ours = ["conv1", "bn1", "conv2", "bn2", "conv3", "bn3", "downsample.0", "downsample.1"]
    theirs = ["1_conv", "1_bn", "2_conv", "2_bn", "3_conv", "3_bn", "0_conv", "0_bn"]
    keras = in_order(bottleneck(theirs, ["relu_1", "relu_2", "relu_3"]), [0, 1, 2, 3, 4, 5, 8, 6, 9, 7, 10])
    pairing = pair({"paddle": bottleneck(ours, ["relu"] * 3), "tensorflow": keras})
    assert {name: pairing.layers[name] for name in ours} == dict(zip(ours, theirs, strict=True))
    assert pairing.guessed == []


def test_a_pool_called_twice_is_neither_of_two_pools():
    def stem(pools):
        return [
            call(pools[0], "max pool", [3, 8, 8], [-1]),
            call("conv", "convolution", [3, 8, 8], [0], {"weight": [3, 3, 1, 1]}),
            call(pools[1], "max pool", [3, 4, 4], [1]),
        ]

    pairing = pair({"paddle": stem(["pool", "pool"]), "tensorflow": stem(["pool_1", "pool_2"])})
    assert pairing.layers == {"conv": "conv"}
    assert pairing.weightless == {
        "paddle": {"pool": "max pool"},
        "tensorflow": dict.fromkeys(("pool_1", "pool_2"), "max pool"),
    }


def branches(names, order):
    """Calls of two convolutions of one shape, the second behind a pool, whose outputs a third takes; in this order."""
    plain, pool, pooled, end = names
    first = {
        "plain": [call(plain, "convolution", [8, 8, 8], [-1], {"weight": [8, 3, 1, 1]})],
        "pooled": [
            call(pool, "average pool", [3, 8, 8], [-1]),
            call(pooled, "convolution", [8, 8, 8], [0 if order[0] == "pooled" else 1], {"weight": [8, 3, 1, 1]}),
        ],
    }
    return [
        *first[order[0]],
        *first[order[1]],
        call(end, "convolution", [8, 8, 8], [0, 2] if order[0] == "plain" else [1, 2], {"weight": [8, 16, 3, 3]}),
    ]


def test_a_branch_behind_a_pool_is_not_the_one_without():
    found = pair(
        {
            "paddle": branches(("plain", "pool", "pooled", "end"), ("plain", "pooled")),
            "tensorflow": branches(("1", "2", "3", "4"), ("pooled", "plain")),
        }
    )
    assert found.layers == {"plain": "1", "pool": "2", "pooled": "3", "end": "4"}
    assert not found.guessed


def test_a_layer_of_a_kind_that_only_one_side_has_is_looked_through():
    """Zero padding between two activations and what reads them: by what comes before, each is told from the other."""
    ours, theirs = [], []
    for calls, padded in ((ours, False), (theirs, True)):
        source = -1
        for number, width in enumerate((8, 16)):
            weight = {"weight": [width, 8, 3, 3]}
            calls.append(call(f"conv{number}", "convolution", [width, 8, 8], [source], weight))
            calls.append(
                call(
                    f"{'x' if padded else 'relu'}{1 - number if padded else number}",
                    "ReLU",
                    [8, 8, 8],
                    [len(calls) - 1],
                )
            )
            if padded:
                calls.append(call(f"pad{number}", "own ZeroPadding2D", [8, 10, 10], [len(calls) - 1]))
            source = len(calls) - 1
    found = pair({"paddle": ours, "tensorflow": theirs})
    assert {"relu0": "x1", "relu1": "x0"}.items() <= found.layers.items()
    assert not found.guessed
    assert found.rectifying == ["relu0", "relu1"]
