"""The report of a certificate that is written by hand: what it says of a difference, and where it marks it."""

import re

from tandem.certify import report
from tandem.certify.certificate import TOLERANCES, Certificate
from tandem.certify.sameness import Difference

import pytest

LAYERS = {"conv1": "Conv2D", "block.shortcut.conv": "Conv2D", "block.shortcut": "Sequential", "block": "Residual"}
LAYERS |= {"fc": "Linear"}


def a_certificate(first=None, **fields):
    """One of two steps and two drawn ones, in which every error is small; `first`: phase, name, step, error, what."""
    settings = {"precision": "float64", "data": {"source": "cifar10"}}
    found = Certificate("net", settings, 2, 5, TOLERANCES["float64"], "2026", "a machine", {"net.py": "abcdef"})
    found.layers = LAYERS
    found.table = {name: {"output": 1e-15, "backward": 1e-14, "parameters": None} for name in LAYERS}
    found.records = {"paddle": {"framework": "paddle", "version": "3"}, "tensorflow": {"framework": "tensorflow"}}
    for step in range(4):
        for phase in ("images", "layer outputs", "gradients"):
            found.judge(step, phase, [Difference(phase, "fc", 0.0 if phase == "images" else 1e-14)])
    found.judge(0, "paddle trains: parameters", [Difference("", "fc.weight", 0.0)])
    for name, value in fields.items():
        setattr(found, name, value)
    if first:
        phase, name, step, error, what = first
        found.first = {"step": step, "phase": phase, "name": name, "layer": found._layer(name)}
        found.first |= {"error": error, "what": what}
    return found


def text(page):
    """What a reader sees: no tags, no style, one space between words."""
    return " ".join(re.sub(r"<style>.*?</style>|<svg.*?</svg>|<[^>]+>", "", page, flags=re.DOTALL).split())


@pytest.mark.parametrize(
    ("phase", "name", "row"),
    [
        ("output gradients", "block.shortcut", "block.shortcut"),
        ("layer outputs", "block.shortcut.conv", "block.shortcut.conv"),
        ("gradients", "block.shortcut.conv.weight", "block.shortcut.conv"),
        ("statistics", "fc.running_var", "fc"),
    ],
)
def test_one_row_is_marked_also_of_nested_layers(phase, name, row):
    found = a_certificate((phase, name, 0, 0.5, ""))
    assert [layer["name"] for layer in report._layers(found) if layer["first"]] == [row]
    (marked,) = re.findall(r'<tr class="first">(.*?)</tr>', report.to_html(found), flags=re.DOTALL)
    assert text(marked).startswith(f"{row} {LAYERS[row]} first difference: {phase}")
    assert "not in this table" not in report.to_html(found)


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (
            ("paddle trains: parameters", "fc.weight", 0, 0.5, ""),
            "Paddle's training step differs from its own trace. First difference: step 0, parameters. "
            "Tensor: fc.weight (Linear). Error 5.0e-01; up to 1e-10 passes. The traced networks agree.",
        ),
        (
            ("tensorflow evaluates: evaluate with flip", "loss", 2, 1e-3, ""),
            "TensorFlow's evaluation differs from its own trace. First difference: after step 1, evaluate with flip. "
            "Tensor: loss. Error 1.0e-03; up to 1e-10 passes. The traced networks agree.",
        ),
        (
            ("evaluation: layer outputs", "block.shortcut", 3, None, "not finite"),
            "First difference: drawn state, evaluation, layer outputs. Layer: block.shortcut (Sequential). Not finite.",
        ),
        (
            ("batch of 128: loss and hits", "loss", 4, 1.0, ""),
            "First difference: drawn state, batch of 128, loss and hits. Tensor: loss. "
            "Error 1.0e+00; up to 1e-10 passes.",
        ),
        (
            ("free run", "parameters", 1, 0.1, "the two are 1e-1 apart, Paddle and its nudged self 1e-9"),
            "First difference: step 1, free run. The two are 1e-1 apart, Paddle and its nudged self 1e-9.",
        ),
        (
            ("running", "tensorflow", 3, None, "its process died of SIGABRT"),
            "TensorFlow stopped, second drawn step: its process died of SIGABRT.",
        ),
    ],
)
def test_a_difference_that_is_in_no_layers_row_is_said_above_the_table(first, said):
    found = a_certificate(first)
    assert report.failure(found) == said
    assert report.verdict(found)[-1] == f"FAILED in 0 s. {said}"
    page = report.to_html(found)
    assert 'class="first"' not in page
    above, _, below = text(page).partition("The difference is not in this table.")
    assert said in above.replace("&#39;", "'") and "gradient by the output" in below


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (
            ("layer outputs", "block", 2, 0.2, ""),
            "First difference: first drawn step, layer outputs. Layer: block (Residual). "
            "Error 2.0e-01; up to 1e-10 passes.",
        ),
        (("logits", "logits", 0, 1.0, ""), "First difference: step 0, logits. Error 1.0e+00; up to 1e-10 passes."),
        (
            ("initial state", "fc.bias", 0, None, "only in tensorflow"),
            "First difference: step 0, initial state. Tensor: fc.bias (Linear). Only in TensorFlow.",
        ),
    ],
)
def test_a_difference_is_said_in_short_sentences(first, said):
    assert report.failure(a_certificate(first)) == said


def trained(**errors):
    entries = {"loss and hits": 1e-7, "statistics": 1e-7, "parameters": 0.1, "predict": 1e-6, **errors}
    return {
        phase: {
            "precision": "float32",
            "error": error,
            "name": "fc.weight",
            "tolerance": 0.2 if phase == "parameters" else 1e-4,
            "passed": error is not None and error <= (0.2 if phase == "parameters" else 1e-4),
        }
        for phase, error in entries.items()
    }


def test_a_failure_in_float32_alone_names_framework_phase_and_tensor():
    found = a_certificate(trained={"paddle": trained(), "tensorflow": trained(statistics=0.3, predict=None)})
    said = (
        "In float32, TensorFlow's training step differs from its own in float64. First difference: statistics. "
        "Tensor: fc.weight. Error 3.0e-01; up to 0.0001 passes. Also too large: predict. "
        "In float64 the two frameworks agree."
    )
    *lines, last = report.verdict(found)
    assert last == f"FAILED in 0 s. {said}"
    assert lines == ["Paddle in float32 agrees with itself in float64. Worst: parameters, 1.0e-01; up to 0.2 passes"]
    page = report.to_html(found)
    assert f"No. {said} " in text(page).replace("&#39;", "'")
    assert len(re.findall(r'<tr class="bad"><td>TensorFlow: (?:statistics|predict)<', page)) == 2
    assert page.count('class="bad"') == 2 and "not finite" in text(page) and "ReLU's kink" in page

    evaluation = report.failure(a_certificate(trained={"paddle": trained(predict=None)}))
    assert evaluation.startswith(
        "In float32, Paddle's evaluation differs from its own in float64. First difference: pre"
    )
    assert "Tensor: fc.weight. Not finite; up to" in evaluation


def test_each_phase_that_is_too_far_off_is_marked_and_names_its_worst():
    found = a_certificate()
    found.judge(4, "batch of 64: parameters", [Difference("", "fc.bias", 0.25)])
    found.judge(2, "paddle evaluates: evaluate", [Difference("", "loss", 0.0)])
    found.judge(2, "paddle evaluates: predict one image", [Difference("", "logits", 1e-3)])
    found.judge(3, "velocities", [Difference("", "fc.weight", float("inf"), "not finite")])
    rows = {row["phase"]: row for row in report.folded(found)}
    assert [phase for phase in rows if rows[phase]["large"]] == ["batch of 64", "Paddle evaluates", "velocities"]
    assert [phase for phase in rows if rows[phase]["first"]] == ["batch of 64"]
    assert rows["Paddle evaluates"]["tensor"] == "predict one image: logits"
    assert (rows["Paddle evaluates"]["when"], rows["velocities"]["when"]) == ("after step 1", "second drawn step")
    assert rows["velocities"]["error"] == "not comparable" and rows["velocities"]["tensor"] == "fc.weight"
    for phase in ("images", "Paddle trains"):
        assert [rows[phase][key] for key in ("error", "tensor", "when")] == ["0", "", ""]
    page = report.to_html(found)
    assert page.count('<tr class="bad">') == 3 and "predict one image: logits" in page
    printed = report.to_table(found)
    assert [cell for cell in printed.columns[2].cells if "TOO LARGE" in cell] == [
        "2.5e-01 TOO LARGE",
        "1.0e-03 TOO LARGE",
        "not comparable TOO LARGE",
    ]


def test_among_phases_of_one_row_the_worst_is_that_nearest_to_its_tolerance():
    found = a_certificate(tolerances=TOLERANCES["float32"])
    found.judge(4, "batch of 64: loss and hits", [Difference("", "loss", 0.01)])
    found.judge(4, "batch of 64: parameters", [Difference("", "fc.bias", 0.1)])
    row = report.folded(found)[-1]
    assert (row["tensor"], row["large"]) == ("loss and hits: loss", True)
    page = text(report.to_html(found))
    assert "Up to 0.0001, and 0.2 where gradients matter passes" in page and "ReLU's kink" in page


@pytest.mark.parametrize(("steps", "charts"), [(1, 0), (2, 1)])
def test_a_chart_of_one_point_is_a_sentence(steps, charts):
    found = a_certificate(free_run=[{"frameworks": 1e-15, "nudged": 2e-15}] * steps)
    found.phases = {"images": {"compared": 1, "errors": [1e-15], "error": 1e-15, "name": "images", "step": 0}}
    page = report.to_html(found)
    assert page.count("<svg") == charts
    assert "No chart: it would have fewer than two points" in page
    count = "1 step" if steps == 1 else "2 steps"
    assert f"after {count} Paddle and TensorFlow differ by 1.0e-15; Paddle and itself" in page


def test_phases_that_are_not_of_every_step_are_not_in_the_chart():
    """Such as the two in a row that are trained after the steps from the initial state: their place is not a step."""
    found = a_certificate()
    for phase, count in {"gradients twice": 5, "logits": 4}.items():
        for step in range(count):
            found.judge(step, phase, [Difference("", "fc", 1e-14)])
    drawn = report._draw_errors(found)
    assert "logits" in drawn and "layer outputs" in drawn
    assert "gradients twice" not in drawn and "images" not in drawn


def test_the_page_says_its_notes_and_how_to_run_it_again():
    found = a_certificate(notes=["The images are random pixels, since CIFAR-10 is not here: see data.directory"])
    page = report.to_html(found, ["network.lrn=true", "data.directory=a folder"])
    assert "Note: The images are random pixels" in text(page) and "images cifar10" not in text(page)
    assert "but for the notes above" in page
    command = "python -m tandem certify net -o network.lrn=true -o 'data.directory=a folder'"
    assert f"{command} --steps 2 --batch-size 5 --precision float64" in page.replace("&#39;", "'")


def test_known_mistakes_are_links_with_their_titles():
    found = a_certificate(("output gradients", "fc", 0, None, "no gradient in paddle (None)"))
    found.first["layer"] = "Flatten"  # in which `gradient_stopped` was seen
    page = report.to_html(found)
    assert '<a href="#gradient_stopped">A stopped gradient</a>' in page
    assert '<h3 id="gradient_stopped">A stopped gradient</h3>' in page
    assert '<a href="https://github.com/PaddlePaddle/' in page
    assert "  A stopped gradient: docs/differences.md#gradient_stopped" in report.verdict(found)


def test_frameworks_have_their_titles_in_prose():
    found = a_certificate(("layer outputs", "fc", 0, None, "only in paddle"), trained={"paddle": trained()})
    found.unsupported = {"tensorflow": "no float16 here"}
    found.table["fc"]["output"] = "paddle has the shape (2,), tensorflow (3,)"
    page = report.to_html(found, ["device=cpu"])
    prose = re.sub(r"<(code|pre|style)\b.*?</\1>", "", page, flags=re.DOTALL)
    assert not re.search("paddle|tensorflow", prose)
    assert "Paddle has the shape (2,), TensorFlow (3,)" in page
    assert not re.search("paddle|tensorflow", "".join(report.verdict(found)))
    assert (
        report.titled("paddle.nn, paddle/x.py, my_paddle: in paddle.")
        == "paddle.nn, paddle/x.py, my_paddle: in Paddle."
    )


def test_a_name_breaks_at_its_dots_alone():
    page = report.to_html(a_certificate(("layer outputs", "block.shortcut.conv", 0, 1.0, "")))
    assert "block.<wbr>shortcut.<wbr>conv" in page
