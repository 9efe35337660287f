"""The measured figures: read from results/*.json, and written as pages. Each figure stands in one file, once.

What the pages say around the figures, in both languages, is in templates/ and results/vocabulary.json.
"""

import datetime
import json
import statistics
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Annotated, Literal

from tandem.core.errors import UserError
from tandem.core.paths import ROOT
from tandem.report import costs

import jinja2
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError, model_validator

TEMPLATES = Path(__file__).parent / "templates"

BEGIN = "<!-- results: written by tandem results -->"
END = "<!-- /results -->"
"""The lines of a README between which its table stands."""

SUBJECTS = ("certificates", "accuracy", "speed", "handover", "experiments")
"""The files of measured figures. The others are machines, published and vocabulary; and zoo, of docs/zoo.md."""

RANGE = " (range)"
"""Behind a metric: the two values are the smallest and the largest."""

FRAMEWORKS = {"paddle": "Paddle", "tensorflow": "TensorFlow", "both": "Paddle, TensorFlow", None: ""}
Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
ConfigName = Annotated[str, StringConstraints(pattern=r"^\w+(@[0-9a-f]{7})?$")]
_ONE_COMMIT = r"[0-9a-f]{7}(\.\.[0-9a-f]{7})?(-dirty)?"
Commit = Annotated[str, StringConstraints(pattern=rf"^{_ONE_COMMIT}(, {_ONE_COMMIT})*$")]


class Record(BaseModel):
    """A piece of results/*.json: every field must be there, and no other may."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Machine(Record):
    """What figures were measured on."""

    name: Text
    name_zh: Text
    cpu: Text
    cores: Annotated[int, Field(ge=1)]
    instruction_sets: tuple[Text, ...]


class Vocabulary(Record):
    """What may be measured and in what, each with its Chinese; and the phrases of the pages, in English and Chinese."""

    metrics: dict[Text, Text]
    units: dict[str, Text]
    phrases: dict[Text, tuple[str, str]]


class Entry(Record):
    """A measured figure. What is not known is null. Numbers keep the digits with which they are written."""

    what: Text
    what_zh: Text
    config: ConfigName | None
    """The name of a file in configs/; of one that is there no more, NAME@COMMIT."""
    framework: Literal["paddle", "tensorflow", "both"] | None
    metric: Text
    value: Decimal | tuple[Decimal, ...]
    """A number; a list has one for each seed, or without seeds one for each repeat."""
    unit: str
    spread: Decimal | None
    """The std over the seeds (of n - 1)."""
    seeds: tuple[int, ...]
    command: Text | None
    """As it was in `commit`."""
    commit: Commit | None
    """Of the code. FIRST..LAST is one between them; -dirty is a copy that was changed."""
    machine: Text | None
    threads: Annotated[int, Field(ge=1)] | None
    precision: Literal["float64", "float32", "bfloat16", "float16"] | None
    date: datetime.date
    """When the figure was written down."""

    @property
    def values(self):
        """All values, as a tuple."""
        return self.value if isinstance(self.value, tuple) else (self.value,)

    @property
    def mean(self):
        """The mean of the values, with the digits of the spread."""
        return statistics.mean(self.values).quantize(self.values[0] if self.spread is None else self.spread)

    @property
    def run(self):
        """What the figures of one run share."""
        conditions = (self.machine, self.threads, self.precision, self.commit, self.date)
        return (self.what, self.config, self.framework, self.seeds, self.command, *conditions)

    @model_validator(mode="after")
    def _check_numbers(self):
        if self.metric.endswith(RANGE):
            if len(self.values) != 2 or self.values[0] >= self.values[1] or self.spread is not None:
                raise ValueError("a range is two values, the smaller first, without a spread")
        elif isinstance(self.value, tuple) and self.seeds:
            if len(self.values) < 2 or len(self.values) != len(self.seeds):
                raise ValueError(f"{len(self.values)} values for {len(self.seeds)} seeds; give one for each")
            spread = statistics.stdev(self.values)
            if self.spread is None or spread.quantize(self.spread) != self.spread:
                raise ValueError(f"spread is {self.spread}, but the std of the values is {spread:.3g}")
        elif self.spread is not None and len(self.seeds) < 2:
            raise ValueError("a spread needs the seeds that it is over")
        return self


class Published(Record):
    """A figure of others, for networks of configs/ or their kin."""

    what: Text
    what_zh: Text
    configs: tuple[ConfigName, ...]
    metric: Text
    value: Decimal
    unit: str
    source: Text
    source_zh: Text

    @property
    def values(self):
        """All values, as a tuple."""
        return (self.value,)


class Results(Record):
    """All of results/*.json."""

    machines: dict[str, Machine]
    vocabulary: Vocabulary
    published: tuple[Published, ...]
    entries: dict[str, tuple[Entry, ...]]
    growth: dict | None
    waits: list | None

    def find(self, subject, what, metric, framework=None, machine=None):
        """The one entry, or the one published figure, that these name.

        Raises:
            UserError: there is none, or there are more.
        """
        found = [
            figure
            for figure in (self.published if subject == "published" else self.entries[subject])
            if (figure.what, figure.metric) == (what, metric)
            and (framework is None or figure.framework == framework)
            and (machine is None or figure.machine == machine)
        ]
        if len(found) != 1:
            names = ", ".join(name for name in (what, metric, framework, machine) if name)
            raise UserError(f"results/{subject}.json: {len(found)} figures are {names!r}; a template needs just one")
        return found[0]

    def of_config(self, name):
        """All figures, measured or published, of the config of this name."""
        measured = [entry for entries in self.entries.values() for entry in entries if entry.config == name]
        return [*measured, *(figure for figure in self.published if name in figure.configs)]


def load(folder=ROOT / "results"):
    """Read and check results/*.json.

    Raises:
        UserError: a file is missing or not JSON; an entry lacks a field, has one too many or a wrong value, names
            what machines.json or vocabulary.json does not hold, or is there twice.
    """
    folder = Path(folder)
    # growth.json and waits.json are a command's each; zoo.json has a page of its own: `tandem zoo`
    others = {"machines", "published", "vocabulary", "growth", "waits", "zoo"}
    unknown = sorted({path.stem for path in folder.glob("*.json")} - {*others, *SUBJECTS})
    if unknown:
        raise UserError(f"{folder / unknown[0]}.json: no page shows it; add it to SUBJECTS and to the templates")
    results = Results(
        machines=_read(folder / "machines.json", dict[str, Machine]),
        vocabulary=_read(folder / "vocabulary.json", Vocabulary),
        published=_read(folder / "published.json", tuple[Published, ...]),
        entries={subject: _read(folder / f"{subject}.json", tuple[Entry, ...]) for subject in SUBJECTS},
        growth=costs.read(folder / "growth.json", costs.growth_rows),
        waits=costs.read(folder / "waits.json", costs.wait_rows),
    )
    seen = set()
    for subject, figures in {**results.entries, "published": results.published}.items():
        for figure in figures:
            where = f"{folder / subject}.json: {figure.what}"
            machine, *rest = (getattr(figure, field, None) for field in ("machine", "framework", "precision"))
            if machine not in (None, *results.machines):
                raise UserError(f"{where}: machine {machine!r} is not in machines.json; add it there")
            if figure.metric.removesuffix(RANGE) not in results.vocabulary.metrics:
                raise UserError(f"{where}: metric {figure.metric!r} is not in vocabulary.json; add it there")
            if figure.unit not in results.vocabulary.units:
                raise UserError(f"{where}: unit {figure.unit!r} is not in vocabulary.json; add it there")
            key = (figure.what, figure.metric, machine, *rest)
            if key in seen:
                raise UserError(f"{where}: {figure.metric} is there twice; keep one")
            seen.add(key)
    return results


def written(root=ROOT):
    """What the pages should hold, by path: docs/results.md, the README, and both in Chinese.

    Raises:
        UserError: results/ is not as it must be, or a README lacks the lines between which its table stands.
    """
    root = Path(root)
    results = load(root / "results")
    pages = {}
    for chinese, suffix in ((False, ".md"), (True, ".zh.md")):
        writer = Writer(results, chinese)
        pages[root / "docs" / f"results{suffix}"] = writer.render(TEMPLATES / f"results{suffix}")
        table = writer.render(TEMPLATES / f"results_table{suffix}")
        pages[root / f"README{suffix}"] = _with_table(root / f"README{suffix}", table)
    return pages


class Writer:
    """Writes figures in one language."""

    def __init__(self, results, chinese=False):
        self._results, self._chinese = results, chinese

    def render(self, template):
        """The text that the file `template` makes of the figures.

        Raises:
            UserError: it cannot be read, or names a figure that is not there.
        """
        environment = jinja2.Environment(
            trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined
        )
        values = {"machines": self._results.machines.values(), "rows": self.rows, "figure": self.figure}
        values |= {"growth": self._results.growth, "waits": self._results.waits, "frameworks": FRAMEWORKS}
        values |= {"growth_rows": costs.growth_rows, "wait_rows": costs.wait_rows}
        certificates = [one for one in self._results.entries["certificates"] if _is_certificate(one)]
        values["networks"] = len({entry.what for entry in certificates})
        values["worst"] = _number(max(max(entry.values) for entry in certificates))
        return environment.from_string(_text(template)).render(values)

    def rows(self, subject):
        """The lines of the table of a subject: figures of one run share a line."""
        if subject == "published":
            return "\n".join(
                _row(self._named(figure, "what"), self._figures([figure]), self._named(figure, "source"))
                for figure in self._results.published
            )
        lines = []
        for _, group in groupby(self._results.entries[subject], key=lambda entry: entry.run):
            entries = list(group)
            first = entries[0]
            lines.append(
                _row(self._named(first, "what"), FRAMEWORKS[first.framework], self._figures(entries), self._how(first))
            )
        return "\n".join(lines)

    def figure(self, *names, seeds=False):
        """The figure that `Results.find` finds; with `seeds`, and over how many.

        Raises:
            UserError: there is none, or there are more.
        """
        found = self._results.find(*names)
        text = self.amount(found, each=False)
        if not seeds:
            return text
        count = self._say("count of seeds").format(len(found.seeds)) if len(found.seeds) > 1 else self._say("one seed")
        return text + self._say("comma") + count

    def amount(self, figure, each=True):
        """A figure as text: value, mean and spread or range, with its unit; with `each`, and each value behind it."""
        numbers = [_number(value) for value in figure.values]
        if figure.metric.endswith(RANGE):
            return self._in(figure.unit, self._say("range").join(numbers))
        listed = self._in(figure.unit, self._say("list").join(numbers))
        if getattr(figure, "spread", None) is None:
            return listed
        text = self._in(figure.unit, f"{_number(figure.mean)} ± {_number(figure.spread)}")
        return text + (self._say("brackets").format(listed) if each and len(numbers) > 1 else "")

    def _figures(self, figures):
        """The figures of one run, each with its metric, and the seeds."""
        metrics = self._results.vocabulary.metrics
        names = [figure.metric.removesuffix(RANGE) for figure in figures]
        text = self._say("semicolon").join(
            f"{metrics[name] if self._chinese else name} {self.amount(figure)}"
            for name, figure in zip(names, figures, strict=True)
        )
        seeds = getattr(figures[0], "seeds", ())
        if not seeds:
            return text
        if len(seeds) > 1:
            said = self._say("seeds").format(", ".join(str(seed) for seed in seeds))
        else:
            said = self._say("one seed") + (self._say("brackets").format(seeds[0]) if seeds[0] else "")
        return text + self._say("semicolon" if len(figures) > 1 or len(seeds) > 1 else "comma") + said

    def _how(self, entry):
        """The command and the conditions of a run."""
        parts = [self._named(self._results.machines[entry.machine], "name")] if entry.machine else []
        if entry.threads:
            parts.append(self._say("one thread" if entry.threads == 1 else "threads").format(entry.threads))
        parts += [entry.precision] if entry.precision else []
        parts += [self._say("commit").format(entry.commit)] if entry.commit else []
        parts.append(str(entry.date))
        command = entry.command or entry.config
        return (f"`{command}`<br>" if command else "") + self._say("comma").join(parts)

    def _named(self, record, field):
        return getattr(record, f"{field}_zh" if self._chinese else field)

    def _say(self, phrase):
        return self._results.vocabulary.phrases[phrase][self._chinese]

    def _in(self, unit, text):
        return self._results.vocabulary.units[unit].format(text) if self._chinese else f"{text} {unit}".rstrip()


def _is_certificate(entry):
    """Whether it is the outcome of a network's certificate: not its time, and not a check of something else."""
    return entry.framework == "both" and entry.metric == "worst error"


def _number(value):
    """The digits that it was given with; thousands apart; small ones as 2e-14."""
    return f"{value:e}" if value and abs(value) < Decimal("1e-4") else f"{value:,f}"


def _row(*cells):
    """A line of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _with_table(readme, table):
    """The text of `readme` with `table` between its two lines."""
    before, begin, rest = _text(readme).partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise UserError(f"{readme}: its table has no place; put the lines {BEGIN} and {END} where it belongs")
    return f"{before}{begin}\n{table}{end}{after}"


def _text(path):
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); run this in a checkout of Tandem") from error


def _read(path, kind):
    """The JSON file `path` as a `kind`; numbers keep their digits."""
    try:
        values = json.loads(_text(path), parse_float=Decimal)
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); correct it there") from error
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        first, *others = error.errors()
        place, *fields = first["loc"] or ("",)
        if isinstance(place, int) and isinstance(values[place], dict):
            place = values[place].get("what", f"entry {place}")
        where = ": ".join(part for part in (str(place), ".".join(map(str, fields))) if part)
        more = f" (and {len(others)} more)" if others else ""
        raise UserError(f"{path}: {where}: {first['msg'].removeprefix('Value error, ')}{more}") from error
