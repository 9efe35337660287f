"""The certificate fails for every planted mistake, at the phase and the layer where it is."""

from pathlib import Path

from tandem.certify import report as certificate_report
from tandem.certify.steps import WORKER, certify
from tandem.config.load import check_config
from tandem.frameworks.base import FRAMEWORKS
from tandem.frameworks.workers import Workers

import planted
import pytest

EVERYTHING = {
    "data": {"source": "digits", "image_size": 8},
    "optimizer": {"learning_rate": 0.1, "nesterov": True, "weight_decay": 0.01},
    "schedule": {"name": "constant"},
    "epochs": 1,
    "label_smoothing": 0.1,
    "evaluation": {"ema_decay": 0.9},
}
"""On a network with dropout and batch norm."""

SMALL, LARGE = {"batch_size": 5}, {"batch_size": 64}
"""With the first, no step has more images than the certified ones: few mistakes should need one that has."""


@pytest.fixture(scope="module")
def workers():
    """Not those that other modules share: some mistakes stay in the process."""
    with Workers(WORKER) as workers:
        yield workers


def certified(workers, mistake="", framework="", only="", precision="float64", **more):
    """The certificate of one step, and of those from a drawn state. Without a `framework` both make the mistake.

    In float64 alone: there is then no second path to certify, which saves its time.
    """
    options = {"mistake": mistake, "framework": framework, "only": only}
    network = {"name": "own", "file": str(Path(planted.__file__)), "options": options}
    values = {**EVERYTHING, "network": network, "precision": precision, **SMALL, **more}
    found = certify(mistake or "right", check_config(values, "test"), workers, steps=1)
    assert found.passed == (not mistake), (found.first, found.trained)
    return found


def fails_at(found, framework):
    """The first phase of `framework`'s own that fails: its two paths are compared with each other."""
    own = {phase: entry["error"] for phase, entry in found.phases.items() if phase.startswith(framework)}
    return next((phase for phase, error in own.items() if error is None or error > 1e-10), None)


def place(found):
    return found.first["step"], found.first["phase"], found.first["name"]


@pytest.mark.parametrize("mixup", [0.0, 0.4])
def test_the_right_network_passes_with_everything_on(workers, mixup):
    data = EVERYTHING["data"] | {"augmentation": {"mixup": mixup}}
    found = certified(workers, precision="float32", data=data, **LARGE)
    for framework in FRAMEWORKS:
        for kind in ("loss and hits", "statistics", "velocities", "parameters", "EMA"):
            assert found.phases[f"{framework} trains: {kind}"]["error"] == 0  # of the same bits
        for what in ("evaluate", "predict", "evaluate with flip", "evaluate with EMA", "state after evaluation"):
            assert found.phases[f"{framework} evaluates: {what}"]["error"] < 1e-13
    assert found.phases["batch of 64: parameters"]["error"] < 1e-11


# Both frameworks make these mistakes, the same ones. So the two agree, and only their own traces tell.

TRAINS = {
    "learning_rate_halved": "parameters",
    "weight_decay_gone": "velocities",
    "nesterov_ignored": "parameters",
    "other_momentum": "parameters",  # of Nesterov; the velocity begins at zero
    "smoothing_ignored": "loss and hits",
    "dropout_mask_frozen": "loss and hits",
    "dropout_rate_frozen": "loss and hits",
    "average_before_the_update": "EMA",
    "gradients_clipped": "velocities",
    "top_5_of_training": "loss and hits",
}
"""Mistakes that only the step has that trains, and what is wrong after it."""


@pytest.mark.parametrize(("mistake", "kind"), TRAINS.items())
def test_a_mistake_in_what_trains(workers, mistake, kind):
    found = certified(workers, mistake)
    assert [fails_at(found, framework) for framework in FRAMEWORKS] == [f"{side} trains: {kind}" for side in FRAMEWORKS]
    assert place(found)[:2] == (mistake == "dropout_mask_frozen", f"paddle trains: {kind}")
    assert found.phases["parameters"]["error"] < 1e-10  # of the traced steps


def test_two_steps_in_a_row_without_a_loaded_state_between(workers):
    found = certified(workers, "forgets_unless_loaded")
    assert all(fails_at(found, framework).startswith(f"{framework} trains: ") for framework in FRAMEWORKS)


@pytest.mark.parametrize(
    ("mistake", "kind"),
    [("mode_of_training_not_set", "loss and hits"), ("learning_rate_of_the_step_before", "parameters")],
)
def test_what_paddle_keeps_from_one_call_to_the_next(workers, mistake, kind):
    assert fails_at(certified(workers, mistake, "paddle"), "paddle") == f"paddle trains: {kind}"


def test_gradients_that_are_never_cleared(workers):
    """They are added to those of the next step, which may be a traced one."""
    assert place(certified(workers, "gradients_added_up", "paddle"))[1] in ("gradients", "paddle trains: velocities")


EVALUATES = {
    "smoothing_ignored_in_evaluation": "evaluate",
    "evaluation_with_the_statistics_of_the_batch": "evaluate",
    "evaluation_in_training_mode": "evaluate",
    "top_5_of_evaluation": "evaluate",
    "prediction_in_training_mode": "predict",
    "probabilities_for_logits": "predict",
    "flipped_test_in_training_mode": "evaluate with flip",
    "flipped_upside_down": "evaluate with flip",
    "flipped_only": "evaluate with flip",
    "statistics_not_averaged": "evaluate with EMA",
    "averages_left_in_place": "state after evaluation",
}
"""Mistakes in one way to evaluate, and in which."""


@pytest.mark.parametrize(("mistake", "what"), EVALUATES.items())
def test_a_mistake_in_one_way_to_evaluate(workers, mistake, what):
    found = certified(workers, mistake)
    expected = [f"{framework} evaluates: {what}" for framework in FRAMEWORKS]
    assert [fails_at(found, framework) for framework in FRAMEWORKS] == expected
    assert place(found)[:2] == (1, expected[0])
    assert found.phases["evaluation: logits"]["error"] < 1e-10
    if mistake == "top_5_of_evaluation":
        assert found.first["name"] == "hits in the top 5"


@pytest.mark.parametrize(
    "mistake",
    ["prediction_of_even_batches", "prediction_of_one_image", "prediction_not_averaged", "flipped_test_not_averaged"],
)
def test_a_way_to_evaluate_that_is_wrong_for_some_batches_or_weights(workers, mistake):
    found = certified(workers, mistake)
    assert all(fails_at(found, framework).startswith(f"{framework} evaluates: ") for framework in FRAMEWORKS)


IN_FLOAT32 = {
    "learning_rate_halved": "parameters",
    "other_momentum": "update",
    "dropout_mask_frozen": "loss and hits",
    "evaluation_with_the_statistics_of_the_batch": "evaluate",
    "prediction_in_training_mode": "predict",
    "relu6": "predict",
    "gradient_halved_in_a_branch": "velocities",
}
"""Mistakes that only engines in float32 make, and a phase of their training path in which they show."""


@pytest.mark.parametrize(
    ("mistake", "phase"),
    [
        pytest.param(*pair, marks=[] if pair[0] in ("learning_rate_halved", "relu6") else [pytest.mark.slow])
        for pair in IN_FLOAT32.items()
    ],
)
def test_a_mistake_in_float32_alone(workers, mistake, phase):
    found = certified(workers, mistake, only="float32", precision="float32", evaluation={})
    assert found.first is None
    assert [found.trained[framework][phase]["passed"] for framework in FRAMEWORKS] == [False, False]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_training_path_too_far_off_fails(workers, framework):
    """And is said to be that of one framework, since both agree where they are certified."""
    found = certified(workers, "statistics_too_fast", framework, only="float32", precision="float32", evaluation={})
    failed = [(side, kind) for side, kinds in found.trained.items() for kind in kinds if not kinds[kind]["passed"]]
    assert found.first is None and (framework, "statistics") in failed
    assert {side for side, _ in failed} == {framework}
    wrong = found.trained[framework]["statistics"]
    assert ".running_" in wrong["name"] and wrong["error"] > wrong["tolerance"]
    said = certificate_report.verdict(found)[-1]
    title = certificate_report.TITLES[framework]
    assert said.startswith("FAILED") and f"In float32, {title}'s training step differs from its own in float64." in said
    assert f"First difference: statistics. Tensor: {wrong['name']}. Error" in said


# One framework alone makes these.

LAYERS = {
    "images_normalised_otherwise": (0, "images", "images"),
    "relu6": (1, "layer outputs", "relu1"),  # from the drawn state on
    "bias_added_twice": (1, "layer outputs", "fc1"),  # at first it is zero
    "odd_batches": (0, "layer outputs", "relu2"),
    "red_and_blue_exchanged": (0, "layer outputs", "conv1"),
    "gradient_halved": (0, "output gradients", "relu2"),
}
"""Mistakes of a network: the step, the phase and the place where each first shows."""


@pytest.mark.parametrize(("number", "mistake"), list(enumerate(LAYERS)))
def test_a_mistake_in_a_layer(workers, number, mistake):
    step, phase, name = place(certified(workers, mistake, FRAMEWORKS[number % 2]))
    assert (step, phase.removeprefix("evaluation: "), name) == LAYERS[mistake]


@pytest.mark.parametrize(
    ("framework", "mistake", "phase", "name", "what"),
    [
        (
            "paddle",
            *("gradient_stopped", "output gradients", "relu1"),
            "what it passes back to bn1: no gradient in {} (None)",
        ),
        (
            "tensorflow",
            "gradient_stopped_in_a_shortcut",
            "output gradients",
            "block.shortcut",
            "no gradient in {} (None)",
        ),
        ("paddle", "no_gradient_of_a_bias", "gradients", "fc2.bias", "no gradient in {} (None)"),
        ("tensorflow", "zero_gradient_of_a_bias", "gradients", "fc2.bias", "the gradient in {} is zero everywhere"),
    ],
)
def test_a_gradient_that_is_none_or_zero_is_said_in_these_words(workers, framework, mistake, phase, name, what):
    found = certified(workers, mistake, framework)
    assert place(found) == (0, phase, name)
    assert what.format(framework) in found.first["what"]


def test_the_page_of_a_failure_marks_the_layer(workers):
    found = certified(workers, "gradient_halved", "tensorflow")
    page = certificate_report.to_html(found)
    (row,) = (row for row in page.split("<tr") if 'class="first"' in row)
    assert "<code>relu2</code>" in row and "<strong>first difference</strong>: what it passes back to fc1" in row
    assert all(f"<code>{name.replace('.', '.<wbr>')}</code>" in page for name in found.table)


def test_a_gradient_that_one_of_two_branches_passes_back(workers):
    """Their sum arrives at dropout1, so the other branch may be named, too."""
    found = certified(workers, "gradient_halved_in_a_branch", "tensorflow")
    assert place(found)[:2] == (0, "output gradients")
    assert "block.body.conv" in f"{found.first['name']} {found.first['what']}"
    assert "dropout1" in found.first["what"]


def test_an_average_before_the_update_in_float32_alone(workers):
    found = certified(workers, "average_before_the_update", only="float32", precision="float32")
    assert [found.trained[framework]["update"]["passed"] for framework in FRAMEWORKS] == [False, False]


def test_a_mistake_in_large_batches(workers):
    found = certified(workers, "large_batches", "paddle", **LARGE)
    assert place(found)[1:] == ("batch of 64: loss and hits", "loss")


def test_a_mistake_in_even_batches(workers):
    phase = place(certified(workers, "even_batches", "tensorflow", **LARGE))[1]
    assert phase == "batch of 64: loss and hits" or phase.startswith("tensorflow evaluates: ")


def test_a_mistake_in_the_evaluation_of_large_batches(workers):
    found = certified(workers, "evaluation_of_large_batches", "paddle", **LARGE)
    assert place(found)[1].startswith("batch of 64: ")
