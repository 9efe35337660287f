"""The zoo: the networks that `paddle.vision.models` and `keras.applications` both ship, two modules each.

NAME.py has the builders NAME_paddle and NAME_tensorflow of what the frameworks ship. Those are not the same network.
Its DIFFERENCES tells what differs, as tuples of four texts: where, what Paddle has, what Keras has, and what makes them
equal. Initial weights differ as well, which matters only before the first step.

NAME_adapted.py has the builders NAME_adapted_paddle and NAME_adapted_tensorflow of one network twice: Paddle's, its
dropout off, and a twin of stock Keras layers. Their layers run in the same order, so their weights pair off one by one,
and those of either run in the other.

All builders take (num_classes, image_size). A Paddle network takes images [N, 3, H, W] of any size, a Keras network
[N, image_size, image_size, 3]; both return logits [N, num_classes]. A module loads a framework only when it builds. So
each file is one that the commands take: `tandem certify tandem/certify/zoo/resnet50_adapted.py`.

certified.py certifies them, and page.py writes docs/zoo.md.
"""

NETWORKS = ("vgg16", "resnet50", "mobilenet", "mobilenet_v2", "mobilenet_v3_small", "densenet121", "inception_v3")
"""The names of the modules."""
