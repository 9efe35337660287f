"""A third opinion on both frameworks: the networks in plain NumPy and float64, written from the papers.

Images are [N, C, H, W], weights as in tandem/core/state.py. A layer is a function `layer(x, run, name)`: it takes its
weights from `run` by `name`, and gives its output. `sequential` walks a list of named layers, and is a layer itself. So
a network is a list of names and layers, as in its two builders:

    network = sequential(("conv", conv2d(stride=2, padding=1)), ("relu", relu), ("flatten", flatten), ("fc", dense))
    run = Run(state, training=True)
    logits = network(images, run)

Nothing here is taken from the project but the dropout mask, which no paper defines.
"""

from tandem.core import dropout as hashed

import numpy as np

# Paddle keeps both as C++ float, also in float64; so this is what is meant by 0.9 and 1e-5.
MOMENTUM = float(np.float32(0.9))
EPSILON = float(np.float32(1e-5))


class Run:
    """What an evaluation needs, and what it leaves behind.

    Args:
        weights: name to array: parameters and statistics.
        training: whether batch norm uses the batch's statistics and dropout drops.
        seed, step: of dropout's masks.

    Attributes:
        outputs: name to output of each layer.
        statistics: the running statistics after this evaluation.
    """

    def __init__(self, weights, training, seed=0, step=0):
        self.weights = weights
        self.training = training
        self.seed = seed
        self.step = step
        self.outputs = {}
        self.statistics = {name: array for name, array in weights.items() if ".running_" in name}

    def __call__(self, layer, x, name):
        """The output of `layer`, which is kept."""
        y = layer(x, self, name)
        if name:
            self.outputs[name] = y
        return y


def sequential(*layers):
    """One after the other; each of `layers` is (name, layer)."""

    def layer(x, run, name=""):
        for inner, part in layers:
            x = run(part, x, f"{name}.{inner}".lstrip("."))
        return x

    return layer


def conv2d(stride, padding, groups=1):
    """y[n, o, h, w] = bias[o] + sum over i, r, s of weight[o, i, r, s] * x[n, i, h*stride + r, w*stride + s].

    A correlation, as in all deep learning (Goodfellow et al. 2016, equation 9.6), with zeros around the image; each
    group of outputs sees only its group of inputs (Krizhevsky et al. 2012, section 3.5; Xie et al. 2017, section 4).
    """

    def layer(x, run, name):
        weight = run.weights[f"{name}.weight"]
        x = np.pad(x, [(0, 0), (0, 0), (padding, padding), (padding, padding)])
        parts = [
            _correlate(part, kernel, stride)
            for part, kernel in zip(np.split(x, groups, axis=1), np.split(weight, groups), strict=True)
        ]
        y = np.concatenate(parts, axis=1)
        bias = run.weights.get(f"{name}.bias")
        return y if bias is None else y + bias[:, None, None]

    return layer


def _correlate(x, weight, stride):
    rows, columns = weight.shape[2:]
    height, width = ((size - kernel) // stride + 1 for size, kernel in zip(x.shape[2:], (rows, columns), strict=True))
    y = 0
    for r in range(rows):
        for s in range(columns):
            window = x[:, :, r : r + stride * height : stride, s : s + stride * width : stride]
            y = y + np.einsum("nihw,oi->nohw", window[:, :, :height, :width], weight[:, :, r, s], optimize=True)
    return y


def batch_norm(x, run, name):
    """Ioffe & Szegedy 2015, algorithm 1: y = gamma * (x - mean) / sqrt(variance + epsilon) + beta.

    Mean and variance are the batch's (biased: algorithm 1 divides by m) where `run.training`, else the running ones.
    The running variance is the mean of biased ones here; algorithm 2 multiplies it by m / (m - 1).
    """
    means, variances = f"{name}.running_mean", f"{name}.running_var"
    if run.training:
        mean = _by_channel(x).mean(axis=1)
        variance = _by_channel(x).var(axis=1)
        run.statistics[means] = MOMENTUM * run.weights[means] + (1 - MOMENTUM) * mean
        run.statistics[variances] = MOMENTUM * run.weights[variances] + (1 - MOMENTUM) * variance
    else:
        mean, variance = run.weights[means], run.weights[variances]
    gamma, beta = run.weights[f"{name}.weight"], run.weights[f"{name}.bias"]
    shape = (-1, *[1] * (x.ndim - 2))  # of [C], so that it broadcasts against [N, C, H, W] or [N, C]
    mean, variance, gamma, beta = (array.reshape(shape) for array in (mean, variance, gamma, beta))
    return gamma * (x - mean) / np.sqrt(variance + EPSILON) + beta


def _by_channel(x):
    return np.moveaxis(x, 1, 0).reshape(x.shape[1], -1)


def local_response_norm(size, alpha, beta):
    """Krizhevsky et al. 2012, section 3.3: b_i = a_i / (k + alpha * sum of a_j^2 from i - n/2 to i + n/2)^beta, k = 1.

    Here n is `size` (odd, cut off at the first and the last channel), and alpha is divided by it, as Caffe and Paddle
    do; the paper does not.
    """

    def layer(x, run, name):
        channels = x.shape[1]
        y = np.empty_like(x)
        for i in range(channels):
            around = x[:, max(0, i - size // 2) : min(channels, i + size // 2 + 1)]
            y[:, i] = x[:, i] / (1 + alpha / size * (around**2).sum(axis=1)) ** beta
        return y

    return layer


def max_pool(size, stride, ceil_mode=False):
    """The largest of each `size` x `size` window, `stride` apart (Krizhevsky et al. 2012, section 3.4).

    Without `ceil_mode` only whole windows; with it, also those cut by the lower and the right edge.
    """
    return _pool(np.max, size, stride, ceil_mode)


def average_pool_pad(in_channels, out_channels):
    """The shortcut where a block halves the size and widens: 2x2 means, and channels of zeros, half at either end.

    He et al. 2016, section 3.3, option A, which says zeros for the new channels; the article averages, where He et al.
    leave out. At an odd edge a mean is of those pixels that are there.
    """
    pool = _pool(np.mean, 2, 2, ceil_mode=True)
    extra = (out_channels - in_channels) // 2
    return lambda x, run, name: np.pad(pool(x, run, name), [(0, 0), (extra, extra), (0, 0), (0, 0)])


def _pool(reduce, size, stride, ceil_mode):
    def starts(length):
        # A window may begin where it still holds a pixel beyond those of the window before it, or only where it fits.
        last = length - 1 if ceil_mode else length - size
        return [start for start in range(0, last + 1, stride) if start == 0 or start + size - stride < length]

    def layer(x, run, name):
        rows = [
            np.stack([reduce(x[:, :, r : r + size, s : s + size], axis=(2, 3)) for s in starts(x.shape[3])], axis=-1)
            for r in starts(x.shape[2])
        ]
        return np.stack(rows, axis=2)

    return layer


def global_average_pool(x, run, name):
    """The mean over each channel's image, [N, C] (Lin et al. 2014, arXiv:1312.4400, section 3.2)."""
    return x.mean(axis=(2, 3))


def global_max_pool(x, run, name):
    """The largest of each channel's image, [N, C]."""
    return x.max(axis=(2, 3))


def scale(factor):
    """factor * x."""
    return lambda x, run, name: factor * x


def relu(x, run, name):
    """max(x, 0)."""
    return np.maximum(x, 0)


def flatten(x, run, name):
    """[N, C, H, W] to [N, C * H * W]: channels first, then rows, then columns."""
    return x.reshape(len(x), -1)


def dense(x, run, name):
    """x W + b, with W [in, out]; or x W alone."""
    return x @ run.weights[f"{name}.weight"] + run.weights.get(f"{name}.bias", 0)


def dropout(rate):
    """Srivastava et al. 2014, section 4, in the inverted form (section 10): what stays is divided by 1 - rate."""

    def layer(x, run, name):
        if not run.training:
            return x
        key = hashed.keys(run.seed, run.step, [name])[0]
        return x * hashed.mask(key, x.shape, rate) / (1 - rate)

    return layer


def squeeze_excitation(x, run, name):
    """Hu et al. 2018, equations 2 to 4: s = sigmoid(W2 relu(W1 z)), z the channels' means; each channel times its s."""
    z = global_average_pool(x, run, name)
    squeezed = relu(run(dense, z, f"{name}.squeeze"), run, name)
    s = 1 / (1 + np.exp(-run(dense, squeezed, f"{name}.excite")))
    return x * s[:, :, None, None]


def residual(body, shortcut=None):
    """He et al. 2016, equation 1, and figure 2: relu(F(x) + x); where there is one, `shortcut` of x (equation 2)."""

    def layer(x, run, name):
        straight = x if shortcut is None else run(shortcut, x, f"{name}.shortcut")
        return relu(run(body, x, f"{name}.body") + straight, run, name)

    return layer


def cross_entropy(logits, labels, smoothing):
    """The mean over the batch of -sum q log p, p = softmax(logits).

    q = (1 - smoothing) * [k is the label] + smoothing / K (Szegedy et al. 2016, arXiv:1512.00567, section 7).
    """
    classes = logits.shape[1]
    q = (1 - smoothing) * np.eye(classes)[labels] + smoothing / classes
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -(q * log_p).sum(axis=1).mean()


def momentum_step(weight, velocity, gradient, learning_rate, momentum, decay, nesterov):
    """(weight, velocity) after a step: Sutskever et al. 2013, equations 1 and 2, with L2 decay in the gradient.

    Nesterov's form as Bengio et al. 2013, arXiv:1212.0901, simplify it. The learning rate stays out of the velocity, so
    that the steps are as long as it says where it changes.
    """
    gradient = gradient + decay * weight
    velocity = momentum * velocity + gradient
    direction = gradient + momentum * velocity if nesterov else velocity
    return weight - learning_rate * direction, velocity


# The networks


def conv_bn(stride, padding, groups=1, activated=True, pooled=False):
    """Convolution, perhaps max pool, batch norm (Ioffe & Szegedy 2015, section 3.2: before the nonlinearity), ReLU."""
    layers = [("conv", conv2d(stride, padding, groups)), ("pool", max_pool(2, 2)), ("bn", batch_norm), ("relu", relu)]
    left_out = {"pool": not pooled, "relu": not activated}
    return sequential(*((name, layer) for name, layer in layers if not left_out.get(name)))


def se_resnext(num_block, out_dims, cardinality, **widths):
    """SE-ResNeXt: blocks as in Xie et al. 2017, figure 3c, with the gate of Hu et al. 2018, figure 3, at their end."""

    def block(in_dim, out_dim):
        stride = 1 if in_dim == out_dim else 2
        split = sequential(("reduce", conv_bn(1, 0)), ("group", conv_bn(stride, 1, cardinality)))
        transition = conv_bn(1, 0, activated=False)
        body = sequential(("split", split), ("transition", transition), ("se", squeeze_excitation))
        return residual(body, None if in_dim == out_dim else average_pool_pad(in_dim, out_dim))

    features, in_dim = [("first", conv_bn(1, 1))], out_dims[0]
    for stage, out_dim in enumerate(out_dims):
        dims = [in_dim, *[out_dim] * num_block]
        blocks = [(f"block{i + 1}", block(*dims[i : i + 2])) for i in range(num_block)]
        features.append((f"stage{stage + 1}", sequential(*blocks)))
        in_dim = out_dim
    return sequential(("features", sequential(*features)), ("average", global_average_pool), ("fc", dense))


def resnet_cifar(count, bottleneck):
    """ResNet for small images: He et al. 2016, section 4.2; blocks as in figure 5; shortcuts of option B.

    Args:
        count: blocks in each of the three stages.
        bottleneck: whether a block is 1x1, 3x3, 1x1, which widen by 4, or 3x3, 3x3.
    """

    def block(stride, changed):
        last = {"activated": False}
        if bottleneck:
            convs = conv_bn(stride, 0), conv_bn(1, 1), conv_bn(1, 0, **last)
        else:
            convs = conv_bn(stride, 1), conv_bn(1, 1, **last)
        body = sequential(*((f"conv{index}", conv) for index, conv in enumerate(convs, start=1)))
        return residual(body, conv_bn(stride, 0, **last) if changed else None)

    def stage(stride):
        blocks = [block(stride, changed=stride == 2 or bottleneck), *[block(1, changed=False)] * (count - 1)]
        return sequential(*((f"block{index}", block) for index, block in enumerate(blocks, start=1)))

    stages = ("stage1", stage(1)), ("stage2", stage(2)), ("stage3", stage(2))
    return sequential(("first", conv_bn(1, 1)), *stages, ("pool", global_average_pool), ("fc", dense))


def resnet_fast(blocks):
    """Jordan 2024, arXiv:2404.00498, section 3: patches of 2x2, and convolution, max pool, convolution.

    Beside each second convolution is an identity shortcut here, which airbench94 has not; and an eighth of the logits
    is taken, where it takes a ninth.

    Args:
        blocks: in each of the three stages; the first of them pools.
    """

    def block(pooled):
        body = conv_bn(1, 1, activated=False)
        return sequential(("conv1", conv_bn(1, 1, pooled=pooled)), ("conv2", residual(body, None)))

    stage = sequential(*((f"block{index}", block(index == 1)) for index in range(1, blocks + 1)))
    stem = sequential(("conv", conv2d(1, 0)), ("relu", relu))
    stages = ((f"stage{index}", stage) for index in (1, 2, 3))
    return sequential(("stem", stem), *stages, ("pool", global_max_pool), ("fc", dense), ("scale", scale(0.125)))


def alexnet(stride, padding):
    """AlexNet: Krizhevsky et al. 2012, section 3.5 and figure 2, in one column; dropout as in section 4.2."""
    return sequential(
        ("conv1", conv2d(stride, padding)),
        ("relu1", relu),
        ("lrn1", local_response_norm(5, 1e-4, 0.75)),
        ("pool1", max_pool(3, 2, ceil_mode=True)),
        ("conv2", conv2d(1, 2)),
        ("relu2", relu),
        ("lrn2", local_response_norm(5, 1e-4, 0.75)),
        ("pool2", max_pool(3, 2, ceil_mode=True)),
        ("conv3", conv2d(1, 1)),
        ("relu3", relu),
        ("conv4", conv2d(1, 1)),
        ("relu4", relu),
        ("conv5", conv2d(1, 1)),
        ("relu5", relu),
        ("pool5", max_pool(3, 2, ceil_mode=True)),
        ("flatten", flatten),
        ("fc6", dense),
        ("relu6", relu),
        ("dropout6", dropout(0.5)),
        ("fc7", dense),
        ("relu7", relu),
        ("dropout7", dropout(0.5)),
        ("fc8", dense),
    )


def vgg(counts):
    """VGG: Simonyan & Zisserman 2015, table 1, with batch norm and dropout. `counts` of convolutions in each group."""
    layers = []
    for group, count in enumerate(counts, start=1):
        for index in range(1, count + 1):
            layers += [(f"conv{group}_{index}", conv2d(1, 1)), (f"bn{group}_{index}", batch_norm)]
            layers.append((f"relu{group}_{index}", relu))
            if index < count:
                layers.append((f"dropout{group}_{index}", dropout(0.3 if group == 1 else 0.4)))
        layers.append((f"pool{group}", max_pool(2, 2)))
    layers += [("flatten", flatten), ("dropout6", dropout(0.5)), ("fc6", dense), ("bn6", batch_norm), ("relu6", relu)]
    return sequential(*layers, ("dropout7", dropout(0.5)), ("fc7", dense), ("fc8", dense))


def lenet(dense_layers):
    """LeNet: LeCun et al. 1998, figure 2, with ReLU and max pooling; `dense_layers` names those at its end."""
    layers = []
    for index in (1, 2):
        layers += [(f"conv{index}", conv2d(1, 0)), (f"relu{index}", relu), (f"pool{index}", max_pool(2, 2))]
    layers.append(("flatten", flatten))
    for name in dense_layers:
        layers += [(name, dense), (name.replace("fc", "relu"), relu)]
    return sequential(*layers[:-1])
