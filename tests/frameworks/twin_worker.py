"""One framework's part of test_twins.py, in a process of its own: python twin_worker.py FRAMEWORK FOLDER.

Writes NumPy files into FOLDER and prints a dict of findings as JSON.
"""

import contextlib
import json
import re
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from tandem.config import networks
from tandem.config.load import check_config
from tandem.core.errors import UserError
from tandem.data.batches import Batch
from tandem.frameworks.base import load_engine

STEPS, SIZE, CLASSES = 4, 13, 7
LEARNING_RATES = (0.1, 0.05, 0.2, 0.01)
TRICKS = {"evaluation": {"ema_decay": 0.9}, "data": {"image_size": SIZE, "augmentation": {"mixup": 0.4}}}


def settings(**changes):
    network = {"name": "se_resnext", "num_block": 1, "depth": 3, "cardinality": 2, "out_dims": [8, 16]}
    values = {
        "network": network | {"reduction_ratio": 2},
        "data": {"image_size": SIZE},  # odd, so that the last window of the pooling is cut
        "optimizer": {"nesterov": True, "weight_decay": 0.01},
        "schedule": {"name": "constant"},
        "epochs": 1,
        "label_smoothing": 0.1,
        "precision": "float64",
        "device": "cpu",
    }
    return check_config(values | changes, "test")


def batch(step, count=6):
    rng = np.random.default_rng(step)
    images = rng.integers(0, 256, (count, 3, SIZE, SIZE), dtype=np.uint8)
    return Batch(images, rng.integers(0, CLASSES, count))


def mixed(batch, weight=0.75):
    """`batch` with mixup: each image with the one before."""
    return batch._replace(permutation=np.roll(np.arange(len(batch.labels)), 1), weight=weight)


def make(engine, **changes):
    mean, std = np.array([120.0, 110, 100]), np.array([60.0, 70, 80])
    return engine.Engine(settings(**changes), CLASSES, mean.reshape(3, 1, 1), std.reshape(3, 1, 1))


def lock_step(engine, framework, folder):
    """Steps from the state that Paddle had before each; the first framework here is Paddle."""
    twin = make(engine, **TRICKS)
    np.savez(folder / f"{framework}-0.npz", **twin.state())
    for step, learning_rate in enumerate(LEARNING_RATES):
        with np.load(folder / f"paddle-{step}.npz") as arrays:
            twin.load_state(dict(arrays), "test")
        sums = twin.train_step(mixed(batch(step)), learning_rate, step).numpy()
        evaluated = twin.evaluate(batch(100, count=5)).numpy()
        np.savez(folder / f"{framework}-{step + 1}.npz", **twin.state())
        np.savez(folder / f"{framework}-sums-{step}.npz", train=sums, evaluated=evaluated)


def float32_step(engine, framework, folder):
    """The step after Paddle's first state as the training loop takes it: float32, with fused kernels."""
    twin = make(engine, precision="float32", **TRICKS)
    with np.load(folder / "paddle-1.npz") as arrays:
        twin.load_state(dict(arrays), "test")
    twin.train_step(mixed(batch(1)), LEARNING_RATES[1], 1).numpy()
    np.savez(folder / f"{framework}-float32.npz", **twin.state())


def mixes(engine, framework, folder):
    """A mixed batch; its images mixed before, where that leaves whole numbers; and the batch without mixup."""
    fours = batch(0)._replace(images=batch(0).images // 4 * 4)
    apart = mixed(fours)
    together = (3 * (fours.images // 4) + fours.images[apart.permutation] // 4).astype(np.uint8)
    start = (twin := make(engine, **TRICKS)).state()
    arrays = twin.trace(apart, 0.1, 0)
    twin.load_state(start, "test")
    of_together = twin.trace(fours._replace(images=together), 0.1, 0)["logits"]
    found = {"labels": apart.labels, "permutation": apart.permutation, "of_together": of_together}
    twin.load_state(start, "test")
    found["sums"] = twin.train_step(apart, 0.1, 0).numpy()
    twin.load_state(start, "test")
    found["plain_logits"] = twin.trace(fours, 0.1, 0)["logits"]
    twin.load_state(start, "test")
    found["plain_sums"] = twin.train_step(fours, 0.1, 0).numpy()
    np.savez(folder / f"{framework}-mixes.npz", logits=arrays["logits"], loss=arrays["loss"], **found)


def evaluations(engine, framework, folder):
    """What is evaluated with averages and mirror images, and by hand; and whether the state is again what it was."""
    twin, seen = make(engine, **TRICKS), batch(100)
    with np.load(folder / "paddle-4.npz") as arrays:
        state = dict(arrays)
    twin.load_state(state, "test")
    arrays = {"plain": twin.evaluate(seen).numpy(), "plain_flip": twin.evaluate(seen, flip=True).numpy()}
    with contextlib.suppress(KeyboardInterrupt), twin.averaged():
        arrays |= {"ema": twin.evaluate(seen).numpy(), "ema_flip": twin.evaluate(seen, flip=True).numpy()}
        raise KeyboardInterrupt
    after = twin.state()
    averages = {name.removeprefix("ema/"): array for name, array in state.items() if name.startswith("ema/")}
    twin.load_state(state | averages, "test")
    arrays["ema_by_hand"] = twin.evaluate(seen).numpy()
    arrays["logits"] = twin.trace_evaluation(seen)["logits"]
    mirrored = seen._replace(images=np.ascontiguousarray(seen.images[..., ::-1]))
    arrays["mirrored_logits"] = twin.trace_evaluation(mirrored)["logits"]
    np.savez(folder / f"{framework}-evaluations.npz", labels=seen.labels, **arrays)
    return all(after[name].tobytes() == array.tobytes() for name, array in state.items())


def loss_of(engine, framework, folder):
    """Losses and hits of chosen logits: ordinary, far apart, with ties, and not a number."""
    logits = np.random.default_rng(0).normal(size=(6, CLASSES)) * 3
    logits[1, 0], logits[2], logits[3, 4:] = 1000, 1.0, logits[3].max() + 1
    logits[4, 2] = np.nan
    labels = np.array([0, 1, 2, 5, 2, 6])
    twin = make(engine)
    if framework == "paddle":
        import paddle

        twin.model = lambda images: paddle.to_tensor(logits)
        _, losses, sums = twin._losses(Batch(batch(0).images, labels))
    else:
        import tensorflow as tf

        twin.model = lambda images, training: tf.constant(logits)
        _, losses, sums = twin._losses(batch(0).images, tf.constant(labels), training=False)
    np.savez(folder / f"{framework}-losses.npz", logits=logits, labels=labels, losses=losses.numpy(), sums=sums.numpy())


def refusals(engine, changes):
    """The error that each change of the settings gives."""
    messages = []
    for change in changes:
        try:
            make(engine, **change)
            messages.append(None)
        except UserError as error:
            messages.append(str(error))
    return messages


def wrong_states(engine):
    """The errors of a missing, an extra and a misshapen array."""
    twin = make(engine)
    state = twin.state()
    missing = {name: array for name, array in state.items() if name != "fc.bias"}
    messages = []
    for wrong in (missing, state | {"extra": np.zeros(1)}, state | {"fc.bias": np.zeros(2)}):
        try:
            twin.load_state(wrong, "test")
        except UserError as error:
            messages.append(str(error))
    unchanged = all((array == state[name]).all() for name, array in twin.state().items())
    return {"messages": messages, "unchanged": unchanged}


def grouped(folder, framework, channels):
    """kernels.conv2d with its gradients, for one and two threads, in NCHW and OIHW; in float64.

    Each of the two groups takes `channels`.
    """
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(5, 2 * channels, 7, 8)), rng.normal(size=(4, channels, 3, 3))
    if framework == "paddle":
        from tandem.frameworks.paddle import kernels

        import paddle

        results = []
        for threads in (1, 2, 8):
            kernels.set_threads(threads)
            a, b = (paddle.to_tensor(array, stop_gradient=False) for array in (x, weight))
            y = kernels.conv2d(a, b, stride=2, padding=1, groups=2)
            (y * y).sum().backward()
            results.append([y.numpy(), a.grad.numpy(), b.grad.numpy()])
    else:
        from tandem.frameworks.tensorflow import kernels

        import tensorflow as tf

        a, b = tf.Variable(x.transpose(0, 2, 3, 1)), tf.Variable(weight.transpose(2, 3, 1, 0))
        with tf.GradientTape() as tape:
            y = kernels.conv2d(a, b, stride=2, padding=1, groups=2)
            loss = tf.reduce_sum(y * y)
        of_x, of_weight = tape.gradient(loss, [a, b])
        nchw, oihw = (0, 3, 1, 2), (3, 2, 0, 1)
        results = [[y.numpy().transpose(nchw), of_x.numpy().transpose(nchw), of_weight.numpy().transpose(oihw)]]
    np.savez(
        folder / f"{framework}-grouped-{channels}.npz",
        x=x,
        weight=weight,
        **{
            f"{kind}-{index}": array
            for index, result in enumerate(results)
            for kind, array in zip(("y", "x", "weight"), result, strict=True)
        },
    )


def input_dtypes(engine):
    """By precision, the type of a keras.Input that is given none: it rounds the images to that."""
    import keras

    found = {}
    for precision in ("float32", "float64", "bfloat16"):
        engine.configure(settings(precision=precision))
        found[precision] = keras.Input((2,)).dtype
    return found


def low_precision(engine):
    """The first losses, and the loss scale, in 16 bits; and after an overflow."""
    found = {}
    for precision in ("float32", "bfloat16", "float16"):
        twin = make(engine, precision=precision)
        losses = [float(twin.train_step(batch(0), 0.05, step).numpy()[0]) for step in range(3)]
        found[precision] = {"losses": losses, "dtype": twin.model(np.zeros((1, SIZE, SIZE, 3))).dtype.name}
    before = twin.state()
    found["scale"] = float(before["loss_scale/scale"]), int(before["loss_scale/good_steps"])
    twin.load_state(before | {"loss_scale/scale": np.float32(2.0**126)}, "test")
    twin.train_step(batch(0), 0.05, 0).numpy()
    after = twin.state()
    found["overflow"] = float(after["loss_scale/scale"]), int(after["loss_scale/good_steps"])
    found["skipped"] = bool((after["fc.weight"] == before["fc.weight"]).all())
    return found


def native_saving(engine, folder, framework):
    """Whether the framework's own saving and loading give the same logits; how many numbers its summary counts."""
    images = np.random.default_rng(0).normal(size=(2, 3, SIZE, SIZE)).astype(np.float32)
    network = settings().network
    engine.configure(settings(precision="float32"))
    model = networks.build(network, framework, CLASSES)
    if framework == "paddle":
        import paddle

        paddle.save(model.state_dict(), str(folder / "model.pdparams"))
        again = networks.build(network, framework, CLASSES)
        again.set_state_dict(paddle.load(str(folder / "model.pdparams")))
        model.eval(), again.eval()
        x = paddle.to_tensor(images)
        numbers = int(paddle.summary(model, (1, 3, SIZE, SIZE))["total_params"])
    else:
        import tensorflow as tf

        x = images.transpose(0, 2, 3, 1)
        model(x)
        model.save(folder / "model.keras")
        again = tf.keras.models.load_model(folder / "model.keras")
        lines = []
        model.summary(print_fn=lines.append)
        numbers = int(re.search(r"Total params: ([\d,]+)", "\n".join(lines))[1].replace(",", ""))
    return {"same": bool((model(x).numpy() == again(x).numpy()).all()), "numbers": numbers}


if __name__ == "__main__":
    framework, folder = sys.argv[1], Path(sys.argv[2])
    engine = load_engine(framework)
    found = {"native": native_saving(engine, folder, framework)}
    lock_step(engine, framework, folder)
    float32_step(engine, framework, folder)
    mixes(engine, framework, folder)
    found["as_it_was"] = evaluations(engine, framework, folder)
    loss_of(engine, framework, folder)
    found["states"] = wrong_states(engine)
    if framework == "paddle":
        found["refused"] = refusals(engine, [{"precision": "bfloat16"}, {"precision": "float16"}, {"device": "gpu"}])
    else:
        found["refused"] = refusals(engine, [{"device": "gpu"}, {"device": "gpu:3"}])
        found["low"] = low_precision(engine)
        found["inputs"] = input_dtypes(engine)
    for channels in (3, 100):  # more than the image has pixels is TensorFlow's own path
        grouped(folder, framework, channels)
    other = {"paddle": "tensorflow", "tensorflow": "paddle"}[framework]
    found["other_loaded"] = other in sys.modules
    print(json.dumps(found))
