"""YAML as it looks: a number is the one that is written, and what old and new YAML read otherwise is an error.

PyYAML reads the syntax. What a word means goes by YAML 1.2's core schema: `yes` is text, 1e-3 is a number, a date is
text. Numbers with a leading zero and 1:30 mean other numbers in YAML 1.1 than in 1.2, so they are refused.
"""

import contextlib
import re
import unicodedata

from tandem.core import files
from tandem.core.errors import UserError

import yaml

BYTES = 100_000
"""The longest text that is read; a config has some hundred bytes."""

DEPTH = 20
"""How deep groups and lists may lie in one another."""

VALUES = 10_000
"""How many values a text may hold, with each alias counted as a copy: a few lines of aliases can stand for billions."""

_CORE = "tag:yaml.org,2002:"
_MERGE = f"{_CORE}merge"
_AMBIGUOUS = "ambiguous"

_WORDS = {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F]+)",
    # Base 8 in YAML 1.1, base 10 in 1.2; base 60 in 1.1, text in 1.2.
    _AMBIGUOUS: r"[-+]?0[0-9_]+|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?",
    "float": r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
    "merge": r"<<",
}
"""Patterns of unquoted words, by the kind of value that they are; the first that fits is taken, else it is text."""

_PLAIN_WORDS = (
    (r"found character '\\t'", "a tab; indent with spaces"),
    (r"mapping values are not allowed", "': ' where no key can be; put text that holds it in quotes, or indent alike"),
    (r"could not find expected ':'", "a key without ': ' behind it"),
    (r"stream end>|end of stream", "a bracket or a quote is never closed"),
    (r"undefined alias '?(\w+)", r"*\1 stands for nothing; an anchor &\1 must come before it"),
    (r"another document", "a second document begins; leave out ---"),
    (r"cannot start any token", "a character that must stand in quotes"),
    (r"block end>", "it is not indented like the lines above, or a bracket is missing"),
)
"""What PyYAML's words mean."""


class _Refused(yaml.MarkedYAMLError):
    """What is YAML, but not taken."""

    def __init__(self, problem, node):
        super().__init__(problem=problem, problem_mark=node.start_mark)


class _Reader(yaml.SafeLoader):
    """Reads the syntax, as deep as `DEPTH`; says which kind of value a word is by `_WORDS`."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  PyYAML's own attribute
    depth = 0

    def compose_node(self, parent, index):
        """The next node."""
        self.depth += 1
        if self.depth > DEPTH:
            raise _Refused(f"groups and lists lie more than {DEPTH} deep in one another", self.peek_event())
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Writer(yaml.SafeDumper):
    """Quotes text that YAML 1.1 or `_Reader` would take for something else."""


for _kind, _pattern in _WORDS.items():
    for _class in (_Reader, _Writer):
        _class.add_implicit_resolver(_CORE + _kind, re.compile(f"(?:{_pattern})$"), None)


def text_of(path, what):
    """The text of the YAML file `path`, a `what` such as "config"; of one that `read` refuses as too long, a part.

    Raises:
        UserError: it is not there, cannot be read, or is no file of text.
    """
    files.check_plain(path, what)
    try:
        with open(path, "rb") as file:
            content = file.read(BYTES + 1)
        return content.decode(errors="strict" if len(content) <= BYTES else "replace")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a {what} ({error}); give a YAML text file, in UTF-8") from error


def read(text, origin, has_lines=True):
    """The value that the YAML `text` stands for: dicts with text keys, lists, text, numbers, truth values and None.

    Raises:
        UserError: it is not YAML, or larger than the limits above, or holds what cannot be read in one way only. The
            message begins with `origin` and names the line, unless `text` is of an option and so has none.
    """
    if len(text.encode(errors="replace")) > BYTES:
        raise UserError(f"{origin}: is longer than {BYTES:,} bytes, so it is no config; check the file")
    reader = None
    try:
        if separator := re.search("[\x85\u2028\u2029]", text):  # ends a line in YAML 1.1, and not in 1.2
            raise yaml.reader.ReaderError(origin, separator.start(), ord(separator[0]), "", "")
        reader = _Reader(text)
        node = reader.get_single_node()
        return None if node is None else _Values().of(node)
    except yaml.reader.ReaderError as error:
        where = f"line {text.count(chr(10), 0, error.position) + 1}: " if has_lines else ""
        raise UserError(f"{origin}: {where}not YAML (it holds the character {error.character:#04x})") from error
    except yaml.YAMLError as error:
        where = f"line {error.problem_mark.line + 1}: " if has_lines else ""
        said = error.problem if isinstance(error, _Refused) else f"not YAML ({_in_plain_words(str(error.problem))})"
        raise UserError(f"{origin}: {where}{said}") from error
    finally:
        if reader is not None:
            reader.dispose()


def write(value):
    """The YAML text that `read` reads as `value`: dicts with text keys, lists, text, numbers, truth values and None."""
    return yaml.dump(value, Dumper=_Writer, sort_keys=False)


class _Values:
    """Makes values of PyYAML's nodes, and counts them."""

    def __init__(self):
        self._count = 0
        self._around = []

    def of(self, node):
        """The value of `node`."""
        self._count += 1
        if self._count > VALUES:
            raise _Refused(f"holds more than {VALUES:,} values, aliases counted; write less", node)
        if node in self._around:
            raise _Refused("an alias stands inside what its anchor names; take it out", node)
        kind = node.tag.removeprefix(_CORE)
        self._around.append(node)
        try:
            if isinstance(node, yaml.ScalarNode):
                return _scalar(kind, node)
            if isinstance(node, yaml.SequenceNode) and kind == "seq":
                return [self.of(item) for item in node.value]
            if isinstance(node, yaml.MappingNode) and kind == "map":
                return self._mapping(node)
        finally:
            self._around.pop()
        raise _no_such_tag(node)

    def _mapping(self, node):
        own, merged = {}, None
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _Refused("a group or a list stands as a key; a key is a word", key)
            if key.tag == _MERGE:
                if merged is not None:
                    raise _Refused("<< stands here twice; merge several with <<: [*one, *other]", key)
                merged = self._merged(value)
                continue
            name = _text(key)
            if ":" in name and value.value == "" and value.start_mark.index == value.end_mark.index:
                raise _Refused(f"{name:.60} has no value; write a space behind the colon", key)
            if name in own:
                raise _Refused(f"duplicate key {name}; keep one", key)
            own[name] = self.of(value)
        return {**(merged or {}), **own}

    def _merged(self, node):
        """The keys that <<: `node` brings: a group, or a list of groups of which the first has the say."""
        value = self.of(node)
        groups = value if isinstance(value, list) else [value]
        if not all(isinstance(group, dict) for group in groups):
            raise _Refused("<< takes a group of keys, or a list of groups", node)
        return {key: value for group in reversed(groups) for key, value in group.items()}


def _scalar(kind, node):
    text = node.value
    if kind in ("str", "merge"):  # << as a value is text
        return _text(node)
    written = next((name for name, pattern in _WORDS.items() if re.fullmatch(pattern, text)), "str")
    if written == _AMBIGUOUS and kind in (_AMBIGUOUS, "int", "float"):
        raise _Refused(_two_readings(text), node)
    if kind not in ("null", "bool", "int", "float"):
        raise _no_such_tag(node)
    if written != kind and (written, kind) != ("int", "float"):
        raise _Refused(f"!!{kind} {text!r:.40} is none; leave out the tag, and write the value alone", node)
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    digits = text.replace("_", "")
    if kind == "float":
        return float(re.sub(r"\.(?=[in])", "", digits.lower()))
    if len(digits) > 40:
        raise _Refused(f"a number of {len(digits)} digits; no setting is as large", node)
    return int(digits, 16 if "0x" in digits else 10)


def _text(node):
    """The text of a scalar. Control characters would move the cursor where it is shown, and no path may hold them."""
    for character in node.value:
        if character not in "\n\t" and unicodedata.category(character) in ("Cc", "Cs"):
            raise _Refused(f"text holds the control character {ord(character):#04x}; remove it", node)
    return node.value


def _two_readings(text):
    """What to write in place of 010 or 1:30."""
    sign, digits = ("-" if text[0] == "-" else ""), text.lstrip("+-").replace("_", "")
    if ":" in digits:
        seconds = 0.0
        for part in digits.split(":")[:100]:
            seconds = 60 * seconds + float(part)
        return f'{text} is {sign}{seconds:g} in YAML 1.1 and text in 1.2; write {sign}{seconds:g}, or "{text}" for text'
    decimal = digits.lstrip("0") or "0"
    with contextlib.suppress(ValueError):
        octal = str(int(digits, 8))
        if octal != decimal:
            return (
                f"{text} is {sign}{octal} in YAML 1.1 and {sign}{decimal} in 1.2; "
                f'write {sign}{decimal} or {sign}{octal}, or "{text}" for text'
            )
    return f'{text} has a zero in front, which not all read alike; write {sign}{decimal}, or "{text}" for text'


def _no_such_tag(node):
    tag = node.tag.replace(_CORE, "!!")
    kind = {yaml.ScalarNode: "a word", yaml.SequenceNode: "a list", yaml.MappingNode: "a group"}[type(node)]
    return _Refused(f"the tag {tag!r:.60} is not taken on {kind}; leave it out", node)


def _in_plain_words(problem):
    for pattern, words in _PLAIN_WORDS:
        if match := re.search(pattern, problem):
            return match.expand(words)
    return problem
