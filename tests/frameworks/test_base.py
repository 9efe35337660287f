"""What processes that train together must have in common."""

import hashlib
import socket

from tandem.core.errors import UserError
from tandem.frameworks.base import ALONE, Alone, check_equal, check_port, not_joined

import numpy as np
import pytest


class Three(Alone):
    """Three processes, of which the second gathers other numbers than this one."""

    rank, count = 0, 3

    def __init__(self, differing):
        self.differing = differing

    def gather(self, numbers):
        table = np.array([numbers] * 3, np.float64)
        table[1, self.differing] += 1
        return table


FACTS = {what: hashlib.sha256(what.encode()).digest() for what in ("the settings", "the images", "the weights")}


def test_one_process_agrees_with_itself():
    check_equal(ALONE, FACTS)
    assert ALONE.gather([1, 2]).tolist() == [[1, 2]]
    assert ALONE.sum(["tensor"]) == ["tensor"]


@pytest.mark.parametrize(("differing", "named"), [([1], "the images"), ([2, 1], "the images"), ([2], "the weights")])
def test_the_first_fact_that_differs_is_named(differing, named):
    with pytest.raises(UserError) as caught:
        check_equal(Three(differing), FACTS)
    assert str(caught.value) == f"worker 1: differs from worker 0 in {named}; give all workers the same"


def test_the_smallest_difference_counts():
    """Of 48 bits, each is in a float64."""
    numbers = [int.from_bytes(digest[:6], "big") for digest in FACTS.values()]
    assert all(float(number) != float(number + 1) for number in [*numbers, 2**48 - 1])


def test_what_a_framework_says_of_a_job_is_one_line():
    error = not_joined(2, RuntimeError("\n\n-----\n  port 4 is in use\nmore\n"))
    assert str(error).startswith("worker 2: cannot join the others (port 4 is in use); ")
    assert str(not_joined(0, KeyError())).startswith("worker 0: cannot join the others (KeyError); ")


def test_a_port_in_use_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(UserError) as caught:
            check_port(0, address)
    assert str(caught.value).startswith(f"worker 0: cannot join the others ({address}: Address already in use); ")
    check_port(0, address)


@pytest.mark.parametrize("address", ["host", "host:", "host:70000", "host:port"])
def test_what_is_no_port_is_one_line(address):
    with pytest.raises(UserError, match=f"worker 0: cannot join the others .{address}: "):
        check_port(0, address)
