"""What is taken for a run folder is named, and a run that failed early can be begun again."""

from tandem.core import files
from tandem.training import run_folder

import pytest
from datasets import fails


def test_what_is_no_run_folder_is_named(tmp_path):
    with fails("not a run folder with a checkpoint"):
        run_folder.check(tmp_path)
    for name, said in {
        "metrics.jsonl": "a run that has no checkpoint yet; train it again",
        "certificate.html": "a certificate, and not a run folder",
        "saved_model.pb": "a SavedModel, and not a run folder",
    }.items():
        (tmp_path / name).touch()
        with fails(said):
            run_folder.check(tmp_path)
    comparison = tmp_path / "comparison"
    (comparison / "runs" / "paddle-seed0").mkdir(parents=True)
    (comparison / "config.yaml").touch()
    with fails(r"a comparison, and not a run folder; give one in .*/runs \(paddle-seed0, ...\)"):
        run_folder.check(comparison)


@pytest.mark.parametrize("name", ["best.safetensors", "step-000000001.safetensors"])
def test_the_best_counts_as_a_checkpoint(tmp_path, name):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / f"{files.UNFINISHED}{name}").touch()  # a kill left it
    assert run_folder.holds_no_more_than_a_beginning(tmp_path)
    with fails("not a run folder with a checkpoint"):
        run_folder.check(tmp_path)
    (tmp_path / "checkpoints" / name).touch()
    run_folder.check(tmp_path)
    assert not run_folder.holds_no_more_than_a_beginning(tmp_path)


def test_a_beginning_is_what_a_run_writes_before_its_first_checkpoint(tmp_path):
    for name in (
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "trained.json",
        "events.out.tfevents.1",
        "checkpoints",
    ):
        (tmp_path / name).touch()
    assert run_folder.holds_no_more_than_a_beginning(tmp_path)
    (tmp_path / "thesis.tex").touch()
    assert not run_folder.holds_no_more_than_a_beginning(tmp_path)
