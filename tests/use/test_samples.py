"""`tandem data`: the figures of a dataset, and the samples that it draws."""

import sys

from tandem.__main__ import app
from tandem.commands import cli
from tandem.config.load import load_config
from tandem.core.errors import UserError
from tandem.core.random import permutation
from tandem.data.batches import training_batches
from tandem.data.images import fill_color, load_dataset
from tandem.use import samples

import numpy as np
import pytest
from PIL import Image


def command(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["tandem", "data", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.run(app)
    return ended.value.code, *capsys.readouterr()


def test_digits(monkeypatch, capsys, tmp_path):
    path = tmp_path / "new" / "samples.png"
    given = ("configs/quickstart.yaml", "-o", "data.validation_fraction=0.1", "--output", path)
    code, said, errors = command(monkeypatch, capsys, *given)
    assert (code, errors) == (0, "")
    settings = load_config("configs/quickstart.yaml", ["data.validation_fraction=0.1"])
    data = load_dataset(settings.data, settings.seed)
    splits = (data.train, data.validation, data.test)
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in said.splitlines() if "│" in line]
    for label in range(10):
        assert rows[label] == [str(label)] * 2 + [str((split.labels == label).sum()) for split in splits]
    assert rows[-1] == ["", "total", *(f"{len(split.labels):,}" for split in splits)]
    pixels = data.train.images.astype(float)
    for name, value in (("mean", pixels.mean()), ("std", pixels.std())):
        assert f"{name} of red, green, blue (0 to 255): {value:.2f}, {value:.2f}, {value:.2f}" in said
    counts = f"{len(data.train.labels):,} train, {len(data.validation.labels)} validation, {len(data.test.labels)} test"
    assert f"10 classes of images 32x32: {counts}" in said
    with Image.open(path) as picture:
        assert picture.size[0] > 1000 and len(picture.getcolors(1 << 20)) > 100


def test_what_is_drawn_is_the_first_batch():
    settings = load_config("configs/quickstart.yaml", ["batch_size=20", "data.augmentation.mixup=1.0"])
    data = load_dataset(settings.data, settings.seed)
    figure = samples.draw(data, settings)
    drawn = [axes.images[0].get_array().transpose(2, 0, 1) for axes in figure.axes if axes.images]
    assert len(drawn) == 32
    order = permutation(settings.seed, "shuffle", 0, len(data.train.labels))
    before, after = [*drawn[:8], *drawn[16:24]], [*drawn[8:16], *drawn[24:]]
    assert np.array_equal(before, data.train.images[order[:16]])
    fill = fill_color(data.train.images)
    batch = next(training_batches(data.train, 20, settings.seed, 0, settings.data.augmentation, fill))
    mixed = batch.weight * batch.images + (1 - batch.weight) * batch.images[batch.permutation]
    assert np.abs(np.array(after, float) - mixed[:16]).max() <= 0.5
    assert [axes.get_title() for axes in figure.axes[:8]] == [str(data.train.labels[index]) for index in order[:8]]


def folder_of(directory, count):
    for name in ("cat", "dog"):
        (directory / name).mkdir(parents=True)
        for index in range(count):
            Image.new("RGB", (9, 9), (index, 0, 0)).save(directory / name / f"{index}.png")


def test_a_small_folder(tmp_path, monkeypatch, capsys):
    folder_of(tmp_path / "images", 3)
    given = ("-o", "data.source=folder", "-o", f"data.directory={tmp_path / 'images'}", "-o", "data.test_fraction=0.4")
    code, said, _ = command(monkeypatch, capsys, *given, "--output", tmp_path / "a.png")
    assert code == 0 and "2 classes of images 32x32: 4 train, 2 test" in said


def test_too_few_to_train_on(tmp_path):
    folder_of(tmp_path, 2)
    given = [
        "data.source=folder",
        f"data.directory={tmp_path}",
        "data.test_fraction=0.5",
        "data.validation_fraction=0.5",
    ]
    settings = load_config("configs/quickstart.yaml", given)
    with pytest.raises(UserError, match="fewer than two images"):
        samples.draw(load_dataset(settings.data, 0), settings)


def test_bad_input(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()

    def refused(*arguments):
        code, said, errors = command(monkeypatch, capsys, *arguments)
        assert (code, said) == (2, "") and errors.startswith("error: ") and errors.count("\n") == 1
        return errors

    assert "no such config" in refused(tmp_path / "x.yaml")
    assert "is a folder" in refused("configs/quickstart.yaml", "--output", tmp_path)
    assert "cannot be written" in refused("configs/quickstart.yaml", "--output", tmp_path / "file" / "a.png")
    nowhere = ["-o", f"data.directory={tmp_path}", "-o", "data.mirrors=[http://127.0.0.1:9/x]", "--output", "a.png"]
    monkeypatch.chdir(tmp_path)
    assert "no mirror serves CIFAR-10" in refused(*nowhere)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
