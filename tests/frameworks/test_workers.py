"""Workers answer in turn, also after one has raised in the middle or is dead."""

import subprocess
import sys

from tandem.certify.steps import WORKER
from tandem.core.errors import UserError
from tandem.core.paths import child_environment
from tandem.frameworks.base import FRAMEWORKS
from tandem.frameworks.workers import Workers, WorkerStopped

import pytest

# A worker that says what it is told, and that raises if it is told so. It loads no framework.
ANSWERING = """
import json, os, signal, sys

framework = sys.argv[1]
for line in sys.stdin:
    command, arguments = json.loads(line)
    mine = arguments.get("only", framework) == framework
    if command == "die" and mine:
        os.kill(os.getpid(), signal.SIGKILL)
    if command == "end" and mine:
        sys.exit("that is all")
    if command in ("raised", "user_error") and mine:
        print(json.dumps({command: "not this step"}), flush=True)
    else:
        print(json.dumps({"answer": [framework, arguments.get("number")]}), flush=True)
"""


@pytest.fixture
def workers(tmp_path, monkeypatch):
    (tmp_path / "answering.py").write_text(ANSWERING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Workers("answering") as workers:
        yield workers


def answers(number):
    return {framework: [framework, number] for framework in FRAMEWORKS}


def test_answers_come_in_the_order_of_the_commands(workers):
    for number in range(3):
        workers.send("say", number=number)
    assert [workers.receive() for _ in range(3)] == [answers(number) for number in range(3)]
    assert workers.ask("say", by_framework={"number": {"paddle": 7, "tensorflow": 8}}) == {
        "paddle": ["paddle", 7],
        "tensorflow": ["tensorflow", 8],
    }


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_after_one_raised_in_the_middle_no_answer_is_left_over(workers, framework):
    workers.step = 4
    workers.send("say", number=0)
    workers.send("raised", only=framework)
    workers.send("user_error", only=framework)
    workers.send("say", number=1)
    assert workers.receive() == answers(0)
    with pytest.raises(WorkerStopped, match="not this step") as stopped:
        workers.receive()
    assert (stopped.value.framework, stopped.value.step) == (framework, 4)
    workers.drain()
    assert workers.ask("say", number=2) == answers(2)


def test_a_user_error_is_one_in_any_step_and_any_error_is_one_before_the_first(workers):
    with pytest.raises(UserError, match=r"^tensorflow: not this step$"):
        workers.ask("raised", only="tensorflow")
    workers.step = 0
    with pytest.raises(UserError, match=r"^paddle: not this step$"):
        workers.ask("user_error")
    assert workers.ask("say", number=1) == answers(1)


@pytest.mark.parametrize(
    ("command", "what"), [("die", "its process died of SIGKILL"), ("end", r"its process ended \(that is all\)")]
)
def test_a_dead_worker_neither_hangs_nor_keeps_the_other_from_answering(workers, command, what):
    workers.step = 0
    workers.send(command, only="paddle")
    workers.send("say", number=1)
    with pytest.raises(WorkerStopped, match=what):
        workers.receive()
    workers.drain()
    for number in range(3):
        with pytest.raises(WorkerStopped, match=what) as stopped:
            workers.ask("say", number=number)
        assert stopped.value.framework == "paddle"


def test_a_python_that_is_not_there_is_an_error(tmp_path):
    with (
        pytest.raises(UserError, match=r"--python-tensorflow .*: No such file or directory; name a Python"),
        Workers("answering", {"paddle": sys.executable, "tensorflow": str(tmp_path / "python")}),
    ):
        pass


def test_what_is_left_of_a_process_that_was_killed_goes(tmp_path):
    """Its workers find that nobody asks any more; the tensors of a large network are gigabytes of memory."""
    (tmp_path / "tensors").mkdir()
    worker = [sys.executable, "-m", WORKER, "paddle", str(tmp_path / "tensors")]
    subprocess.run(worker, stdin=subprocess.DEVNULL, env=child_environment(), check=True)
    assert not (tmp_path / "tensors").exists()
