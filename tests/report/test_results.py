"""results/*.json is as it must be, and the pages and configs say what it says."""

import json
import re
import shutil
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal

from tandem.commands.results import results as command
from tandem.core import paths
from tandem.core.errors import UserError
from tandem.core.paths import ROOT
from tandem.report.results import BEGIN, END, SUBJECTS, TEMPLATES, Entry, Published, Writer, load, written

import pytest
import typer
from typer.testing import CliRunner

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
RESULTS = load()
FIGURE = re.compile(r"((?:[\d.]+(?:, |、| to | ± ))*[\d.]+) (%|min|images/s)")
"""What a text says with a unit: one number, a list, a range, or a mean and a spread."""


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A copy of what `tandem results` reads and writes, in place of the checkout."""
    shutil.copytree(ROOT / "results", tmp_path / "results")
    (tmp_path / "docs").mkdir()
    for name in (
        "README.md",
        "README.zh.md",
        *(f"docs/{page}{end}" for page in ("results", "zoo") for end in (".md", ".zh.md")),
    ):
        shutil.copy(ROOT / name, tmp_path / name)
    for picture in (ROOT / "docs").glob("growth.png"):  # of figures that may not have been measured yet
        shutil.copy(picture, tmp_path / "docs")
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    return tmp_path


def change(checkout, subject, edit):
    """Let `edit` change the values of results/SUBJECT.json."""
    path = checkout / "results" / f"{subject}.json"
    values = json.loads(path.read_text())
    edit(values)
    path.write_text(json.dumps(values))


def error(checkout):
    with pytest.raises(UserError) as caught:
        load(checkout / "results")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def run(*arguments):
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, arguments)


def strangers(text, figures):
    """The numbers with a unit in `text` that are none of `figures`, as these are or rounded."""
    known = {}
    for figure in figures:
        spread = getattr(figure, "spread", None)
        known.setdefault(figure.unit, set()).update(figure.values)
        if spread is not None:
            known[figure.unit] |= {spread, sum(figure.values) / len(figure.values)}

    def is_known(number, unit):
        return any(
            value.quantize(number, rounding) == number
            for value in known.get(unit, ())
            for rounding in (ROUND_HALF_EVEN, ROUND_HALF_UP)
        )

    numbers = [
        (Decimal(number), unit)
        for group, unit in FIGURE.findall(text)
        for number in re.findall(r"\d+(?:\.\d+)?", group)
    ]
    return [f"{number} {unit}" for number, unit in numbers if not is_known(number, unit)]


def head(path):
    return [line for line in path.read_text(encoding="utf-8").split("network:")[0].splitlines() if line[:1] == "#"]


def test_the_pages_are_as_the_results_have_it():
    stale = [path.name for path, text in written().items() if path.read_text(encoding="utf-8") != text]
    assert not stale, "run `tandem results`"


@pytest.mark.parametrize("chinese", [False, True])
def test_the_table_of_the_readme_has_at_most_eight_rows(chinese):
    table = Writer(RESULTS, chinese).render(TEMPLATES / f"results_table{'.zh' if chinese else ''}.md")
    assert 0 < len(table.splitlines()) - 2 <= 8


def test_every_picture_in_docs_that_results_shows_is_there():
    page = (ROOT / "docs/results.md").read_text()
    assert all((ROOT / "docs" / name).exists() for name in re.findall(r"\]\(([^)]+\.png)\)", page))


@pytest.mark.parametrize("field", Entry.model_fields)
def test_an_entry_without_a_field_is_an_error(checkout, field):
    change(checkout, "speed", lambda entries: entries[0].pop(field))
    message = error(checkout)
    assert message.startswith(str(checkout / "results/speed.json")) and f"{field}: Field required" in message


@pytest.mark.parametrize("field", Published.model_fields)
def test_a_published_figure_without_a_field_is_an_error(checkout, field):
    change(checkout, "published", lambda figures: figures[0].pop(field))
    assert f"{field}: Field required" in error(checkout)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"note": "fast"}, "note: Extra inputs are not permitted"),
        ({"machine": "cray"}, "machine 'cray' is not in machines.json"),
        ({"metric": "beauty"}, "metric 'beauty' is not in vocabulary.json"),
        ({"unit": "furlongs"}, "unit 'furlongs' is not in vocabulary.json"),
        ({"framework": "torch"}, "framework: Input should be"),
        ({"commit": "HEAD"}, "commit: String should match"),
        ({"date": "soon"}, "date: Input should be a valid date"),
        ({"value": "fast"}, "value"),
        ({"value": [1.0, 2.0], "seeds": [0, 1, 2]}, "2 values for 3 seeds"),
        ({"value": [1.0, 2.0], "seeds": [0, 1]}, "spread is None, but the std of the values is 0.707"),
        ({"value": [1.0, 2.0], "seeds": [0, 1], "spread": 0.5}, "spread is 0.5, but the std of the values is 0.707"),
        ({"spread": 0.5, "seeds": [0]}, "a spread needs the seeds"),
        ({"metric": "speed (range)", "value": [3, 2]}, "a range is two values, the smaller first"),
    ],
)
def test_an_entry_that_is_wrong_is_an_error(checkout, changes, said):
    change(checkout, "speed", lambda entries: entries[0].update(changes))
    assert said in error(checkout)


def test_a_figure_that_is_there_twice_is_an_error(checkout):
    change(checkout, "accuracy", lambda entries: entries.append(entries[0] | {"value": 12}))
    assert "test accuracy is there twice" in error(checkout)


def test_a_file_that_no_page_shows_is_an_error(checkout):
    (checkout / "results/weather.json").write_text("[]")
    assert "weather.json: no page shows it" in error(checkout)


def test_a_file_that_is_not_json_is_an_error(checkout):
    (checkout / "results/speed.json").write_text("[{")
    assert "speed.json: not JSON" in error(checkout)


def test_an_entry_names_a_config_that_is_there_or_of_which_commit_it_was():
    names = {path.stem for path in CONFIGS}
    for subject in SUBJECTS:
        for entry in RESULTS.entries[subject]:
            assert entry.config is None or "@" in entry.config or entry.config in names, entry.what
    assert all(set(figure.configs) <= names for figure in RESULTS.published)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_head_of_a_config_is_short_and_its_figures_are_of_the_results(path):
    lines = head(path)
    figures = RESULTS.of_config(path.stem)
    assert 0 < len(lines) <= 4
    assert strangers("\n".join(lines), figures) == []
    single = [figure for figure in figures if len(getattr(figure, "seeds", ())) == 1 and figure.unit == "%"]
    if strangers("\n".join(lines), set(figures) - set(single)):
        assert re.search("one seed|1 run of 4", "\n".join(lines)), "one seed is called one seed beside the figure"


@pytest.mark.parametrize("name", ["experiments.md", "experiments.zh.md"])
def test_the_figures_of_the_experiments_are_of_the_results(name):
    text = (ROOT / "docs" / name).read_text(encoding="utf-8").replace("95 % interval", "").replace("95 % 置信", "")
    everything = [*RESULTS.published, *(entry for entries in RESULTS.entries.values() for entry in entries)]
    assert len(FIGURE.findall(text)) > 50
    assert strangers(text, everything) == []


def test_a_figure_that_is_not_of_the_results_is_found():
    figures = RESULTS.of_config("resnet20_short")
    assert strangers("90.54 ± 0.10 %, 90.65, 90.49 and 90.48 %, 34 to 44 min, about 91 %", figures) == []
    assert strangers("90.55 ± 0.11 %, 90.66 %, 33 min", figures) == ["90.55 %", "0.11 %", "90.66 %", "33 min"]


def test_numbers_are_written_with_their_digits():
    writer, chinese = Writer(RESULTS), Writer(RESULTS, chinese=True)
    resnet = RESULTS.find("accuracy", "ResNet-20, 20 epochs", "test accuracy (float32)")
    assert writer.amount(resnet) == "90.57 ± 0.10 % (90.69, 90.52, 90.50 %)"
    assert chinese.amount(resnet) == "90.57 ± 0.10 %（90.69、90.52、90.50 %）"  # noqa: RUF001
    assert (
        writer.amount(RESULTS.find("speed", "the input pipeline alone, crop and flip", "speed")) == "237,000 images/s"
    )
    assert writer.amount(RESULTS.find("certificates", "LeNet-5", "worst error")) == "5e-15"
    epoch = RESULTS.find("accuracy", "SE-ResNeXt small, 20 epochs", "time of an epoch (range)")
    assert (writer.amount(epoch), chinese.amount(epoch)) == ("4 to 5 min", "4 到 5 分钟")


def test_the_command_checks_and_writes_what_is_stale(checkout):
    assert run("--check").exit_code == 0
    change(checkout, "accuracy", lambda entries: entries[0].update(value=12.34))
    stale = run("--check")
    assert stale.exit_code == 1
    assert stale.output.splitlines() == [
        f"Stale: {name}" for name in ("docs/results.md", "README.md", "docs/results.zh.md", "README.zh.md")
    ]
    assert "12.34" not in (checkout / "README.md").read_text()
    before = (checkout / "README.md").read_text().partition(BEGIN)[0]
    assert run().exit_code == 0
    text = (checkout / "README.md").read_text()
    assert text.startswith(before) and "12.34 %" in text and text.count(END) == 1
    assert run("--check").exit_code == 0


def test_a_readme_without_a_place_for_the_table_is_an_error(checkout):
    path = checkout / "README.zh.md"
    path.write_text(path.read_text().replace(END, ""))
    with pytest.raises(UserError, match=r"README\.zh\.md: its table has no place; put the lines"):
        written(checkout)


def test_a_template_that_names_no_figure_is_an_error(checkout):
    change(checkout, "published", lambda figures: figures.pop(0))
    with pytest.raises(UserError, match=r"results/published\.json: 0 figures are 'ResNet-20, test accuracy'"):
        written(checkout)
