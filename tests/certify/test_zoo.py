"""The zoo: the adapted pairs have the same weights in the same order, and compute the same."""

import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path

from tandem.certify import zoo
from tandem.core.paths import ROOT
from tandem.frameworks.base import FRAMEWORKS

import numpy as np
import pytest


def module(network):
    return importlib.import_module(f"tandem.certify.zoo.{network}")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """By framework: the shapes by network, and the arrays by network. Both frameworks work at the same time."""
    folder = tmp_path_factory.mktemp("zoo")
    worker = Path(__file__).with_name("zoo_worker.py")
    started = {
        framework: subprocess.Popen(
            [sys.executable, worker, framework, folder], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for framework in FRAMEWORKS
    }
    results = {}
    for framework, process in started.items():
        output, errors = process.communicate()
        assert process.returncode == 0, errors
        arrays = {network: dict(np.load(folder / f"{framework}-{network}.npz")) for network in zoo.NETWORKS}
        results[framework] = json.loads(output), arrays
    return results


def test_every_module_is_named():
    names = {path.stem for path in Path(zoo.__file__).parent.glob("*.py")}
    assert names == {*zoo.NETWORKS, "__init__", "blocks"}


@pytest.mark.parametrize("network", zoo.NETWORKS)
def test_a_module_has_two_pairs_of_builders_called_alike(network):
    kinds = (network, f"{network}_adapted")
    builders = [getattr(module(network), f"{kind}_{framework}") for kind in kinds for framework in FRAMEWORKS]
    signatures = {str(inspect.signature(builder)) for builder in builders}
    assert signatures == {f"(num_classes, image_size={75 if network == 'inception_v3' else 64})"}


@pytest.mark.parametrize("network", zoo.NETWORKS)
def test_what_differs_is_told_in_four_texts(network):
    differences = module(network).DIFFERENCES
    for difference in differences:
        where, paddle, keras, remedy = difference
        assert all(isinstance(text, str) and text.strip() == text != "" for text in difference)
        assert paddle != keras and remedy, where
    assert len({where for where, *_ in differences}) == len(differences)


def test_the_zoo_loads_no_framework():
    modules = ", ".join(f"tandem.certify.zoo.{network}" for network in zoo.NETWORKS)
    code = f"import sys, {modules}; print({{'paddle', 'tensorflow', 'keras'}} & set(sys.modules))"
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert finished.stdout == "set()\n", finished.stderr


@pytest.mark.parametrize("network", zoo.NETWORKS)
def test_an_adapted_pair_has_the_same_weights_in_the_same_order(found, network):
    paddle, tensorflow = (found[framework][0][network] for framework in FRAMEWORKS)
    assert paddle == tensorflow


@pytest.mark.parametrize("network", zoo.NETWORKS)
def test_an_adapted_pair_computes_the_same(found, network):
    paddle, tensorflow = (found[framework][1][network] for framework in FRAMEWORKS)
    for name, largest in (("logits", np.abs(paddle["logits"]).max()), ("statistics", 1)):
        np.testing.assert_allclose(tensorflow[name], paddle[name], rtol=0, atol=1e-10 * largest)
