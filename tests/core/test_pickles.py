"""Pickles: arrays and plain values come back, and whatever else one asks for is not done.

TANDEM_FUZZ=20000 takes as many drawn pickles in place of 2,000.
"""

import io
import os
import pickle
import random
import time
import tracemalloc

from tandem.core import pickles

import numpy as np
import pytest

ARRAYS = {
    "fc.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "scalar": np.array(-3, np.int64),
    "empty": np.zeros((0, 3), np.float16),
}


def read(content):
    return pickles.load(io.BytesIO(content))


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_and_plain_values_come_back(protocol):
    plain = {"names": ["a", "猫", b"b"], "numbers": [0, -1, 2**40, 0.5, True, None], "inner": {"x": (1, 2)}}
    found = read(pickle.dumps(ARRAYS | plain, protocol))
    assert found.keys() == (ARRAYS | plain).keys() and {name: found[name] for name in plain} == plain
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)


BOMB = b")q\x00" + b"h\x00\x86q\x00" * 60
"""A tuple of twice the same tuple of twice ..., whose hash takes 2**60 steps."""


def array(kind=b"f4", shape=b"(K\x02t", content=b"C\x08abcdefgh", order=b"U\x01<", rest=b"NNN", last=b""):
    """A pickle of one array, with parts that NumPy would not write."""
    dtype = b"cnumpy\ndtype\n(U%c%s\x89\x88tR(K\x03%s%sJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    dtype %= len(kind), kind, order, rest
    made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR(K\x01%s%s\x89%stb"
    return b"\x80\x02}U\x01w" + made % (shape, dtype, content) + last + b"s."


def test_that_pickle_of_an_array_is_one():
    np.testing.assert_array_equal(read(array())[b"w"], np.frombuffer(b"abcdefgh", np.float32))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        # Forged arrays, with which NumPy's own __setstate__ crashes, or reads what lies beside them.
        (array(kind=b"O"), "asks for the dtype 'O'"),
        (array(kind=b"V8"), "asks for the dtype 'V8'"),
        (array(order=b"U\x01>"), "dtype f4 is not a plain one of little-endian order"),
        (array(rest=b"N(U\x01at}U\x01aK\x00s"), "dtype f4 is not a plain one"),
        (array(shape=b"(K\x03t"), "an array of 12 bytes with 8 bytes of content"),
        (array(shape=b"(J\xff\xff\xff\xffJ\xfe\xff\xff\xfft"), "whose shape, dtype or content is none"),
        (array(shape=b"(K\x00J\xff\xff\xff\x7fJ\xff\xff\xff\x7fJ\xff\xff\xff\x7ft", content=b"U\x00"), "damaged"),
        (array(shape=b"(" + 8 * (b"\x8a\xff" + 254 * b"\xff" + b"\x7f") + b"t"), "damaged"),  # of 4,900 digits
        (array(shape=b"(" + 9 * b"K\x01" + b"t", content=b"U\x04abcd"), "whose shape, dtype or content is none"),
        (array(shape=b"U\x01\x02"), "whose shape, dtype or content is none"),
        (array(content=b"]"), "whose shape, dtype or content is none"),
        (array(content=b"cnumpy\nndarray\n"), "whose shape, dtype or content is none"),
        (array(last=b"N\x85b"), "damaged"),
        (b"cnumpy\nndarray\n(K\x02tR.", "damaged"),
        (b"cnumpy\ndtype\n}b.", "gives a state to what has none"),
        (b"}U\x01wcnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btRs.", "without content"),
        (b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\n(K\x00tU\x01btR.", "an array of another class"),
        # Other names, and operations.
        (b"cnumpy\nload\n.", "asks for numpy.load"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "asks for os.system"),
        (b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x03\x00\x00\x00zipt R.", "operation that arrays do not need"),
        (b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x03\x00\x00\x00ziptR.", "another encoding"),
        (b"(ios\nsystem\n.", "operation that arrays do not need"),
        (b"\x82\x01.", "operation that arrays do not need"),
        (b"P1\n.", "operation that arrays do not need"),
        # What takes memory or time out of all proportion.
        (b"B\xff\xff\xff\x7fabc.", "cut off"),
        (b"\x8e" + b"\xff" * 7 + b"\x7fabc.", "cut off"),
        (b"\x96" + b"\xff" * 7 + b"\x7fabc.", "cut off"),
        (b"\x95" + b"\xff" * 8 + b"N", "cut off"),
        (b"\x8b\xff\xff\xff\x7fabc.", "operation that arrays do not need"),
        (b"]" * 2000 + b".", "too many operations"),
        (b"(" * 101 + b".", "nested too deep"),
        (b"}" + BOMB + b"K\x01s.", "a key that is no text"),
        (b"cnumpy\ndtype\n(" + BOMB + b"tR.", "a dtype that is no text"),
        (b"}(" + b")" + b"\x85" * 1000 + b"K\x01u.", "a key that is no text"),
        (b"(" + b")K\x01d.", "a key that is no text"),
        (b"]K\x00K\x01s.", "a key that is no text"),
        (b"I" + b"9" * 5000 + b"\n.", "damaged"),
        (b"", "cut off"),
        (b".", "damaged"),
        (b"N", "cut off"),
        (b"0.", "operation that arrays do not need"),
        (b"h\x05.", "Memo value not found at index 5"),
    ],
)
def test_what_is_forged_is_refused(monkeypatch, content, message):
    monkeypatch.setattr(pickles, "READS", 1500)
    with pytest.raises(pickle.UnpicklingError, match=message):
        read(content)


@pytest.mark.parametrize("protocol", [1, 2, 4, 5])
def test_reading_takes_no_more_than_twice_the_files_memory(tmp_path, protocol):
    content = {"w": np.random.default_rng(0).integers(0, 256, 3_000_000, np.uint8)}
    (tmp_path / "x").write_bytes(pickle.dumps(content, protocol))
    with open(tmp_path / "x", "rb") as file:
        tracemalloc.start()
        found = pickles.load(file)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 2 * (tmp_path / "x").stat().st_size
    np.testing.assert_array_equal(found["w"], content["w"])


# Drawn ones

PIECES = [
    *(b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"cnumpy.core.multiarray\n_reconstruct\n", b"c_codecs\nencode\n"),
    *(
        b"cnumpy._core.numeric\n_frombuffer\n",
        b"cos\nsystem\n",
        b"cbuiltins\neval\n",
        b"U\x02f4",
        b"U\x01O",
        b"U\x02V8",
    ),
    *(
        b"K\x00",
        b"K\x02",
        b"J\xff\xff\xff\xff",
        b"J\x00\xe0\xff\xff",
        b"J\xff\xff\xff\x7f",
        b"\x8a\x09" + b"\xff" * 8 + b"\x00",
    ),
    *(
        b"C\x08abcdefgh",
        b"C\x00",
        b"X\x01\x00\x00\x00w",
        b"U\x01<",
        b"U\x01|",
        b"F1e999\n",
        b"I-1\n",
        b"L99999999999L\n",
    ),
    *(b"B\xff\xff\xff\xff", b"T\xff\xff\xff\xff", b"\x8e" + b"\xff" * 8, b"\x8d" + b"\x7f" * 8, b"\x95" + b"\xff" * 8),
    *(b"r\xff\xff\xff\x7f", b"j\xff\xff\xff\x7f", b"p99999999999\n", b"q\x00", b"h\x00", b"\x94"),
    *(bytes([number]) for number in b"()}]deltRbsua.0NS\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93"),
]
"""What drawn pickles are made of: the operations of arrays with good and bad arguments, and some others."""


def mutated(draw, content):
    """`content` with up to five changes: bytes changed, left out, put in or repeated."""
    content = bytearray(content)
    for _ in range(draw.randint(1, 5)):
        at, length = draw.randrange(len(content)), draw.randint(1, 8)
        kind = draw.randrange(5)
        if kind == 0:
            content[at] = draw.randrange(256)
        elif kind == 1:
            del content[at : at + length]
        elif kind == 2:
            content[at:at] = draw.choice(PIECES)
        elif kind == 3:
            content[at:at] = content[at : at + length * 5] * draw.choice([1, 2, 50])
        else:
            content[at : at + length] = draw.choice(PIECES)
        content = content or bytearray(b".")
    return bytes(content)


def generated(draw):
    """Up to sixty operations in any order."""
    return b"\x80\x04" + b"".join(draw.choice(PIECES) for _ in range(draw.randint(1, 60))) + b"."


def test_drawn_pickles_neither_crash_nor_hang():
    draw = random.Random(34)
    whole = [pickle.dumps(ARRAYS | {"labels": [1, 2], "name": "x"}, protocol) for protocol in range(6)] + [array()]
    refused = 0
    for number in range(int(os.environ.get("TANDEM_FUZZ", "2000"))):
        content = generated(draw) if number % 3 == 0 else mutated(draw, draw.choice(whole))
        began = time.monotonic()
        try:
            read(content)
        except pickle.UnpicklingError:
            refused += 1
        assert time.monotonic() - began < 5
    assert 0.5 * number < refused < number  # some changes do no harm
