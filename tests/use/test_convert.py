"""Checkpoints to .pdparams and .keras and back, bit for bit; and files that are none of these."""

import io
import os
import pickle
import resource
import subprocess
import sys
import zipfile

from tandem.config import networks
from tandem.config.load import check_config, save_config
from tandem.config.schema import Evaluation
from tandem.core import files
from tandem.core.errors import UserError
from tandem.core.paths import ROOT
from tandem.frameworks.base import load_engine
from tandem.training import checkpoint, trust
from tandem.use import convert

import h5py
import numpy as np
import pytest
import yaml

NETWORK = {"name": "se_resnext", "num_block": 1, "depth": 2, "cardinality": 2, "out_dims": [4], "reduction_ratio": 2}
LENET_LAYERS = ("conv1", "conv2", "fc3", "fc4", "fc5")
VALUES = {
    "network": NETWORK,
    "data": {"source": "digits", "image_size": 9},
    "schedule": {"name": "constant"},
    "epochs": 1,
    "threads": 1,
}


# In a framework's process


def framework_state(framework, settings):
    engine = load_engine(framework).Engine(settings, 10, np.zeros((3, 1, 1)), np.ones((3, 1, 1)))
    return engine.state()


def native_logits(framework, settings, path, images):
    """What a user of `framework` gets from `path` without Tandem's engine."""
    load_engine(framework).configure(settings)
    model = networks.build(settings.network, framework, 10)
    if framework == "paddle":
        import paddle

        state = paddle.load(str(path))
        unused, missing = model.set_state_dict(state)
        assert not unused and not missing
        model.eval()
        return model(paddle.to_tensor(images)).numpy()
    import tensorflow as tf

    return tf.keras.models.load_model(path)(images.transpose(0, 2, 3, 1)).numpy()


def resumed(framework, settings, folder, path):
    """What a run that resumes from `path` stands at."""
    from tandem.training.loop import Run

    run = Run(settings, framework, folder, (path, *checkpoint.read(path)))
    return run.step, run.best, run.engine.state()


def on_a_full_disk(*arguments):
    """The error of `convert._write` where no file may grow beyond 500 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))
    try:
        convert._write(*arguments)
    except UserError as error:
        return str(error)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def save_in_protocol_2(path, again):
    import paddle

    paddle.save(paddle.load(str(path)), str(again), protocol=2)


def save_another_model(path):
    import tensorflow as tf

    model = tf.keras.Sequential([tf.keras.layers.Input([4]), tf.keras.layers.Dense(2, name="fc")])
    model.save(path)


def save_a_users_lenet(path, change):
    """LeNet-5 as a Keras user writes it, with the names that configs/lenet5.yaml has; `change` is made to it."""
    import tensorflow as tf

    layers = tf.keras.layers
    tf.keras.config.set_dtype_policy("mixed_bfloat16" if change == "policy" else "float32")
    model = tf.keras.Sequential([layers.Input([32, 32, 3])])
    for index, channels in ((1, 6), (2, 16)):
        model.add(layers.Conv2D(channels, 5, activation="relu", name=f"conv{index}"))
        model.add(layers.AveragePooling2D(2) if change == "pooling" else layers.MaxPooling2D(2))
    if change != "flatten":
        model.add(layers.Permute([3, 1, 2]))
    model.add(layers.Flatten())
    for name, width in (("fc3", 120), ("fc4", 84)):
        model.add(layers.Dense(width, activation="relu", name=name))
        model.add(layers.Dropout(0.5))
    model.add(layers.Dense(10, activation="softmax", name="fc5"))
    model.compile("adam", "categorical_crossentropy")
    model.save(path)
    return model.get_layer("conv2").kernel.numpy()


def loaded(other):
    return other in sys.modules


# In the test's


@pytest.fixture(autouse=True)
def kept_processes(monkeypatch, run_in):
    monkeypatch.setattr(convert, "_in_process", run_in)


def settings_of(precision):
    return check_config(VALUES | {"precision": precision}, "test")


@pytest.fixture(scope="module")
def made(tmp_path_factory, run_in):
    """For each precision, a folder with a run's checkpoint and its conversions, each of a letter more than its source.

    run/ -> p.pdparams -> pk.keras -> pkp.pdparams; p -> ps.safetensors; run/ -> k.keras -> ks.safetensors
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convert, "_in_process", run_in)
        folders = {}
        for precision in ("float32", "float64"):
            folder = folders[precision] = tmp_path_factory.mktemp(precision)
            settings = settings_of(precision)
            save_config(settings, folder / "config.yaml")
            rng = np.random.default_rng(0)
            state = run_in("paddle", framework_state, "paddle", settings)
            state = {name: rng.normal(1, 0.1, array.shape).astype(precision) for name, array in state.items()}
            arrays, metadata = convert._for_resuming(settings, "paddle")
            checkpoints = folder / "run" / "checkpoints"
            metadata |= {"epoch": 1, "step": 7}
            checkpoint.write(checkpoints / checkpoint.file_name(7), state | arrays, metadata)
            trust.record(folder / "run", settings)
            (checkpoints / checkpoint.file_name(8)).write_bytes(b"cut off")
            warnings = []
            for source, target in (
                ("run", "p.pdparams"),
                ("p.pdparams", "pk.keras"),
                ("pk.keras", "pkp.pdparams"),
                ("p.pdparams", "ps.safetensors"),
                ("run", "k.keras"),
                ("k.keras", "ks.safetensors"),
            ):
                named = None if source == "run" else folder / "config.yaml"
                line = convert.convert(folder / source, folder / target, named, warn=warnings.append)
                assert (
                    line.startswith(f"{folder / source}")
                    and f" -> {folder / target}: 26 arrays of weights and statistics" in line
                )
            assert len(warnings) == 2 and "step-000000008.safetensors: damaged" in warnings[0]
        return folders


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_round_trips_are_equal_bit_for_bit(made, precision):
    folder = made[precision]
    state, _ = checkpoint.read(folder / "run" / "checkpoints" / checkpoint.file_name(7))
    weights = {name: array for name, array in state.items() if "/" not in name}
    for name in ("ps.safetensors", "ks.safetensors"):
        arrays, metadata = checkpoint.read(folder / name)
        assert arrays.keys() == state.keys()
        for key, array in arrays.items():
            expected = np.zeros_like(state[key]) if key.startswith("velocity/") else state[key]
            assert array.dtype == expected.dtype and array.tobytes() == expected.tobytes(), key
        assert metadata["epoch"] == metadata["step"] == metadata["batch"] == 0
        assert metadata["framework"] == {"p": "paddle", "k": "tensorflow"}[name[0]]
    for name in ("p.pdparams", "pkp.pdparams"):
        arrays = convert.read_pdparams(folder / name)
        assert arrays.keys() == weights.keys()
        assert all(arrays[key].tobytes() == weights[key].tobytes() for key in weights)
        assert "features.first.bn._mean" in pickle.loads((folder / name).read_bytes())
    assert not list(folder.glob(f"{files.UNFINISHED}*"))


def test_each_framework_computes_the_same_from_its_own_file(made, run_in):
    folder, settings = made["float64"], settings_of("float64")
    images = np.random.default_rng(1).normal(size=(2, 3, 9, 9))
    files = {"p.pdparams": "paddle", "pkp.pdparams": "paddle", "pk.keras": "tensorflow", "k.keras": "tensorflow"}
    logits = [
        run_in(framework, native_logits, framework, settings, folder / name, images)
        for name, framework in files.items()
    ]
    assert np.abs(logits[0]).max() > 0.1
    for other in logits[1:]:
        assert np.abs(other - logits[0]).max() < 1e-12 * np.abs(logits[0]).max()


@pytest.mark.parametrize("framework", ["paddle", "tensorflow"])
def test_a_run_goes_on_from_a_converted_checkpoint(made, run_in, tmp_path, framework):
    path = made["float32"] / {"paddle": "ks", "tensorflow": "ps"}[framework]
    path = path.with_suffix(".safetensors")
    step, best, state = run_in(framework, resumed, framework, settings_of("float32"), tmp_path, path)
    assert step == 0 and best == {"accuracy": -1.0, "epoch": 0}
    arrays, _ = checkpoint.read(path)
    assert all(state[name].tobytes() == arrays[name].tobytes() for name in state)


def test_a_run_in_float16_finds_its_loss_scale_and_one_with_an_ema_finds_it(made, run_in, tmp_path):
    settings = settings_of("float16").model_copy(update={"evaluation": Evaluation(ema_decay=0.5)})
    save_config(settings, tmp_path / "config.yaml")
    target = tmp_path / "x.safetensors"
    convert.convert(made["float32"] / "p.pdparams", target, tmp_path / "config.yaml")
    _, _, state = run_in("tensorflow", resumed, "tensorflow", settings, tmp_path / "run", target)
    assert state["loss_scale/scale"] == 65536 and state["loss_scale/good_steps"] == 0
    assert all(state[f"ema/{name}"].tobytes() == state[name].tobytes() for name in state if "/" not in name)


def test_paddles_older_protocol(made, run_in, tmp_path):
    run_in("paddle", save_in_protocol_2, made["float32"] / "p.pdparams", tmp_path / "old.pdparams")
    assert b"_codecs" in (tmp_path / "old.pdparams").read_bytes()
    arrays, expected = (
        convert.read_pdparams(path) for path in (tmp_path / "old.pdparams", made["float32"] / "p.pdparams")
    )
    assert arrays.keys() == expected.keys()
    assert all(arrays[name].tobytes() == expected[name].tobytes() for name in arrays)


def refused(source, target, **options):
    """The one line of the error; `target` must then be unchanged."""
    before = target.read_bytes() if target.is_file() else None
    with pytest.raises(UserError) as caught:
        convert.convert(source, target, **options)
    assert (target.read_bytes() if target.is_file() else None) == before
    assert not target.parent.is_dir() or not list(target.parent.glob(f"{files.UNFINISHED}*"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_paths_that_cannot_be(made, tmp_path):
    folder = made["float32"]
    source = folder / "p.pdparams"
    assert "x.npz: unknown format" in refused(source, tmp_path / "x.npz")
    assert "p: unknown format" in refused(folder / "p", tmp_path / "x.keras")
    assert "x.keras: no such file" in refused(tmp_path / "x.keras", tmp_path / "x.pdparams")
    assert "of the same format" in refused(source, tmp_path / "x.pdparams")
    assert "of the same format" in refused(folder / "run", tmp_path / "x.safetensors")
    assert "not a run folder" in refused(tmp_path, tmp_path / "x.keras")
    (tmp_path / "model.keras").mkdir()
    assert "model.keras: is a folder" in refused(tmp_path / "model.keras", tmp_path / "x.safetensors")
    assert "does not say which network" in refused(source, tmp_path / "x.keras")
    assert "leave out --config" in refused(folder / "run", tmp_path / "x.keras", config=folder / "config.yaml")
    assert "leave out --config" in refused(folder / "run", tmp_path / "x.keras", num_classes=10)
    assert "no such config" in refused(source, tmp_path / "x.keras", config=tmp_path / "x.yaml")
    assert "no such folder" in refused(source, tmp_path / "none" / "x.keras")
    (tmp_path / "d.keras").mkdir()
    assert "is a folder" in refused(source, tmp_path / "d.keras", force=True)


def test_a_folder_that_may_not_be_written(made, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    assert "cannot be written" in refused(made["float32"] / "p.pdparams", tmp_path / "x.keras")


def test_an_old_file_is_replaced_only_when_told(made, tmp_path):
    folder, target = made["float32"], tmp_path / "x.pdparams"
    target.write_bytes(b"old")
    assert "already exists" in refused(folder / "run", target)
    assert "damaged" in refused(folder / "run" / "checkpoints" / checkpoint.file_name(8), target, force=True)
    convert.convert(folder / "run", target, force=True, warn=str)
    assert target.read_bytes() != b"old"


@pytest.mark.parametrize(("framework", "name"), [("paddle", "x.pdparams"), ("tensorflow", "x.keras")])
def test_a_full_disk_leaves_the_old_file(made, run_in, tmp_path, framework, name):
    (tmp_path / name).write_bytes(b"old")
    source = made["float32"] / "p.pdparams"
    weights = convert.read_pdparams(source)
    arguments = (framework, source, weights, tmp_path / name, settings_of("float32"), 10)
    assert f"{name}: cannot be written (File too large)" in run_in(framework, on_a_full_disk, *arguments)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"old"


def test_a_malicious_pickle_does_not_run(made, tmp_path):
    class Malicious:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'was-here'}",)

    source = tmp_path / "x.pdparams"
    for content in (Malicious(), {"fc.bias": Malicious()}):
        source.write_bytes(pickle.dumps(content, protocol=4))
        message = refused(source, tmp_path / "y.keras", config=made["float32"] / "config.yaml")
        assert "more than a state_dict (it asks for posix.system)" in message
    assert not (tmp_path / "was-here").exists()


def test_pdparams_that_are_none(made, tmp_path):
    options = {"config": made["float32"] / "config.yaml"}
    whole = (made["float32"] / "p.pdparams").read_bytes()
    source, target = tmp_path / "x.pdparams", tmp_path / "y.keras"
    for content in (b"", b"not a pickle", whole[: len(whole) // 2], whole[:-1]):
        source.write_bytes(content)
        assert "x.pdparams: damaged" in refused(source, target, **options)
    array = np.zeros(2, np.float32)
    for content, message in (
        ([array], "holds no state_dict"),
        ({"model": {"fc.bias": array}}, "'model' is not an array"),
        ({3: array}, "it has a key that is no text"),
        ({}, "holds no array"),
        ({"a": array, "b": array.astype(np.uint16)}, "b is in uint16"),
        ({"a": array, "b": array.astype(float)}, "holds float32 and float64"),
    ):
        source.write_bytes(pickle.dumps(content, protocol=4))
        assert message in refused(source, target, **options)


def keras_file(path, write=lambda weights: None, members=()):
    """A .keras whose HDF5 file of weights is what `write` makes."""
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        write(file)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", weights.getvalue())
        for name, content in members:
            archive.writestr(name, content)
    return path


def external(weights):
    weights.create_dataset("w", (4,), "f4", external=[("/etc/hostname", 0, 16)])


def virtual(weights):
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("/etc/hostname", "w", (4,))
    weights.create_virtual_dataset("w", layout)


def linked(weights):
    weights["w"] = h5py.ExternalLink("/etc/hostname", "w")


def soft(weights):
    weights["w"] = h5py.SoftLink("/w")


def lists(weights):
    weights.create_dataset("w", (4,), h5py.vlen_dtype(np.float32))


def huge(weights):
    weights.create_dataset("w", (10**12,), "f4", chunks=(10**6,))


def test_a_keras_file_holds_no_more_than_it_is(tmp_path, monkeypatch):
    def right(weights):
        weights["group/w"] = np.ones(4, np.float64)

    path = tmp_path / "x.keras"
    assert convert.keras_precision(convert.keras_arrays(keras_file(path, right))) == "float64"
    for write in (external, virtual, linked, soft, lists, huge):
        with pytest.raises(UserError, match="its weights are not in it, or are too large"):
            convert.keras_arrays(keras_file(path, write))
    monkeypatch.setattr(convert, "UNPACKED", (1 << 14, 20))
    with pytest.raises(UserError, match="unpacked, it is far larger than it is"):
        convert.keras_arrays(keras_file(path, right, [("zeros", bytes(1 << 20))]))
    monkeypatch.setattr(convert, "MEMBERS", 3)
    with pytest.raises(UserError, match="unpacked, it is far larger than it is"):
        convert.keras_arrays(keras_file(path, right, [(str(number), b"") for number in range(3)]))


def test_a_process_that_dies_is_one_line(monkeypatch):
    monkeypatch.undo()  # a process of its own
    with pytest.raises(UserError, match="the process of tensorflow ended as it was at work"):
        convert._in_process("tensorflow", os.abort)


def test_a_fifo_is_not_waited_for(tmp_path):
    for name in ("x.pdparams", "x.keras", "x.safetensors"):
        os.mkfifo(tmp_path / name)
        target = tmp_path / ("y.keras" if name != "x.keras" else "y.pdparams")
        assert f"{name}: is a FIFO or a device" in refused(tmp_path / name, target)


def test_keras_files_that_are_none(made, run_in, tmp_path):
    options = {"config": made["float32"] / "config.yaml"}
    whole = (made["float32"] / "k.keras").read_bytes()
    source, target = tmp_path / "x.keras", tmp_path / "y.pdparams"
    for content in (b"", b"not a zip", whole[: len(whole) // 2]):
        source.write_bytes(content)
        assert "x.keras: cannot be read as a Keras model" in refused(source, target, **options)
    with zipfile.ZipFile(made["float32"] / "k.keras") as old, zipfile.ZipFile(source, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b"tandem>SE_ResNeXt", b"other>Classes"))
    assert "x.keras: cannot be read as a Keras model (Could not locate class" in refused(source, target, **options)
    source.unlink()
    run_in("tensorflow", save_another_model, source)
    message = refused(source, target, **options)
    assert "missing: features.first.bn.bias" in message and "of another shape: fc.bias (2,) for (10,)" in message


@pytest.fixture
def lenet_config(tmp_path):
    path = tmp_path / "lenet.yaml"
    data = {"source": "digits", "image_size": 32}
    path.write_text(yaml.safe_dump(VALUES | {"network": {"name": "lenet5"}, "data": data}))
    return path


@pytest.mark.parametrize("change", [None, "policy"])
def test_a_keras_users_model_of_keras_own_layers(run_in, tmp_path, lenet_config, change):
    kernel = run_in("tensorflow", save_a_users_lenet, tmp_path / "x.keras", change)
    convert.convert(tmp_path / "x.keras", tmp_path / "x.pdparams", lenet_config)
    arrays = convert.read_pdparams(tmp_path / "x.pdparams")
    assert arrays.keys() == {f"{name}.{kind}" for name in LENET_LAYERS for kind in ("weight", "bias")}
    assert arrays["conv2.weight"].tobytes() == np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)).tobytes()


def test_a_keras_model_takes_no_more_memory_than_its_file_allows(run_in, tmp_path, lenet_config):
    """One number in its config can ask for all there is."""
    run_in("tensorflow", save_a_users_lenet, tmp_path / "x.keras", None)
    with zipfile.ZipFile(tmp_path / "x.keras") as old, zipfile.ZipFile(tmp_path / "y.keras", "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b'"units": 84', b'"units": 20000000'))
    message = refused(tmp_path / "y.keras", tmp_path / "x.pdparams", config=lenet_config)
    assert "y.keras: cannot be read as a Keras model" in message and "OOM when allocating" in message


@pytest.mark.parametrize("change", ["flatten", "pooling"])
def test_the_same_names_and_shapes_of_another_function(run_in, tmp_path, lenet_config, change):
    run_in("tensorflow", save_a_users_lenet, tmp_path / "x.keras", change)
    message = refused(tmp_path / "x.keras", tmp_path / "x.pdparams", config=lenet_config)
    assert "names and shapes fit, but it computes something else" in message


def test_another_network_and_other_shapes(made, tmp_path):
    folder, options = made["float32"], {"config": tmp_path / "deep.yaml"}
    options["config"].write_text(yaml.safe_dump(VALUES | {"network": NETWORK | {"out_dims": [4, 8]}}))
    for source, target in (("p.pdparams", "x.keras"), ("p.pdparams", "x.safetensors"), ("k.keras", "x.pdparams")):
        message = refused(folder / source, tmp_path / target, **options)
        assert "missing: features.stage2.block1.body.se" in message
        assert "1 of another shape: fc.weight (4, 10) for (8, 10)" in message
    message = refused(folder / "p.pdparams", tmp_path / "x.keras", config=folder / "config.yaml", num_classes=7)
    assert "2 of another shape: fc.bias (10,) for (7,), fc.weight (4, 10) for (4, 7)" in message
    content = pickle.loads((folder / "p.pdparams").read_bytes())
    content["fc2.bias"] = content.pop("fc.bias")
    (tmp_path / "x.pdparams").write_bytes(pickle.dumps(content, protocol=4))
    message = refused(tmp_path / "x.pdparams", tmp_path / "x.safetensors", config=folder / "config.yaml")
    assert "1 missing: fc.bias; 1 unexpected: fc2.bias" in message


def test_a_checkpoint_has_the_classes_of_its_data(made, tmp_path, monkeypatch):
    monkeypatch.setattr(convert, "_in_process", lambda framework, function, *arguments: {})
    folder = made["float32"]
    message = refused(folder / "p.pdparams", tmp_path / "x.safetensors", config=folder / "config.yaml", num_classes=7)
    assert "the config's data has 10 classes" in message


@pytest.mark.parametrize(("framework", "other"), [("paddle", "tensorflow"), ("tensorflow", "paddle")])
def test_no_process_loads_both(made, run_in, framework, other):
    assert run_in(framework, loaded, framework)
    assert not run_in(framework, loaded, other)
    assert other not in sys.modules and framework not in sys.modules


def test_the_command(made, tmp_path):
    folder = made["float32"]
    command = [sys.executable, "-m", "tandem", "convert", folder / "run", tmp_path / "x.pdparams"]
    first, second = (subprocess.run(command, cwd=ROOT, capture_output=True, text=True) for _ in range(2))
    assert first.returncode == 0 and "26 arrays" in first.stdout and "warning: skipped: " in first.stderr
    assert second.returncode == 2 and second.stdout == ""
    assert (
        second.stderr == f"error: {tmp_path / 'x.pdparams'}: already exists; name another, or replace it with --force\n"
    )
    assert convert.read_pdparams(tmp_path / "x.pdparams").keys() == convert.read_pdparams(folder / "p.pdparams").keys()
