"""Your own network for test_planted.py, in which a mistake can be planted: in a layer, or in the engine that builds it.

The builder is called while the engine is built, before TensorFlow compiles anything. So one process may build engine
after engine, each with another mistake: a builder first undoes what the one before it has planted.
"""

import contextlib
from types import SimpleNamespace
from unittest import mock

from tandem.core.metrics import losses_and_ranks

import numpy as np

OF_ENGINE, OF_LAYER = {}, {}
"""The mistakes by name. Of an engine: a method and what takes its place. Of a layer: its name and the same."""


def planted_paddle(num_classes, mistake="", framework="", only=""):
    from tandem.frameworks.paddle import engine, layers

    import paddle
    from paddle import nn

    wanted = mistake if framework in ("", "paddle") else ""
    undo(engine)
    plant(engine, wanted, only)
    body = nn.Sequential(("conv", layers.Conv2D(8, 8, 3, stride=1, padding=1)), ("bn", layers.BatchNorm2D(8)))
    shortcut = nn.Sequential(("conv", layers.Conv2D(8, 8, 1, stride=1, padding=0)))
    made = {
        "conv1": layers.Conv2D(3, 8, 3, stride=1, padding=1, bias=True),
        "bn1": layers.BatchNorm2D(8),
        "relu1": nn.ReLU(),
        "dropout1": layers.Dropout(0.3),
        "block": layers.Residual(body, shortcut),
        "pool": layers.MaxPool2D(2, 2),
        "flatten": layers.Flatten(),
        "fc1": nn.Linear(8 * 4 * 4, 16),
        "relu2": nn.ReLU(),
        "dropout2": layers.Dropout(0.5),
        "fc2": nn.Linear(16, num_classes),
    }
    ops = SimpleNamespace(
        stop=lambda x: x.detach(),
        clip=lambda x, largest: x.clip(max=largest),
        count=lambda x: x.shape[0],
        number=lambda truth, x: float(truth),
        product=lambda x, layer: x @ layer.weight,
        channel=1,
        reverse=paddle.flip,
    )
    if only in ("", paddle.get_default_dtype()):
        spoil({**made, "block.shortcut": shortcut, "block.body.conv": body[0]}, wanted, "forward", ops)
    return nn.Sequential(*made.items())


def planted_tensorflow(num_classes, mistake="", framework="", only=""):
    from tandem.frameworks.tensorflow import engine, layers

    import tensorflow as tf

    wanted = mistake if framework in ("", "tensorflow") else ""
    undo(engine)
    plant(engine, wanted, only)
    body = tf.keras.Sequential(
        [layers.Conv2D(8, 8, 3, stride=1, padding=1, name="conv"), layers.BatchNorm2D(8, name="bn")], name="body"
    )
    shortcut = tf.keras.Sequential([layers.Conv2D(8, 8, 1, stride=1, padding=0, name="conv")], name="shortcut")
    made = [
        layers.Conv2D(3, 8, 3, stride=1, padding=1, bias=True, name="conv1"),
        layers.BatchNorm2D(8, name="bn1"),
        tf.keras.layers.ReLU(name="relu1"),
        layers.Dropout(0.3, name="dropout1"),
        layers.Residual(body, shortcut, name="block"),
        layers.MaxPool2D(2, 2, name="pool"),
        layers.Flatten(name="flatten"),
        tf.keras.layers.Dense(16, use_bias=True, name="fc1"),
        tf.keras.layers.ReLU(name="relu2"),
        layers.Dropout(0.5, name="dropout2"),
        tf.keras.layers.Dense(num_classes, use_bias=True, name="fc2"),
    ]
    ops = SimpleNamespace(
        stop=tf.stop_gradient,
        clip=tf.minimum,
        count=lambda x: tf.shape(x)[0],
        number=lambda truth, x: tf.cast(truth, x.dtype),
        product=lambda x, layer: x @ layer.kernel,
        channel=3,
        reverse=tf.reverse,
    )
    if only in ("", tf.keras.config.dtype_policy().name):
        named = {layer.name: layer for layer in made}
        spoil({**named, "block.shortcut": shortcut, "block.body.conv": body.layers[0]}, wanted, "call", ops)
    return tf.keras.Sequential(made)


def undo(module):
    """Undo what an earlier builder in this process has planted in an engine's `module`."""
    vars(module).setdefault("planted", contextlib.ExitStack()).close()


def plant(module, mistake, only):
    """Plant a `mistake` of the engine: in all engines, or `only` in those of one precision."""
    if mistake not in OF_ENGINE:
        return
    method, wrong = OF_ENGINE[mistake]
    right = getattr(module.Engine, method)

    def planted(engine, *arguments, **options):
        if only and only not in str(engine.dtype):
            return right(engine, *arguments, **options)
        return wrong(right, engine, *arguments, **options)

    module.planted.enter_context(mock.patch.object(module.Engine, method, planted))


def spoil(layers, mistake, method, ops):
    """Plant a `mistake` of a layer: change what its `method` returns."""
    if mistake not in OF_LAYER:
        return
    name, change = OF_LAYER[mistake]
    right = type(layers[name])

    def wrong(layer, x, **options):
        return change(ops, layer, x, lambda x: getattr(right, method)(layer, x, **options))

    # In the class: TensorFlow's engine sets and deletes the `call` of the instance, where it records the layer.
    layers[name].__class__ = type(right.__name__, (right,), {method: wrong})


def instead_of(method):
    """A decorator: enter wrong(right, engine, ...), which takes the place of the engine's `method`, called `right`."""

    def entered(wrong):
        OF_ENGINE[wrong.__name__] = method, wrong
        return wrong

    return entered


def within(method):
    """A decorator: enter a context of an engine in which `method` runs. TensorFlow compiles it there, and only once."""

    def entered(change):
        def wrong(right, engine, *arguments, **options):
            with contextlib.contextmanager(change)(engine):
                return right(engine, *arguments, **options)

        OF_ENGINE[change.__name__] = method, wrong
        return change

    return entered


def in_layer(name):
    """A decorator: enter change(ops, layer, x, right), what the layer `name` returns in place of right(x)."""

    def entered(change):
        OF_LAYER[change.__name__] = name, change
        return change

    return entered


def of_paddle(engine):
    """Whether it is Paddle's: TensorFlow's has no optimizer of its own."""
    return hasattr(engine, "optimizer")


# Of the step that trains. `trace` takes the right one.


@within("train_step")
def learning_rate_halved(engine):
    right = engine._update
    with mock.patch.object(engine, "_update", lambda *arguments: right(*arguments[:-1], arguments[-1] / 2)):
        yield


def other_settings(engine, **values):
    """A context in which settings of the update have other values."""
    if of_paddle(engine):
        names = {"momentum": "_momentum", "nesterov": "_use_nesterov", "weight_decay": "_regularization_coeff"}
        return mock.patch.multiple(engine.optimizer, **{names[name]: value for name, value in values.items()})
    return mock.patch.multiple(engine, **values)


@within("train_step")
def weight_decay_gone(engine):
    with other_settings(engine, weight_decay=0.0):
        yield


@within("train_step")
def nesterov_ignored(engine):
    with other_settings(engine, nesterov=False):
        yield


@within("train_step")
def other_momentum(engine):
    with other_settings(engine, momentum=0.8):
        yield


@within("train_step")
def smoothing_ignored(engine):
    with mock.patch.object(engine, "label_smoothing", 0.0):
        yield


@instead_of("train_step")
def dropout_mask_frozen(right, engine, batch, learning_rate, step):
    return right(engine, batch, learning_rate, 0)


@within("train_step")
def dropout_rate_frozen(engine):
    with contextlib.ExitStack() as stack:
        for layer in engine.dropouts.values():
            stack.enter_context(mock.patch.object(layer, "rate", 0.4))
        yield


@within("train_step")
def average_before_the_update(engine):
    update, average = engine._update, engine._update_ema

    def reverse(*arguments):
        average()
        update(*arguments)

    with mock.patch.multiple(engine, _update=reverse, _update_ema=lambda: None):
        yield


@within("train_step")
def gradients_clipped(engine):
    if of_paddle(engine):
        import paddle

        with mock.patch.object(engine.optimizer, "_grad_clip", paddle.nn.ClipGradByGlobalNorm(10.0)):
            yield
        return
    import tensorflow as tf

    right = engine._update
    clipped = lambda gradients, rate: right(tf.clip_by_global_norm(gradients, 10.0)[0], rate)  # noqa: E731
    with mock.patch.object(engine, "_update", clipped):
        yield


@instead_of("train_step")
def top_5_of_training(right, engine, *arguments):
    """One hit in the top 5 more, where there may be one."""
    sums = right(engine, *arguments).numpy()
    return given(np.add(sums, [0, 0, sums[2] < len(arguments[0].labels)]))


@instead_of("train_step")
def statistics_too_fast(right, engine, *arguments):
    before = engine.state()
    sums = right(engine, *arguments).numpy()
    after = engine.state()
    twice = {name: 2 * after[name] - before[name] for name in after if ".running_" in name and "/" not in name}
    engine.load_state({**after, **twice}, "state")
    return given(sums)


@instead_of("train_step")
def forgets_unless_loaded(right, engine, batch, learning_rate, step):
    """The velocities start at zero where nobody has set the state since the last step."""
    state = engine.state()
    left = getattr(engine, "left", None)
    if left is not None and all(np.array_equal(left[name], array) for name, array in state.items()):
        zeros = {name: 0 * array for name, array in state.items() if name.startswith("velocity/")}
        engine.load_state({**state, **zeros}, "state")
    sums = right(engine, batch, learning_rate, step).numpy()
    engine.left = engine.state()
    return given(sums)


# Paddle alone keeps a mode, a learning rate and gradients from one call to the next.


@instead_of("train_step")
def mode_of_training_not_set(right, engine, *arguments):
    with mock.patch.object(engine.model, "train", lambda: None):
        return right(engine, *arguments)


@instead_of("train_step")
def learning_rate_of_the_step_before(right, engine, batch, learning_rate, step):
    with mock.patch.object(engine.optimizer, "set_lr", lambda rate: None):
        sums = right(engine, batch, learning_rate, step)
    engine.optimizer.set_lr(learning_rate)
    return sums


@instead_of("train_step")
def gradients_added_up(right, engine, *arguments):
    with mock.patch.object(engine.optimizer, "clear_grad", lambda: None):
        return right(engine, *arguments)


# Of evaluation as it runs. `trace_evaluation` is right.


def given(sums):
    """What `train_step` and `evaluate` return, of sums."""
    return SimpleNamespace(numpy=lambda: np.array(sums, np.float64))


@within("evaluate")
def smoothing_ignored_in_evaluation(engine):
    with mock.patch.object(engine, "label_smoothing", 0.0):
        yield


@within("evaluate")
def evaluation_with_the_statistics_of_the_batch(engine):
    """The state stays."""
    if of_paddle(engine):
        from paddle.nn.layer import norm as module

        def wrong(x, mean, variance, *arguments, **options):
            options |= {"training": True, "use_global_stats": False}
            return right(x, mean.clone(), variance.clone(), *arguments, **options)
    else:
        from tandem.frameworks.tensorflow import kernels as module

        def wrong(*arguments):
            return right(*arguments[:-1], True)

    right = module.batch_norm
    with mock.patch.object(module, "batch_norm", wrong):
        yield


def in_training_mode(right, engine, *arguments):
    """In Paddle the mode stays what it was; TensorFlow passes it on."""
    if of_paddle(engine):
        with mock.patch.object(engine.model, "eval", lambda: None):
            return right(engine, *arguments)
    with mock.patch.object(engine, "model", lambda images, training, model=engine.model: model(images, training=True)):
        return right(engine, *arguments)


@instead_of("evaluate")
def evaluation_in_training_mode(right, engine, batch, flip=False):
    return right(engine, batch, flip) if flip else in_training_mode(right, engine, batch)


@instead_of("evaluate")
def flipped_test_in_training_mode(right, engine, batch, flip=False):
    return in_training_mode(right, engine, batch, flip) if flip else right(engine, batch)


@instead_of("predict")
def prediction_in_training_mode(right, engine, images):
    return in_training_mode(right, engine, images)


@instead_of("evaluate")
def flipped_upside_down(right, engine, batch, flip=False):
    if not flip:
        return right(engine, batch)
    logits = (engine.predict(batch.images) + engine.predict(np.ascontiguousarray(batch.images[:, :, ::-1]))) / 2
    losses, ranks = losses_and_ranks(logits, batch.labels, engine.label_smoothing)
    return given([losses.sum(), (ranks < 1).sum(), (ranks < 5).sum()])


@instead_of("evaluate")
def flipped_only(right, engine, batch, flip=False):
    return right(engine, batch._replace(images=np.ascontiguousarray(batch.images[..., ::-1])) if flip else batch)


@instead_of("evaluate")
def top_5_of_evaluation(right, engine, batch, flip=False):
    _, ranks = losses_and_ranks(engine.predict(batch.images), batch.labels, 0.0)
    loss, hits, top_5 = right(engine, batch, flip).numpy()
    return given([loss, hits, top_5 if flip else (ranks < 6).sum()])


@instead_of("evaluate")
def evaluation_of_large_batches(right, engine, batch, flip=False):
    return given(right(engine, batch, flip).numpy() * (1.01 if len(batch.labels) >= 64 else 1))


@instead_of("predict")
def prediction_of_even_batches(right, engine, images):
    return right(engine, images) * (1.01 if len(images) % 2 == 0 else 1)


@instead_of("predict")
def prediction_of_one_image(right, engine, images):
    return right(engine, images) * (1.01 if len(images) == 1 else 1)


@instead_of("predict")
def probabilities_for_logits(right, engine, images):
    logits = np.exp(right(engine, images))
    return logits / logits.sum(axis=1, keepdims=True)


@instead_of("averaged")
@contextlib.contextmanager
def statistics_not_averaged(right, engine):
    now = engine._model_variables()
    means = {name: now[name] if ".running_" in name else mean for name, mean in engine.ema.items()}
    with mock.patch.object(engine, "ema", means), right(engine):
        yield


@instead_of("averaged")
@contextlib.contextmanager
def averages_left_in_place(right, engine):
    with right(engine):
        yield
        state = engine.state()
    engine.load_state(state, "state")


def not_averaged(method):
    """A method that has the weights of now, also in `averaged`."""

    @contextlib.contextmanager
    def wrong(right, engine):
        now = engine.state()
        with right(engine):
            means, inner = engine.state(), getattr(engine, method)

            def of_now(*arguments, **options):
                engine.load_state(now, "state")
                result = inner(*arguments, **options)
                engine.load_state(means, "state")
                return result

            with mock.patch.object(engine, method, of_now):
                yield

    return wrong


OF_ENGINE["prediction_not_averaged"] = "averaged", not_averaged("predict")


@instead_of("averaged")
@contextlib.contextmanager
def flipped_test_not_averaged(right, engine):
    evaluate = engine.evaluate
    with not_averaged("evaluate")(right, engine):
        now = engine.evaluate
        choice = lambda batch, flip=False: now(batch, flip) if flip else evaluate(batch)  # noqa: E731
        with mock.patch.object(engine, "evaluate", choice):
            yield


# Of both: traced and trained alike.


@instead_of("_logits")
def images_normalised_otherwise(right, engine, *arguments, **options):
    with mock.patch.object(engine, "std", engine.std * (1 + 1e-7)):
        return right(engine, *arguments, **options)


@in_layer("relu1")
def relu6(ops, layer, x, right):
    return ops.clip(right(x), 6.0)


@in_layer("fc1")
def bias_added_twice(ops, layer, x, right):
    return right(x) + ops.stop(layer.bias)


@in_layer("relu2")
def odd_batches(ops, layer, x, right):
    return right(x) * (1 + 1e-6 * ops.number(ops.count(x) % 2 == 1, x))


@in_layer("relu2")
def even_batches(ops, layer, x, right):
    return right(x) * (1 + 1e-6 * ops.number(ops.count(x) % 2 == 0, x))


@in_layer("relu2")
def large_batches(ops, layer, x, right):
    return right(x) * (1 + 1e-6 * ops.number(ops.count(x) >= 64, x))


@in_layer("conv1")
def red_and_blue_exchanged(ops, layer, x, right):
    return right(ops.reverse(x, [ops.channel]))


@in_layer("relu1")
def gradient_stopped(ops, layer, x, right):
    return ops.stop(right(x))


@in_layer("block.shortcut")
def gradient_stopped_in_a_shortcut(ops, layer, x, right):
    return ops.stop(right(x))


@in_layer("relu2")
def gradient_halved(ops, layer, x, right):
    return right(0.5 * x + 0.5 * ops.stop(x))


@in_layer("block.body.conv")
def gradient_halved_in_a_branch(ops, layer, x, right):
    return right(0.5 * x + 0.5 * ops.stop(x))


@in_layer("fc2")
def no_gradient_of_a_bias(ops, layer, x, right):
    return ops.product(x, layer) + ops.stop(layer.bias)


@in_layer("fc2")
def zero_gradient_of_a_bias(ops, layer, x, right):
    return right(x) - layer.bias + ops.stop(layer.bias)
