"""The baselines of `benchmark`: SE-ResNeXt as a Paddle user writes it from the article, `fit`, and a matrix product.

Twin of tensorflow/stock.py. It has only stock layers, one for each branch, and nothing of Tandem: neither this module
nor what it imports may set an environment variable that Paddle reads.
"""

import time

import paddle
import paddle.nn.functional as F
from paddle import nn


class ConvBN(nn.Sequential):
    """Convolution and batch norm: [N, in_channels, H, W] to [N, channels, H / stride, W / stride]."""

    def __init__(self, in_channels, channels, kernel_size, stride=1):
        super().__init__(
            nn.Conv2D(in_channels, channels, kernel_size, stride, padding=kernel_size // 2, bias_attr=False),
            nn.BatchNorm2D(channels, momentum=0.9, epsilon=1e-5),
        )


class Branch(nn.Sequential):
    """One of the branches of a block: 1x1 to `depth` channels, then 3x3."""

    def __init__(self, in_channels, depth, stride):
        super().__init__(ConvBN(in_channels, depth, 1), nn.ReLU(), ConvBN(depth, depth, 3, stride), nn.ReLU())


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
        self.branches = nn.LayerList([Branch(in_dim, depth, stride) for _ in range(cardinality)])
        self.transition = ConvBN(cardinality * depth, out_dim, 1)
        self.se = SqueezeExcitation(out_dim, reduction_ratio)
        self.extra = (out_dim - in_dim) // 2

    def forward(self, x):
        """[N, in_dim, H, W] to [N, out_dim, H or H/2, W or W/2]."""
        y = self.se(self.transition(paddle.concat([branch(x) for branch in self.branches], axis=1)))
        if self.extra:
            x = F.avg_pool2d(x, 2, ceil_mode=True)
            x = F.pad(x, [0, 0, self.extra, self.extra, 0, 0, 0, 0])
        return F.relu(y + x)


def build(num_classes, num_block, depth, out_dims, cardinality, reduction_ratio):
    """The network, a paddle.nn.Layer: float32 [N, 3, H, W] to logits [N, num_classes]. Arguments: see SE_ResNeXt."""
    features = [ConvBN(3, out_dims[0], 3), nn.ReLU()]
    in_dim = out_dims[0]
    for out_dim in out_dims:
        for _ in range(num_block):
            features.append(Block(in_dim, out_dim, depth, cardinality, reduction_ratio))
            in_dim = out_dim
    return nn.Sequential(*features, nn.AdaptiveAvgPool2D(1), nn.Flatten(), nn.Linear(in_dim, num_classes))


class StepTimer(paddle.callbacks.Callback):
    """Collects the time of each training step in `seconds`: forward, backward and update, without the wait for data."""

    def on_train_begin(self, logs=None):
        """Clear the times."""
        self.seconds = []

    def on_train_batch_begin(self, step, logs=None):
        """Start the clock."""
        self.started = time.monotonic()

    def on_train_batch_end(self, step, logs=None):
        """Stop the clock. Paddle has read the loss, so the step is done on a GPU too."""
        self.seconds.append(time.monotonic() - self.started)


class Pairs(paddle.io.Dataset):
    """Images and labels as `Model.fit` takes them."""

    def __init__(self, images, labels):
        super().__init__()
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.images[index], self.labels[index]


def train(model, images, labels, batch_size, learning_rate, momentum, nesterov, weight_decay):
    """Train one epoch with `Model.fit`; return the seconds of each step.

    `images`: float32 [N, 3, H, W], normalised; `labels`: int64 [N].
    """
    timer = StepTimer()
    trainer = paddle.Model(model)
    trainer.prepare(
        paddle.optimizer.Momentum(
            learning_rate, momentum, model.parameters(), use_nesterov=nesterov, weight_decay=weight_decay
        ),
        nn.CrossEntropyLoss(),
        paddle.metric.Accuracy(),
    )
    trainer.fit(Pairs(images, labels[:, None]), batch_size=batch_size, callbacks=[timer], verbose=0)
    return timer.seconds


def matrix_product(size, precision):
    """A function that multiplies two matrices [size, size] on the device and waits for the result."""
    matrix = paddle.randn([size, size]).astype(precision)
    return lambda: paddle.matmul(matrix, matrix)[0, 0].astype("float32").item()
