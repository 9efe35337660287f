"""A user's file: modules beside it, from any folder; and the next file forgets them."""

import sys

import data_utils
from tandem.config import user_file

import pytest


@pytest.fixture(autouse=True)
def left(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    user_file.leave()


def folder(path, width, lazily="from inside.blocks import WIDTH"):
    """A folder with net.py, blocks.py beside it, and the packages inside and data_utils."""
    (path / "inside").mkdir(parents=True)
    (path / "blocks.py").write_text(f"WIDTH = {width}")
    (path / "inside" / "__init__.py").touch()
    (path / "inside" / "blocks.py").write_text(f"WIDTH = {width} + 100")
    (path / "data_utils.py").write_text(f"mine = {width}")
    (path / "net.py").write_text(
        f"from data_utils import mine\nfrom blocks import WIDTH\ndef f():\n    {lazily}\n    return WIDTH\n"
    )
    return path / "net.py"


def test_modules_beside_it_also_within_functions(tmp_path, monkeypatch):
    net = folder(tmp_path / "a folder", 1)
    monkeypatch.chdir(tmp_path)
    module = user_file.load(net.relative_to(tmp_path))
    assert (module.WIDTH, module.f(), module.mine, module.__name__) == (1, 101, 1, "net")
    assert sys.modules["net"] is module and sys.modules["data_utils"].mine == 1


def test_the_next_file_has_modules_of_its_own(tmp_path):
    before, path = {*sys.modules}, [*sys.path]
    first = user_file.load(folder(tmp_path / "a", 1))
    assert first.f() == 101
    second = user_file.load(folder(tmp_path / "b", 2))
    assert (second.WIDTH, second.f(), second.mine) == (2, 102, 2)
    user_file.leave()
    assert {*sys.modules} == before and sys.path == path
    assert sys.modules["data_utils"] is data_utils and hasattr(data_utils, "FOLDER")  # Tandem's own again


def test_what_others_have_imported_meanwhile_stays(tmp_path):
    (tmp_path / "net.py").write_text("import wave")
    sys.modules.pop("wave", None)
    wave = user_file.load(tmp_path / "net.py").wave
    user_file.leave()
    assert sys.modules["wave"] is wave


def test_a_file_that_raises_is_forgotten_too(tmp_path):
    (tmp_path / "net.py").write_text("import beside_it\n1 / 0")
    (tmp_path / "beside_it.py").touch()
    with pytest.raises(ZeroDivisionError):
        user_file.load(tmp_path / "net.py")
    user_file.leave()
    assert not {"net", "beside_it"} & sys.modules.keys()
