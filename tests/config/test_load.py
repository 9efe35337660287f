from tandem.config.load import check_config, load_config, overridden, save_config
from tandem.config.schema import Config
from tandem.core.errors import UserError
from tandem.core.paths import ROOT

import pytest
import yaml
from hypothesis import given
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
        ({"epochs": "ten"}, "epochs: should be a valid integer"),
        ({"epochs": None}, "epochs: should be a valid integer"),
        ({"schedule": {"name": "stepp"}}, "schedule.name: 'stepp' is unknown; use one of 'constant', 'step'"),
        ({"schedule": {}}, "schedule.name: missing; add it"),
        (
            {"network": {"name": "alexnett"}},
            "network.name: 'alexnett' is unknown; use one of 'se_resnext', 'alexnet', ",
        ),
        ({"network": {}}, "network.name: missing; add it"),
        ({"network": {"name": "alexnet", "lrm": 1}}, "network.lrm: unknown key; did you mean lrn?"),
        ({"network": {"name": "alexnet", "padding": 11}}, "network: padding: 11 is not less than kernel_size 11"),
        ({"network": {"name": "vgg", "depth": 12}}, "network.depth: should be 11, 13, 16 or 19, not 12"),
        ({"network": {"name": "resnet_cifar", "depth": 21}}, "network: depth: 21 is not 6n+2; use 20 or 26"),
        ({"network": {"name": "resnet_cifar", "depth": 3}}, "network: depth: 3 is not 6n+2; use 8"),
        (
            {"network": {"name": "resnet_cifar", "depth": 26, "bottleneck": True}},
            "network: depth: 26 is not 9n+2; use 20 or 29",
        ),
        ({"network": {"name": "resnet_cifar", "widths": [1, 2]}}, "network.widths.2: missing; add it"),
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
        ({"network": {"name": "se_resnext", "out_dims": [64, 96]}}, "network: out_dims: 96 follows 64"),
        ({"network": {"name": "se_resnext", "out_dims": [15, 30]}}, "out_dims: 15 is odd"),
        ({"threads": 10**10}, "threads: should be less than or equal to 1024"),
        ({"schedule": {"name": "step", "gamma": 1e300}}, "schedule.gamma: should be less than or equal to 1"),
        ({"data": {"mirrors": []}}, "data.mirrors: "),
        (
            {"network": {"name": "se_resnext", "out_dims": [2]}},
            "reduction_ratio: 4 leaves no hidden unit for 2",
        ),
        ({"device": "tpu"}, "device: use auto, cpu, gpu or gpu:N, not 'tpu'"),
        ({"device": "gpu:x"}, "device: use auto, cpu, gpu or gpu:N"),
        ({"precision": "half"}, "precision: should be 'float32', 'float64', 'bfloat16' or 'float16', not 'half'"),
        ({"batch_size": 1}, "batch_size: should be greater than or equal to 2"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_errors_name_the_key_and_what_to_do(change, expected):
    assert expected in error(MINIMAL | change)


def test_a_missing_key():
    assert "epochs: missing; add it" in error({key: MINIMAL[key] for key in ("network", "schedule")})


def test_a_misspelt_key_is_named_before_the_one_that_is_missing_for_it():
    misspelt = {"network": {"name": "se_resnext"}, "schedule": {"name": "constant"}, "epohcs": 1}
    assert "epohcs: unknown key; did you mean epochs? (and 1 more)" in error(misspelt)


def test_several_errors_are_one_line():
    assert error({**MINIMAL, "epochs": 0, "seed": -1}).endswith("(and 1 more)")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("epochs: [1", "line 1: not YAML"),
        ("a: b: c", "line 1: not YAML"),
        ("- 1\n- 2", "not a config"),
        ("", "not a config"),
        ("\x00", "not YAML"),
        ("seed: 2020-13-45", "not YAML"),
        ("seed: 1\nepochs: 1\nepochs: 2", "line 3: not YAML (duplicate key epochs)"),
        ("? [a]\n: 1", "not YAML"),
        ("a: !!float x", "not YAML"),
        ("[" * 5000, "not YAML"),
    ],
)
def test_files_that_are_no_config(tmp_path, text, expected):
    path = tmp_path / "my.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"my\.yaml") as caught:
        load_config(path)
    assert expected in str(caught.value)


def test_a_file_that_is_not_there_names_those_that_are(tmp_path):
    (tmp_path / "other.yaml").touch()
    with pytest.raises(UserError, match=r"my\.yaml: no such config; did you mean .*other\.yaml"):
        load_config(tmp_path / "my.yaml")


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(UserError, match="cannot be read as a config"):
        load_config(path)


def test_overrides_replace_and_leave_the_original_alone():
    values = {**MINIMAL, "optimizer": {"momentum": 0.5}}
    changed = overridden(values, ["optimizer.learning_rate=5e-2", "data.augmentation.flip=false"])
    assert changed["data"]["augmentation"]["flip"] is False
    assert check_config(changed, "my.yaml").optimizer.learning_rate == 0.05
    assert values["optimizer"] == {"momentum": 0.5}


@pytest.mark.parametrize("override", ["epochs", "=3", "optimizer.=1", "epochs.x=1", "a=[1"])
def test_overrides_that_are_none(override):
    with pytest.raises(UserError, match=r"^-o "):
        overridden(MINIMAL, [override])


@given(
    st.dictionaries(
        st.text(max_size=8), st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=8), st.lists(st.text()))
    )
)
def test_whatever_yaml_holds_gives_a_config_or_one_line(values):
    text = yaml.safe_dump({**MINIMAL, **values})
    try:
        check_config(yaml.safe_load(text), "my.yaml")
    except UserError as error:
        assert "\n" not in str(error)
