"""The networks: the settings of each, checked without a framework, and where to find its two builders."""

import contextlib
import functools
import importlib
import inspect
import keyword
import sys
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

from tandem.config import user_file
from tandem.config.absent import PACKAGES, Absent, StandIns
from tandem.config.settings import Channels, Count, Float, Int, PathText, Settings
from tandem.core.errors import UserError, where

from pydantic import Field, field_validator, model_validator

Blocks = Annotated[Int, Field(ge=1, le=1_000)]
"""Residual blocks of a stage."""


class SEResNeXt(Settings):
    """SE-ResNeXt for small images (Xie et al. 2017, arXiv:1611.05431; Hu et al. 2018, arXiv:1709.01507)."""

    builders: ClassVar = {
        "paddle": "se_resnext_fluid:SE_ResNeXt",
        "tensorflow": "se_resnext_tensorflow:SE_ResNeXt",
    }

    name: Literal["se_resnext"] = Field(description="the network")
    num_block: Blocks = Field(3, description="residual blocks in each stage")
    depth: Channels = Field(64, description="channels of one branch")
    out_dims: tuple[Channels, ...] = Field(
        (64, 128, 256), min_length=1, description="channels after each stage; each equal to the one before, or twice it"
    )
    cardinality: Count = Field(8, description="branches of a block")
    reduction_ratio: Count = Field(4, description="channels divided by the hidden units of squeeze-and-excitation")

    @model_validator(mode="after")
    def _check_widths(self):
        for before, after in zip(self.out_dims, self.out_dims[1:], strict=False):
            if after not in (before, 2 * before):
                raise ValueError(
                    f"out_dims: {after} follows {before}, but the identity shortcut can only keep "
                    f"the channels or double them; use {before} or {2 * before}"
                )
            if after != before and before % 2:
                raise ValueError(
                    f"out_dims: {before} is odd, so the shortcut to {after} cannot be padded equally on both sides; "
                    "use even numbers"
                )
        if min(self.out_dims) < self.reduction_ratio:
            raise ValueError(
                f"reduction_ratio: {self.reduction_ratio} leaves no hidden unit for {min(self.out_dims)} channels; "
                "lower it"
            )
        return self


class AlexNet(Settings):
    """AlexNet for 32x32 images (Krizhevsky et al. 2012)."""

    builders: ClassVar = {"paddle": "alexnet:alexnet_paddle", "tensorflow": "alexnet:alexnet_tensorflow"}
    image_size: ClassVar = 32

    name: Literal["alexnet"] = Field(description="the network")
    kernel_size: Annotated[Int, Field(ge=1, le=32)] = Field(11, description="side of the first convolution's kernel")
    stride: Count = Field(4, description="stride of the first convolution")
    padding: Annotated[Int, Field(ge=0)] = Field(1, description="zero padding of the first convolution, in pixels")
    lrn: bool = Field(True, description="local response normalisation after the first two convolutions")

    @model_validator(mode="after")
    def _check_padding(self):
        if self.padding >= self.kernel_size:
            raise ValueError(f"padding: {self.padding} is not less than kernel_size {self.kernel_size}; lower it")
        return self


class VGG(Settings):
    """VGG for 32x32 images (Simonyan & Zisserman 2015, arXiv:1409.1556)."""

    builders: ClassVar = {"paddle": "vgg:vgg_paddle", "tensorflow": "vgg:vgg_tensorflow"}
    image_size: ClassVar = 32

    name: Literal["vgg"] = Field(description="the network")
    depth: Literal[11, 13, 16, 19] = Field(16, description="layers with weights, as the paper counts")
    batch_norm: bool = Field(
        True, description="true: batch norm, and dense layers of 512 units; false: no batch norm, and 2048 units"
    )
    conv_dropout: bool = Field(True, description="dropout of 0.3 and 0.4 after convolutions")
    dense_dropout: Annotated[Float, Field(ge=0, lt=1)] = Field(
        0.5, description="rate of dropout among the dense layers"
    )


def blocks_per_stage(depth, bottleneck):
    """The n of depth 6n + 2, or with bottlenecks 9n + 2.

    Raises:
        ValueError: there is no such n; names the nearest depths that have one.
    """
    layers = 9 if bottleneck else 6
    count, rest = divmod(depth - 2, layers)
    if count < 1 or rest:
        right = [layers * n + 2 for n in (count, count + 1) if n > 0] or [layers + 2]
        raise ValueError(f"depth: {depth} is not {layers}n+2; use {' or '.join(map(str, right))}")
    return count


class ResNetCifar(Settings):
    """ResNet for small images (He et al. 2016, arXiv:1512.03385, section 4.2)."""

    builders: ClassVar = {
        "paddle": "resnet_cifar:resnet_cifar_paddle",
        "tensorflow": "resnet_cifar:resnet_cifar_tensorflow",
    }

    name: Literal["resnet_cifar"] = Field(description="the network")
    depth: Annotated[Int, Field(le=10_000)] = Field(
        20, description="6n + 2, or with bottlenecks 9n + 2, for n blocks in each of the three stages"
    )
    bottleneck: bool = Field(False, description="blocks of three convolutions in place of two")
    widths: tuple[Channels, Channels, Channels] = Field(
        (16, 32, 64), description="channels of each stage's 3x3 convolutions"
    )

    @model_validator(mode="after")
    def _check_depth(self):
        blocks_per_stage(self.depth, self.bottleneck)
        return self


class ResNetFast(Settings):
    """ResNet for small images in the form of the CIFAR-10 speed records (Jordan 2024, arXiv:2404.00498)."""

    builders: ClassVar = {
        "paddle": "resnet_fast:resnet_fast_paddle",
        "tensorflow": "resnet_fast:resnet_fast_tensorflow",
    }
    smallest_image: ClassVar = 9  # the stem and three max pools leave no pixel of a smaller one

    name: Literal["resnet_fast"] = Field(description="the network")
    blocks: Blocks = Field(1, description="blocks of two convolutions in each of the three stages")
    widths: tuple[Channels, Channels, Channels] = Field(
        (96, 320, 320), description="channels of each stage's convolutions"
    )


class LeNet5(Settings):
    """LeNet-5 for 32x32 images (LeCun et al. 1998)."""

    builders: ClassVar = {"paddle": "lenet:lenet5_paddle", "tensorflow": "lenet:lenet5_tensorflow"}
    image_size: ClassVar = 32

    name: Literal["lenet5"] = Field(description="the network")


class SimpleCNN(Settings):
    """The articles' simple CNN, for 32x32 images."""

    builders: ClassVar = {"paddle": "lenet:simple_cnn_paddle", "tensorflow": "lenet:simple_cnn_tensorflow"}
    image_size: ClassVar = 32

    name: Literal["simple_cnn"] = Field(description="the network")


class Own(Settings):
    """A network of your own: a file NAME.py with the builders NAME_paddle and NAME_tensorflow."""

    name: Literal["own"] = Field(description="the network")
    file: PathText = Field(description="the Python file, NAME.py")
    options: dict[str, Any] = Field({}, description="arguments of the builders, besides num_classes")

    @field_validator("options")
    @classmethod
    def _check_options(cls, options):
        if "num_classes" in options:
            raise ValueError("leave out num_classes: it is as many as the data has classes")
        return options

    @field_validator("file")
    @classmethod
    def _check_file(cls, file):
        stem = Path(file).stem
        if not file.endswith(".py") or not stem.isidentifier() or keyword.iskeyword(stem):
            raise ValueError("use a Python file whose name is a valid identifier, such as mynet.py")
        if stem in {*sys.stdlib_module_names, *(name for names in PACKAGES.values() for name in names)}:
            raise ValueError(f"{Path(file).name} would hide Python's own module {stem}; rename it")
        return file

    @property
    def builders(self):
        """Where the builders are, by framework."""
        return {framework: f"{self.file}:{Path(self.file).stem}_{framework}" for framework in ("paddle", "tensorflow")}


Network = Annotated[
    SEResNeXt | AlexNet | VGG | ResNetCifar | ResNetFast | LeNet5 | SimpleCNN | Own, Field(discriminator="name")
]


def names():
    """The names of all networks but `own`."""
    members = get_args(get_args(Network)[0])
    return [get_args(member.model_fields["name"].annotation)[0] for member in members if member is not Own]


def build(network, framework, num_classes):
    """Build `network` (settings) in `framework` ("paddle" or "tensorflow"): a paddle.nn.Layer or a tf.keras.Model.

    Imports only the module of that builder, so it loads only that framework. The file of an `own` network may import
    the other one, too, and modules beside it.

    Raises:
        UserError: the file of an `own` network is missing, has no such builder or raises something; or the builder does
            not take the options.
    """
    origin, name = network.builders[framework].rsplit(":", 1)
    if not isinstance(network, Own):
        user_file.leave()
        builder = getattr(importlib.import_module(origin), name)
        return builder(num_classes=num_classes, **network.model_dump(exclude={"name"}))
    if not Path(origin).is_file():
        raise UserError(f"{origin}: no such file; check network.file")
    with _told(network, framework), StandIns(framework):
        builder = getattr(user_file.load(origin), name, None)
        if builder is None:
            both = " and ".join(builder.rsplit(":", 1)[1] for builder in network.builders.values())
            raise UserError(f"{origin}: has no {name}; write the twin builders {both}")
        return builder(**_arguments(network, builder, num_classes))


def check_output(network, framework, num_classes, model, kinds, call):
    """Check what the builder of an `own` network returned, and what that returns.

    Args:
        network, framework, num_classes, model: of `build`.
        kinds: the framework's base class of networks, and its class of tensors.
        call: gives what `model` returns for two images.

    Raises:
        UserError: it is no network, or raises something, or does not return one tensor [2, num_classes].
    """
    if not isinstance(network, Own):
        return
    file, name = network.builders[framework].rsplit(":", 1)
    layer, tensor = kinds
    if not isinstance(model, layer):
        kind = f"{layer.__module__.partition('.')[0]} {layer.__name__}"
        raise UserError(f"{file}: {name} returns {_a(model)}; return a {kind}")
    with _told(network, framework), StandIns(framework) as stand_ins:
        stand_ins.end()
        output = call()
    if isinstance(output, tensor) and tuple(output.shape) == (2, num_classes):
        return
    what = f"shape {list(output.shape)}" if isinstance(output, tensor) else _a(output)
    raise UserError(f"{file}: the network of {name} returns {what} for 2 images; return one tensor [2, {num_classes}]")


def _a(value):
    """What `value` is, in words."""
    if value is None or isinstance(value, Absent):
        return repr(value)
    return f"a {type(value).__name__}" + (f" of {len(value)}" if isinstance(value, (list, tuple, dict)) else "")


@contextlib.contextmanager
def _told(network, framework):
    """A context in which whatever an `own` network raises becomes one line, with the place and its options."""
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        file, name = network.builders[framework].rsplit(":", 1)
        said = where(error, Path(file).parent, f"{Path(file).name}, in {name}")
        builder = getattr(sys.modules.get(Path(file).stem), name, None)
        if network.options and builder is not None:
            said += f"; network.options is {network.options}, and {name} takes {_signature(builder)}"
        raise UserError(said) from error


def _arguments(network, builder, num_classes):
    """The keyword arguments for `builder`.

    Raises:
        UserError: it does not take the network's options, or wants more.
    """
    signature = _signature(builder)
    arguments, parameters = dict(network.options), signature.parameters
    if "num_classes" in parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        arguments["num_classes"] = num_classes
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise UserError(f"{network.file}: network.options: {error}; {builder.__name__} takes {signature}") from error
    return arguments


def _signature(builder):
    """Of a function, or of what a class is called with."""
    return inspect.signature(functools.partial(builder.__init__, None) if isinstance(builder, type) else builder)
