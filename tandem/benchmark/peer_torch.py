"""The peer of `benchmark --peer torch`: each network as a PyTorch user writes it, and its training step.

Only the peer's own process imports it. The networks have the shapes of Tandem's. They are [N, channels, H, W] with the
channels last in memory, which is PyTorch's fast layout on CPUs.
"""

import contextlib

from tandem.core.errors import UserError
from tandem.frameworks.environment import cpu_threads

import torch
import torch.nn.functional as F
from torch import nn

AUTOCAST = {"float32": contextlib.nullcontext, "bfloat16": lambda: torch.autocast("cpu", torch.bfloat16)}
"""The context of the forward pass, by precision."""


def training(settings, num_classes):
    """A function that takes a training step on images, float32 [N, 3, H, W], and labels, int64 [N], as arrays.

    Args:
        settings: a `Config`.
        num_classes: length of the logits.

    Raises:
        UserError: the precision is none of `AUTOCAST`, or the network is one's own.
    """
    network = settings.network.model_dump()
    name = network.pop("name")
    if settings.precision not in AUTOCAST:
        raise UserError(f"precision: the peer computes in {' and '.join(AUTOCAST)}, not in {settings.precision}")
    if name not in NETWORKS:
        raise UserError(f"network: the peer has no {name}; leave out --peer")
    torch.set_num_threads(cpu_threads(settings))
    model = NETWORKS[name](num_classes, **network).to(memory_format=torch.channels_last).train()
    optimizer = settings.optimizer
    update = torch.optim.SGD(
        model.parameters(),
        lr=optimizer.learning_rate,
        momentum=optimizer.momentum,
        nesterov=optimizer.nesterov,
        weight_decay=optimizer.weight_decay,
    )

    def step(images, labels):
        images = torch.from_numpy(images).contiguous(memory_format=torch.channels_last)
        with AUTOCAST[settings.precision]():
            loss = F.cross_entropy(model(images), torch.from_numpy(labels))
        update.zero_grad()
        loss.backward()
        update.step()
        return loss.item()

    return step


def lenet5(num_classes):
    """See lenet.py."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, num_classes),
    )


def simple_cnn(num_classes):
    """See lenet.py."""
    return nn.Sequential(
        nn.Conv2d(3, 20, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 50, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(1250, 512),
        nn.ReLU(),
        nn.Linear(512, num_classes),
    )


def alexnet(num_classes, kernel_size, stride, padding, lrn):
    """See alexnet.py."""
    features = nn.Sequential(
        nn.Conv2d(3, 96, kernel_size, stride, padding),
        nn.ReLU(),
        *([nn.LocalResponseNorm(5)] if lrn else []),
        Pool(),
        nn.Conv2d(96, 256, 5, padding=2),
        nn.ReLU(),
        *([nn.LocalResponseNorm(5)] if lrn else []),
        Pool(),
        nn.Conv2d(256, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        Pool(),
        nn.Flatten(),
    )
    return nn.Sequential(
        features,
        nn.Linear(features(torch.zeros(1, 3, 32, 32)).shape[1], 4096),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(4096, 4096),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(4096, num_classes),
    )


def vgg(num_classes, depth, batch_norm, conv_dropout, dense_dropout):
    """See vgg.py."""
    layers, in_channels = [], 3
    for group, count in enumerate(VGG_COUNTS[depth]):
        channels = min(64 * 2**group, 512)
        for index in range(count):
            layers.append(nn.Conv2d(in_channels, channels, 3, padding=1, bias=not batch_norm))
            layers += [nn.BatchNorm2d(channels), nn.ReLU()] if batch_norm else [nn.ReLU()]
            if conv_dropout and index < count - 1:
                layers.append(nn.Dropout(0.4 if group else 0.3))
            in_channels = channels
        layers.append(nn.MaxPool2d(2))
    layers.append(nn.Flatten())
    if batch_norm:
        layers += [nn.Dropout(dense_dropout), nn.Linear(512, 512, bias=False), nn.BatchNorm1d(512), nn.ReLU()]
        layers += [nn.Dropout(dense_dropout), nn.Linear(512, 512), nn.Linear(512, num_classes)]
    else:
        layers += [nn.Linear(512, 2048), nn.ReLU(), nn.Dropout(dense_dropout)]
        layers += [nn.Linear(2048, 2048), nn.ReLU(), nn.Dropout(dense_dropout), nn.Linear(2048, num_classes)]
    return nn.Sequential(*layers)


def resnet_cifar(num_classes, depth, bottleneck, widths):
    """See resnet_cifar.py."""
    expansion, layers_of_block = (4, 3) if bottleneck else (1, 2)
    layers, in_channels = [conv_bn(3, widths[0], 3), nn.ReLU()], widths[0]
    for stage, width in enumerate(widths):
        channels = expansion * width
        for index in range((depth - 2) // (3 * layers_of_block)):
            stride = 2 if stage and not index else 1
            if bottleneck:
                body = [conv_bn(in_channels, width, 1, stride), nn.ReLU(), conv_bn(width, width, 3), nn.ReLU()]
                body.append(conv_bn(width, channels, 1))
            else:
                body = [conv_bn(in_channels, width, 3, stride), nn.ReLU(), conv_bn(width, width, 3)]
            same = stride == 1 and in_channels == channels
            shortcut = nn.Identity() if same else conv_bn(in_channels, channels, 1, stride)
            layers.append(Residual(nn.Sequential(*body), shortcut))
            in_channels = channels
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_channels, num_classes))


def resnet_fast(num_classes, blocks, widths):
    """See resnet_fast.py."""
    layers, in_channels = [nn.Conv2d(3, 24, 2), nn.ReLU()], 24
    for width in widths:
        for index in range(blocks):
            layers.append(nn.Conv2d(in_channels, width, 3, padding=1, bias=False))
            if not index:
                layers.append(nn.MaxPool2d(2))
            layers += [nn.BatchNorm2d(width), nn.ReLU(), Residual(conv_bn(width, width, 3), nn.Identity())]
            in_channels = width
    return nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), Scaled(nn.Linear(in_channels, num_classes)))


def se_resnext(num_classes, num_block, depth, out_dims, cardinality, reduction_ratio):
    """See se_resnext_fluid.py. The branches are one grouped convolution, as in torchvision's ResNeXt."""
    layers, in_dim = [conv_bn(3, out_dims[0], 3), nn.ReLU()], out_dims[0]
    inner = cardinality * depth
    for out_dim in out_dims:
        for _ in range(num_block):
            same = in_dim == out_dim
            body = nn.Sequential(
                conv_bn(in_dim, inner, 1),
                nn.ReLU(),
                conv_bn(inner, inner, 3, 1 if same else 2, groups=cardinality),
                nn.ReLU(),
                conv_bn(inner, out_dim, 1),
                SqueezeExcitation(out_dim, reduction_ratio),
            )
            layers.append(Residual(body, nn.Identity() if same else PoolAndPad((out_dim - in_dim) // 2)))
            in_dim = out_dim
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_dim, num_classes))


NETWORKS = {
    "lenet5": lenet5,
    "simple_cnn": simple_cnn,
    "alexnet": alexnet,
    "vgg": vgg,
    "resnet_cifar": resnet_cifar,
    "resnet_fast": resnet_fast,
    "se_resnext": se_resnext,
}
"""The builders, by the network's name in a config."""

VGG_COUNTS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Convolutions in each group of a VGG, by depth."""


def conv_bn(in_channels, channels, kernel_size, stride=1, groups=1):
    """Convolution and batch norm: [N, in_channels, H, W] to [N, channels, H / stride, W / stride]."""
    padding = kernel_size // 2
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, kernel_size, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(channels),
    )


class Pool(nn.Module):
    """The largest of each window of 3 with stride 2, whose last may be cut; one pixel, which PyTorch's has no window
    for, stays as it is."""

    def forward(self, x):
        """[N, C, H, W] to [N, C, H', W']."""
        return F.max_pool2d(x, 3, 2, ceil_mode=True) if x.shape[2] > 1 else x


class Residual(nn.Module):
    """relu(body(x) + shortcut(x))."""

    def __init__(self, body, shortcut):
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x):
        """[N, C, H, W] to the shape that both return."""
        return F.relu(self.body(x) + self.shortcut(x))


class Scaled(nn.Module):
    """An eighth of what `layer` returns."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        """[N, in] to [N, out]."""
        return self.layer(x) * 0.125


class SqueezeExcitation(nn.Module):
    """Scale each channel by a gate, computed from the means of all channels."""

    def __init__(self, channels, reduction_ratio):
        super().__init__()
        hidden = channels // reduction_ratio
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, hidden, 1),
            nn.ReLU(),
            nn.Conv2d(hidden, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x):
        """[N, channels, H, W] to the same shape."""
        return x * self.gate(x)


class PoolAndPad(nn.Module):
    """2x2 means, and `extra` zero channels at both ends."""

    def __init__(self, extra):
        super().__init__()
        self.extra = extra

    def forward(self, x):
        """[N, C, H, W] to [N, C + 2 extra, H / 2, W / 2]."""
        return F.pad(F.avg_pool2d(x, 2, ceil_mode=True), [0, 0, 0, 0, self.extra, self.extra])
