"""tandem init writes a file whose names fit, and never over another. What it writes is certified in tests/certify."""

from tandem.commands.init import init
from tandem.core.errors import UserError

import pytest


def test_the_builders_have_the_name_of_the_file(tmp_path):
    init(tmp_path / "my_net2.py")
    written = (tmp_path / "my_net2.py").read_text()
    assert "def my_net2_paddle(num_classes" in written and "def my_net2_tensorflow(num_classes" in written
    assert "tandem certify my_net2.py" in written and "mynet" not in written
    compile(written, "my_net2.py", "exec")


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "mine.py").write_text("mine")
    with pytest.raises(UserError, match=r"mine.py: is there already; choose another name"):
        init(tmp_path / "mine.py")
    assert (tmp_path / "mine.py").read_text() == "mine"


@pytest.mark.parametrize("name", ["my-net.py", "2net.py", "mynet", "mynet.txt", "class.py", "tensorflow.py"])
def test_a_name_that_does_not_fit_is_refused(tmp_path, name):
    with pytest.raises(UserError, match=rf"{name}: network.*file: .*(identifier|rename it)"):
        init(tmp_path / name)
    assert not [*tmp_path.iterdir()]
