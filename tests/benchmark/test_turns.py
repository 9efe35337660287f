"""Variants take their steps in turn; of one that fails the others learn nothing."""

import itertools
import json
from collections import Counter

from tandem.benchmark import turns

import pytest

FAKE = '''
"""A variant that writes down when it works. It fails in the step `fails`."""

import json, sys, time
from multiprocessing.connection import Client

address, kind, values = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
if kind == "broken":
    sys.exit("it has no memory")
connection = Client(address)
connection.send({"macs": 7})
for step in range(100):
    work = connection.recv()
    if step == values["fails"]:
        print("Trouble: deep", file=sys.stderr)
        sys.exit(1)
    began = time.monotonic()
    time.sleep(0.002)
    with open(values["log"], "a") as log:
        print(json.dumps([kind, work, began, time.monotonic()]), file=log)
    connection.send({"seconds": 0.5, "peak_memory": 10 * step})
'''


@pytest.fixture
def log(tmp_path, monkeypatch):
    """Where the fakes of `MODULE` write."""
    (tmp_path / "fake_variants.py").write_text(FAKE)
    monkeypatch.setattr(turns, "MODULE", "fake_variants")
    monkeypatch.setattr(turns, "SHORT", 0.1)  # the fakes say 0.5
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path / "log"


def test_one_at_a_time_in_orders_that_change_and_without_those_that_fail(log):
    a = turns.Variant("a", log=str(log), fails=None)
    late = turns.Variant("late", log=str(log), fails=turns.BURN_IN + 3)
    parts = {
        ("x", "forward"): (a, "forward"),
        ("x", "training"): (a, "training"),
        ("y", "training"): (turns.Variant("b", log=str(log), fails=None), "training"),
        ("y", "late"): (late, "training"),
        ("y", "broken"): (turns.Variant("broken"), "training"),
    }
    shown = []
    answers, reasons, waiting = turns.take_turns(parts, 8, lambda *what: shown.append(what), "a case")
    assert reasons == {("y", "late"): "Trouble: deep", ("y", "broken"): "it has no memory"}
    assert list(answers) == [("x", "forward"), ("x", "training"), ("y", "training")]
    assert all(answer["seconds"] == [0.5] * 8 for answer in answers.values())
    assert answers["x", "forward"]["peak_memory"] == 10 and answers["x", "training"]["peak_memory"] == 30
    assert a.facts == {"macs": 7}
    assert abs(waiting) < 0.5
    assert shown[0] == ("a case: loading, process 1 of 4", 0, 8)

    steps = [json.loads(line) for line in log.read_text().splitlines()]
    assert all(before[3] <= after[2] for before, after in itertools.pairwise(steps))
    taken = steps[4 * turns.BURN_IN :]
    assert Counter((kind, work) for kind, work, *_ in taken) == {
        **dict.fromkeys([("a", "forward"), ("a", "training"), ("b", "training")], 8),
        ("late", "training"): 3,
    }
    assert len({tuple(kind + work for kind, work, *_ in taken[at : at + 4]) for at in (0, 4, 8)}) > 1
    assert all(process.poll() is not None for variant, _ in parts.values() for process in variant.processes)


def test_after_enough_seconds_no_round_begins(log):
    parts = {("x", "training"): (turns.Variant("a", log=str(log), fails=None), "training")}
    answers, _, _ = turns.take_turns(parts, 50, lambda *_: None, "", most_seconds=0)
    assert len(answers["x", "training"]["seconds"]) == 3


def test_a_short_step_comes_after_one_that_does_not_count(log, monkeypatch):
    monkeypatch.setattr(turns, "SHORT", 1.0)
    parts = {("x", "training"): (turns.Variant("a", log=str(log), fails=None), "training")}
    answers, _, _ = turns.take_turns(parts, 3, lambda *_: None, "")
    assert len(answers["x", "training"]["seconds"]) == 3
    assert len(log.read_text().splitlines()) == turns.BURN_IN + 2 * 3


def test_a_variant_for_which_there_is_no_memory_is_left_out(log, monkeypatch):
    monkeypatch.setattr(turns, "available_memory", lambda: 9)  # of the first the peak is 10
    parts = {
        ("x", "training"): (turns.Variant("a", log=str(log), fails=None), "training"),
        ("y", "training"): (turns.Variant("b", log=str(log), fails=None), "training"),
    }
    answers, reasons, _ = turns.take_turns(parts, 3, lambda *_: None, "")
    assert list(answers) == [("x", "training")]
    assert "measure fewer variants at once" in reasons["y", "training"]
