import json

from tandem.compare import curves
from tandem.core.errors import UserError
from tandem.report.plots import draw_curves

import pytest
from matplotlib.axes import Axes
from rich.console import Console


def write_run(folder, loss):
    folder.mkdir()
    averages = {"loss": loss, "accuracy": 0.5, "top5": 0.9}
    records = [
        {"kind": "batch", "framework": "paddle", "epoch": 1, "step": step, "position": step / 2, **averages}
        for step in (1, 2)
    ]
    records = [record | {"images_per_second": 1000.0 * record["step"]} for record in records]
    records.append({"kind": "epoch", "epoch": 1, "step": 2, "train": averages, "test": averages | {"loss": loss / 2}})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.fixture
def runs(tmp_path):
    write_run(tmp_path / "one", 2.0)
    write_run(tmp_path / "two", 1.5)
    return curves.read_runs([tmp_path / "one", tmp_path / "two"])


def test_two_runs_side_by_side_with_their_difference(runs):
    console = Console(width=120, record=True)
    console.print(curves.side_by_side(runs))
    text = console.export_text()
    rows = {line.split("│")[1].strip(): line.split("│")[2:5] for line in text.splitlines() if line.startswith("│")}
    assert [cell.strip() for cell in rows["loss of the first step"]] == ["2.0000000", "1.5000000", "0.5000000"]
    assert [cell.strip() for cell in rows["test loss, last epoch"]] == ["1.0000", "0.7500", "0.2500"]
    assert rows["training images/s"][0].strip() == "2,000"  # the first log line is left out


def test_runs_of_different_length_are_compared_where_both_have_been(runs):
    batch, epoch = runs["one"][-2:]
    runs["one"] += [
        batch | {"epoch": 2, "step": 3, "images_per_second": 9000.0},
        epoch | {"epoch": 2, "step": 4, "test": epoch["test"] | {"loss": 0.1}},
    ]
    console = Console(width=120, record=True)
    console.print(curves.side_by_side(runs))
    text = console.export_text()
    assert "up to epoch 1" in text
    (row,) = (line.split("│")[2:5] for line in text.splitlines() if "test loss, last epoch" in line)
    assert [cell.strip() for cell in row] == ["1.0000", "0.7500", "0.2500"]
    assert "2,000" in text and "9,000" not in text


def test_a_run_that_went_on_from_another_has_no_figures_of_before(runs):
    runs["two"] = [record | {"epoch": 2, "step": record["step"] + 2} for record in runs["two"]]
    console = Console(width=120, record=True)
    console.print(curves.side_by_side(runs))
    (row,) = (line.split("│")[2:5] for line in console.export_text().splitlines() if "test loss, last epoch" in line)
    assert [cell.strip() for cell in row] == ["1.0000", "-", "-"]


def test_only_so_many_epochs_are_read(runs, tmp_path):
    lines = [json.dumps(record | {"epoch": 2}) + "\n" for record in runs["one"]]
    with open(tmp_path / "one" / "metrics.jsonl", "a") as file:
        file.writelines(lines)
    assert len(curves.read_runs([tmp_path / "one"])["one"]) == 2 * len(runs["one"])
    assert curves.read_runs([tmp_path / "one"], 1)["one"] == runs["one"]


def test_figures_that_only_one_run_has(runs):
    runs["two"][-1]["test_ema"] = runs["two"][-1]["test"] | {"accuracy": 0.6}
    console = Console(width=120, record=True)
    console.print(curves.side_by_side(runs))
    text = console.export_text()
    (row,) = (line.split("│")[2:5] for line in text.splitlines() if "test (EMA) accuracy, last epoch" in line)
    assert [cell.strip() for cell in row] == ["-", "60.00%", "-"]
    assert "flip" not in text


def test_the_picture_is_drawn(runs, tmp_path):
    draw_curves(runs, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_epochs_that_were_not_tested_are_drawn_without_a_dot(runs, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Axes, "plot", lambda self, x, y, *style, label, **_: drawn.append((label, x, y)))
    monkeypatch.setattr(Axes, "legend", lambda self, **_: None)
    end = runs["one"][-1]
    runs["one"] += [
        {key: end[key] for key in ("kind", "train")} | {"epoch": 2, "step": 4},
        end | {"epoch": 3, "step": 6},
    ]
    draw_curves({"one": runs["one"]}, tmp_path / "curves.png")
    assert [line for line in drawn if line[0] == "one, test"] == [
        ("one, test", [1, 3], [1.0, 1.0]),
        ("one, test", [1, 3], [50.0, 50.0]),
    ]
    assert ("one, train", [1, 2, 3], [50.0, 50.0, 50.0]) in drawn


def test_a_picture_that_cannot_be_written(runs, tmp_path):
    with pytest.raises(UserError, match="cannot be written"):
        draw_curves(runs, tmp_path / "missing" / "curves.png")


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(UserError, match="holds no run with a finished epoch"):
        curves.read_runs([tmp_path])
