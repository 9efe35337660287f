"""Jobs of processes that are no workers: how they end, who is named, and that none is left."""

import inspect
import os
import subprocess
import sys
import time

from tandem.core.errors import UserError
from tandem.core.paths import child_environment
from tandem.frameworks import jobs
from tandem.frameworks.environment import place_in_job
from tandem.frameworks.jobs import Job, JobFailed

import pytest

BEGIN = """
import os, signal, sys, time
from tandem.frameworks.environment import place_in_job
from tandem.frameworks.jobs import stay_in_touch
stay_in_touch()
rank, count = place_in_job("paddle")
"""
WAIT = "time.sleep(60)"
"""As one does that waits for another."""


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(jobs, "SETTLING", 0.3)
    monkeypatch.setattr(jobs, "LINGERING", 5.0)


def job(code, count=2):
    return Job("paddle", count, [sys.executable, "-c", BEGIN + code])


def ended(code, count=2, stop=lambda: False):
    """The exit code of a job, or its error; and its processes are gone."""
    with job(code, count) as running:
        try:
            return running.wait(stop)
        except (JobFailed, UserError) as error:
            return error
        finally:
            running.__exit__()
            assert all(process.returncode is not None for process in running.processes)


def test_all_end_well(tmp_path):
    code = f"open({str(tmp_path)!r} + f'/{{rank}} of {{count}}', 'w').write(str(os.sched_getaffinity(0)))"
    assert ended(code, 3) == 0
    assert sorted(os.listdir(tmp_path)) == ["0 of 3", "1 of 3", "2 of 3"]
    cores = [eval(path.read_text()) for path in tmp_path.iterdir()]
    assert all(cores) and set.union(*cores) == os.sched_getaffinity(0)
    if len(os.sched_getaffinity(0)) >= 3:
        assert not set.intersection(*cores)


@pytest.mark.parametrize("rank", [0, 1])
def test_one_that_is_killed_is_named_and_not_those_that_fail_because_of_it(rank, tmp_path):
    code = f"""
from pathlib import Path
if rank == {rank}:
    Path({str(tmp_path / "number")!r}).write_text(str(os.getpid()))
    os.kill(os.getpid(), signal.SIGKILL)
while not Path({str(tmp_path / "number")!r}).exists() or alive(Path({str(tmp_path / "number")!r}).read_text() or 1):
    time.sleep(0.01)
raise OSError("lost")
"""
    error = ended(f"{inspect.getsource(alive)}\n{code}")
    assert isinstance(error, JobFailed)
    assert str(error) == f"worker {rank} of 2 died of SIGKILL"


def test_one_that_raises_is_named_with_what_it_said():
    error = ended(f"if rank == 1: raise ValueError('no such thing')\n{WAIT}")
    assert str(error) == "worker 1 of 2 ended with exit code 1; it said: ValueError: no such thing"


def test_one_that_is_stopped_is_named(monkeypatch):
    monkeypatch.setattr(jobs, "SILENT", 2.0)
    monkeypatch.setattr(jobs, "MISSED", 1.5)
    error = ended(f"if rank == 1: os.kill(os.getpid(), signal.SIGSTOP)\n{WAIT}")
    assert str(error).startswith("worker 1 of 2 has not answered for ")


def test_how_the_others_end_does_not_matter_once_rank_0_has_ended_well():
    assert ended("if rank == 1: time.sleep(0.3); sys.exit(3)") == 0


def test_a_users_error_is_told_as_such():
    error = ended(f"if rank == 1: print('error: data: not there; get it', file=sys.stderr); sys.exit(2)\n{WAIT}")
    assert isinstance(error, UserError) and str(error) == "data: not there; get it"


def test_all_are_told_to_stop(tmp_path):
    """One does what it has to and says 130; one is still starting."""
    code = f"""
if rank == 0:
    signal.signal(signal.SIGTERM, lambda *_: (open({str(tmp_path / "saved")!r}, "w"), sys.exit(130)))
open({str(tmp_path)!r} + f"/{{rank}}", "w")
{WAIT}
"""
    assert ended(code, stop=lambda: {"0", "1"} <= set(os.listdir(tmp_path))) == 130
    assert (tmp_path / "saved").exists()


def test_one_that_does_not_stop_is_killed(monkeypatch, tmp_path):
    monkeypatch.setattr(jobs, "STOPPING", 0.5)
    code = f"""
if rank == 1: signal.signal(signal.SIGTERM, signal.SIG_IGN)
open({str(tmp_path)!r} + f"/{{rank}}", "w")
{WAIT}
"""
    error = ended(code, stop=lambda: len(os.listdir(tmp_path)) == 2)
    assert str(error) == "worker 1 of 2 did not stop when it was told to"


def test_none_outlives_the_process_that_started_it():
    code = f"""
import sys, time
from tandem.frameworks.jobs import Job
with Job("paddle", 2, [sys.executable, "-c", {BEGIN + WAIT!r}]) as job:
    print(*(process.pid for process in job.processes), flush=True)
    job.wait()
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=child_environment())
    numbers = [int(number) for number in parent.stdout.readline().split()]
    assert len(numbers) == 2
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 30
    while any(alive(number) for number in numbers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(alive(number) for number in numbers)


def alive(number):
    """Whether the process runs: a zombie, which nobody waits for here, does not."""
    try:
        with open(f"/proc/{number}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("framework", ["paddle", "tensorflow"])
def test_a_process_finds_its_place(framework, monkeypatch):
    for variable in ("PADDLE_TRAINER_ID", "PADDLE_TRAINERS_NUM", "TF_CONFIG"):
        monkeypatch.delenv(variable, raising=False)
    assert place_in_job(framework) == (0, 1)
    for rank, environment in enumerate(jobs.environments(framework, 3)):
        for variable, value in environment.items():
            monkeypatch.setenv(variable, value)
        assert place_in_job(framework) == (rank, 3)


@pytest.mark.parametrize(
    "job", ["{", "[]", "{}", '{"cluster": {"worker": ["a:1"]}, "task": {"type": "ps", "index": 0}}']
)
def test_a_wrong_description_of_a_job_is_refused(job, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", job)
    with pytest.raises(UserError, match="TF_CONFIG: does not name a worker"):
        place_in_job("tensorflow")


def test_each_worker_sees_one_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert [one["CUDA_VISIBLE_DEVICES"] for one in jobs.environments("tensorflow", 3)] == ["5", "7", ""]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert [one["CUDA_VISIBLE_DEVICES"] for one in jobs.environments("tensorflow", 2)] == ["0", "1"]
