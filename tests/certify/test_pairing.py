"""Which layer is which, from what inspection.py tells of each call."""

from tandem.certify.pairing import pair


def call(name, kind, shape, sources, arrays=None):
    return {"name": name, "kind": kind, "type": kind, "settings": {}, "shape": shape, "sources": sources} | {
        "arrays": arrays or {}
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
