"""Stand-ins for the framework that a process must not load, for a user's file that imports both at its top.

Paddle and TensorFlow crash in one process. So each has a process of its own, which loads the whole file.
"""

import builtins
import importlib.machinery
import sys
import types

PACKAGES = {"paddle": ("paddle",), "tensorflow": ("tensorflow", "keras", "tf_keras")}
"""The packages that load each framework."""

VERSIONS = {"paddle": "3.3.0", "tensorflow": "2.21.0", "keras": "3.15.0", "tf_keras": "2.21.0"}
"""The versions of the stand-ins, which a file may compare: the oldest that Tandem asks for in pyproject.toml."""


class StandIns:
    """A context in which imports of frameworks other than `framework` give an `Absent`.

    After `end` they, and calls of an `Absent`, are errors: then it is the network that runs. After the context such
    imports are what they always are.
    """

    def __init__(self, framework):
        self.others = [name for other, names in PACKAGES.items() if other != framework for name in names]
        Absent.present, Absent.ended = PACKAGES[framework], False

    def __enter__(self):
        sys.meta_path.insert(0, self)
        return self

    def __exit__(self, *exception):
        self.end()
        sys.meta_path.remove(self)

    def end(self):
        """Take the stand-ins out of `sys.modules`, where libraries look for what is there."""
        Absent.ended = True
        for name, module in list(sys.modules.items()):
            if isinstance(module, Absent):
                del sys.modules[name]

    def find_spec(self, name, path=None, target=None):
        """Python asks each finder in `sys.meta_path` for a module by this method."""
        if name.partition(".")[0] not in self.others:
            return None
        if Absent.ended:
            raise ModuleNotFoundError(f"{name} is imported in the other framework's network; leave it out there")
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        """Python asks the loader for the module by this method, and then calls `exec_module`."""
        return _absent(spec.name)

    def exec_module(self, module):
        """Do nothing: a stand-in has no code."""


class Absent:
    """A module of the absent framework, or anything that comes of one: attributes, results of calls, instances.

    It can be a base class or a decorator, which gives back what it decorates.

    Attributes:
        present: the packages of the framework that the process has.
        ended: whether the user's file and its builder have run. From then on a call is an error.
    """

    present = ()
    ended = False

    _path = "an instance"  # of a class of the user's

    def __init__(self, *arguments, **options):
        """Take what the real base class of a user's class would."""

    def __init_subclass__(cls, **options):
        """Likewise."""

    def __mro_entries__(self, bases):
        """The base class in place of this one in `bases`, once: `class Net(tf.keras.Model)`."""
        first = next(base for base in bases if isinstance(base, Absent))
        derived = any(isinstance(base, type) and issubclass(base, Absent) for base in bases)
        return (Absent,) if self is first and not derived else ()

    def __getattr__(self, name):
        if name in ("__version__", "VERSION", "full_version"):
            return VERSIONS.get(self._path.partition(".")[0], "0")
        if name == "__all__":
            return _names_wanted()
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(f"{self!r} has no {name}")
        child = self.__dict__[name] = _absent(f"{self._path}.{name}")
        return child

    def __call__(self, *arguments, **options):
        """What is decorated; or another stand-in.

        Raises:
            RuntimeError: the network itself calls it.
        """
        if Absent.ended or any(_is_of(value, self.present) for value in (*arguments, *options.values())):
            raise RuntimeError(f"{self._path} is called in the other framework's network; use its own there")
        if len(arguments) == 1 and not options and (callable(arguments[0]) or hasattr(arguments[0], "__func__")):
            return arguments[0]
        return _absent(f"{self._path}(...)")

    def __repr__(self):
        return f"<stand-in for {self._path}>"

    def __format__(self, form):
        return repr(self)

    def __instancecheck__(self, instance):
        return False

    def __subclasscheck__(self, subclass):
        return False

    def __bool__(self):
        return True

    def __int__(self):
        return 1

    def __float__(self):
        return 1.0

    def __len__(self):
        return 0

    def __iter__(self):
        return iter(())

    def __getitem__(self, key):
        return _absent(f"{self._path}[...]")

    def __setitem__(self, key, value):
        """Keep nothing."""

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        return False

    # A requirement such as `tf.version.COMPILER_VERSION >= ...` is taken to be met.
    def __ge__(self, other):
        return True

    __gt__ = __ge__

    def __le__(self, other):
        return False

    __lt__ = __le__


def _calculated(one, *others):
    return _absent(f"({one._path} and others)")


BINARY = ("add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor")
for _name in (*BINARY, *(f"r{name}" for name in BINARY), "neg", "pos", "abs", "invert"):
    setattr(Absent, f"__{_name}__", _calculated)


def _absent(path):
    """The stand-in for what the absent framework has at the dotted `path`."""
    one = Absent()
    one.__dict__.update(_path=path, __name__=path)
    return one


def _is_of(value, packages):
    """Whether `value` is a tensor, a layer or such of one of `packages`."""
    modules = [base.__module__ for base in type(value).__mro__ if not isinstance(value, type)]
    return any(module.partition(".")[0] in packages for module in modules)


def _names_wanted():
    """For `from paddle.nn import *`: all names that the importing file uses and has not yet."""
    frame = sys._getframe(1)
    while frame.f_code.co_filename in (__file__, "<frozen importlib._bootstrap>"):
        frame = frame.f_back
    names, waiting = set(), [frame.f_code]
    while waiting:
        code = waiting.pop()
        names.update(code.co_names)
        waiting += [value for value in code.co_consts if isinstance(value, types.CodeType)]
    known = {*frame.f_globals, *vars(builtins)}
    return sorted(name for name in names - known if not name.startswith("_"))
