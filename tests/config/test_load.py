"""What a YAML file and `-o` may say, and the one line that says what is wrong with them."""

import os
import random
import re

from tandem.config import yaml_text
from tandem.config.load import check_config, load_config, overridden, parse_config, save_config
from tandem.config.schema import Config
from tandem.core.errors import UserError
from tandem.core.paths import ROOT

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

CONFIGS = sorted(ROOT.glob("configs/*.yaml"))
MINIMAL = {"network": {"name": "se_resnext"}, "schedule": {"name": "constant"}, "epochs": 1}


def error(values):
    with pytest.raises(UserError) as caught:
        check_config(values, "my.yaml")
    message = str(caught.value)
    assert message.startswith("my.yaml: ") and "\n" not in message
    return message


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_loads_and_its_head_gives_its_command(path):
    loaded = load_config(path)
    head = path.read_text().split("network:")[0]
    for framework, builder in loaded.network.builders.items():
        script = builder.split(":")[0]
        option = "" if script.startswith("se_resnext") else f" --framework {framework}"
        command = f"#   python {script}.py{option}"
        assert f"{command} --config configs/{path.name}\n" in head or (path.stem == "se_resnext" and command in head)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_saved_config_loads_to_an_equal_one(path, tmp_path):
    loaded = load_config(path, ["optimizer.learning_rate=0.03", "data.mirrors=[http://a, http://b]"])
    save_config(loaded, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == loaded


def test_the_articles_recipe_is_what_the_article_says():
    article = load_config(CONFIGS[0].parent / "se_resnext.yaml")
    network = article.network
    assert (network.cardinality, network.num_block, network.depth, network.reduction_ratio) == (8, 3, 64, 4)
    assert network.out_dims == (64, 128, 256)
    assert (article.epochs, article.optimizer.nesterov, article.optimizer.learning_rate) == (100, True, 0.1)
    assert (article.schedule.name, article.schedule.every_epochs, article.schedule.gamma) == ("step", 30, 0.1)


def test_numbers_that_yaml_reads_as_text():
    checked = check_config(MINIMAL | {"optimizer": {"weight_decay": "5e-4", "learning_rate": "1e-1"}}, "my.yaml")
    assert checked.optimizer.learning_rate == 0.1
    assert checked.optimizer.weight_decay == pytest.approx(5e-4)


def test_momentum_and_decay_are_what_float32_holds():
    optimizer = check_config(MINIMAL, "my.yaml").optimizer
    assert optimizer.momentum == 0.8999999761581421
    assert optimizer.weight_decay == 0.0005000000237487257


def test_settings_are_frozen_and_described():
    checked = check_config(MINIMAL, "my.yaml")
    with pytest.raises(Exception, match="frozen"):
        checked.epochs = 3

    def groups(schema):
        return [schema, *schema["$defs"].values()]

    for group in groups(Config.model_json_schema()):
        for name, field in group["properties"].items():
            assert field.get("description"), f"{group['title']}.{name} has no description"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"epoch": 3}, "epoch: unknown key; did you mean epochs?"),
        ({"optimizer": {"leaning_rate": 0.1}}, "optimizer.leaning_rate: unknown key; did you mean learning_rate?"),
        ({"data": {"augmentation": {"flipp": 1}}}, "data.augmentation.flipp: unknown key; did you mean flip?"),
        ({"schedule": {"name": "step", "gama": 1}}, "schedule.gama: unknown key; did you mean gamma?"),
        ({"network": {"name": "se_resnext", "dept": 1}}, "network.dept: unknown key; did you mean depth?"),
        ({"optimizer": {"learning_rate": -1}}, "optimizer.learning_rate: should be greater than 0, not -1"),
        ({"optimizer": {"learning_rate": float("nan")}}, "optimizer.learning_rate: should be a finite number, not nan"),
        (
            {"schedule": {"name": "milestones", "at_epochs": [2, 1]}},
            "schedule.at_epochs: name each epoch once, in ascending order",
        ),
        ({"evaluation": {"ema_decay": 1}}, "evaluation.ema_decay: should be less than 1, not 1"),
        ({"evaluation": {"ema_decay": 0.4}}, "evaluation.ema_decay: should be greater than or equal to 0.5, not 0.4"),
        ({"epochs": "ten"}, "epochs: should be a whole number, such as 10, not 'ten'"),
        ({"epochs": None}, "epochs: should be a whole number, such as 10, but is empty; write it"),
        (
            {"schedule": {"name": "stepp"}},
            "schedule.name: 'stepp' is unknown; did you mean step? known are constant, st",
        ),
        ({"schedule": {}}, "schedule.name: missing; add it"),
        (
            {"network": {"name": "alexnett"}},
            "network.name: 'alexnett' is unknown; did you mean alexnet? known are se_resnext, alexnet, ",
        ),
        ({"network": {}}, "network.name: missing; add it"),
        ({"network": {"name": "alexnet", "lrm": 1}}, "network.lrm: unknown key; did you mean lrn?"),
        ({"network": {"name": "alexnet", "padding": 11}}, "network.padding: 11 is not less than kernel_size 11"),
        ({"network": {"name": "vgg", "depth": 12}}, "network.depth: should be 11, 13, 16 or 19, not 12"),
        ({"network": {"name": "resnet_cifar", "depth": 21}}, "network.depth: 21 is not 6n+2; use 20 or 26"),
        ({"network": {"name": "resnet_cifar", "depth": 3}}, "network.depth: 3 is not 6n+2; use 8"),
        (
            {"network": {"name": "resnet_cifar", "depth": 26, "bottleneck": True}},
            "network.depth: 26 is not 9n+2; use 20 or 29",
        ),
        ({"network": {"name": "resnet_cifar", "widths": [1, 2]}}, "network.widths: should hold 3 values, not 2"),
        (
            {"network": {"name": "resnet_fast"}, "data": {"image_size": 8}},
            "my.yaml: data.image_size: resnet_fast needs at least 9 pixels, not 8; set 9 or more",
        ),
        (
            {"optimizer": {"parameter_groups": {"bias": {"learning_rate_factor": -1}}}},
            "optimizer.parameter_groups.bias.learning_rate_factor: should be greater than or equal to 0, not -1",
        ),
        (
            {"optimizer": {"parameter_groups": {"biases": {}}}},
            "optimizer.parameter_groups.biases: unknown key; did you mean bias?",
        ),
        (
            {"ema_decay": 0.9, "optimizer": {"batch_norm_bias_factor": 64}},
            "ema_decay is now evaluation.ema_decay, optimizer.batch_norm_bias_factor is now optimizer.parameter_groups",
        ),
        (
            {"network": {"name": "resnet_cifar", "max_pool": False}},
            "my.yaml: written for an earlier version of Tandem: network.max_pool is now network.name: resnet_fast",
        ),
        (
            {"network": {"name": "lenet5"}, "data": {"image_size": 28}},
            "my.yaml: data.image_size: lenet5 is made for 32 pixels, not 28; set 32",
        ),
        ({"network": {"name": "se_resnext", "out_dims": [64, 96]}}, "network.out_dims: 96 follows 64"),
        ({"network": {"name": "se_resnext", "out_dims": [15, 30]}}, "out_dims: 15 is odd"),
        ({"threads": 10**10}, "threads: should be less than or equal to 1024"),
        ({"schedule": {"name": "step", "gamma": 1e300}}, "schedule.gamma: should be less than or equal to 1"),
        ({"data": {"mirrors": []}}, "data.mirrors: should hold at least 1 value, not 0"),
        (
            {"network": {"name": "se_resnext", "out_dims": [2]}},
            "reduction_ratio: 4 leaves no hidden unit for 2",
        ),
        ({"device": "tpu"}, "device: use auto, cpu, gpu or gpu:N, not 'tpu'"),
        ({"device": "gpu:x"}, "device: use auto, cpu, gpu or gpu:N"),
        ({"precision": "half"}, "precision: should be 'float32', 'float64', 'bfloat16' or 'float16', not 'half'"),
        ({"batch_size": 1}, "batch_size: should be greater than or equal to 2"),
        ({"epochs": 1e99}, "epochs: should be a smaller number, not 1e+99"),
        ({"epochs": 10**30}, "epochs: should be less than or equal to 1000000"),
        ({"network": {"name": "resnet_cifar", "widths": [1, 2, 10**9]}}, "network.widths.2: should be less than or eq"),
        (
            {"optimizer": {"learning_rate": 1e300}},
            "optimizer.learning_rate: should be less than or equal to 100000000000",
        ),
        ({"optimizer": {"momentum": 0.99999999999}}, "optimizer.momentum: should be less than 1, not 0.99999999999"),
        ({"seed": True}, "seed: should be a number, not true"),
        (dict.fromkeys(map(str, range(9_000))), "my.yaml: 100 mistakes: (1) 0: unknown key"),
        ({"network": {"name": "resnet_cifar", "widths": [1, True, 2]}}, "network.widths.1: should be a number, not tr"),
        ({"learning_rate": 0.1}, "learning_rate: unknown key here; it belongs in optimizer: optimizer.learning_rate"),
        ({"lr": 0.1}, "lr: unknown key here; it belongs in optimizer: optimizer.learning_rate"),
        ({"flip": True}, "flip: unknown key here; it belongs in data.augmentation: data.augmentation.flip"),
        ({"data": {"epochs": 3}}, "data.epochs: unknown key here; it belongs at the top: epochs"),
        ({"momentun": 0.9}, "momentun: unknown key; did you mean optimizer.momentum? known are batch_size, "),
        ({"batch-size": 3}, "batch-size: unknown key; did you mean batch_size?"),
        ({".defaults": {}}, ".defaults: unknown key; for a key that only holds an anchor, write x-defaults"),
        (
            {"network": {"name": "resnet_cifar", "cardinality": 8}},
            "network.cardinality: resnet_cifar has no such setting, but se_resnext; known are bottleneck, depth, name",
        ),
        ({"network": "lenet"}, "network: should be a group of settings, not 'lenet'; write network: {name: lenet5}"),
        ({"network": {"name": "lenet"}}, "network.name: 'lenet' is unknown; did you mean lenet5? known are "),
        ({"schedule": None}, "schedule: is a group without keys; add one, or leave the group out"),
        ({"optimizer": None}, "optimizer: is a group without keys; add one, or leave the group out"),
        ({"data": {"mirrors": "http://a"}}, "data.mirrors: should be a list; write mirrors: [http://a]"),
        ({"data": {"directory": None}}, "data.directory: should be text, but is empty; write it, or leave it out"),
        ({"data": {"directory": 2024}}, "data.directory: should be text, not 2024; put it in quotes"),
        ({"data": {"augmentation": {"flip": "x"}}}, "flip: should be false, true or 'alternating', not 'x'"),
        ({"tf32": "perhaps"}, "tf32: should be true or false, not 'perhaps'"),
        ({"precision": "bf16"}, "or 'float16', not 'bf16'; did you mean bfloat16?"),
        ({"\x1b[2J": 1}, "'\\x1b[2J': unknown key"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_errors_name_the_key_and_what_to_do(change, expected):
    assert expected in error(MINIMAL | change)


def test_a_missing_key():
    assert "epochs: missing; add it" in error({key: MINIMAL[key] for key in ("network", "schedule")})


def test_a_misspelt_key_is_named_before_the_one_that_is_missing_for_it():
    misspelt = {"network": {"name": "se_resnext"}, "schedule": {"name": "constant"}, "epohcs": 1}
    assert error(misspelt) == (
        "my.yaml: 2 mistakes: (1) epohcs: unknown key; did you mean epochs? (2) epochs: missing; add it"
    )


def test_all_errors_are_in_the_one_line():
    wrong = {**MINIMAL, "epochs": 0, "seed": -1, "data": {"image_size": 7}, "optimizer": None}
    message = error(wrong)
    assert message.startswith("my.yaml: 4 mistakes: (1) ")
    for key in ("epochs: ", "seed: ", "data.image_size: ", "optimizer: "):
        assert f") {key}" in message


SMALL = """\
network: {name: resnet_cifar, depth: 8, widths: [4, 4, 4]}
data: {source: digits, image_size: 16}
schedule: {name: constant}
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("epochs: [1", "line 1: not YAML (a bracket or a quote is never closed)"),
        ("a: b: c", "line 1: not YAML (': ' where no key can be"),
        ("- 1\n- 2", "not a config"),
        ("", "not a config"),
        ("\x00", "line 1: not YAML (it holds the character 0x00)"),
        ("seed: 1\nepochs: 1\u2028seed: 2", "line 2: not YAML (it holds the character 0x2028)"),
        ("network: {name:lenet5}", "line 1: name:lenet5 has no value; write a space behind the colon"),
        ("seed: 1\nepochs: 1\nepochs: 2", "line 3: duplicate key epochs; keep one"),
        ("? [a]\n: 1", "line 1: a group or a list stands as a key"),
        ("a: !!float x", "line 1: !!float 'x' is none"),
        ("[" * 5000, "line 1: groups and lists lie more than 20 deep in one another"),
        ("- " * 5000, "line 1: groups and lists lie more than 20 deep in one another"),
        ("a: &x [*x]", "line 1: an alias stands inside what its anchor names"),
        ("a: *x", "line 1: not YAML (*x stands for nothing; an anchor &x must come before it)"),
        ("a: 1\n---\nb: 1", "line 2: not YAML (a second document begins"),
        ("seed: 0" * 20_000, "is longer than 100,000 bytes, so it is no config"),
        ('a: "\\e[2J"', "line 1: text holds the control character 0x1b; remove it"),
        ('a: "\\ud800"', "line 1: text holds the control character 0xd800; remove it"),
        ("a: " + "9" * 5000, "line 1: a number of 5000 digits; no setting is as large"),
        # Numbers that YAML 1.1 reads otherwise than they look.
        (SMALL + "epochs: 010", 'line 4: 010 is 8 in YAML 1.1 and 10 in 1.2; write 10 or 8, or "010" for text'),
        (SMALL + "epochs: 0100", "line 4: 0100 is 64 in YAML 1.1 and 100 in 1.2; write 100 or 64"),
        (SMALL + "epochs: 089", "line 4: 089 has a zero in front, which not all read alike; write 89"),
        (SMALL + "epochs: 1:30", 'line 4: 1:30 is 90 in YAML 1.1 and text in 1.2; write 90, or "1:30" for text'),
        (SMALL + "epochs: yes", "epochs: should be a whole number, such as 10, not 'yes'"),
        (SMALL + "epochs: 2020-13-45", "epochs: should be a whole number, such as 10, not '2020-13-45'"),
        (SMALL + "epochs: 1\non: true", "on: unknown key; known are batch_size, "),
        (SMALL + "epochs: 1\n2: true", "2: unknown key; "),
        (SMALL + "epochs: 1\noptimizer:\n#  momentum: 0.9\n", "optimizer: is a group without keys; add one"),
        (SMALL + "epochs: 1\noptimizer:\n\tmomentum: 0.9\n", "line 6: not YAML (a tab; indent with spaces)"),
        (
            SMALL + "epochs: 1\ncheckpoints:\n  <<: {keep: 2}\n  <<: {every_minutes: 5}\n",
            "line 7: << stands here tw",
        ),
        (SMALL + "epochs: 1\noptimizer: {<<: 3}\n", "line 5: << takes a group of keys, or a list of groups"),
        # Tags: those of other programs, and YAML's own on what they do not fit.
        ("a: !!python/object/apply:os.system [ls]", "line 1: the tag '!!python/object/apply:os.system' is not taken"),
        ("a: !mine x", "line 1: the tag '!mine' is not taken on a word; leave it out"),
        ('a:\n  !!int ""', "line 2: !!int '' is none; leave out the tag"),
        ("a: !!bool x", "line 1: !!bool 'x' is none; leave out the tag"),
        ("a: !!map x", "line 1: the tag '!!map' is not taken on a word; leave it out"),
        ("!!map [a]", "line 1: the tag '!!map' is not taken on a list; leave it out"),
        ("!!set [a]", "line 1: the tag '!!set' is not taken on a list; leave it out"),
        ("a: !!timestamp x", "line 1: the tag '!!timestamp' is not taken on a word; leave it out"),
    ],
    ids=lambda value: str(value)[-40:],
)
def test_files_that_are_no_config(tmp_path, text, expected):
    path = tmp_path / "my.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}: {expected}")


def test_a_few_lines_of_aliases_are_not_billions_of_values(tmp_path):
    path = tmp_path / "my.yaml"
    lines = ["a0: &a0 [1]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12))]
    path.write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"line \d+: holds more than 10,000 values, aliases counted"):
        load_config(path)


def test_what_yaml_may_hold(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text(
        "\ufeffx-defaults: &defaults {learning_rate: 0.1, momentum: 5e-1}\n"
        + SMALL
        + "optimizer: {<<: *defaults, learning_rate: 1e-3, weight_decay: !!float 0}\n"
        + "epochs: !!int 0x10\nbatch_size: 1_000\nseed: '010'\n"
        + "checkpoints: {<<: [{keep: 2}, {keep: 5, every_minutes: 5}]}\n"
    )
    loaded = load_config(path)
    optimizer = loaded.optimizer
    assert (optimizer.learning_rate, optimizer.momentum, optimizer.weight_decay) == (1e-3, 0.5, 0)
    assert (loaded.epochs, loaded.batch_size, loaded.seed) == (16, 1000, 10)
    assert (loaded.checkpoints.keep, loaded.checkpoints.every_minutes) == (2, 5)


def test_yes_is_a_truth_value_where_one_belongs(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text(SMALL + "epochs: 1\ntf32: yes\ndata: {augmentation: {flip: off}}".replace("\ndata", "\nx-data"))
    assert load_config(path).tf32 is True
    assert load_config(path, ["data.augmentation.flip=off"]).data.augmentation.flip is False


@settings(max_examples=40)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=6)
        | st.sampled_from(["1e-4", "010", "1:30", "yes", "<<", "~", "=", "0x1f", ".inf", "2020-01-01", "1_000"]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=6,
    )
)  # fmt: skip
def test_what_is_written_is_read_back(value):
    try:
        read = yaml_text.read(yaml_text.write(value), "x")
    except UserError as error:
        assert "control character" in str(error)
    else:
        assert repr(read) == repr(value)  # repr, for NaN is not equal to itself


def test_a_file_that_is_not_there_names_those_that_are(tmp_path):
    (tmp_path / "other.yaml").touch()
    with pytest.raises(UserError, match=r"my\.yaml: no such config; did you mean .*other\.yaml"):
        load_config(tmp_path / "my.yaml")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "my.yaml")
    with pytest.raises(UserError, match=r"my\.yaml: a device or a pipe, not a file; give a YAML file"):
        load_config(tmp_path / "my.yaml")


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(UserError, match="cannot be read as a config"):
        load_config(path)


def test_a_path_may_have_what_a_shell_replaces(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("DATA", "/data")
    paths = {"directory": "$DATA/images", "archive": "~/c.tar.gz"}
    loaded = check_config(MINIMAL | {"data": paths, "network": {"name": "own", "file": "${DATA}/net.py"}}, "my.yaml")
    assert (loaded.data.directory, loaded.data.archive) == ("/data/images", "/home/me/c.tar.gz")
    assert loaded.network.file == "/data/net.py" and loaded.network.builders["paddle"] == "/data/net.py:net_paddle"
    monkeypatch.delenv("DATA")
    own = {"name": "own", "file": "$DATA/a.py"}
    for key, values in (("data.directory", {"data": paths}), ("network.file", {"network": own})):
        assert f"{key}: $DATA/" in (said := error(MINIMAL | values)) and "the variable DATA is not set; set it" in said


def test_overrides_replace_and_leave_the_original_alone():
    values = {**MINIMAL, "optimizer": {"momentum": 0.5}}
    changed = overridden(values, ["optimizer.learning_rate=5e-2", "data.augmentation.flip=false"])
    assert changed["data"]["augmentation"]["flip"] is False
    assert check_config(changed, "my.yaml").optimizer.learning_rate == 0.05
    assert values["optimizer"] == {"momentum": 0.5}


def test_another_schedule_or_network_drops_what_only_the_old_one_has():
    values = {
        "network": {"name": "resnet_cifar", "depth": 8, "widths": [4, 4, 4]},
        "schedule": {"name": "step", "gamma": 0.5, "warmup_epochs": 1},
        "epochs": 2,
    }
    changed = check_config(values, "my.yaml", ["schedule.name=constant", "network.name=se_resnext"])
    assert (changed.schedule.name, changed.schedule.warmup_epochs) == ("constant", 1)
    assert changed.network.depth == 64  # of se_resnext, where it means something else
    kept = check_config(values, "my.yaml", ["schedule.name=step", "network.name=resnet_cifar"])
    assert (kept.schedule.gamma, kept.network.depth) == (0.5, 8)
    ordered = check_config(values, "my.yaml", ["schedule.final_factor=0.2", "schedule.name=cosine"])
    assert ordered.schedule.final_factor == 0.2


@pytest.mark.parametrize("override", ["epochs", "=3", "optimizer.=1", "epochs.x=1", "a=[1", "a." * 5000 + "a=1"])
def test_overrides_that_are_none(override):
    with pytest.raises(UserError, match=r"^-o "):
        overridden(MINIMAL, [override])


@pytest.mark.parametrize(
    ("values", "overrides", "expected"),
    [
        ({}, ["optimizer.leaning_rate=0.1"], "-o optimizer.leaning_rate=0.1: unknown key; did you mean learning_rate?"),
        ({}, ["lr=1"], "-o lr=1: unknown key here; it belongs in optimizer: optimizer.learning_rate"),
        ({}, ["epochs=yes"], "-o epochs=yes: should be a whole number, such as 10, not 'yes'"),
        ({}, ["seed=010"], '-o seed=010: 010 is 8 in YAML 1.1 and 10 in 1.2; write 10 or 8, or "010" for text'),
        ({}, ["schedule.name="], "-o schedule.name=: is empty; known are constant, "),
        ({}, ["epochs={a: [null]}"], '-o epochs={a: [null]}: should be a whole number, such as 10, not {"a": [null]}'),
        ({}, ["a" * 90_000 + "=1"], f"-o {'a' * 200}: '{'a' * 59}: unknown key"),
        ({}, ["schedule={name: x}"], "-o schedule={name: x}: schedule.name: 'x' is unknown; known are constant, "),
        (
            {"epochs": 0},
            ["seed=-1"],
            "my.yaml: epochs: should be greater than or equal to 1, not 0; and -o seed=-1: ",
        ),
        ({"epochs": 0}, ["seed=1"], "my.yaml: epochs: should be greater than or equal to 1, not 0"),
        ({"data": {"image_size": 16}}, ["network.name=lenet5"], "-o network.name=lenet5: data.image_size: lenet5 "),
    ],
    ids=str,
)
def test_the_option_that_is_wrong_is_blamed_and_not_the_file(values, overrides, expected):
    with pytest.raises(UserError) as caught:
        check_config(MINIMAL | values, "my.yaml", overrides)
    assert str(caught.value).startswith(expected) and len(str(caught.value)) < 1000


WORDS = r"""
~ yes 010 1:30 1e999 .nan -1 [] {} [[]] '' "\e" !!int !!set !x &a *a <<: x- true 9e18 99999999999999999999999 null
--- ... | > ? : , # % @ ` ' " [1,true,x] {a:{b:{c:1}}} {"name":"own"} 1.5 \
"""
KEYS = """
name network lenet5 own schedule milestones at_epochs data mirrors optimizer parameter_groups bias seed options widths
file depth
"""


def fuzzed(rng):
    """A config and overrides, with some mistakes in them."""
    base = rng.choice(
        [
            SMALL + "epochs: 1\n",
            "network: {name: own, file: a.py, options: {a: 1}}\nschedule: {name: step, gamma: 0.1}\nepochs: 3\n"
            "optimizer: {momentum: 0.9, parameter_groups: {bias: {weight_decay: 0.1}}}\nseed: 1\n",
            "network:\n  name: vgg\n  depth: 11\nschedule:\n  name: milestones\n  at_epochs: [1, 2]\nepochs: 3\n"
            "data:\n  mirrors: [http://a]\n  augmentation:\n    flip: true\nprecision: float32\n",
        ]
    )
    words, keys = WORDS.split(), KEYS.split()
    tokens = re.findall(r"\w+|\s+|.", base)
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        place = rng.randrange(len(tokens))
        character = chr(rng.choice([rng.randrange(256), rng.randrange(0xD7FF)]))
        word = rng.choice([rng.choice(words), rng.choice(keys), character])
        kind = rng.randrange(4)
        if kind == 0:
            tokens[place] = word
        elif kind == 1:
            tokens.insert(place, word)
        elif kind == 2:
            del tokens[place : place + rng.randint(1, 3)]
        else:
            other = rng.randrange(len(tokens))
            tokens[place:place] = tokens[other : other + rng.randint(1, 8)]
    changed = [".".join(rng.choices(keys, k=rng.randint(1, 3))) for _ in range(rng.choice([0, 0, 1, 2]))]
    return "".join(tokens), [f"{key}={rng.choice(words)}" for key in changed]


def test_a_thousand_fuzzed_configs_give_a_config_or_one_line():
    rng, good, wrong = random.Random(0), 0, 0
    for _ in range(1000):
        text, overrides = fuzzed(rng)
        try:
            loaded = parse_config(text, "my.yaml", overrides)
            good += 1
        except UserError as error:
            assert str(error).startswith(("my.yaml: ", "-o ")) and "\n" not in str(error)
            wrong += "not YAML" not in str(error)
            continue
        if good % 10 == 0:
            assert check_config(loaded.model_dump(mode="json"), "my.yaml") == loaded
    assert good > 80 and wrong > 250


@given(
    st.dictionaries(
        st.text(max_size=8), st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=8), st.lists(st.text()))
    )
)
def test_whatever_values_there_are_give_a_config_or_one_line(values):
    try:
        check_config({**MINIMAL, **values}, "my.yaml")
    except UserError as error:
        assert "\n" not in str(error)
