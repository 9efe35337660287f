"""The parts of docs/results.md that one command measures each: they are read, drawn and written."""

import json

from tandem.core.errors import UserError
from tandem.frameworks.base import TITLES
from tandem.report import costs
from tandem.report.results import TEMPLATES, Writer, load

import pytest

MACHINE = {"cpu": "a CPU", "cores": 2}


def point(value, speed):
    figure = {"images_per_second": speed, "gigaflops_per_second": speed / 2, "peak_memory": 1e9}
    return {"value": value, "paddle": figure, "tensorflow": {"missing": "failed", "reason": "no memory"}}


GROWTH = {
    "machine": MACHINE,
    "date": "2026-11-30",
    "config": "resnet20",
    "base": {"batch_size": 32, "image_size": 32, "threads": 2},
    "axes": {axis: [point(8, 100.0), point(16, 185.0), point(32, 200.0)] for axis in costs.AXES},
}
HELP = {"what": "help", "config": None, "framework": None, "seconds": [0.5, 0.25, 0.375]}
STEP = {"what": "first step", "config": "quickstart", "framework": "paddle", "seconds": [4.0, 6.0, 5.0]}
WAITS = [
    {"machine": MACHINE, "date": "2026-11-30", "commit": "0000000", "waits": [HELP]},
    {"machine": MACHINE, "date": "2026-11-30", "commit": "1111111", "waits": [HELP, STEP]},
]


@pytest.mark.parametrize(
    ("speeds", "knee"),
    [((1, 2, 3), 4), ((95, 100, 99), 1), ((10, 95, 100), 2), ((10, 100, 20), 2), ((100, 50, 20), 1)],
)
def test_the_knee_is_where_the_line_comes_near_its_best_first(speeds, knee):
    assert costs.knee(list(zip((1, 2, 4), speeds, strict=True))) == knee


@pytest.mark.parametrize("chinese", [False, True])
def test_the_page_has_what_grows_and_what_one_waits_for(chinese):
    template = TEMPLATES / f"results{'.zh' if chinese else ''}.md"
    results = load()
    without = Writer(results.model_copy(update={"growth": None, "waits": None}), chinese).render(template)
    page = Writer(results.model_copy(update={"growth": GROWTH, "waits": WAITS}), chinese).render(template)
    assert "growth.png" not in without and "growth.png" in page
    new = [line for line in page.splitlines() if line not in without.splitlines()]
    assert sum("Paddle | 8" in line and "| 16 |" in line for line in new) == len(costs.AXES)
    assert "1.00 GB" in page
    to = "至" if chinese else "to"
    assert sum(line.endswith(f"|  | 0.38 (0.25 {to} 0.50) | 0.38 (0.25 {to} 0.50) |") for line in new) == 1
    assert sum(line.endswith(f"Paddle |  | 5.00 (4.00 {to} 6.00) |") for line in new) == 1


def test_the_picture_is_drawn_when_the_figures_are_others(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "docs").mkdir()
    assert not costs.draw(tmp_path, TITLES)  # nothing was measured
    path = tmp_path / "results" / "growth.json"
    path.write_text(json.dumps(GROWTH))
    picture = tmp_path / "docs" / "growth.png"
    assert costs.draw(tmp_path, TITLES, check=True) and not picture.exists()
    assert costs.draw(tmp_path, TITLES) and picture.read_bytes().startswith(b"\x89PNG")
    assert not costs.draw(tmp_path, TITLES, check=True)
    path.write_text(json.dumps({**GROWTH, "date": "2026-12-01"}))
    assert costs.draw(tmp_path, TITLES, check=True)


@pytest.mark.parametrize("text", ["{", '{"date": 1}', '{"axes": {"width": [1]}}'])
@pytest.mark.parametrize(
    ("name", "used", "written"),
    [
        ("growth", costs.growth_rows, "what tandem benchmark --grow --json"),
        ("waits", costs.wait_rows, "a list of what tandem benchmark --waits --json"),
    ],
)
def test_figures_that_are_not_such_are_one_line(tmp_path, name, used, written, text):
    path = tmp_path / f"{name}.json"
    path.write_text(text)
    with pytest.raises(UserError, match=rf"{name}\.json: .*; it has to be {written} writes"):
        costs.read(path, used)
