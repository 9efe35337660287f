"""The commands that look at a checkpoint, on one that Paddle wrote, in both frameworks."""

import importlib
import json
import os

from tandem.config.load import check_config
from tandem.core.errors import UserError
from tandem.data.batches import Batch
from tandem.data.images import load_dataset
from tandem.frameworks.base import FRAMEWORKS
from tandem.report import pictures
from tandem.training import checkpoint
from tandem.use import features, inference

import numpy as np
import pytest
from PIL import Image
from processes import command, loaded
from scipy.special import softmax

VALUES = {
    "network": {
        "name": "se_resnext",
        "num_block": 1,
        "depth": 8,
        "cardinality": 2,
        "out_dims": [16, 32],
        "reduction_ratio": 2,
    },
    "data": {"source": "digits", "image_size": 16, "augmentation": {"crop_padding": 1, "flip": False}},
    "optimizer": {"learning_rate": 0.1, "nesterov": True},
    "schedule": {"name": "constant"},
    "epochs": 2,
    "batch_size": 48,
    "label_smoothing": 0.1,
    "evaluation": {"ema_decay": 0.9, "flip_tta": True},
    "threads": 1,
}


# In a framework's process


def train(folder):
    from tandem.training.loop import Run

    Run(check_config(VALUES, "test"), "paddle", folder).train()


def predictions(source, framework, images):
    return inference.Classifier(source, framework).logits(images)


def traced(source, framework, image):
    return inference.Classifier(source, framework).engine.trace_evaluation(Batch(image[None], np.zeros(1, np.int64)))


# In the test's


@pytest.fixture(scope="module")
def run(tmp_path_factory, run_in):
    """The folder of a short run in Paddle."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    run_in("paddle", train, folder)
    return folder


@pytest.fixture(scope="module")
def digits():
    return load_dataset(check_config(VALUES, "test").data, 0)


@pytest.fixture(scope="module")
def images(tmp_path_factory, digits):
    """A folder with one digit in several forms, and another one below it."""
    folder = tmp_path_factory.mktemp("images")
    image = Image.fromarray(digits.test.images[5].transpose(1, 2, 0))
    grey = image.convert("L")
    image.save(folder / "plain.png")
    grey.save(folder / "grey.png")
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(folder / "deep.png")
    image.convert("RGBA").save(folder / "rgba.png")
    grey.convert("P").save(folder / "palette.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned right by 90 degrees
    image.rotate(90).save(folder / "turned.png", exif=exif)
    image.resize((48, 48), Image.Resampling.NEAREST).save(folder / "large.bmp")
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_text("no image")
    (folder / "below").mkdir()
    Image.fromarray(digits.test.images[6].transpose(1, 2, 0)).save(folder / "below" / "other.PNG")
    return folder


@pytest.fixture(scope="module")
def evaluated(run, run_in, tmp_path_factory):
    """By framework, what evaluate said and the folder it wrote."""
    folders = {framework: tmp_path_factory.mktemp(framework) / "new" for framework in FRAMEWORKS}
    said = {}
    for framework, folder in folders.items():
        given = () if framework == "paddle" else ("--framework", framework)  # Paddle wrote it
        code, said[framework], errors = run_in(framework, command, "evaluate", run, "--output", folder, *given)
        assert (code, errors) == (0, "")
        assert run_in(framework, loaded) == [framework]
    return {framework: (said[framework], folder) for framework, folder in folders.items()}


def found_by(evaluated, framework):
    return json.loads((evaluated[framework][1] / "evaluation.json").read_text())


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_evaluate_finds_what_training_recorded(run, evaluated, framework):
    found, (said, _) = found_by(evaluated, framework), evaluated[framework]
    recorded = checkpoint.find(run, print)[2]["metrics"]["test"]
    assert found["recorded"] == recorded and found["framework"] == framework
    assert found["loss"] == pytest.approx(recorded["loss"], abs=1e-4)
    if framework == "paddle":
        assert found["accuracy"] == recorded["accuracy"] and found["top5"] == recorded["top5"]
    assert found["accuracy"] == pytest.approx(recorded["accuracy"], abs=0.01)
    assert 0.2 < found["accuracy"] < 1
    assert f"accuracy {found['accuracy']:.2%}, top-5 {found['top5']:.2%}, loss {found['loss']:.4f}" in said
    assert "These figures are of the weights (with --ema: their EMA)" in said


def test_the_tables_of_an_evaluation_add_up(evaluated, digits):
    found, (said, folder) = found_by(evaluated, "paddle"), evaluated["paddle"]
    confusion, labels = np.array(found["confusion"]), digits.test.labels
    assert confusion.sum() == found["images"] == len(labels)
    assert confusion.sum(axis=1).tolist() == np.bincount(labels).tolist()
    assert confusion.trace() / len(labels) == found["accuracy"]
    for label, entry in enumerate(found["classes"]):
        assert entry["name"] == str(label) and entry["support"] == (labels == label).sum()
        assert entry["recall"] == pytest.approx(confusion[label, label] / entry["support"])
        predicted = confusion[:, label].sum()
        assert entry["precision"] == pytest.approx(confusion[label, label] / max(predicted, 1))
    wrong = found["wrong"]
    assert len(wrong) == len(labels) - confusion.trace()
    assert all(entry["true"] == str(labels[entry["index"]]) != entry["predicted"] for entry in wrong)
    probabilities = [entry["probability"] for entry in wrong]
    assert probabilities == sorted(probabilities, reverse=True) and 0.1 < probabilities[0] <= 1
    rows = [line.split("│")[1:-1] for line in said.splitlines() if line.count("│") == 7]
    assert [row[-1].strip() for row in rows] == [str(count) for count in np.bincount(labels)] + [str(len(labels))]
    assert sorted(path.name for path in folder.iterdir()) == ["confusion.png", "evaluation.json", "wrong.png"]
    for name in ("confusion.png", "wrong.png"):
        with Image.open(folder / name) as picture:
            assert min(picture.size) > 300 and len(picture.getcolors(1 << 20)) > 20


def test_the_ema_is_evaluated_when_asked(run, run_in, tmp_path):
    code, said, _ = run_in("paddle", command, "evaluate", run, "--ema", "--output", tmp_path)
    found = json.loads((tmp_path / "evaluation.json").read_text())
    metrics = checkpoint.find(run, print)[2]["metrics"]
    assert code == 0 and found["ema"] and "These figures are of the EMA" in said
    assert found["accuracy"] == metrics["test_ema"]["accuracy"] != metrics["test"]["accuracy"]


def test_with_flip_tta_it_finds_what_training_recorded(run, run_in, tmp_path):
    metrics = checkpoint.find(run, print)[2]["metrics"]
    for arguments, part in (((), "test_flip"), (("--ema",), "test_ema_flip")):
        code, said, errors = run_in("paddle", command, "evaluate", run, "--flip", *arguments, "--output", tmp_path)
        found = json.loads((tmp_path / "evaluation.json").read_text())
        assert (code, errors) == (0, "") and "with horizontal flip TTA" in said
        assert found["flip"] and found["recorded"] == metrics[part]
        assert found["accuracy"] == metrics[part]["accuracy"] != metrics[part.removesuffix("_flip")]["accuracy"]
        assert found["loss"] == pytest.approx(metrics[part]["loss"], abs=1e-4)


@pytest.fixture(scope="module")
def classified(run, run_in, images):
    """By framework and name, the probabilities of the classes."""
    found = {}
    for framework in FRAMEWORKS:
        path = checkpoint.newest_first(run / "checkpoints")[0]
        arguments = ("classify", path, images, images / "below", "--json", "--top", 20, "--framework", framework)
        code, said, errors = run_in(framework, command, *arguments)
        assert code == 0 and errors == (
            f"warning: passed over in {images}: 1 file without an image in it (.txt); "
            "1 folder where none is looked for: below/ (1 file)\n"
        )
        answer = json.loads(said)
        assert answer["framework"] == framework and answer["checkpoint"] == str(path)
        found[framework] = {
            entry["image"].removeprefix(f"{images}/"): {one["class"]: one["probability"] for one in entry["top"]}
            for entry in answer["images"]
        }
    return found


def test_both_frameworks_classify_alike(classified):
    assert classified["paddle"].keys() == classified["tensorflow"].keys()
    for name, one in classified["paddle"].items():
        other = classified["tensorflow"][name]
        assert sum(one.values()) == pytest.approx(1) and list(one.values()) == sorted(one.values(), reverse=True)
        assert one.keys() == other.keys() == set("0123456789")
        assert max(abs(one[label] - other[label]) for label in one) < 1e-4


def test_images_of_any_kind_are_preprocessed_as_in_training(run, run_in, classified, digits):
    logits = run_in("paddle", predictions, run, "paddle", digits.test.images[5:7])
    plain, other = softmax(logits, axis=1)
    found = {name: [classes[label] for label in "0123456789"] for name, classes in classified["paddle"].items()}
    assert np.abs(plain - other).max() > 1e-3
    assert found.pop("below/other.PNG") == pytest.approx(other, abs=1e-6)
    large = found.pop("large.bmp")  # made small again by averaging
    assert np.abs(np.array(large) - plain).max() < np.abs(np.array(large) - other).max()
    assert sorted(found) == ["deep.png", "grey.png", "palette.png", "plain.png", "rgba.png", "turned.png"]
    for name, probabilities in found.items():
        assert probabilities == pytest.approx(plain, abs=1e-6), name


def test_classify_in_words(run, run_in, images, classified):
    code, said, _ = run_in("paddle", command, "classify", run, images / "plain.png", "--top", 2)
    best = list(classified["paddle"]["plain.png"].items())[:2]
    assert code == 0
    assert said == f"{images / 'plain.png'}: {', '.join(f'{name} {part:.2%}' for name, part in best)}\n"


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_features_are_those_of_the_trace(run, run_in, images, digits, tmp_path, framework):
    trace = run_in(framework, traced, run, framework, digits.test.images[5])
    for layer in ("features.stage2.block1.body.split", "fc", None):
        given = () if layer is None else ("--layer", layer)
        arguments = ("features", run, images / "plain.png", "--framework", framework, "--output", tmp_path, *given)
        code, said, errors = run_in(framework, command, *arguments)
        layer = layer or "features.first.conv"
        names = [f"{layer}.npy", f"{layer}.png", "filters.png"]
        assert (code, errors) == (0, "") and said.split() == [str(tmp_path / name) for name in names]
        array = np.load(tmp_path / f"{layer}.npy")
        assert np.array_equal(array, trace[f"output/{layer}"][0])
        for name in names[1:]:
            with Image.open(tmp_path / name) as picture:
                assert min(picture.size) > 200 and len(picture.getcolors(1 << 20)) > 20
    assert array.shape == (16, 16, 16)


def test_a_layer_that_is_not_there(run, run_in, images, tmp_path):
    arguments = ("features", run, images / "plain.png", "--layer", "first.conv1", "--output", tmp_path / "new")
    code, said, errors = run_in("paddle", command, *arguments)
    assert (code, said) == (2, "") and errors.count("\n") == 1
    assert "--layer first.conv1: no such layer; did you mean features.first.conv?" in errors
    assert not (tmp_path / "new").exists()


def test_weights_of_another_class_count(run, run_in, images, tmp_path):
    arrays, metadata = checkpoint.read(run / "checkpoints" / checkpoint.BEST)
    checkpoint.write(tmp_path / "x.safetensors", arrays, {**metadata, "class_names": ["a", "b", "c"]})
    code, _, errors = run_in("paddle", command, "classify", tmp_path / "x.safetensors", images)
    assert code == 2 and errors.count("\n") == 1
    assert "x.safetensors: does not fit the configured network" in errors and "fc.bias (10,) for (3,)" in errors


def refused(*arguments):
    """The one line of an error that comes before a framework is loaded."""
    code, said, errors = command(*arguments)
    assert (code, said) == (2, "") and errors.startswith("error: ") and errors.count("\n") == 1
    assert not loaded()
    return errors


def test_sources_that_cannot_be(run, images, tmp_path):
    (tmp_path / "text.safetensors").write_text("no checkpoint")
    for name, tail in (("classify", (images,)), ("evaluate", ()), ("features", (images / "plain.png",))):
        assert "no such checkpoint" in refused(name, tmp_path / "x.safetensors", *tail)
        assert "not a run folder" in refused(name, tmp_path, *tail)
        assert "damaged or not a checkpoint" in refused(name, tmp_path / "text.safetensors", *tail)
        assert "-o data.directry=x: unknown key; did you mean directory?" in refused(
            name, run, *tail, "-o", "data.directry=x"
        )
        assert "was trained on 16 pixels" in refused(name, run, *tail, "-o", "data.image_size=32")


def test_a_checkpoint_without_an_ema(run, images, tmp_path):
    arrays, metadata = checkpoint.read(run / "checkpoints" / checkpoint.BEST)
    plain = {name: array for name, array in arrays.items() if not name.startswith("ema/")}
    checkpoint.write(tmp_path / "x.safetensors", plain, metadata)
    assert "holds no EMA" in refused("classify", tmp_path / "x.safetensors", images, "--ema")


def test_images_that_cannot_be(run, images, tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    assert "no such file" in refused("classify", run, tmp_path / "x.png")
    assert "holds no image (BMP, " in refused("classify", run, tmp_path)
    assert "cannot be read as an image" in refused("classify", run, images / "plain.png", images / "notes.txt")
    assert "cannot be read as an image" in refused("features", run, images / "notes.txt")
    assert "is no file" in refused("features", run, images)


def test_data_of_other_classes(run, images, tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for index in range(2):
            Image.new("RGB", (9, 9)).save(tmp_path / name / f"{index}.png")
    given = ("-o", "data.source=folder", "-o", f"data.directory={tmp_path}", "-o", "data.test_fraction=0.5")
    message = refused("evaluate", run, *given)
    assert "has 10 classes (0, 1, 2, 3, 4, ...), but the data has 2 classes (cat, dog)" in message


@pytest.mark.parametrize("name", ["evaluate", "features"])
def test_outputs_that_cannot_be(run, images, tmp_path, name):
    tail = (images / "plain.png",) if name == "features" else ()
    (tmp_path / "file").touch()
    for output in (tmp_path / "file", tmp_path / "file" / "below"):
        assert "cannot be written" in refused(name, run, *tail, "--output", output)


def test_a_folder_that_may_not_be_written(run, tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK)  # root may write anywhere
    assert "cannot be written" in refused("evaluate", run, "--output", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_framework_that_is_not_installed(run, images, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    assert "paddle: cannot be imported" in refused("classify", run, images)


def test_files_are_called_after_the_run(run, monkeypatch, tmp_path):
    monkeypatch.chdir(run)
    path = run / "checkpoints" / checkpoint.BEST
    (tmp_path / "mine.safetensors").write_bytes(path.read_bytes())
    names = [inference.Classifier(source).name for source in (run, ".", path, tmp_path / "mine.safetensors")]
    assert names == ["digits", "digits", "digits-best", "mine"]


# Pictures


def test_tiles_fill_their_rows():
    planes = np.arange(6 * 24 * 30, dtype=float).reshape(6, 24, 30)
    whole = pictures.tiles(planes, np.nan)
    assert whole.shape == (2 * 25 - 1, 3 * 31 - 1)
    for index, plane in enumerate(planes):
        row, column = divmod(index, 3)
        assert np.array_equal(whole[row * 25 : row * 25 + 24, column * 31 : column * 31 + 30], plane)
    assert np.isnan(whole[24]).all() and np.isnan(whole[:, 30]).all()
    assert pictures.tiles(np.zeros((7, 24, 24, 3)), 1.0).shape == (3 * 25 - 1, 3 * 25 - 1, 3)  # a prime number of them
    assert pictures.tiles(np.zeros((2, 3, 3)), 1.0).shape == (24, 2 * 25 - 1)  # small ones are enlarged


def test_names_are_no_formulas(tmp_path):
    names = ["$x$_{", "猫"]
    pictures.save(pictures.confusion_matrix(np.array([[2, 1], [0, 0]]), names, "$"), tmp_path / "a.png")
    pictures.save(pictures.image_grid(np.zeros((3, 3, 8, 8), np.uint8), ["$", "$$", "猫"], 2), tmp_path / "b.png")
    assert (tmp_path / "a.png").stat().st_size and (tmp_path / "b.png").stat().st_size


def test_a_picture_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        pictures.save(pictures.image_grid(np.zeros((1, 3, 8, 8), np.uint8), [""], 1), tmp_path / "file" / "a.png")


def test_filters_of_any_depth(tmp_path):
    for channels in (1, 3, 5):
        pictures.save(pictures.filters(np.ones((4, channels, 3, 3), np.float32), ""), tmp_path / "a.png")
    pictures.save(pictures.filters(np.zeros((1, 3, 1, 1)), ""), tmp_path / "a.png")


def test_layers_are_suggested_by_likeness():
    with pytest.raises(UserError, match=r"did you mean conv2\?"):
        features._known("conv22", {"conv1": 0, "conv2": 0, "fc": 0})
