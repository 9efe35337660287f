"""The zoo: the adapted pairs have the same weights in the same order, and compute the same."""

import importlib
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

from tandem.certify import zoo
from tandem.certify.certificate import Certificate
from tandem.certify.pairing import Pairing
from tandem.certify.replay import Apart
from tandem.certify.zoo import certified, page
from tandem.core.errors import UserError
from tandem.core.paths import ROOT
from tandem.frameworks.base import FRAMEWORKS

import numpy as np
import pytest

COMPUTED = ("mobilenet", "mobilenet_v2", "mobilenet_v3_small")
"""The small ones: `tandem zoo` certifies all. InceptionV3's branches are not in one order."""


def module(name):
    return importlib.import_module(f"tandem.certify.zoo.{name}")


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
        arrays = {network: dict(np.load(folder / f"{framework}-{network}.npz")) for network in COMPUTED}
        results[framework] = json.loads(output), arrays
    return results


def test_every_module_is_named():
    names = {path.stem for path in Path(zoo.__file__).parent.glob("*.py")}
    adapted = {f"{network}_adapted" for network in zoo.NETWORKS}
    assert names == {*zoo.NETWORKS, *adapted, "__init__", "blocks", "certified", "page"}


@pytest.mark.parametrize("network", zoo.NETWORKS)
def test_a_network_has_two_pairs_of_builders_called_alike(network):
    kinds = (network, f"{network}_adapted")
    builders = [getattr(module(kind), f"{kind}_{framework}") for kind in kinds for framework in FRAMEWORKS]
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
    modules = ", ".join(
        f"tandem.certify.zoo.{network}{ending}" for network in zoo.NETWORKS for ending in ("", "_adapted")
    )
    code = f"import sys, {modules}; print({{'paddle', 'tensorflow', 'keras'}} & set(sys.modules))"
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert finished.stdout == "set()\n", finished.stderr


@pytest.mark.slow
@pytest.mark.parametrize("network", COMPUTED)
def test_an_adapted_pair_has_the_same_weights_in_the_same_order(found, network):
    paddle, tensorflow = (found[framework][0][network] for framework in FRAMEWORKS)
    assert paddle == tensorflow


@pytest.mark.slow
@pytest.mark.parametrize("network", COMPUTED)
def test_an_adapted_pair_computes_the_same(found, network):
    paddle, tensorflow = (found[framework][1][network] for framework in FRAMEWORKS)
    for name, largest in (("logits", np.abs(paddle["logits"]).max()), ("statistics", 1)):
        np.testing.assert_allclose(tensorflow[name], paddle[name], rtol=0, atol=1e-10 * largest)


def certificate(apart):
    return Certificate("net", {"precision": "float64"}, 1, 5, {}, "", "", {}, pairing=Pairing(), apart=apart)


def test_layers_that_differ_alike_are_told_together():
    settings = {"epsilon": (1e-5, 1.001e-5)}
    norms = [
        Apart("bn1", "BatchNorm2D", ("n1", "BatchNormalization"), 1e-9, {"output": "1.0e-09"}, settings),
        Apart("bn2", "BatchNorm2D", ("n2", "BatchNormalization"), 3e-9, {"gradient of weight": "3.0e-09"}, settings),
    ]
    before = [
        Apart(name, "Conv2D", ("c", "Conv2D"), 4e-8, {"output": "4.0e-08"}, why=f"what lies between a and b and {name}")
        for name in ("block.1.conv", "block.2.conv", "block.3.conv")
    ]
    alone = [Apart("conv", "Conv2D", ("c", "Conv2D"), np.inf, {"bias": "only in TensorFlow"})]
    first, second, third = certified.told(certificate([*norms, *before, *alone]))["apart"]
    assert (first["count"], first["first"], first["error"], first["what"]) == (
        2,
        "bn1",
        3e-9,
        ["output", "gradient of weight"],
    )
    assert first["settings"] == {"epsilon": [1e-5, 1.001e-5]}
    assert (second["count"], second["why"]) == (3, "what lies before it")
    assert (third["count"], third["error"], third["only"]) == (1, None, ["only in TensorFlow"])


def test_the_pages_are_what_the_data_gives():
    stale = [path.name for path, text in page.pages(page.load()).items() if path.read_text(encoding="utf-8") != text]
    assert not stale, "run `tandem results`"


def test_every_network_is_on_the_pages_and_what_is_certified_came_out_right():
    entries = page.load()
    assert entries
    assert all(certified.right(entry) for entry in entries.values())
    for path, text in page.pages(entries).items():
        links = re.findall(r"\]\(([^)#][^)]*)\)", text)
        assert all((path.parent / link).exists() for link in links)
        assert all(f'<a id="{network}"></a>' in text for network in zoo.NETWORKS)


def test_what_differs_is_told_in_chinese_too():
    chinese = page.chinese()["differences"]
    texts = {text for network in zoo.NETWORKS for row in module(network).DIFFERENCES for text in row}
    assert chinese.keys() <= texts
    untold = [text for text in texts - chinese.keys() if re.search(r"\b(the|a|of|in|at|and|for|with|on) ", text)]
    assert untold == []


def test_a_name_that_is_not_in_the_zoo_is_one_line():
    with pytest.raises(UserError, match=r"^resnet: not in the zoo; did you mean resnet50\?$"):
        page.chosen(["resnet"])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "cannot be read"),
        ('{"resnet": {}}', "resnet"),
        ('{"resnet50": {"shipped": {}}}', "resnet50.command: Field required"),
    ],
)
def test_a_file_of_results_that_is_not_right_is_one_line(tmp_path, text, told):
    (tmp_path / "results").mkdir()
    (tmp_path / page.DATA).write_text(text)
    with pytest.raises(UserError, match=told) as caught:
        page.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_file_of_results_has_the_networks_in_the_order_of_the_zoo():
    assert list(json.loads(page.dumped({name: {} for name in reversed(zoo.NETWORKS)}))) == list(zoo.NETWORKS)


def test_a_process_that_stopped_is_no_result(monkeypatch):
    stopped = certificate([])
    stopped.first = {"step": 0, "phase": "running", "name": "tensorflow", "layer": "", "error": None, "what": "died"}
    monkeypatch.setattr(certified, "certify", lambda *arguments, **more: stopped)
    with pytest.raises(UserError, match="resnet50, shipped: TensorFlow stopped: died"):
        certified.certify_network("resnet50", None)
