"""The zoo: the networks that `paddle.vision.models` and `keras.applications` both ship, a module each.

The module NAME has two pairs of builders, all of (num_classes, image_size):

NAME_paddle and NAME_tensorflow make what the frameworks ship. Those are not the same network.
NAME_adapted_paddle and NAME_adapted_tensorflow make one network twice: Paddle's, its dropout off, and a twin of stock
Keras layers. Their layers run in the same order, so their weights pair off one by one, and those of either run in the
other.

DIFFERENCES tells what differs between the shipped two, as tuples of four texts: where, what Paddle has, what Keras has,
and what makes them equal. Initial weights differ as well, which matters only before the first step.

A Paddle network takes images [N, 3, H, W] of any size, a Keras network [N, image_size, image_size, 3]; both return
logits [N, num_classes]. A module loads a framework only when it builds.
"""

NETWORKS = ("vgg16", "resnet50", "mobilenet", "mobilenet_v2", "mobilenet_v3_small", "densenet121", "inception_v3")
"""The names of the modules."""
