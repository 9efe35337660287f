"""The peer's networks have as many parameters as Tandem's, and its step trains. Only where PyTorch is installed."""

import importlib.util
import json
import subprocess
import sys

from tandem.config.load import load_config
from tandem.core.paths import CONFIGS, ROOT

import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")

NAMES = (
    "lenet5",
    "simple_cnn",
    "alexnet",
    "alexnet_32",
    "vgg16",
    "vgg16_plain",
    "resnet20",
    "resnet_fast",
    "quickstart",
)

COUNT = """
import importlib, json, math, sys
stock = importlib.import_module(sys.argv[1])
networks, counts = json.loads(sys.argv[2]), []
for network in networks:
    parameters = stock.NETWORKS[network.pop("name")](10, **network).parameters()
    counts.append(sum(math.prod(p.shape) for p in parameters if getattr(p, "trainable", True)))
print(json.dumps(counts))
"""

STEP = """
import sys
from tandem.benchmark import peer_torch
from tandem.config.load import load_config
import numpy as np
settings = load_config(sys.argv[1], ["batch_size=8", f"precision={sys.argv[2]}"])
step = peer_torch.training(settings, 10)
random = np.random.default_rng(0)
images, labels = random.normal(size=(8, 3, 32, 32)).astype(np.float32), random.integers(0, 10, 8)
losses = [step(images, labels) for _ in range(12)]
print(losses)
assert losses[-1] < 0.7 * losses[0]
"""


def run(code, *arguments):
    ended = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()[-1]


def test_the_networks_are_of_the_same_size():
    networks = json.dumps([load_config(CONFIGS / f"{name}.yaml").network.model_dump() for name in NAMES])
    counts = [run(COUNT, of, networks) for of in ("tandem.benchmark.peer_torch", "tandem.frameworks.paddle.stock")]
    assert counts[0] == counts[1]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_step_trains(precision):
    run(STEP, str(CONFIGS / "resnet20.yaml"), precision)
