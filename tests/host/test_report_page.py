"""The page of a verify report in a real browser without a network: on phones, desks and paper, in both themes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from batten.report.html import html
from batten.verify.model import Report
from tests import report_sample
from tests.browser import URL, Browser, Page, pages, started
from tests.contract.conftest import tool

AXE = "4.14.1"
# Contrast is judged below, in a fraction of the time.
AXE_RUN = """axe.run({rules: {'color-contrast': {enabled: false}}})
  .then(found => [found.passes.length, found.violations.map(one => one.id + ' ' + one.nodes[0].html)])"""
WIDTHS = (360, 768, 1280)
NOWHERE = {"host": "web9", "what": "the host cannot be reached: " + "timeout " * 20, "fix": "ansible web9 -m ping"}

# Every text node that a person should see, as [node, element, rectangles].
_TEXTS = """
const seen = [...function* () {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, element = node.parentElement;
    if (!node.data.trim() || element.closest('.unseen, .symbols, style')) continue;
    const head = element.closest('thead');
    if (head && getComputedStyle(head).position === 'absolute') continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    yield [node.data.trim(), element, [...range.getClientRects()]];
  }
}()];
"""

# Contrast as WCAG 2.2 defines it (1.4.3, and "contrast ratio"): what has too little of it.
CONTRAST = (
    "(() => {"
    + _TEXTS
    + """
const parse = text => { const all = text.match(/[\\d.]+/g).map(Number); return all.length < 4 ? [...all, 1] : all; };
const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
const light = colour => colour.slice(0, 3).map(v => v / 255)
  .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
const ground = element => {
  const layers = [];
  for (let one = element; one; one = one.parentElement) layers.push(parse(getComputedStyle(one).backgroundColor));
  const paper = parse(getComputedStyle(document.body).backgroundColor);
  return layers.reverse().reduce((below, top) => over(top, below), paper);
};
const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + .05) / (y + .05); };
const poor = [];
for (const [text, element] of seen) {
  const style = getComputedStyle(element), size = parseFloat(style.fontSize);
  const least = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
  const found = ratio(over(parse(style.color), ground(element)), ground(element));
  if (found < least) poor.push(`${text}: ${found.toFixed(2)}`);
}
for (const icon of document.querySelectorAll('svg.icon')) {
  const found = ratio(parse(getComputedStyle(icon).color), ground(icon));
  if (found < 3) poor.push(`icon ${icon.classList}: ${found.toFixed(2)}`);
}
return [seen.length, poor];
})()"""
)

# What has no place in the window's width, or is cut off by something around it.
HIDDEN = (
    "(() => {"
    + _TEXTS
    + """
const lost = [];
for (const [text, element, boxes] of seen) {
  const style = getComputedStyle(element);
  if (style.display === 'none' || element.closest('td.empty, td.not_applicable, td.none')) continue;
  if (!boxes.length || boxes.some(box => box.left < -1 || box.right > innerWidth + 1)) lost.push(text);
  for (let one = element; one && one !== document.body; one = one.parentElement) {
    if (getComputedStyle(one).overflowX === 'visible') continue;
    const frame = one.getBoundingClientRect();
    if (boxes.some(box => box.right > frame.right + 1 || box.bottom > frame.bottom + 1)) lost.push(`cut: ${text}`);
  }
}
return [seen.length, lost, document.documentElement.scrollWidth - innerWidth];
})()"""
)


def reports() -> dict[str, Report]:
    """What a page must bear: the usual, none at all, many hosts, hosts that are gone, names without an end."""
    usual = report_sample.report()
    endless = tuple(
        dataclasses.replace(one, service=one.service and one.service + "x" * 60, evidence="/very" + "long" * 60)
        for one in usual.controls
    )
    usage = tuple(dataclasses.replace(one, service=one.service + "x" * 60) for one in usual.hosts[0].usage)
    host = dataclasses.replace(usual.hosts[0], usage=usage)
    return {
        "usual": usual,
        "empty": Report((), at=report_sample.AT),
        "holds": report_sample.report(found={}),
        "many": dataclasses.replace(report_sample.report(3), errors=(NOWHERE,)),
        "endless": dataclasses.replace(usual, controls=endless, hosts=(host,)),
    }


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started() as running:
        yield running


@pytest.fixture(scope="module")
def opened(browser: Browser) -> dict[str, Page]:
    return {name: browser.open(html(report, inventory="inventories/app")) for name, report in reports().items()}


def test_it_loads_without_a_request_or_a_word_on_the_console(opened: dict[str, Page]) -> None:
    assert {name: (page.requests, page.said) for name, page in opened.items()} == dict.fromkeys(opened, ([URL], []))
    assert opened["usual"].evaluate("document.styleSheets[0].cssRules.length") > 20
    assert opened["usual"].evaluate("document.characterSet") == "UTF-8"


@pytest.mark.parametrize("width", WIDTHS)
def test_all_of_it_is_seen_without_scrolling_sideways(opened: dict[str, Page], width: int) -> None:
    for name, page in opened.items():
        page.look(width)
        texts, lost, over = page.evaluate(HIDDEN)
        assert (name, lost, over) == (name, [], 0)
        assert texts > (5 if name == "empty" else 200)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_its_colours_can_be_told_apart(opened: dict[str, Page], scheme: str) -> None:
    for name, page in opened.items():
        page.look(1280, scheme=scheme)
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (background == "rgb(255, 255, 255)") == (scheme == "light")
        texts, poor = page.evaluate(CONTRAST)
        assert (name, poor) == (name, [])
        assert texts > 5


@pytest.mark.parametrize("width", [360, 1280])
def test_axe_finds_nothing_that_keeps_anyone_out(opened: dict[str, Page], width: int) -> None:
    npm = ("npm", "install", "--no-audit", "--no-fund", f"axe-core@{AXE}", "--prefix")
    axe = (tool(f"axe-{AXE}", *npm) / "node_modules" / "axe-core" / "axe.min.js").read_text()
    for name in ("usual", "many"):
        page = opened[name]
        page.look(width)
        page.evaluate(axe + ";0")
        found = page.evaluate(AXE_RUN)
        assert (name, found[1]) == (name, [])
        assert found[0] > 15


def test_on_paper_it_is_light_and_few_pages(opened: dict[str, Page]) -> None:
    page = opened["usual"]
    page.look(1280, scheme="dark")
    printed = {name: pages(opened[name].pdf()) for name in ("usual", "empty")}
    assert printed["empty"] == 1
    assert 3 <= printed["usual"] <= 12
    page.call("Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(23, 33, 29)"


def test_what_is_wrong_would_be_noticed(browser: Browser) -> None:
    page = browser.open(html(report_sample.report()))
    page.look(1280)
    page.evaluate(
        "document.querySelector('.what').style.color = '#bbb'; document.querySelector('table').style.width = '99em'"
    )
    assert page.evaluate(CONTRAST)[1]
    assert page.evaluate(HIDDEN)[2] > 0
    page.evaluate("document.body.append(Object.assign(new Image(), {src: 'http://elsewhere.test/x.png'})); 0")
    page.evaluate("new Promise(done => setTimeout(done, 100))")
    assert any("Content Security Policy" in said for said in page.said)
    assert page.requests == [URL]
