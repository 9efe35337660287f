"""Every probe passes as it is, every trap is caught where it is known to show, and the pages say so."""

import contextlib
import dataclasses
import json
import re
import subprocess
import sys

import tandem.__main__
from tandem import traps
from tandem.certify import gallery
from tandem.core.paths import ROOT
from tandem.traps import hints
from tandem.traps.differences import pages, seen
from tandem.traps.trap import BOTH, PROBES

import pytest
from typer.testing import CliRunner

PAGE = ROOT / "docs" / "differences.md"

TRIED = [name for name, trap in traps.TRAPS.items() if not trap.not_probed]


@pytest.fixture(scope="module")
def spring(workers):
    """A function from the name of a trap to its `Found`; each is sprung once, and those of several workers together."""
    found = {}

    def spring(name):
        if name not in found and traps.TRAPS[name].framework == BOTH:
            shared = [trap for trap in traps.TRAPS.values() if trap.framework == BOTH]
            found.update({one.trap.name: one for one in gallery.spring_in_workers(shared)})
        elif name not in found:
            found[name] = gallery.spring(traps.TRAPS[name], workers)
        return found[name]

    return spring


@pytest.mark.parametrize("probe", PROBES)
def test_a_probe_passes_without_a_trap(workers, probe):
    assert gallery.clean(probe, workers).keys() == {"paddle", "tensorflow"}


def is_slow(name):
    """Another trap shows where one of a constant in too few digits does; those of workers take a job of their own."""
    return name.endswith(("_double", "_float32", "_rounded")) or traps.TRAPS[name].framework == BOTH


EACH = [pytest.param(name, marks=pytest.mark.slow) if is_slow(name) else name for name in TRIED]


@pytest.mark.parametrize("name", EACH)
def test_a_trap_is_caught_where_it_is_known_to_show(spring, name):
    found = spring(name)
    assert found.passed, f"shows {traps.TRAPS[name].shows}, but: {found.first}"


def test_a_trap_that_shows_elsewhere_is_no_pass(workers):
    found = gallery.spring(dataclasses.replace(traps.TRAPS["bn_epsilon"], shows=("loss", "")), workers)
    assert found.first["phase"] == "layer outputs"
    assert not found.passed


def test_a_trap_is_off_again_for_the_next(workers):
    gallery.spring(traps.TRAPS["same_padding"], workers)
    gallery.clean("averages", workers)


@pytest.mark.slow
def test_only_a_rounded_constant_makes_a_small_difference(spring):
    """What another mistake is said to show must not be the rounding of something else."""
    small = {name for name in TRIED if (spring(name).first["error"] or 1.0) < 1e-6}
    assert small == {name for name in TRIED if name.endswith(("_double", "_float32", "_rounded"))}


@pytest.mark.parametrize("name", EACH)
def test_a_trap_is_among_the_hints_where_it_shows(spring, name):
    assert name in traps.known(spring(name).first)


def test_the_pages_are_what_the_command_writes(spring):
    known = json.loads(hints.SEEN.read_text(encoding="utf-8"))
    found = [
        gallery.Found(trap, {"name": "", "what": "", **known[name]}, True) if is_slow(name) else spring(name)
        for name, trap in traps.TRAPS.items()
    ]
    for path, text in pages(found, {"paddle": "?", "tensorflow": "?"}, PAGE).items():
        assert _without_figures(text) == _without_figures(path.read_text(encoding="utf-8")), (
            "python -m tandem traps --output docs/differences.md"
        )


def _without_figures(page):
    """The page without what another machine may change: the sizes of errors, and the versions that made it.

    And without the names of layers, which seen.json does not have.
    """
    page = re.sub(r"`[\w.]*` ?([(（]\w+[)）])", r"\1", page)  # noqa: RUF001
    page = re.sub(r"(PaddlePaddle|TensorFlow) (\?|[\d.]+\d)", r"\1 ?", page)
    page = re.sub(rf"\| ({SIZE}) \|$", "| ? |", page, flags=re.MULTILINE)
    return re.sub(rf"((error|误差) )?({SIZE})([。.])$", r"?\4", page, flags=re.MULTILINE)


SIZE = r"-?\d+(?:\.\d+)?(?:e-?\d+)?|not finite|出现 NaN 或无穷大"
"""How large a difference is, on either page. What depends on memory that is not initialised may not be finite."""


def test_the_hints_know_what_the_command_saw(spring):
    known = json.loads(hints.SEEN.read_text(encoding="utf-8"))
    now = json.loads(seen([spring(name) for name in traps.TRAPS if not is_slow(name)]))
    assert known.keys() == set(TRIED), "python -m tandem traps --output docs/differences.md"
    for name, row in now.items():
        varies = ("error", "kind") if traps.TRAPS[name].varies else ("error",)
        assert {**row, **dict.fromkeys(varies)} == {**known[name], **dict.fromkeys(varies)}, name
        if "kind" not in varies and row["error"] is not None:
            assert 0.1 < row["error"] / known[name]["error"] < 10, name


def test_a_trap_is_on_in_its_own_framework_only():
    assert isinstance(traps.switched_on("cross_entropy_clipped", "tensorflow"), contextlib.nullcontext)
    assert isinstance(traps.switched_on("same_padding", "paddle"), contextlib.nullcontext)


def test_a_misspelt_name_names_the_nearest():
    result = subprocess.run(
        [sys.executable, "-m", "tandem", "traps", "same_paddin"], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 2
    assert result.stderr == "error: same_paddin: no such trap; did you mean same_padding?\n"


@pytest.mark.parametrize(("passed", "code"), [(True, 0), (False, 1)])
def test_the_command_says_what_was_not_caught(monkeypatch, passed, code):
    found = [gallery.Found(traps.TRAPS["same_padding"], None, passed)]
    monkeypatch.setattr(gallery, "run", lambda *arguments: (found, {"paddle": "3", "tensorflow": "2"}))
    monkeypatch.setattr("tandem.frameworks.workers.Workers", contextlib.nullcontext)
    result = CliRunner().invoke(tandem.__main__.app, ["traps", "same_padding"])
    assert result.exit_code == code
    assert "same_padding" in result.output


def test_the_command_writes_both_pages(monkeypatch, tmp_path):
    untried = [gallery.Found(trap, None, True) for trap in traps.TRAPS.values() if trap.not_probed]
    monkeypatch.setattr(gallery, "run", lambda *arguments: (untried, {"paddle": "3", "tensorflow": "2"}))
    monkeypatch.setattr("tandem.frameworks.workers.Workers", contextlib.nullcontext)
    monkeypatch.setattr(hints, "SEEN", tmp_path / "seen.json")
    result = CliRunner().invoke(tandem.__main__.app, ["traps", "--output", str(tmp_path / "page.md")])
    assert result.exit_code == 0
    assert json.loads((tmp_path / "seen.json").read_text(encoding="utf-8")) == {}
    assert "TF32 on GPUs" in (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "GPU 上的 TF32" in (tmp_path / "page.zh.md").read_text(encoding="utf-8")


def test_bfloat16_on_a_cpu_is_float32_in_disguise():
    """What Paddle's engine refuses, for its auto_cast only warns."""
    program = """
import numpy as np
from tandem import traps
from tandem.config.load import check_config
from tandem.core.errors import UserError
from tandem.frameworks.paddle import engine as engine_paddle
from tandem.traps.trap import BOTH, PROBES
from tandem.data.batches import Batch

batch = Batch(np.arange(4 * 3 * 16 * 16, dtype=np.uint32).astype(np.uint8).reshape(4, 3, 16, 16), np.arange(4))

def step(precision):
    settings = check_config({**PROBES["plain"], "precision": precision}, "probe")
    engine = engine_paddle.Engine(settings, 10, np.zeros((3, 1, 1)), np.full((3, 1, 1), 255.0))
    engine.train_step(batch, 0.1, 0)
    return engine.state()

try:
    step("bfloat16")
except UserError as error:
    print("refused" if "does not compute in bfloat16" in str(error) else error)
with traps.switched_on("bfloat16_pretended", "paddle"):
    pretended = step("bfloat16")
print(all(np.array_equal(pretended[name], array) for name, array in step("float32").items()))
"""
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert result.stdout.split() == ["refused", "True"], result.stderr
