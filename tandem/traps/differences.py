"""The pages: docs/differences.md in English and differences.zh.md in Chinese, from what came of the traps.

The English of a trap is in its theme, that of the page here. zh.yaml has all of it in Chinese, under the same names.
"""

import json
import os
import re
from pathlib import Path

from tandem import traps
from tandem.core.paths import ROOT
from tandem.traps.hints import kind
from tandem.traps.symbols import quote
from tandem.traps.trap import BATCH_SIZE, BOTH, STEPS, WORKERS

import yaml

FRAMEWORKS = {"paddle": "Paddle", "tensorflow": "TensorFlow"}

FACTS = ("paddle", "tensorflow", "tandem", "not_probed")
"""What an entry says under its title: fields of `Trap`."""

TEXTS = ("title", *FACTS)

PAGE = {
    "introduction": """\
# Where PaddlePaddle and TensorFlow differ

[中文]({other})

The same network, written in PaddlePaddle and in TensorFlow, is not the same until each point below is taken care of.
An entry says what each framework does, which source says so, what Tandem does to make both compute the same, and which
line of code does it.

None of it is hearsay. A trap is a known mistake. It was injected into one of two small twins (a probe), which agree to
1e-13 without it. A certificate (`python -m tandem certify`) then compared every element: the images, each layer's
output, the loss, and all gradients, batch norm statistics, velocities, weights and their EMA. It took {steps} steps of
{batch_size} images in float64, each from equal states, at a learning rate that changes; then more from a drawn state,
which is large and nowhere zero. Each step was taken a second time as training takes it, in TensorFlow by a compiled
function, and compared with the first. The same was done with evaluation. A trap of several workers was injected into
{workers} workers, in either framework, and they were compared with one process without it (`certify --workers`). An
entry gives the first difference and its size: the largest difference of two elements, over the tensor's largest
element. Where a trap could not be tried, it says why.

{count} traps, {tried} of them tried, on a CPU with PaddlePaddle {paddle} and TensorFlow {tensorflow}. Links lead to the
sources of PaddlePaddle 3.3.1, TensorFlow 2.21.0 and Keras 3.15.1. `python -m tandem traps --output docs/differences.md`
writes this page. The code that injects the mistakes is in [tandem/traps]({traps}).
""",
    "table": "| trap | changed twin | first difference | error |",
    "not_tried": "not tried",
    "both": "both, {workers} workers",
    "place": "step {step}, {phase}",
    "layer": ", {layer}",
    "tensor": ", `{name}` ({layer})",
    "paddle": "**Paddle:** {text}",
    "tensorflow": "**TensorFlow:** {text}",
    "tandem": "**Tandem:** {text}",
    "not_probed": "**Not tried:** {text}",
    "seen": "**First difference:** with {switch} in the {framework} twin: {place}: {size}.",
    "seen_in_workers": "**First difference:** with {switch} in {workers} workers of either framework: {place}: {size}.",
    "error": "error {size}",
    "sources": "**Sources:** {links}",
    "comma": ", ",
    "code": "{framework}, [`{symbol}`]({link}) in `{file}`:",
    "sizes": {
        r"only in (\w+)": r"only in \1",
        r"(\w+) has the shape (\(.*\)), (\w+) (\(.*\))": r"shape \2 in \1, \4 in \3",
        r"no gradient in (\w+) \(None\)": r"no gradient in \1 (None)",
        "not finite": "not finite",
        "cannot be built": "cannot be built",
    },
}
"""The words of the page. `sizes`: what a difference is where it has no number, as a pattern, and how to write it."""

CHINESE = Path(__file__).with_name("zh.yaml")


def pages(found, versions, path):
    """The pages' texts, by their paths: English at `path`, Chinese beside it.

    Args:
        found: what came of all traps: a list of `tandem.certify.gallery.Found`.
        versions: by framework.
        path: where the English page will be; links to the code are relative to it.

    Raises:
        UserError: a line of code that an entry quotes is not there.
    """
    english, chinese = Path(path), Path(path).with_suffix(".zh.md")
    return {
        english: "\n".join(_page(found, versions, english, chinese.name, english_texts())),
        chinese: "\n".join(_page(found, versions, chinese, english.name, chinese_texts())),
    }


def seen(found):
    """The text of seen.json, for hints.py: where and how each of the traps `found` showed, one a line."""
    rows = []
    for trap, first, _ in found:
        if first is not None:
            error = None if first["error"] is None else float(f"{first['error']:.1e}")
            row = {"step": first["step"], "phase": first["phase"], "layer": first["layer"], "kind": kind(first)}
            rows.append(f"  {json.dumps(trap.name)}: {json.dumps({**row, 'error': error})}")
    return "{\n" + ",\n".join(rows) + "\n}\n"


def english_texts():
    """All texts in English: `page`, `themes`, `phases`, and `traps` by name with their title and facts."""
    every = traps.TRAPS.values()
    return {
        "page": PAGE,
        "themes": {trap.theme: trap.theme for trap in every},
        "phases": {trap.shows[0]: _titled(trap.shows[0]) for trap in every if trap.shows},
        "traps": {trap.name: {name: getattr(trap, name) for name in TEXTS if getattr(trap, name)} for trap in every},
    }


def _titled(text):
    """`text` with the frameworks' titles for their names."""
    for framework, title in FRAMEWORKS.items():
        text = text.replace(framework, title)
    return text


def chinese_texts():
    """The same in Chinese."""
    return yaml.safe_load(CHINESE.read_text(encoding="utf-8"))


def size(first):
    """How large a first difference is: one digit, or what it is if there is no number."""
    error = first["error"]
    if first["phase"] == "building":
        return "cannot be built"
    if error is None:
        return re.sub(r"^what it passes back to \S+: ", "", first["what"])
    if 0.01 <= error < 1e4:
        return f"{error:.1g}" if error < 9.5 else f"{error:.0f}"
    digit, exponent = f"{error:.0e}".split("e")
    return f"{digit}e{int(exponent)}"


def _page(found, versions, path, other, texts):
    words, themes = texts["page"], dict.fromkeys(one.trap.theme for one in found)
    tried = sum(not one.trap.not_probed for one in found)
    counts = {"count": len(found), "tried": tried, "steps": STEPS, "batch_size": BATCH_SIZE, "workers": WORKERS}
    yield words["introduction"].format(other=other, traps=_link("tandem/traps", path), **counts, **versions)
    yield words["table"]
    yield "|---|---|---|---|"
    for theme in themes:
        yield f"| **{texts['themes'][theme]}** | | | |"
        yield from (_row(one, texts) for one in found if one.trap.theme == theme)
    for theme in themes:
        yield f"\n## {texts['themes'][theme]}"
        for one in found:
            if one.trap.theme == theme:
                yield from _entry(one, path, texts)
    yield ""


def _row(one, texts):
    trap, first, words = one.trap, one.first, texts["page"]
    link = f"[{texts['traps'][trap.name]['title']}](#{trap.name})"
    if trap.not_probed:
        return f"| {link} | | {words['not_tried']} | |"
    place = _place(first, texts) + (words["layer"].format(**first) if first["layer"] else "")
    changed = words["both"].format(workers=WORKERS) if trap.framework == BOTH else FRAMEWORKS[trap.framework]
    return f"| {link} | {changed} | {place} | {_size(first, words)} |"


def _entry(one, path, texts):
    trap, first, words = one.trap, one.first, texts["page"]
    own = texts["traps"][trap.name]
    yield f'\n### <a id="{trap.name}"></a>{own["title"]}\n'
    yield from (f"- {words[fact].format(text=own[fact])}" for fact in FACTS if fact in own)
    if not trap.not_probed:
        switch = f"[`{trap.name}`]({_link(trap.mutation.__module__.replace('.', '/') + '.py', path)})"
        place = _place(first, texts) + (words["tensor"].format(**first) if first["layer"] else "")
        error = _size(first, words) if first["error"] is None else words["error"].format(size=_size(first, words))
        said = {"switch": switch, "place": place, "size": error}
        if trap.framework == BOTH:
            yield "- " + words["seen_in_workers"].format(workers=WORKERS, **said)
        else:
            yield "- " + words["seen"].format(framework=FRAMEWORKS[trap.framework], **said)
    links = words["comma"].join(f"[{_label(source)}]({source})" for source in trap.sources)
    yield f"- {words['sources'].format(links=links)}"
    for framework, code in trap.code.items():
        named = {"framework": FRAMEWORKS[framework], "symbol": code.symbol, "file": code.file}
        yield "\n" + words["code"].format(link=_link(code.file, path), **named)
        yield f"\n```python\n{quote(code)}\n```"


def _place(first, texts):
    return texts["page"]["place"].format(step=first["step"], phase=texts["phases"][first["phase"]])


def _size(first, words):
    """`size` in the page's words."""
    said = size(first)
    for pattern, written in words["sizes"].items():
        if match := re.fullmatch(pattern, said):
            said = _titled(match.expand(written))
    return said


def _link(file, path):
    """The address of a file of the repository on a page at `path`."""
    return Path(os.path.relpath(ROOT / file, path.absolute().parent)).as_posix()


def _label(source):
    """A source's path in its repository, or its address."""
    return re.sub(r"https://(github\.com/[^/]+/[^/]+/blob/[^/]+/)?", "", source, count=1)
