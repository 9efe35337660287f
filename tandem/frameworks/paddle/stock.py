"""The baselines of `benchmark`: each network as a Paddle user writes it, `fit`, and a matrix product.

Twin of tensorflow/stock.py. It has only stock layers, and nothing of Tandem: neither this module nor what it imports
may set an environment variable that Paddle reads. The networks have the shapes of Tandem's, and as many parameters;
SE-ResNeXt is as the article writes it, branch by branch. All take float32 [N, 3, H, W] and return logits
[N, num_classes]. The other arguments are those of Tandem's builders.
"""

import time

import paddle
import paddle.nn.functional as F
from paddle import nn


def lenet5(num_classes):
    """See lenet.py."""
    return nn.Sequential(
        nn.Conv2D(3, 6, 5),
        nn.ReLU(),
        nn.MaxPool2D(2),
        nn.Conv2D(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2D(2),
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
        nn.Conv2D(3, 20, 5),
        nn.ReLU(),
        nn.MaxPool2D(2),
        nn.Conv2D(20, 50, 5),
        nn.ReLU(),
        nn.MaxPool2D(2),
        nn.Flatten(),
        nn.Linear(1250, 512),
        nn.ReLU(),
        nn.Linear(512, num_classes),
    )


def alexnet(num_classes, kernel_size, stride, padding, lrn):
    """See alexnet.py."""
    features = nn.Sequential(
        nn.Conv2D(3, 96, kernel_size, stride, padding),
        nn.ReLU(),
        *([nn.LocalResponseNorm(5)] if lrn else []),
        nn.MaxPool2D(3, 2, ceil_mode=True),
        nn.Conv2D(96, 256, 5, padding=2),
        nn.ReLU(),
        *([nn.LocalResponseNorm(5)] if lrn else []),
        nn.MaxPool2D(3, 2, ceil_mode=True),
        nn.Conv2D(256, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2D(384, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2D(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2D(3, 2, ceil_mode=True),
        nn.Flatten(),
    )
    return nn.Sequential(
        features,
        nn.Linear(features(paddle.zeros([1, 3, 32, 32])).shape[1], 4096),
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
            layers.append(nn.Conv2D(in_channels, channels, 3, padding=1, bias_attr=False if batch_norm else None))
            layers += [nn.BatchNorm2D(channels), nn.ReLU()] if batch_norm else [nn.ReLU()]
            if conv_dropout and index < count - 1:
                layers.append(nn.Dropout(0.4 if group else 0.3))
            in_channels = channels
        layers.append(nn.MaxPool2D(2))
    layers.append(nn.Flatten())
    if batch_norm:
        layers += [nn.Dropout(dense_dropout), nn.Linear(512, 512, bias_attr=False), nn.BatchNorm1D(512), nn.ReLU()]
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
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2D(1), nn.Flatten(), nn.Linear(in_channels, num_classes))


def resnet_fast(num_classes, blocks, widths):
    """See resnet_fast.py."""
    layers, in_channels = [nn.Conv2D(3, 24, 2), nn.ReLU()], 24
    for width in widths:
        for index in range(blocks):
            layers.append(nn.Conv2D(in_channels, width, 3, padding=1, bias_attr=False))
            if not index:
                layers.append(nn.MaxPool2D(2))
            layers += [nn.BatchNorm2D(width), nn.ReLU(), Residual(conv_bn(width, width, 3), nn.Identity())]
            in_channels = width
    return nn.Sequential(*layers, nn.AdaptiveMaxPool2D(1), nn.Flatten(), Scaled(nn.Linear(in_channels, num_classes)))


def se_resnext(num_classes, num_block, depth, out_dims, cardinality, reduction_ratio):
    """See se_resnext_fluid.py."""
    layers = [conv_bn(3, out_dims[0], 3), nn.ReLU()]
    in_dim = out_dims[0]
    for out_dim in out_dims:
        for _ in range(num_block):
            layers.append(Block(in_dim, out_dim, depth, cardinality, reduction_ratio))
            in_dim = out_dim
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2D(1), nn.Flatten(), nn.Linear(in_dim, num_classes))


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


def conv_bn(in_channels, channels, kernel_size, stride=1):
    """Convolution and batch norm: [N, in_channels, H, W] to [N, channels, H / stride, W / stride]."""
    return nn.Sequential(
        nn.Conv2D(in_channels, channels, kernel_size, stride, padding=kernel_size // 2, bias_attr=False),
        nn.BatchNorm2D(channels),
    )


class Residual(nn.Layer):
    """relu(body(x) + shortcut(x))."""

    def __init__(self, body, shortcut):
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x):
        """[N, C, H, W] to the shape that both return."""
        return F.relu(self.body(x) + self.shortcut(x))


class Scaled(nn.Layer):
    """An eighth of what `layer` returns."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        """[N, in] to [N, out]."""
        return self.layer(x) * 0.125


def branch(in_channels, depth, stride):
    """One of the branches of a block: 1x1 to `depth` channels, then 3x3."""
    return nn.Sequential(conv_bn(in_channels, depth, 1), nn.ReLU(), conv_bn(depth, depth, 3, stride), nn.ReLU())


class SqueezeExcitation(nn.Layer):
    """Scale each channel by a gate, computed from the means of all channels."""

    def __init__(self, channels, reduction_ratio):
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2D(1),
            nn.Flatten(),
            nn.Linear(channels, channels // reduction_ratio),
            nn.ReLU(),
            nn.Linear(channels // reduction_ratio, channels),
            nn.Sigmoid(),
        )

    def forward(self, x):
        """[N, channels, H, W] to the same shape."""
        return x * self.gate(x).unsqueeze([2, 3])


class Block(nn.Layer):
    """Branches, transition, gate, and the shortcut: if wider, a 2x2 average pool and zero channels at both ends."""

    def __init__(self, in_dim, out_dim, depth, cardinality, reduction_ratio):
        super().__init__()
        stride = 1 if in_dim == out_dim else 2
        self.branches = nn.LayerList([branch(in_dim, depth, stride) for _ in range(cardinality)])
        self.transition = conv_bn(cardinality * depth, out_dim, 1)
        self.se = SqueezeExcitation(out_dim, reduction_ratio)
        self.extra = (out_dim - in_dim) // 2

    def forward(self, x):
        """[N, in_dim, H, W] to [N, out_dim, H or H/2, W or W/2]."""
        y = self.se(self.transition(paddle.concat([branch(x) for branch in self.branches], axis=1)))
        if self.extra:
            x = F.avg_pool2d(x, 2, ceil_mode=True)
            x = F.pad(x, [0, 0, self.extra, self.extra, 0, 0, 0, 0])
        return F.relu(y + x)


class StepTimer(paddle.callbacks.Callback):
    """Waits before each training step, and times it: forward, backward and update, without the wait for data.

    Args:
        before: is called before each step.
        after: is called after it, with its seconds.
    """

    def __init__(self, before, after):
        super().__init__()
        self.before, self.after = before, after

    def on_train_batch_begin(self, step, logs=None):
        """Wait, then start the clock."""
        self.before()
        self.started = time.monotonic()

    def on_train_batch_end(self, step, logs=None):
        """Stop the clock. Paddle has read the loss, so the step is done on a GPU too."""
        self.after(time.monotonic() - self.started)


class Pairs(paddle.io.Dataset):
    """Images and labels as `Model.fit` takes them."""

    def __init__(self, images, labels):
        super().__init__()
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.images[index], self.labels[index]


def train(model, images, labels, batch_size, before, after, learning_rate, momentum, nesterov, weight_decay):
    """Train one epoch with `Model.fit`. `before` and `after`: see `StepTimer`.

    `images`: float32 [N, 3, H, W], normalised; `labels`: int64 [N].
    """
    trainer = paddle.Model(model)
    trainer.prepare(
        paddle.optimizer.Momentum(
            learning_rate, momentum, model.parameters(), use_nesterov=nesterov, weight_decay=weight_decay
        ),
        nn.CrossEntropyLoss(),
        paddle.metric.Accuracy(),
    )
    trainer.fit(Pairs(images, labels[:, None]), batch_size=batch_size, callbacks=[StepTimer(before, after)], verbose=0)


def matrix_product(size, precision):
    """A function that multiplies two matrices [size, size] on the device and waits for the result."""
    matrix = paddle.randn([size, size]).astype(precision)
    return lambda: paddle.matmul(matrix, matrix)[0, 0].astype("float32").item()
