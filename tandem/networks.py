"""The networks: the settings of each, checked without a framework, and where its two builders are."""

import importlib
from typing import ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator

from tandem.settings import Settings


class SEResNeXt(Settings):
    """SE-ResNeXt for 32x32 images (Xie et al. 2017, arXiv:1611.05431; Hu et al. 2018, arXiv:1709.01507)."""

    builders: ClassVar = {
        "paddle": "se_resnext_fluid:SE_ResNeXt",
        "tensorflow": "se_resnext_tensorflow:SE_ResNeXt",
    }

    name: Literal["se_resnext"] = Field(description="the network")
    num_block: PositiveInt = Field(3, description="residual blocks in each stage")
    depth: PositiveInt = Field(64, description="channels of one branch")
    out_dims: tuple[PositiveInt, ...] = Field(
        (64, 128, 256), min_length=1, description="channels after each stage; each as wide as the last or twice that"
    )
    cardinality: PositiveInt = Field(8, description="branches of a block")
    reduction_ratio: PositiveInt = Field(4, description="by how much squeeze-and-excitation narrows")

    @model_validator(mode="after")
    def _check_widths(self):
        for before, after in zip(self.out_dims, self.out_dims[1:], strict=False):
            if after not in (before, 2 * before):
                raise ValueError(
                    f"out_dims: {after} follows {before}, but the identity shortcut can only keep "
                    f"the width or double it; use {before} or {2 * before}"
                )
            if after != before and before % 2:
                raise ValueError(
                    f"out_dims: {before} is odd, so the shortcut to {after} cannot be padded alike on both sides; "
                    "use even widths"
                )
        if min(self.out_dims) < self.reduction_ratio:
            raise ValueError(
                f"reduction_ratio: {self.reduction_ratio} leaves no channel of {min(self.out_dims)}; lower it"
            )
        return self


Network = SEResNeXt


def build(network, framework, num_classes):
    """Build `network` (settings) in `framework` ("paddle" or "tensorflow"): a paddle.nn.Layer or a tf.keras.Model.

    Imports only the module of that one builder, and with it that one framework.
    """
    module, builder = network.builders[framework].split(":")
    parameters = network.model_dump(exclude={"name"})
    return getattr(importlib.import_module(module), builder)(num_classes=num_classes, **parameters)
