"""Runs side by side: their table, their curves, and runs that must not be compared."""

import json

from tandem.compare import curves
from tandem.core.errors import UserError
from tandem.frameworks.base import TITLES
from tandem.report import plots
from tandem.report.plots import draw_curves

import pytest
import records as written
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console


def write_run(folder, loss):
    folder.mkdir()
    records = [
        written.steps(step=step, position=step / 2, loss=loss, images_per_second=1000.0 * step) for step in (1, 2)
    ]
    averages = written.AVERAGES | {"loss": loss}
    records.append(written.epoch(train=averages, test=averages | {"loss": loss / 2}))
    written.write(folder, records)


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


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """drawn(runs): the lines of both panes, as dicts, and the legend's, by their label. The picture is also written."""
    figures = []
    monkeypatch.setattr(plots, "Figure", lambda **options: figures.append(Figure(**options)) or figures[-1])

    def drawn(runs):
        draw_curves(runs, tmp_path / "curves.png", TITLES)
        assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
        found = []
        for axes in figures[-1].axes:
            lines = [line for line in axes.get_lines() if line.get_transform() == axes.transData]
            found.append([look(line) | {"x": list(line.get_xdata()), "y": list(line.get_ydata())} for line in lines])
        (legend,) = figures[-1].legends
        return *found, {handle.get_label(): look(handle) for handle in legend.legend_handles}

    return drawn


def look(line):
    style = line.get_linestyle(), line.get_marker(), line.get_linewidth()
    return {"color": line.get_color(), "style": style}


def test_a_line_style_means_one_thing_in_both_panes(runs, drawn):
    runs["one"][-1] |= {part: {"loss": 3.0, "accuracy": 0.1} for part in ("validation", "test_ema")}
    loss, error, legend = drawn({"one": runs["one"]})
    assert [line["style"] for line in loss] == [line["style"] for line in error]
    assert len({line["style"] for line in loss}) == 4
    names = {look["style"]: label for label, look in legend.items()}
    assert [names[line["style"]] for line in loss] == ["training", "validation", "test", "test (EMA)"]
    assert [line["y"] for line in loss] == [[2.0, 2.0], [3.0], [1.0], [3.0]]
    assert [line["y"] for line in error] == [[50.0, 50.0], [90.0], [50.0], [90.0]]
    assert [line["x"] for line in loss] == [line["x"] for line in error] == [[0.5, 1.0], [1], [1], [1]]


def test_what_is_not_there_is_not_in_the_legend(runs, drawn):
    assert list(drawn({"one": runs["one"]})[2]) == ["Paddle", "training", "test"]


def test_of_several_runs_each_has_its_colour(runs, drawn):
    loss, _, legend = drawn(runs)
    assert list(legend) == ["one", "two", "training", "test"]
    assert [line["color"] for line in loss] == 2 * [legend["one"]["color"]] + 2 * [legend["two"]["color"]]
    assert legend["one"]["color"] != legend["two"]["color"]


def hand_over(records):
    """Epochs 2 in TensorFlow and 3 in Paddle after epoch 1 in Paddle."""
    *batches, epoch = records
    for number, framework in ((2, "tensorflow"), (3, "paddle")):
        changes = {"framework": framework, "epoch": number}
        records += [batch | changes | {"position": batch["position"] + number - 1} for batch in batches]
        records.append(epoch | {"epoch": number})


def test_a_run_that_changed_frameworks_shows_which_part_is_whose(runs, drawn):
    hand_over(runs["one"])
    for pane in drawn({"one": runs["one"]})[:2]:
        training, test = pane[0::2], pane[1::2]
        colors = [plots.FRAMEWORK_COLORS[framework] for framework in ("paddle", "tensorflow", "paddle")]
        assert [line["color"] for line in training] == [line["color"] for line in test] == colors
        # Each goes on from the end of the one before.
        assert [line["x"] for line in training] == [[0.5, 1.0], [1.0, 1.5, 2.0], [2.0, 2.5, 3.0]]
        assert [line["x"] for line in test] == [[1], [1, 2], [2, 3]]
    legend = drawn({"one": runs["one"]})[2]
    assert list(legend) == ["Paddle", "TensorFlow", "training", "test"]


def test_where_the_framework_changes_it_is_written(runs, tmp_path, monkeypatch):
    hand_over(runs["one"])
    marked = []
    monkeypatch.setattr(Axes, "axvline", lambda self, x, **_: marked.append(x))
    monkeypatch.setattr(Axes, "annotate", lambda self, text, xy, **_: marked.append((text, xy[0])))
    draw_curves({"one": runs["one"]}, tmp_path / "curves.png", TITLES)
    assert marked == 2 * [1.0, ("TensorFlow from here", 1.0)] + 2 * [2.0, ("Paddle from here", 2.0)]


def test_among_several_runs_one_that_changed_frameworks_has_two_colours(runs, drawn):
    hand_over(runs["one"])
    legend = drawn(runs)[2]
    assert list(legend) == ["one, Paddle", "one, TensorFlow", "two", "training", "test"]
    assert len({legend[label]["color"] for label in list(legend)[:3]}) == 3


def test_epochs_that_were_not_tested_have_no_point(runs, drawn):
    end = runs["one"][-1]
    runs["one"] += [
        {key: end[key] for key in ("kind", "train")} | {"epoch": 2, "step": 4},
        end | {"epoch": 3, "step": 6},
    ]
    loss, error, _ = drawn({"one": runs["one"]})
    assert (loss[1]["x"], loss[1]["y"]) == ([1, 3], [1.0, 1.0])
    assert (error[1]["x"], error[1]["y"]) == ([1, 3], [50.0, 50.0])


def test_a_run_from_before_records_named_a_framework(runs, drawn):
    for record in runs["one"]:
        record.pop("framework", None)
    assert list(drawn({"one": runs["one"]})[2]) == ["one", "training", "test"]


def test_a_picture_that_cannot_be_written(runs, tmp_path):
    with pytest.raises(UserError, match="cannot be written"):
        draw_curves(runs, tmp_path / "one" / "metrics.jsonl" / "curves.png", TITLES)


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(UserError, match="holds no run with a finished epoch"):
        curves.read_runs([tmp_path])


def test_runs_of_one_config_that_received_other_batches_are_not_compared():
    records = {
        label: [{"step": step, "received": f"{label if step > 1 else ''}{step}"} for step in range(1, 4)]
        for label in ("a", "b")
    }
    settings = {"a": {"seed": 0, "data": {}}, "b": {"seed": 0, "data": {}}}
    with pytest.raises(UserError, match="b: by step 2 it had received other batches or learning rates than a"):
        curves.check_received(records, settings)
    curves.check_received(records, settings | {"b": {"seed": 1, "data": {}}})  # other settings: other batches
    curves.check_received({"a": records["a"], "b": records["a"]}, settings)
    curves.check_received(records, settings | {"b": None})
