"""All settings that a YAML file may hold, in groups: each key with its meaning, default and range."""

import re
from typing import Annotated, Literal

import data_utils
from tandem.config.networks import Network
from tandem.config.schedules import AnySchedule
from tandem.config.settings import Count, Float, Float32, Int, PathText, Settings

from pydantic import Field, field_validator, model_validator


class Augmentation(Settings):
    """Random changes to training images."""

    crop_padding: Annotated[Int, Field(ge=0, le=16)] = Field(
        4, description="pixels of padding on each side before a random crop; 0 for none"
    )
    flip: Literal[False, True, "alternating"] = Field(
        True,
        description="flip images horizontally: each with probability 1/2; or alternating, at random in the first "
        "epoch and then in every other one",
    )
    cutout: Annotated[Int, Field(ge=0, le=64)] = Field(0, description="side of a blanked square in pixels; 0 for none")
    mixup: Annotated[Float, Field(ge=0, le=100)] = Field(
        0.0,
        description="alpha of mixup, which mixes pairs of images and their losses; 0 for none. Training accuracy then "
        "counts the label with the larger weight",
    )

    @field_validator("flip", mode="before")
    @classmethod
    def _read_flip(cls, flip):
        """The words that pydantic takes for truth values where a setting is nothing else."""
        return {"yes": True, "on": True, "no": False, "off": False}.get(flip, flip) if isinstance(flip, str) else flip


class Data(Settings):
    """The images: where they are, and how they are checked, split, normalised and augmented."""

    source: Literal["cifar10", "digits", "folder"] = Field(
        "cifar10", description="CIFAR-10; scikit-learn's digits, which need no network; or your own image folder"
    )
    directory: PathText = Field(".", description="the folder that cifar-10-batches-py, or your images, are in")
    archive: PathText | None = Field(
        None, description="a local cifar-10-python.tar.gz or .tar.xz, in place of the download"
    )
    mirrors: tuple[str, ...] = Field(
        data_utils.MIRRORS, min_length=1, description="URLs of cifar-10-python.tar.gz, tried in order"
    )
    verify: bool = Field(True, description="check the md5 of each CIFAR-10 file")
    image_size: Annotated[Int, Field(ge=8, le=512)] = Field(
        32, description="height and width in pixels; digits and folders are resized to it"
    )
    test_fraction: Annotated[Float, Field(gt=0, lt=1)] = Field(
        0.2, description="the fraction of the images for the test set, if a folder has no train/ and test/"
    )
    validation_fraction: Annotated[Float, Field(ge=0, lt=1)] = Field(
        0.0,
        description="the fraction of the training set that is held out to choose the best checkpoint, by the weights "
        "and not by their EMA",
    )
    normalization: Literal["channel", "mean_image", "none"] = Field(
        "channel",
        description="channel: by the training set's mean and std of each channel; mean_image: (x - mean image)/255; "
        "none: x/255",
    )
    augmentation: Augmentation = Field(Augmentation(), description="random changes to training images")


class ParameterGroup(Settings):
    """How one kind of parameter is trained."""

    learning_rate_factor: Annotated[Float32, Field(ge=0, le=1_000_000)] = Field(
        1.0, description="factor of the learning rate; 0 freezes these parameters"
    )
    weight_decay: Annotated[Float32, Field(ge=0, lt=1)] | None = Field(
        None, description="the L2 factor of these parameters; null for optimizer.weight_decay"
    )


class ParameterGroups(Settings):
    """Parameter groups by kind, see `kind` in tandem/core/state.py; null trains a kind like the rest."""

    first_convolution: ParameterGroup | None = Field(None, description="weight of the first convolution")
    convolution: ParameterGroup | None = Field(None, description="weights of all other convolutions")
    dense: ParameterGroup | None = Field(None, description="weights of dense layers")
    bias: ParameterGroup | None = Field(None, description="biases of convolutions and dense layers")
    batch_norm_scale: ParameterGroup | None = Field(None, description="scales of batch norms")
    batch_norm_bias: ParameterGroup | None = Field(None, description="biases of batch norms")


class Optimizer(Settings):
    """Momentum: d = g + weight_decay*w; v = momentum*v + d; w -= learning_rate*v.

    With Nesterov: w -= learning_rate*(d + momentum*v).
    """

    learning_rate: Annotated[Float, Field(gt=0, le=1e38)] = Field(
        0.1, description="the base learning rate; the schedule multiplies it"
    )
    momentum: Annotated[Float32, Field(ge=0, lt=1)] = Field(0.9, description="momentum; 0 is plain gradient descent")
    nesterov: bool = Field(False, description="Nesterov's form of momentum")
    weight_decay: Annotated[Float32, Field(ge=0, lt=1)] = Field(5e-4, description="L2 factor, added to the gradient")
    parameter_groups: ParameterGroups = Field(
        ParameterGroups(), description="kinds of parameters with another learning rate or weight decay"
    )


class InitialWeights(Settings):
    """Initialisers besides the random one: see tandem/core/initial_weights.py."""

    whitening: bool = Field(
        False,
        description="the first convolution starts with the principal components of the training images' patches",
    )
    dirac: bool = Field(
        False,
        description="Dirac initialisation: the first filters of each odd-sized convolution pass one channel each",
    )


class Evaluation(Settings):
    """When and how the test set is evaluated."""

    period: Count = Field(
        1, description="epochs between two tests, also on validation images; the last epoch is always tested"
    )
    flip_tta: bool = Field(
        False,
        description="test-time augmentation: after the last epoch, also test with the mean of the logits of each image "
        "and its horizontal flip; reported separately",
    )
    # From 0.5 on, float32 holds 1 - decay exactly too, so both frameworks use the same two numbers.
    ema_decay: Annotated[Float32, Field(ge=0.5, lt=1)] | None = Field(
        None,
        description="EMA of weights and statistics, ema = ema_decay*ema + (1 - ema_decay)*now at each step; reported "
        "separately; null for none",
    )


class Checkpoints(Settings):
    """When checkpoints are written, and how many are kept. One is always written after an epoch."""

    keep: Count = Field(3, description="how many of the newest are kept, besides the best")
    every_minutes: Annotated[Float, Field(gt=0, le=1_000_000)] = Field(
        10.0, description="minutes between checkpoints within an epoch"
    )


class Config(Settings):
    """All settings of a run."""

    network: Network = Field(description="the network and its sizes")
    data: Data = Field(Data(), description="the images")
    optimizer: Optimizer = Field(Optimizer(), description="momentum and L2 decay")
    schedule: AnySchedule = Field(description="the learning rate over time")
    epochs: Count = Field(description="passes over the training set")
    batch_size: Annotated[Int, Field(ge=2, le=1_000_000)] = Field(128, description="images in a training step")
    label_smoothing: Annotated[Float32, Field(ge=0, lt=1)] = Field(
        0.0, description="the fraction of each label that is spread evenly over all classes"
    )
    initial_weights: InitialWeights = Field(InitialWeights(), description="initialisers besides the random one")
    evaluation: Evaluation = Field(Evaluation(), description="when and how the test set is evaluated")
    seed: Annotated[Int, Field(ge=0, lt=2**63)] = Field(
        0, description="of the initial weights, the shuffling, the augmentation and the dropout"
    )
    precision: Literal["float32", "float64", "bfloat16", "float16"] = Field(
        "float32", description="of convolutions and matrix products; the 16-bit ones keep float32 weights"
    )
    device: str = Field("auto", description="auto (a GPU if there is one), cpu, gpu, or gpu:N")
    threads: Annotated[Int, Field(ge=0, le=1024)] = Field(0, description="CPU threads; 0 for one a core")
    tf32: bool = Field(False, description="let a GPU compute float32 convolutions and matrix products in TF32")
    log_period: Count = Field(50, description="batches between two log lines")
    checkpoints: Checkpoints = Field(Checkpoints(), description="when checkpoints are written")

    def without_ema(self):
        """The same settings without an EMA, for an engine that does not train."""
        return self.model_copy(update={"evaluation": self.evaluation.model_copy(update={"ema_decay": None})})

    @field_validator("device")
    @classmethod
    def _check_device(cls, device):
        if not re.fullmatch(r"auto|cpu|gpu(:[0-9]{1,3})?", device):
            raise ValueError("use auto, cpu, gpu or gpu:N")
        return device

    @model_validator(mode="after")
    def _check_image_size(self):
        size = getattr(self.network, "image_size", self.data.image_size)
        if self.data.image_size != size:
            raise ValueError(
                f"data.image_size: {self.network.name} is made for {size} pixels, not {self.data.image_size}; "
                f"set {size}: digits and folders are resized to it"
            )
        smallest = getattr(self.network, "smallest_image", self.data.image_size)
        if self.data.image_size < smallest:
            raise ValueError(
                f"data.image_size: {self.network.name} needs at least {smallest} pixels, not {self.data.image_size}; "
                f"set {smallest} or more"
            )
        return self
