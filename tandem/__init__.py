"""Tandem: the same network in PaddlePaddle and in TensorFlow, trained from one YAML file, verified to be equal."""

__version__ = "0.2.0"
