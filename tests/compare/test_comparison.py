"""Comparisons: what may be said of given figures; one of a tiny network, whose page is opened in a real browser."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time

from tandem.certify.certificate import Certificate
from tandem.compare import comparison
from tandem.compare import report as comparison_report
from tandem.compare.comparison import Comparison, paired, verdicts, welch
from tandem.config.load import check_config, load_config
from tandem.core.errors import UserError
from tandem.core.paths import ROOT
from tandem.frameworks.base import FRAMEWORKS

import pytest
import records as written
import yaml
from matplotlib.axes import Axes

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SETTINGS = {
    "network": {"name": "se_resnext", "num_block": 1, "depth": 3, "cardinality": 2, "out_dims": [4, 8]},
    "data": {"source": "digits", "image_size": 9},
    "schedule": {"name": "constant"},
    "epochs": 2,
    "batch_size": 128,
    "threads": 1,
}
AVERAGES = {"loss": 1.0, "top5": 0.9}


def a_run(framework, seed, accuracies, epoch_seconds):
    """As `read_run` gives it: a run that tested at `accuracies` after its epochs."""
    epochs = [
        {
            "epoch": number + 1,
            "seconds": (number + 1) * epoch_seconds,
            "train": AVERAGES | {"accuracy": 0.5},
            "test": AVERAGES | {"accuracy": accuracy},
        }
        for number, accuracy in enumerate(accuracies)
    ]
    figures = {"test": accuracies[-1], "test_loss": 1.0, "train_loss": 1.0, "epoch_seconds": epoch_seconds}
    figures |= {"images_per_second": 1000 / epoch_seconds, "peak_memory": 10**9}
    return {"framework": framework, "seed": seed, "epochs": epochs, "figures": figures}


def a_comparison(runs, failed=False):
    certificate = Certificate("x", {"precision": "float64"}, 10, 4, {"forward": 1e-10, "backward": 1e-10}, "", "", {})
    if failed:
        certificate.first = {"step": 0, "phase": "logits", "name": "logits", "layer": "", "error": 1.0, "what": ""}
    seeds = sorted({run["seed"] for run in runs})
    machine = {"cpu": "a CPU", "cores": 2, "system": "a system"}
    found = Comparison("x", SETTINGS, seeds, certificate, {}, "", machine, runs=runs)
    if runs:
        comparison._time_to_target(found)
    return found


def test_one_or_two_seeds_give_no_verdict():
    for seeds in (range(1), range(2)):
        runs = [a_run("paddle", seed, [0.9], 9.0 + seed) for seed in seeds]
        runs += [a_run("tensorflow", seed, [0.2], 3.0) for seed in seeds]
        lines = verdicts(a_comparison(runs))
        assert len(lines) == 1 and lines[0].startswith("No verdict")


@pytest.mark.parametrize(
    ("paddle", "tensorflow", "verdict"),
    [
        ((0.900, 0.904, 0.902), (0.903, 0.901, 0.899), "not to be told apart with 3 seeds"),
        ((0.900, 0.904, 0.902), (0.953, 0.951, 0.949), "TensorFlow is ahead"),
        ((0.953, 0.951, 0.949), (0.900, 0.904, 0.902), "Paddle is ahead"),
        ((0.50, 0.90, 0.70), (0.80, 0.99, 0.91), "not to be told apart with 3 seeds"),  # wide
    ],
)
def test_accuracy_is_judged_by_its_spread(paddle, tensorflow, verdict):
    runs = [a_run("paddle", seed, [accuracy], 9.0 + seed) for seed, accuracy in enumerate(paddle)]
    runs += [a_run("tensorflow", seed, [accuracy], 3.0 + seed / 10) for seed, accuracy in enumerate(tensorflow)]
    accuracy, speed, target, why = verdicts(a_comparison(runs))  # of the memory nothing: it has no spread
    assert "; Welch's " in accuracy and "; Welch's " in speed and "the differences by seed decide" in why
    assert verdict in accuracy
    assert speed.startswith("Training an epoch: Paddle takes 3.2") and "times what TensorFlow takes (" in speed
    assert target.startswith("Training until it tests at")


def test_the_intervals_are_students_of_the_differences_and_welchs():
    # Variances of 2 from 2 values each: a standard error of the square root of 2, 2 degrees of freedom, t = 4.3027.
    assert welch([1, 3], [0, 2]) == pytest.approx((1 - 4.3027 * 2**0.5, 1 + 4.3027 * 2**0.5), abs=1e-4)
    # Differences 1, 2, 3: a standard error of the square root of 1/3, 2 degrees of freedom.
    assert paired([11, 22, 33], [10, 20, 30]) == pytest.approx((2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), abs=1e-4)


def test_what_a_seed_does_to_both_cancels_out():
    """Seeds differ by ten points, the frameworks by one: Welch's interval sees nothing, the paired one does."""
    tensorflow, paddle = (0.61, 0.712, 0.809), (0.60, 0.70, 0.80)
    assert welch(tensorflow, paddle)[0] < 0 < paired(tensorflow, paddle)[0]
    runs = [a_run("paddle", seed, [accuracy], 9.0) for seed, accuracy in enumerate(paddle)]
    runs += [a_run("tensorflow", seed, [accuracy], 3.0) for seed, accuracy in enumerate(tensorflow)]
    assert verdicts(a_comparison(runs))[0].startswith("Test accuracy: TensorFlow is ahead (TensorFlow - Paddle: +0.")


def test_without_spread_there_is_no_verdict():
    assert paired([2, 3], [1, 2]) is None
    runs = [a_run("paddle", seed, [0.5], 2.0) for seed in range(3)]
    runs += [a_run("tensorflow", seed, [0.6], 1.0) for seed in range(3)]
    assert verdicts(a_comparison(runs))[:-1] == [
        "Test accuracy: no verdict, for the seeds show no spread; another test set, or more seeds"
    ]


def test_what_takes_less_comes_second():
    runs = [a_run("paddle", seed, [0.5], 1.0 + seed / 10) for seed in range(3)]
    runs += [a_run("tensorflow", seed, [0.5], 4.0 + seed / 10) for seed in range(3)]
    assert "TensorFlow takes 3.74 times what Paddle takes" in verdicts(a_comparison(runs))[1]


def test_of_runs_that_differ_much_among_themselves_no_interval_is_shown():
    runs = [a_run("paddle", seed, [0.5], seconds) for seed, seconds in enumerate((1.0, 4.0, 7.0))]
    runs += [a_run("tensorflow", seed, [0.5], seconds) for seed, seconds in enumerate((7.0, 1.0, 4.0))]
    speed = verdicts(a_comparison(runs))[1]
    assert speed == "Training an epoch: not to be told apart with 3 seeds: the seeds differ too much among themselves"


def test_a_failed_certificate_is_in_every_verdict():
    runs = [a_run(framework, seed, [0.5], 1.0 + seed) for framework in FRAMEWORKS for seed in (0, 1)]
    assert verdicts(a_comparison(runs, failed=True))[0].startswith("These are two different networks")


def test_time_to_what_every_run_reached():
    runs = [a_run("paddle", 0, [0.3, 0.615, 0.60], 10.0), a_run("tensorflow", 0, [0.62, 0.7, 0.8], 5.0)]
    found = a_comparison(runs)
    assert found.target == 0.61
    assert a_comparison([a_run("paddle", 0, [0.57], 1.0)]).target == 0.57  # and 100 * 0.57 is less than 57
    assert found.values("seconds_to_target") == {"paddle": [20.0], "tensorflow": [5.0]}


def test_figures_show_mean_and_std():
    runs = [a_run("paddle", seed, [accuracy], 2.0) for seed, accuracy in ((0, 0.90), (1, 0.92))]
    runs += [a_run("tensorflow", seed, [0.5], 1.0) for seed in (0, 1)]
    rows = dict(comparison_report.rows(a_comparison(runs)))
    assert rows["test accuracy, last epoch"] == ["91.00% ± 1.41%", "50.00% ± 0.00%"]
    assert rows["training until it tests at 50%, seconds"] == ["2 ± 0", "1 ± 0"]
    assert "test (EMA) accuracy, last epoch" not in rows


def test_epochs_that_were_not_tested_count_in_the_time(tmp_path):
    records = [written.steps(epoch=number, seconds=10.0 * number) for number in (1, 2, 3)]
    records += [written.epoch(epoch=number, peak_memory=1) for number in (1, 2, 3)]
    for number, accuracy in ((2, 0.5), (3, 0.6)):
        records[2 + number]["test"] = AVERAGES | {"accuracy": accuracy}
    written.write(tmp_path, records)
    (tmp_path / "environment.json").write_text("{}")
    found, _ = comparison.read_run(tmp_path)
    tested = [(epoch["epoch"], epoch["seconds"], epoch["test"]["accuracy"]) for epoch in found["epochs"]]
    assert tested == [(2, 30.0, 0.5), (3, 60.0, 0.6)]
    assert found["figures"]["test"] == 0.6


def test_a_run_whose_files_are_damaged_is_one_line(tmp_path):
    for records in ([], [written.steps()], [written.epoch(test=written.AVERAGES)], [written.steps(), written.epoch()]):
        written.write(tmp_path, records)
        with pytest.raises(UserError, match=r"is no finished run .* delete it, and it is made again"):
            comparison.read_run(tmp_path)
    written.write(tmp_path, [written.steps(), written.epoch(test=written.AVERAGES)])
    for text in ("{", "[" * 100_000):
        (tmp_path / "environment.json").write_text(text)
        with pytest.raises(UserError, match="is no finished run"):
            comparison.read_run(tmp_path)


def test_the_curves_are_drawn_over_the_epochs_that_were_tested(monkeypatch):
    drawn = []
    monkeypatch.setattr(Axes, "plot", lambda self, x, y, *style, **_: drawn.append(list(x)))
    monkeypatch.setattr(Axes, "legend", lambda self, **_: None)
    found = a_comparison([a_run(framework, 0, [0.5, 0.6], 1.0) for framework in FRAMEWORKS])
    for one in found.runs:
        for epoch, number in zip(one["epochs"], (2, 3), strict=True):
            epoch["epoch"] = number
    comparison_report._draw_curves(found)
    assert drawn == 8 * [[2, 3]]  # loss and accuracy, in two frameworks, in testing and training


def run(*arguments):
    command = [sys.executable, "-m", "tandem", "compare", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A comparison of a tiny network: what the command said, its arguments, and its folder (with a space)."""
    folder = tmp_path_factory.mktemp("compared")
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(SETTINGS))
    arguments = (path, "--output", folder / "of tiny")
    ended = run(*arguments)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout, arguments, folder / "of tiny"


def test_both_are_certified_trained_and_reported(compared):
    said, _, folder = compared
    assert "PASSED" in said and "No verdict" in said
    report = json.loads((folder / "report.json").read_text())
    assert report["certificate"]["passed"]
    assert [run["framework"] for run in report["runs"]] == list(FRAMEWORKS)
    for run in report["runs"]:
        assert len(run["epochs"]) == 2
        assert 0 < run["epochs"][0]["seconds"] < run["epochs"][1]["seconds"]
        assert run["figures"]["peak_memory"] > 1e8
    assert report["layers"]["paddle"] == report["layers"]["tensorflow"]
    assert report["spread"]["test"]["paddle"] == {"mean": report["runs"][0]["figures"]["test"], "std": None}


def test_the_page_tells_how_to_do_it_again(compared):
    _, _, folder = compared
    assert json.loads((folder / "report.json").read_text())["commands"] == [
        "python -m tandem train config.yaml --framework paddle --seed 0",
        "python -m tandem train config.yaml --framework tensorflow --seed 0",
        "python -m tandem compare config.yaml --seeds 1",
    ]


def test_finished_runs_are_not_trained_again(compared, monkeypatch):
    _, _, folder = compared
    monkeypatch.setattr(subprocess, "Popen", None)
    for framework in FRAMEWORKS:
        found = load_config(folder / "config.yaml")
        comparison._train(folder, found, framework, 0, sys.executable, print)


def test_other_settings_need_another_folder(compared):
    _, (path, *output), _ = compared
    ended = run(path, *output, "-o", "epochs=3")
    assert ended.returncode == 2
    assert "of tiny: holds a comparison with other settings" in ended.stderr
    assert len([line for line in ended.stderr.splitlines() if not line.startswith("... still")]) == 1


def test_the_folder_of_something_else_is_left_alone(compared, tmp_path):
    _, (path, *_), folder = compared
    found = load_config(path)
    run = folder / "runs" / "paddle-seed0"
    (tmp_path / "notes").write_text("mine")
    for taken in (run, tmp_path):
        with pytest.raises(UserError, match="holds something else; choose another --output"):
            comparison._check_folder(taken, found)


def test_runs_of_different_versions_are_not_mixed(compared, tmp_path):
    _, _, folder = compared
    copy = shutil.copytree(folder, tmp_path / "copy")
    shutil.copytree(copy / "runs" / "paddle-seed0", copy / "runs" / "paddle-seed1")
    shutil.copytree(copy / "runs" / "tensorflow-seed0", copy / "runs" / "tensorflow-seed1")
    path = copy / "runs" / "paddle-seed1" / "environment.json"
    path.write_text(path.read_text().replace('"threads": 1', '"threads": 2'))
    found = a_comparison([])
    found.settings, found.seeds = load_config(copy / "config.yaml").model_dump(mode="json"), [0, 1]
    with pytest.raises(UserError, match="paddle-seed1: was made with other versions, threads"):
        comparison.run(found, copy, {}, print)


def test_what_is_not_the_same_is_not_compared(monkeypatch, tmp_path, compared):
    _, (path, *_), _ = compared
    failed = a_comparison([], failed=True)
    monkeypatch.setattr(comparison, "begin", lambda *arguments: failed)
    monkeypatch.setattr(comparison, "run", None)
    from tandem.__main__ import app

    monkeypatch.setattr(sys, "argv", ["tandem", "compare", str(path), "--output", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        app()
    assert ended.value.code == 1
    page = (tmp_path / "report.html").read_text()
    assert "Not the same network" in page and "So they were not compared" in page


@pytest.mark.parametrize("number", comparison.STOPPING)
def test_a_signal_reaches_the_run_once_and_stops_the_comparison(monkeypatch, tmp_path, number):
    """A stand-in for the training says that it is there, waits for a signal, and says how many came."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import pathlib, signal, sys, time
        folder = pathlib.Path(__file__).parent
        came = []
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, frame: came.append(number))
        (folder / "ready").touch()
        deadline = time.monotonic() + 60
        while not came and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.3)
        (folder / "came").write_text(str(came))
        sys.exit(130)
        """)
    )
    monkeypatch.setattr(comparison, "_command", lambda *arguments: [str(script)])

    def interrupt():
        while not (tmp_path / "ready").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=interrupt)
    thread.start()
    settings = check_config(SETTINGS, "test")
    with pytest.raises(comparison.Stopped):
        comparison._train(tmp_path, settings, "paddle", 0, sys.executable, lambda line: None)
    thread.join()
    assert (tmp_path / "came").read_text() == str([int(signal.SIGINT)])


def test_a_failed_run_is_one_line(monkeypatch, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("raise SystemExit(3)")
    monkeypatch.setattr(comparison, "_command", lambda *arguments: [str(script)])
    settings = check_config(SETTINGS, "test")
    with pytest.raises(UserError, match=r"paddle-seed0: training in paddle failed \(exit code 3\)"):
        comparison._train(tmp_path, settings, "paddle", 0, sys.executable, lambda line: None)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize("page", ["report.html", "certificate/certificate.html"])
def test_the_page_in_a_browser(compared, page):
    from playwright.sync_api import sync_playwright

    _, _, folder = compared
    address = (folder / page).as_uri()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        shown = browser.new_page(viewport={"width": 1100, "height": 900})
        said, asked = [], []
        shown.on("console", lambda message: said.append(message.text))
        shown.on("pageerror", lambda error: said.append(str(error)))
        shown.on("request", lambda request: asked.append(request.url))
        shown.goto(address)
        pictures = shown.locator("svg").all()
        boxes = [picture.bounding_box() for picture in pictures]
        lines = [picture.locator("path").count() for picture in pictures]
        width = shown.evaluate("document.documentElement.scrollWidth")
        browser.close()
    assert said == []
    assert asked == [address]  # and nothing else, not even for a picture
    assert len(boxes) == 2
    assert all(box["width"] > 600 and box["height"] > 150 for box in boxes)
    assert min(lines) > 10
    assert width <= 1100


@pytest.mark.parametrize("workers", [1, 3])
def test_a_run_is_trained_by_as_many_workers_as_asked(workers):
    command = comparison._command("paddle", "config.yaml", 4, workers)
    assert command[:8] == ["-m", "tandem", "train", "config.yaml", "--framework", "paddle", "--seed", "4"]
    assert command[8:] == ([] if workers == 1 else ["--workers", "3"])
