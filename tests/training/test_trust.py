"""A checkpoint is data: which settings are taken from it, and when the file of a network of one's own may run."""

import shutil

from tandem.certify.subject import subject
from tandem.config.load import check_config
from tandem.core.errors import UserError
from tandem.training import checkpoint, trust
from tandem.use import convert, inference

import numpy as np
import pytest
from checkpoints import CONFIG, metadata

OWN = {"name": "own", "file": "mynet.py"}
ARRAYS = {"preprocessing/mean": np.zeros((3, 1, 1)), "preprocessing/std": np.ones((3, 1, 1))}
HERE = {"data": {"source": "cifar10", "directory": "/mine", "archive": "/a", "mirrors": ["http://m"]}, "device": "gpu"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a file mynet.py, that is the current one too."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mynet.py").write_text("raise AssertionError('it ran')")
    return tmp_path


def lay(run, **config):
    """A checkpoint of this config in the run folder `run`, where it was trained."""
    path = run / "checkpoints" / checkpoint.file_name(10)
    checkpoint.write(path, ARRAYS, metadata(config=CONFIG | config))
    trust.record(run, check_config(CONFIG | config, "test"))
    return path


def taken(path, *overrides):
    return trust.settings_of(path, *checkpoint.read(path), overrides)


def refused(function, *arguments, **options):
    with pytest.raises(UserError) as caught:
        function(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_file_runs_from_where_it_lay_as_the_run_was_trained(folder, monkeypatch):
    path = lay(folder / "run", network=OWN)
    (folder / "elsewhere").mkdir()
    shutil.copy(folder / "mynet.py", folder / "elsewhere")
    monkeypatch.chdir(folder / "elsewhere")
    assert taken(path).network.file == str(folder / "mynet.py")
    assert taken(path, "network.options={kind: 2}").network.options == {"kind": 2}


def test_not_if_it_has_changed_or_is_gone(folder):
    path = lay(folder / "run", network=OWN)
    (folder / "mynet.py").write_text("other")
    assert f"its network {folder / 'mynet.py'} is gone, or has changed" in refused(taken, path)
    (folder / "mynet.py").unlink()
    assert "or has changed since it was trained, so it does not run" in refused(taken, path)


@pytest.mark.parametrize("file", ["mynet.py", "./mynet.py", "{folder}/mynet.py"])
def test_not_if_a_checkpoint_of_elsewhere_names_it(folder, file):
    path = lay(folder / "run", network=OWN | {"file": file.format(folder=folder)})
    shutil.copy(path, folder / "x.safetensors")
    shutil.copytree(folder / "run", folder / "copy")
    (folder / "run" / trust.RECORD).write_text("{}")
    for other in (folder / "x.safetensors", folder / "copy" / "checkpoints" / path.name, path):
        message = refused(taken, other)
        assert "its network is a Python file" in message and "name it: --network FILE.py" in message


def test_not_by_way_of_any_other_setting(folder):
    """The file in the checkpoint is never taken, even where the user turns another network into one of their own."""
    checkpoint.write(folder / "x.safetensors", ARRAYS, metadata(config=CONFIG | {"network": OWN | {"name": "lenet5"}}))
    assert "its network is a Python file" in refused(taken, folder / "x.safetensors", "network.name=own")


def test_every_command_that_reads_a_checkpoint_asks(folder):
    shutil.copy(lay(folder / "run", network=OWN), folder / "x.safetensors")
    for function, *arguments in (
        (inference.Classifier, "x.safetensors"),
        (subject, "x.safetensors"),
        (convert.convert, "x.safetensors", "y.pdparams"),
    ):
        assert "its network is a Python file" in refused(function, *arguments)


def test_a_file_that_the_user_names_runs(folder):
    shutil.copy(lay(folder / "run", network=OWN), folder / "x.safetensors")
    assert taken("x.safetensors", 'network.file="mynet.py"').network.file == "mynet.py"
    lay(folder / "other")
    assert "is of the network lenet5; leave it out" in refused(
        taken, folder / "other" / "checkpoints" / checkpoint.file_name(10), 'network.file="mynet.py"'
    )


@pytest.mark.parametrize(
    "network",
    [
        {"name": "se_resnext", "num_block": 10**6},
        {"name": "se_resnext", "num_block": 60, "out_dims": [64] * 60},
        {"name": "se_resnext", "out_dims": [64, 10**6]},
        {"name": "resnet_cifar", "depth": 6 * 1000 + 2},
        {"name": "resnet_cifar", "widths": [16, 32, 60_000]},
        {"name": "resnet_fast", "blocks": 1000},
    ],
)
def test_a_network_that_is_far_larger_than_the_weights_is_not_built(folder, network):
    arrays = {f"layer{number}.weight": np.zeros((64, 3, 3, 3), np.float32) for number in range(60)}
    held = metadata(config=CONFIG | {"network": network})
    with pytest.raises(UserError):
        trust.settings_of("x.safetensors", arrays, held)
    assert trust.settings_of("x.safetensors", arrays, held, ["network={name: lenet5}"]).network.name == "lenet5"
    with pytest.raises(UserError, match="far larger than its weights"):
        trust.settings_of("x.safetensors", arrays, metadata(class_names=[str(number) for number in range(65)]))


def test_where_images_are_and_what_computes_is_of_this_place(folder):
    path = lay(folder / "run", **HERE, threads=3)
    here = taken(path)
    assert (here.data.directory, here.data.archive, here.data.mirrors) == ("/mine", "/a", ("http://m",))
    assert (here.device, here.threads) == ("gpu", 3)
    # Even of a checkpoint that was laid there.
    checkpoint.write(path, ARRAYS, metadata(config=CONFIG | {"data": {"directory": "/theirs"}, "device": "gpu:1"}))
    assert (taken(path).data.directory, taken(path).device) == ("/mine", "gpu")
    shutil.copy(path, folder / "x.safetensors")
    there, default = taken(folder / "x.safetensors", "threads=2"), check_config(CONFIG, "test")
    assert there.data.model_dump(exclude={"source"}) == default.data.model_dump(exclude={"source"})
    assert (there.device, there.threads) == ("auto", 2)


def test_images_are_not_looked_for_where_only_a_checkpoint_says(folder):
    path = lay(folder / "run", **HERE)
    shutil.copy(path, folder / "x.safetensors")
    _, _, held = checkpoint.find(folder / "x.safetensors", print)
    assert "say where with -o data.directory=FOLDER (it was /mine)" in refused(
        trust.check_data, folder / "x.safetensors", held
    )
    trust.check_data(folder / "x.safetensors", held, ["data.directory=/data"])
    trust.check_data(path, held)
