"""The page in a real Chromium: it sorts, filters, leads to runs, fits a phone, and is read without JavaScript."""

from pathlib import Path

import chromium
import pandas as pd
import pytest
from synthetic import default_study, write_results

from peftstudy.report import page

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser():
    if not chromium.find():
        pytest.skip(f"no Chromium: install the package {chromium.PACKAGE} (make test-page does)")
    with chromium.browser() as started:
        yield started


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    study, reported = default_study(), ROOT / "paper" / "reported"
    results = write_results(tmp_path_factory.mktemp("results"), study, reported)
    page.write(results, study, results / "report.html", ROOT / "paper", reported)
    return results / "report.html"


@pytest.fixture(autouse=True)
def is_quiet(browser):
    """No test may leave an error, a message on the console or a request to a network behind."""
    yield
    assert browser.complaints() == []


def column(table: str, number: int) -> str:
    """JavaScript: the texts of a column in the rows that are shown."""
    rows = f"[...document.querySelectorAll('#{table} tbody tr:not([hidden])')]"
    return f"{rows}.map((row) => row.cells[{number}].textContent)"


def click(selector: str) -> str:
    return f"document.querySelector({selector!r}).click()"


def type_into(selector: str, text: str) -> str:
    return (
        f"(() => {{ const field = document.querySelector({selector!r}); field.value = {text!r};"
        " field.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )


def number(text: str) -> float:
    return float(text.rstrip("=").replace("−", "-").replace(",", ""))


def test_a_click_on_a_heading_sorts_by_number_and_another_turns_the_order_round(browser, report):
    browser.open(report)
    heading = "#table-runs thead th:nth-child(6)"
    for direction, sign in (("descending", -1), ("ascending", 1)):
        browser.run(click(f"{heading} button"))
        assert browser.run(f"document.querySelector('{heading}').ariaSort") == direction
        found = browser.run(column("table-runs", 5))
        scores = [number(text) for text in found if text != "–"]
        assert len(scores) == 174 and scores == sorted(scores, key=lambda score: sign * score)
        assert found[-3:] == ["–"] * 3, "what has no score is last, either way"
    browser.run(click("#table-cells thead th:nth-child(3) button"))
    methods = browser.run(column("table-cells", 2))
    assert methods == sorted(methods) and browser.run("document.querySelectorAll('[aria-sort]').length") == 2


def test_groups_are_sorted_each_by_itself(browser, report):
    browser.open(report)
    before = browser.run("[...document.querySelectorAll('#costs tbody')].map((b) => b.rows[0].textContent)")
    browser.run(click("#costs thead tr:last-child th:nth-child(2) button"))
    bodies = "[...document.querySelectorAll('#costs tbody')]"
    assert browser.run(f"{bodies}.map((b) => b.rows[0].textContent)") == before == ["bert-tiny", "roberta-tiny"]
    for texts in browser.run(f"{bodies}.map((b) => [...b.rows].slice(1).map((row) => row.cells[1].textContent))"):
        found = [number(text.rstrip("★")) for text in texts]
        assert len(found) == 8 and found == sorted(found, reverse=True)


def test_filters_leave_the_rows_that_fit_and_say_how_many(browser, report):
    browser.open(report)
    browser.run(type_into("#cells select", "30-70"))
    assert set(browser.run(column("table-cells", 0))) == {"30-70"}
    browser.run(type_into("#cells input", "roberta LORA"))
    assert browser.run(column("table-cells", 2)) == ["lora"]
    assert browser.run("document.querySelector('#cells output').textContent") == "1 of 59 rows"
    browser.run(click("#cells .filter button"))
    assert len(browser.run(column("table-cells", 2))) == 59


def test_a_number_leads_to_its_runs(browser, report):
    browser.open(report)
    browser.run("document.querySelector('#differences').closest('details').open = true")
    browser.run(click("#differences td a[data-why='differences/90-10/bert-tiny/lora']"))
    shown = browser.run("[...document.querySelectorAll('#table-runs tbody tr:not([hidden])')].map((row) => row.id)")
    assert shown == [
        f"libraries/90-10/bert-tiny/{method}/seed-{seed}" for method in ("full", "lora") for seed in range(3)
    ]
    said = browser.run("document.querySelector('#runs output').textContent")
    assert said == "6 of 177 rows behind differences/90-10/bert-tiny/lora"
    assert browser.run("location.hash") == "#runs"


def test_the_runs_behind_a_number_are_the_same_when_the_table_was_sorted(browser, report):
    browser.open(report)
    browser.run(click("#table-runs thead th:nth-child(6) button"))
    browser.run(click(".cards a.why"))
    shown = browser.run("[...document.querySelectorAll('#table-runs tbody tr:not([hidden])')].map((row) => row.id)")
    assert sorted(shown) == [f"libraries/90-10/bert-tiny/full/seed-{seed}" for seed in range(3)]


def test_a_dot_leads_to_its_run_though_it_was_filtered_out(browser, report):
    browser.open(report)
    browser.run(type_into("#runs input", "nothing like that"))
    assert browser.run(column("table-runs", 0)) == []
    place = "libraries/90-10/bert-tiny/lora/seed-1"
    browser.run(f"document.querySelector('#score-by-method a[href=\"#{place}\"]')"
                ".dispatchEvent(new MouseEvent('click', {bubbles: true}))")  # fmt: skip
    browser.run("new Promise((done) => setTimeout(done, 200))")
    place_of = f"document.getElementById('{place}').getBoundingClientRect()"
    assert browser.run(f"{place_of}.height") > 0 and 0 < browser.run(f"{place_of}.top") < 800


def test_a_run_shows_its_curve_and_its_values(browser, report):
    browser.open(report)
    epochs = pd.read_csv(report.parent / "metrics" / "epochs.csv")
    own = epochs.query("split == '90-10' and backbone == 'bert-tiny'").groupby(["method", "seed"])
    assert browser.run("document.querySelectorAll('#chart .curve').length") == len(own) > 20
    browser.run(click("[id='libraries/30-70/roberta-tiny/lora/seed-2'] button"))
    bright = "[...document.querySelectorAll('#chart .curve:not(.faded)')].map((curve) => curve.dataset.run)"
    assert browser.run(bright) == ["libraries/30-70/roberta-tiny/lora/seed-2"]
    values = browser.run("[...document.querySelectorAll('#chart tbody tr')].map((row) => row.textContent)")
    assert len(values) == 4
    measures = "[...document.querySelectorAll('#chart select')][1]"
    before = browser.run("document.querySelector('#chart svg[role]').innerHTML")
    browser.run(f"{measures}.selectedIndex = 1; {measures}.dispatchEvent(new Event('input'))")
    assert browser.run("document.querySelector('#chart svg[role]').innerHTML") != before
    browser.run(click("#chart .key input"))
    assert browser.run("document.querySelectorAll('#chart .curve').length") < 24


def test_the_keyboard_is_enough(browser, report):
    browser.open(report)
    browser.press("Tab")
    assert browser.run("document.activeElement.textContent") == "To the answer"
    browser.run("document.querySelector('#table-cells thead th:nth-child(4) button').focus()")
    browser.press("Enter")
    assert browser.run("document.querySelector('#table-cells thead th:nth-child(4)').ariaSort") == "descending"
    style = "getComputedStyle(document.activeElement).outlineStyle"
    assert browser.run("document.activeElement.matches(':focus-visible')") and browser.run(style) == "solid"


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scripts", [True, False], ids=["with JavaScript", "without"])
def test_the_page_is_no_wider_than_the_window(browser, report, width, scripts):
    browser.open(report, width, 844, scripts=scripts)
    if scripts:
        browser.run("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
    assert browser.run("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("width", [390, 1280])
def test_the_first_screen_says_what_to_take_what_it_costs_and_how_sure_that_is(browser, report, width):
    browser.open(report, width, 844)
    texts = browser.run(
        "[...document.querySelector('article').querySelectorAll('h3, dt')]"
        ".filter((part) => part.getBoundingClientRect().bottom < innerHeight).map((part) => part.textContent)"
    )
    assert texts[:4] == ["Take full, or lora where costs count", "Score", "Cost", "How sure"]


def test_it_is_read_without_javascript(browser, report):
    browser.open(report, scripts=False)
    assert browser.run("document.querySelectorAll('button, input, select').length") == 0
    assert browser.run("document.querySelectorAll('#table-runs tbody tr').length") == 177
    said = browser.run("document.querySelector('#chart').innerText")
    assert said.startswith("These are drawn with JavaScript.")
    for place in ("#answer", "#table-cells", "#score-by-method svg", "#claims, #runs"):
        assert browser.run(f"document.querySelector('{place}').getBoundingClientRect().height") > 100


# The contrast of every text with what is behind it, after WCAG 2.2, success criterion 1.4.3.
CONTRASTS = """(() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const [r, g, b] = parts(colour).map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (; element; element = element.parentElement) {
      const colour = getComputedStyle(element).backgroundColor;
      if (parts(colour)[3] !== 0) return colour;
    }
  };
  const found = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || element.closest('script, title')) continue;
    const style = getComputedStyle(element);
    const [one, other] = [light(element.closest('svg') ? style.fill : style.color), light(behind(element))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < 4.5) found.push(`${texts.currentNode.data.trim()}: ${ratio.toFixed(2)}`);
  }
  return found;
})()"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_text_has_contrast(browser, report, dark):
    browser.open(report, dark=dark)
    browser.run("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
    paper = browser.run("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(20, 23, 28)" if dark else "rgb(255, 255, 255)")
    assert browser.run(CONTRASTS) == []


def test_no_mark_is_black_on_black(browser, report):
    browser.open(report, dark=True)
    marks = "[...document.querySelectorAll('.drawing use, .drawing path')].map((mark) => getComputedStyle(mark))"
    filled = browser.run(f"{marks}.filter((s) => s.fillOpacity !== '0').map((style) => style.fill)")
    assert len(set(filled)) > 8 and "rgb(0, 0, 0)" not in filled
    assert "rgb(0, 0, 0)" not in browser.run(f"{marks}.map((style) => style.stroke)")


def test_what_a_script_throws_is_noticed(browser, report, tmp_path):
    broken = tmp_path / "broken.html"
    broken.write_text(report.read_text().replace('"use strict";', '"use strict"; missing();'))
    browser.open(broken)
    [said] = browser.complaints()
    assert "missing is not defined" in said
    browser.events.clear()
