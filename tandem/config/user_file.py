"""Loads a user's Python file, which may import modules beside it. One at a time: the next makes room for itself."""

import contextlib
import importlib.util
import sys
from pathlib import Path

from tandem.core.paths import ROOT

_folder = None
"""Of the file that is loaded."""

_known = set()
"""The names of the modules that were there before it."""

_set_aside = {}
"""Modules that were there under the name of the file, or of one beside it: by name."""


def load(path):
    """Import the file `path` as a module, named after the file. Its folder is the first on `sys.path`.

    What it raises passes through.
    """
    global _folder, _known
    leave()
    path = Path(path).absolute()
    _folder = path.resolve().parent
    # Tandem's own modules have names that a user's may have, too: vgg, data_utils.
    beside = {file.stem for file in _folder.glob("*.py")} if _folder != ROOT else set()
    ours = {name for name in beside & {*sys.modules} if ROOT in _folders(sys.modules[name])}
    _set_aside.update({name: sys.modules.pop(name) for name in ours | {path.stem} if name in sys.modules})
    _known = {*sys.modules}
    sys.path.insert(0, str(_folder))
    importlib.invalidate_caches()
    specification = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(specification)
    sys.modules[path.stem] = module  # Keras looks up classes there
    specification.loader.exec_module(module)
    return module


def leave():
    """Forget the file that is loaded and the modules from its folder: those of another may have the same names."""
    global _folder
    if _folder is None:
        return
    with contextlib.suppress(ValueError):  # the file may have changed sys.path
        sys.path.remove(str(_folder))
    tops = {name.partition(".")[0] for name in sys.modules}
    gone = {top for top in tops - _known if top in sys.modules and _folder in _folders(sys.modules[top])}
    for name in [name for name in sys.modules if name.partition(".")[0] in gone]:
        del sys.modules[name]
    sys.modules.update(_set_aside)
    _set_aside.clear()
    _folder = None


def _folders(module):
    """The folders that hold the file, or the package, of `module`."""
    places = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
    return {Path(place).resolve().parent for place in places if place}
