"""Tandem: the same network in PaddlePaddle and in TensorFlow, trained from one YAML file and proven to be the same."""
