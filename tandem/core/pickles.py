"""Plain values and arrays out of a pickle, without doing what it asks for.

A pickle is a program. Python's own unpickler calls what it names, and NumPy's `__setstate__` trusts what it is given:
forged, it reads or writes the memory of the process. So only the operations that plain data needs are carried out here,
and an array is made from a checked dtype, a checked shape and exactly as many bytes as these two say.
"""

import codecs
import io
import math
import pickle
import struct
from types import SimpleNamespace

import numpy as np

READS = 400_000
"""How often a pickle may be read from, two or three times an operation: each makes an object of about 100 bytes at the
most, besides its text or bytes. A CIFAR-10 file takes 70,000, pickled again at most 170,000."""

MARKS = 100
"""How deep marks, with which a list, tuple or dictionary begins, may be nested."""

PART = 1 << 16
"""How many bytes of a text are decoded at a time."""

DIMENSIONS = 8
"""How many an array may have."""

DTYPES = {"i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}
"""Those of arrays, as NumPy writes them."""

ALLOWED = (
    *("PROTO", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE"),
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("UNICODE", "SHORT_BINUNICODE"),
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
    *("EMPTY_LIST", "LIST", "APPEND", "APPENDS", "EMPTY_DICT"),
    *("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET"),
    *("GLOBAL", "STACK_GLOBAL", "REDUCE"),
)
"""Python's operations that are carried out as they are. `_Reader` has its own for the others that are allowed."""


def load(file):
    """The value that the pickle in the open binary `file` describes, with the strings of Python 2 as bytes.

    It is made of None, bool, int, float, str, bytes, tuple, list, dict with keys of text, and NumPy arrays (read-only)
    as values of the outermost dict. It takes up to twice the length of the file in memory, and what `READS` allows.

    Raises:
        pickle.UnpicklingError: it is damaged, or asks for anything else; says in words what.
    """
    try:
        content = _Reader(file).load()
        if isinstance(content, dict):
            return {key: value.array() if isinstance(value, _Array) else value for key, value in content.items()}
        return content
    except pickle.UnpicklingError:
        raise
    except Exception as error:  # of a damaged pickle an operation may raise almost anything
        raise pickle.UnpicklingError("it is damaged") from error


class _Dtype:
    """In place of a numpy.dtype."""

    def __init__(self, text, align=False, copy=True):
        if not isinstance(text, (str, bytes)):  # the hash of a tuple may take for ever
            raise pickle.UnpicklingError("it asks for a dtype that is no text")
        self.text = text.decode("ascii") if isinstance(text, bytes) else text
        if self.text not in DTYPES:
            raise pickle.UnpicklingError(f"it asks for the dtype {self.text[:20]!r}")

    def set_state(self, version, order, *rest):
        if order not in ("<", "|", b"<", b"|") or rest[:3] != (None, None, None):
            raise pickle.UnpicklingError(f"its dtype {self.text} is not a plain one of little-endian order")


class _Array:
    """In place of a numpy.ndarray until all is read: a pickle makes an empty one first, and then gives it a state."""

    state = None

    def set_state(self, version, shape, dtype, in_columns, content):
        self.state = shape, dtype, "F" if in_columns else "C", content

    def array(self):
        """The array itself, over the bytes that were read."""
        if self.state is None:
            raise pickle.UnpicklingError("it has an array without content")
        shape, dtype, order, content = self.state
        plain = isinstance(shape, tuple) and isinstance(dtype, _Dtype) and isinstance(content, bytes)
        if not plain or len(shape) > DIMENSIONS or not all(type(size) is int and size >= 0 for size in shape):
            raise pickle.UnpicklingError("it has an array whose shape, dtype or content is none")
        size = math.prod(shape) * np.dtype(dtype.text).itemsize
        if len(content) != size:
            raise pickle.UnpicklingError(f"it has an array of {size} bytes with {len(content)} bytes of content")
        return np.ndarray(shape, f"<{dtype.text}", content, order=order)


_NDARRAY = object()
"""In place of the class numpy.ndarray, which no pickle may call."""


def _reconstruct(subtype, shape, kind):
    if subtype is not _NDARRAY:
        raise pickle.UnpicklingError("it asks for an array of another class")
    return _Array()


def _from_buffer(content, dtype, shape, order):
    array = _Array()
    array.set_state(1, shape, dtype, order == "F", content)
    return array


def _encode(text, encoding):
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("it asks for another encoding than latin1")
    return text.encode("latin1")


NAMES = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Dtype,
    # How Python 3 writes bytes up to protocol 2, and none.
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): lambda: b"",
    # NumPy's modules, before version 2 and since.
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
}
"""What stands for each name that a pickle may ask for. Nothing is imported."""


class _Reader(pickle._Unpickler):
    """Python's unpickler in Python, as the one in C can neither be limited nor leave an operation out."""

    def __init__(self, file):
        left, reads = file.seek(0, io.SEEK_END), 0
        file.seek(0)

        def counted(read):
            def counting(*count):
                nonlocal left, reads
                reads += 1
                if reads > READS:
                    raise pickle.UnpicklingError("it has too many operations")
                if count and count[0] > left:  # before so much memory is asked for
                    raise pickle.UnpicklingError("it is cut off")
                content = read(*count)
                left -= len(content)
                return content

            return counting

        super().__init__(SimpleNamespace(read=counted(file.read), readline=counted(file.readline)), encoding="bytes")

    def find_class(self, module, name):
        """What stands for the name `module`.`name`; `pickle` calls this."""
        if (module, name) not in NAMES:
            raise pickle.UnpicklingError(f"it asks for {module[:100]}.{name[:100]}")
        return NAMES[module, name]

    def _refuse(self):
        raise pickle.UnpicklingError("it has an operation that arrays do not need")

    def _frame(self):
        self.read(8)  # says how much to read ahead, which nothing here does

    def _text(self, length):
        # In parts: of a whole one, Python has three copies for a while.
        decoder, parts = codecs.getincrementaldecoder("utf-8")("surrogatepass"), []
        for start in range(0, length, PART):
            parts.append(decoder.decode(self.read(min(PART, length - start))))
        self.append("".join(parts) + decoder.decode(b"", final=True))

    def _mark(self):
        if len(self.metastack) >= MARKS:
            raise pickle.UnpicklingError("it is nested too deep")
        self.load_mark()

    def _put_in(self, items):
        target = self.stack[-1]
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(target) is not dict or type(key) not in (str, bytes):  # see _Dtype
                raise pickle.UnpicklingError("it has a key that is no text")
            target[key] = value

    def _set_item(self):
        items = self.stack[-2:]
        del self.stack[-2:]
        self._put_in(items)

    def _dict(self):
        items = self.pop_mark()
        self.append({})
        self._put_in(items)

    def _build(self):
        state = self.stack.pop()
        if not isinstance(self.stack[-1], (_Array, _Dtype)):
            raise pickle.UnpicklingError("it gives a state to what has none")
        self.stack[-1].set_state(*state)

    dispatch = (
        dict.fromkeys(range(256), _refuse)
        | {getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]] for name in ALLOWED}
        | {
            pickle.FRAME[0]: _frame,
            pickle.MARK[0]: _mark,
            pickle.BINUNICODE[0]: lambda self: self._text(*struct.unpack("<I", self.read(4))),
            pickle.BINUNICODE8[0]: lambda self: self._text(*struct.unpack("<Q", self.read(8))),
            pickle.BYTEARRAY8[0]: pickle._Unpickler.load_binbytes8,
            pickle.SETITEM[0]: _set_item,
            pickle.SETITEMS[0]: lambda self: self._put_in(self.pop_mark()),
            pickle.DICT[0]: _dict,
            pickle.BUILD[0]: _build,
        }
    )
