"""The pages hold every trap, in both languages, and their links lead somewhere. No framework is needed for that."""

import re

from tandem import traps
from tandem.core.paths import ROOT
from tandem.traps.differences import chinese_texts, english_texts
from tandem.traps.symbols import quote

import pytest

PAGES = [ROOT / "docs" / name for name in ("differences.md", "differences.zh.md")]


@pytest.mark.parametrize("name", traps.TRAPS)
def test_the_code_of_a_trap_is_there(name):
    trap = traps.TRAPS[name]
    assert trap.code.keys() == {"paddle", "tensorflow"}
    assert all(quote(code) for code in trap.code.values())


@pytest.mark.parametrize(("page", "texts"), list(zip(PAGES, (english_texts(), chinese_texts()), strict=True)))
def test_every_trap_is_on_the_page_with_its_sources(page, texts):
    page = page.read_text(encoding="utf-8")
    for trap in traps.TRAPS.values():
        assert f'<a id="{trap.name}"></a>{texts["traps"][trap.name]["title"]}' in page
        assert trap.sources
        assert all(source in page for source in trap.sources)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_not_to_lines(page):
    links = re.findall(r"\]\(([^)#][^)]*)\)", page.read_text(encoding="utf-8"))
    within = {link for link in links if not link.startswith("https://")}
    assert len(within) > 10
    assert all((page.parent / link).exists() for link in within)
    assert not any("#L" in link for link in links)


@pytest.mark.parametrize("kind", ["page", "themes", "phases", "traps"])
def test_all_that_is_in_english_is_in_chinese(kind):
    assert chinese_texts().keys() == english_texts().keys()
    assert chinese_texts()[kind].keys() == english_texts()[kind].keys()


@pytest.mark.parametrize("name", traps.TRAPS)
def test_a_trap_says_the_same_in_both_languages(name):
    english, chinese = english_texts()["traps"][name], chinese_texts()["traps"][name]
    assert english.keys() == chinese.keys()
    for part in english:
        assert re.search("[一-鿿]", chinese[part]), f"{part} is not Chinese"
        assert _facts(english[part]) == _facts(chinese[part]), part


def _facts(text):
    """The code and the numbers in it, which no translation changes."""
    return set(re.findall(r"`[^`]*`", text)), set(re.findall(r"\d+(?:\.\d+)?(?:e[-+]?\d+)?", text))


def test_the_page_has_the_same_places_in_both_languages():
    for name, english in english_texts()["page"].items():
        chinese = chinese_texts()["page"][name]
        if name == "sizes":
            assert english.keys() == chinese.keys()
        else:
            assert set(re.findall(r"\{\w+\}", english)) == set(re.findall(r"\{\w+\}", chinese)), name


def test_no_formula_becomes_emphasis():
    """Markdown takes m*v - lr*g for m<em>v - lr</em>g, but not within backticks."""
    for texts in (english_texts(), chinese_texts()):
        for name, own in texts["traps"].items():
            for text in own.values():
                bare = re.sub(r"`[^`]*`", "", text).replace("*mean*", "").replace("*均值*", "")
                assert not re.search(r"[*_]", bare), name
