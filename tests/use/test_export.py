"""Exported models against the engine, each other and the loaders of their own; and `classify` on an .onnx."""

import importlib.util
import json
import os
import sys
from types import SimpleNamespace
from unittest import mock

from tandem.config.load import check_config
from tandem.core.errors import UserError
from tandem.frameworks.base import FRAMEWORKS
from tandem.training import checkpoint
from tandem.use import export, inference

import numpy as np
import pytest
from checkpoints import metadata
from PIL import Image
from processes import command, loaded

OWN = {"paddle": "paddle", "tensorflow": "saved_model"}
NAMES = tuple("0123456789")
VALUES = {
    "network": {
        "name": "se_resnext",
        "num_block": 1,
        "depth": 4,
        "cardinality": 2,
        "out_dims": [8],
        "reduction_ratio": 2,
    },
    "data": {"source": "digits", "image_size": 16, "augmentation": {"crop_padding": 1, "flip": False}},
    "schedule": {"name": "constant"},
    "epochs": 1,
    "evaluation": {"ema_decay": 0.9},
    "threads": 2,
}
IMAGES = np.random.default_rng(0).integers(0, 256, (7, 3, 16, 16), dtype=np.uint8)

if importlib.util.find_spec("paddle2onnx") is None:
    pytest.skip("paddle2onnx is not installed; there is none for Python 3.13", allow_module_level=True)


# In a framework's process


def make(path):
    """A checkpoint of any weights; the EMA is another."""
    from tandem.frameworks.paddle.engine import Engine

    mean, std = np.full((3, 1, 1), 120.0), np.full((3, 1, 1), 60.0)
    state = Engine(check_config(VALUES, "test"), len(NAMES), mean, std).state()
    random = np.random.default_rng(1)
    arrays = {name: array + 0.2 * random.random(array.shape, np.float32) for name, array in state.items()}
    arrays |= {"preprocessing/mean": mean, "preprocessing/std": std}
    checkpoint.write(path, arrays, metadata(config=VALUES, class_names=NAMES))


def predictions(source, framework, ema=False):
    return inference.Classifier(source, framework, ema=ema).logits(IMAGES)


def loaded_back(folder, framework):
    """The logits of IMAGES, from the framework alone."""
    if framework == "paddle":
        import paddle

        return paddle.jit.load(str(folder / "model"))(paddle.to_tensor(IMAGES)).numpy()
    import tensorflow as tf

    model = tf.saved_model.load(str(folder))
    return model.signatures["serving_default"](images=tf.constant(IMAGES))["logits"].numpy()


def export_wrongly(source, target):
    """The message, when the weights change after the engine was asked."""
    write = export._write_paddle

    def write_changed(classifier, path):
        classifier.engine.model.fc.bias.set_value(classifier.engine.model.fc.bias + 1e-3)
        return write(classifier, path)

    with mock.patch.object(export, "_write_paddle", write_changed), pytest.raises(UserError) as raised:
        export.export(source, "onnx", target=target, force=True)
    return str(raised.value)


# In the test's


@pytest.fixture(scope="module")
def source(tmp_path_factory, begin):
    path = tmp_path_factory.mktemp("run") / "small.safetensors"
    begin("paddle", make, path).result()
    return path


@pytest.fixture(scope="module")
def exported(source, begin, tmp_path_factory):
    """By (framework, format), the path of a model."""
    folder = tmp_path_factory.mktemp("exported")
    paths = {
        (framework, kind): folder / (f"{framework}.onnx" if kind == "onnx" else kind)
        for framework in FRAMEWORKS
        for kind in ("onnx", OWN[framework])
    }
    futures = []
    for (framework, kind), path in paths.items():
        # Paddle wrote the checkpoint, and a format of one framework needs no more.
        given = ("--framework", framework) if (framework, kind) == ("tensorflow", "onnx") else ()
        futures.append(begin(framework, command, "export", source, "--format", kind, "--output", path, *given))
    for path, future in zip(paths.values(), futures, strict=True):
        code, said, errors = future.result()
        assert (code, errors) == (0, "") and said.startswith(f"{path}: logits differ") and said.count("\n") == 1
    for framework in FRAMEWORKS:
        assert begin(framework, loaded).result() == [framework]
    assert sorted(folder.iterdir()) == sorted(paths.values())
    return paths


@pytest.fixture(scope="module")
def expected(source, begin):
    """By framework, the engine's logits of IMAGES."""
    futures = {framework: begin(framework, predictions, source, framework) for framework in FRAMEWORKS}
    return {framework: future.result() for framework, future in futures.items()}


def error(found, logits):
    assert found.shape == logits.shape
    return np.abs(found - logits).max() / np.abs(logits).max()


def test_all_engines_agree(exported, expected):
    found = {
        framework: inference.OnnxClassifier(exported[framework, "onnx"]).logits(IMAGES) for framework in FRAMEWORKS
    }
    assert not loaded()
    assert np.ptp(found["paddle"], axis=0).min() > 1e-3  # not the same for every image
    for one in FRAMEWORKS:
        assert error(found["paddle"], found[one]) < 1e-5
        for other in FRAMEWORKS:
            assert error(found[one], expected[other]) < 1e-5


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_frameworks_load_their_own(exported, expected, begin, framework):
    folder = exported[framework, OWN[framework]]
    found = begin(framework, loaded_back, folder, framework).result()
    assert found.dtype == np.float32 and error(found, expected[framework]) < 1e-6
    about = json.loads((folder / export.ABOUT).read_text())
    assert about["class_names"] == list(NAMES) and about["framework"] == framework


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_onnx_says_how_to_use_it(exported, framework):
    import onnx

    model = onnx.load(exported[framework, "onnx"])
    values = {}
    for value in (*model.graph.input, *model.graph.output):
        dims = [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        values[value.name] = (value.type.tensor_type.elem_type, dims)
    assert values == {
        "images": (onnx.TensorProto.UINT8, ["batch", 3, 16, 16]),
        "logits": (onnx.TensorProto.FLOAT, ["batch", 10]),
    }
    assert {node.domain for node in model.graph.node} == {""}  # no operator but ONNX's own
    about = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert about["class_names"] == list(NAMES) and about["image_size"] == 16
    assert about["checkpoint"] == "small.safetensors" and about["framework"] == framework and not about["ema"]
    assert about["config"] == {**VALUES, "network": about["config"]["network"]}
    assert about["config"]["network"].items() >= VALUES["network"].items()
    assert "bilinearly" in about["preprocessing"] and "16x16 pixels" in about["preprocessing"]


def test_the_ema_when_asked_in_place_of_what_exists(source, exported, expected, begin, tmp_path):
    arguments = ("export", source, "--format", "onnx", "--ema", "--force", "--output", tmp_path / "x.onnx")
    (tmp_path / "x.onnx").write_text("old")
    assert begin("paddle", command, *arguments).result()[0] == 0
    classifier = inference.OnnxClassifier(tmp_path / "x.onnx")
    found = classifier.logits(IMAGES)
    assert classifier.ema and error(found, expected["paddle"]) > 1e-2
    assert error(found, begin("paddle", predictions, source, "paddle", True).result()) < 1e-5
    assert [path.name for path in tmp_path.iterdir()] == ["x.onnx"]


def test_a_converter_that_ends_its_process_is_one_line(monkeypatch, tmp_path):
    """paddle2onnx does on whatever it cannot convert: here, no model."""

    def write(classifier, folder):
        folder.mkdir()
        (folder / "model.json").write_text("{}")
        (folder / "model.pdiparams").touch()

    monkeypatch.setattr(export, "_write_paddle", write)
    with pytest.raises(
        UserError, match=r"x: paddle2onnx cannot convert it to ONNX \(.+\); try another --format"
    ) as caught:
        export._onnx_of_paddle(SimpleNamespace(path="x", framework="paddle"), tmp_path / "model")
    assert "\n" not in str(caught.value) and not loaded()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("print('no such op'); sys.exit(-1)", "no such op"),
        ("print('a warning'); os.abort()", "a warning"),
        ("sys.exit(3)", "exit code 3"),
        ("print('[ERROR] no op X'); print('more'); sys.exit(1)", "no op X"),
        ("print('2026-11-30 08:30:00,123 - ERROR - tf2onnx.x: no op X', file=sys.stderr)", "no op X"),  # and goes on
    ],
)
def test_what_a_converter_said_is_in_the_line(code, said):
    command = [sys.executable, "-c", f"import os, sys; {code}"]
    with pytest.raises(UserError, match=rf"x: tf2onnx cannot convert it to ONNX \({said}\); try"):
        export._run_converter(SimpleNamespace(path="x", framework="tensorflow"), command)


GROUPED = """
def grouped_tensorflow(num_classes):
    from tensorflow import keras

    layers = keras.layers
    network = keras.Sequential([layers.Input([16, 16, 3]), layers.Conv2D(4, 1, name="conv1")])
    network.add(layers.Conv2D(8, 3, 2, groups=2, name="conv2"))
    network.add(layers.Flatten(name="flatten"))
    network.add(layers.Dense(num_classes, name="fc"))
    return network
"""


def export_grouped(folder):
    """The error of the ONNX of a network with one of Keras' own grouped convolutions."""
    from tandem.frameworks.tensorflow.engine import Engine

    values = VALUES | {"network": {"name": "own", "file": str(folder / "grouped.py")}, "evaluation": {}}
    mean, std = np.full((3, 1, 1), 120.0), np.full((3, 1, 1), 60.0)
    arrays = Engine(check_config(values, "test"), 10, mean, std).state()
    arrays |= {"preprocessing/mean": mean, "preprocessing/std": std}
    checkpoint.write(folder / "x.safetensors", arrays, metadata(config=values, framework="tensorflow"))
    named = [f"network.file={folder / 'grouped.py'}"]
    return export.export(folder / "x.safetensors", "onnx", None, named, target=folder / "x.onnx")[1]


def test_keras_own_grouped_convolutions(begin, tmp_path):
    (tmp_path / "grouped.py").write_text(GROUPED)
    assert begin("tensorflow", export_grouped, tmp_path).result() < 1e-5


def test_a_folder_is_replaced_whole(source, begin, tmp_path):
    (tmp_path / "x").mkdir()
    for name in (export.ABOUT, "of the old one"):
        (tmp_path / "x" / name).write_text("{}")
    arguments = ("export", source, "--format", "paddle", "--force", "--output", tmp_path / "x")
    assert begin("paddle", command, *arguments).result()[0] == 0
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == ["model.json", "model.pdiparams", export.ABOUT]
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_folder_that_could_not_be_replaced_is_as_it_was(tmp_path):
    old, new = tmp_path / "x", tmp_path / "aside" / "x"
    old.mkdir()
    (old / "file").touch()
    new.parent.mkdir()  # and there is no new one
    with pytest.raises(FileNotFoundError):
        export._put(new, old)
    assert (old / "file").exists()


def test_a_model_that_computes_something_else_is_not_kept(source, begin, tmp_path):
    (tmp_path / "x.onnx").write_text("old")
    message = begin("paddle", export_wrongly, source, tmp_path / "x.onnx").result()
    assert "the exported onnx differs from paddle by" in message and "1e-05 is allowed" in message
    assert [path.name for path in tmp_path.iterdir()] == ["x.onnx"] and (tmp_path / "x.onnx").read_text() == "old"


def refused(*arguments):
    """The one line of an error that comes before a framework is loaded."""
    code, said, errors = command(*arguments)
    assert (code, said) == (2, "") and errors.startswith("error: ") and errors.count("\n") == 1
    assert not loaded()
    return errors


def test_what_cannot_be_exported(source, tmp_path):
    line = refused("export", source, "--format", "tflite")
    assert "--format tflite: unknown format; use onnx, saved_model, paddle" in line
    for kind, other, own in (("saved_model", "paddle", "tensorflow"), ("paddle", "tensorflow", "paddle")):
        line = refused("export", source, "--format", kind, "--framework", other)
        assert f"--framework {other}: --format {kind} is {own}'s; leave out --framework" in line
    assert "no such checkpoint" in refused("export", tmp_path / "x.safetensors", "--format", "onnx")


def test_outputs_that_cannot_be(source, tmp_path, monkeypatch):
    (tmp_path / "file.onnx").write_text("mine")
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "mine").mkdir()

    def output(kind, name, *given):
        return refused("export", source, "--format", kind, "--output", tmp_path / name, *given)

    assert "already exists; name another, or replace it with --force" in output("onnx", "file.onnx")
    assert "already exists" in output("paddle", "mine")
    assert "holds no tandem.json, so it is not replaced" in output("paddle", "mine", "--force")
    assert "holds no tandem.json, so it is not replaced" in output("saved_model", "file.onnx", "--force")
    assert "is a folder; name a file" in output("onnx", "folder.onnx", "--force")
    assert "end it in .onnx" in output("onnx", "x.pb")
    assert "cannot be written" in output("onnx", "file.onnx/x.onnx")
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK)  # root may write anywhere
    assert "cannot be written" in output("onnx", "new/x.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file.onnx", "folder.onnx", "mine"]
    assert (tmp_path / "file.onnx").read_text() == "mine"


@pytest.mark.parametrize(
    ("framework", "package"), [("tensorflow", "tf2onnx"), ("paddle", "paddle2onnx"), ("paddle", "onnxruntime")]
)
def test_a_package_that_is_not_installed(source, exported, images, monkeypatch, framework, package):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))
    line = refused("export", source, "--format", "onnx", "--framework", framework)
    message = f"needs {package}, which is not installed; pip install -r requirements-export.txt\n"
    assert line == f"error: --format onnx {message}"
    if package == "onnxruntime":
        assert message in refused("classify", exported["paddle", "onnx"], images)


# classify


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for index, image in enumerate(IMAGES):
        Image.fromarray(image.transpose(1, 2, 0)).resize((20 + index, 30)).save(folder / f"{index}.png")
    return folder


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_onnx_classifies_as_the_checkpoint_does(source, exported, begin, images, framework):
    given = ("--framework", framework)
    code, said, errors = begin(framework, command, "classify", source, images, "--json", *given).result()
    assert (code, errors) == (0, "")
    wanted = json.loads(said)
    code, said, errors = command("classify", exported[framework, "onnx"], images, "--json")
    assert (code, errors) == (0, "") and not loaded()
    found = json.loads(said)
    assert found["framework"] == "onnxruntime" and found["checkpoint"] == str(exported[framework, "onnx"])
    assert found["ema"] is False and len(found["images"]) == len(IMAGES)
    for one, other in zip(found["images"], wanted["images"], strict=True):
        assert one["image"] == other["image"] and len(one["top"]) == 5
        assert [entry["class"] for entry in one["top"]] == [entry["class"] for entry in other["top"]]
        probabilities = ([entry["probability"] for entry in top] for top in (one["top"], other["top"]))
        assert next(probabilities) == pytest.approx(next(probabilities), abs=1e-5)


def test_what_cannot_be_classified_with(exported, images, tmp_path):
    import onnx

    model = exported["paddle", "onnx"]
    for given in (("--framework", "paddle"), ("--ema",), ("-o", "batch_size=2")):
        assert "an exported model has no such options; leave out --framework, -o, --network and --ema" in refused(
            "classify", model, images, *given
        )
    assert "no such file" in refused("classify", tmp_path / "x.onnx", images)
    content = model.read_bytes()
    for length in (0, 100, len(content) // 2, len(content) - 1):
        (tmp_path / "x.onnx").write_bytes(content[:length])
        assert "x.onnx: " in refused("classify", tmp_path / "x.onnx", images)
    foreign = onnx.load(model)
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "x.onnx")
    assert "an ONNX model, but not one from Tandem" in refused("classify", tmp_path / "x.onnx", images)
    os.mkfifo(tmp_path / "fifo.onnx")
    assert "fifo.onnx: is a FIFO or a device" in refused("classify", tmp_path / "fifo.onnx", images)


def test_what_an_onnx_says_of_itself_is_checked(exported, images, tmp_path):
    import onnx

    model = onnx.load(exported["paddle", "onnx"])
    right = {entry.key: entry.value for entry in model.metadata_props}
    for changes, message in (
        ({"class_names": '["a"]'}, "says that it has 1 classes, and takes images of 16 pixels, but images and logits"),
        ({"class_names": "null"}, "class_names: should be a list"),
        ({"class_names": "{"}, "class_names: is no JSON"),
        ({"class_names": "[" * 100_000}, "class_names: is nested too deep"),
        ({"class_names": json.dumps([*NAMES[1:], "\x1b[2J"])}, "class_names.9: should have no control characters"),
        ({"image_size": "32"}, "takes images of 32 pixels"),
        ({"image_size": "1e9"}, "image_size: "),
        ({"image_size": None}, "its metadata has no image_size"),
        ({"ema": ""}, "ema: is no JSON"),
        ({"ema": None}, "its metadata has no ema"),
    ):
        said = {key: value for key, value in (right | changes).items() if value is not None}
        onnx.helper.set_model_props(model, said)
        onnx.save(model, tmp_path / "x.onnx")
        line = refused("classify", tmp_path / "x.onnx", images)
        assert message in line and line.rstrip("\n").isprintable() and len(line) < 500


def test_an_onnx_whose_metadata_is_no_text(exported, images, tmp_path):
    content = exported["paddle", "onnx"].read_bytes().replace(b'["0", ', b'["\xb8", ')
    (tmp_path / "x.onnx").write_bytes(content)
    assert "x.onnx: damaged or not an ONNX model" in refused("classify", tmp_path / "x.onnx", images)


def test_a_loop_without_end_is_ended(monkeypatch, tmp_path):
    from onnx import TensorProto, helper, numpy_helper, save

    monkeypatch.setattr(inference, "SECONDS", 0.1)
    flag, logits = (helper.make_tensor_value_info(*value) for value in (("c", 9, []), ("x", TensorProto.FLOAT, None)))
    number = helper.make_tensor_value_info("i", TensorProto.INT64, [])
    ends = [helper.make_tensor_value_info(*value) for value in (("c2", 9, []), ("x2", TensorProto.FLOAT, None))]
    same = [helper.make_node("Identity", [one], [f"{one}2"]) for one in "cx"]
    body = helper.make_graph(same, "body", [number, flag, logits], ends)
    arrays = {"turns": np.array(2**62), "true": np.array(True), "w": np.ones((3, 2), "f4")}
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["mean", "w"], ["product"]),
        helper.make_node("Loop", ["turns", "true", "product"], ["logits"], body=body),
    ]
    graph = helper.make_graph(
        nodes,
        "endless",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"class_names": '["a", "b"]', "image_size": "8", "ema": "false"})
    save(model, tmp_path / "x.onnx")
    with pytest.raises(UserError, match=r"x\.onnx: cannot be run .*; export it again"):
        inference.OnnxClassifier(tmp_path / "x.onnx").predict(np.zeros((1, 3, 8, 8), np.uint8))


def test_a_model_that_cannot_be_run_is_one_line(exported, images, tmp_path):
    import onnx

    model = onnx.load(exported["paddle", "onnx"])
    end = next(node for node in model.graph.node if "logits" in node.output)
    end.output[0] = "before"
    most = onnx.numpy_helper.from_array(np.array([0, 10**9, 0, 10**9]), "most")  # 16 EB
    model.graph.initializer.append(most)
    model.graph.node.append(onnx.helper.make_node("Pad", ["before", "most"], ["logits"]))
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", 10]))
    onnx.save(model, tmp_path / "x.onnx")
    assert "x.onnx: " in refused("classify", tmp_path / "x.onnx", images)
