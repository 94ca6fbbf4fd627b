"""The page of results in a browser: headless Chromium where there is one, from the file system, without a network."""

from pathlib import Path

import pytest
from chromium import NEEDED, opened, size

from experiments.record import write_record
from experiments.report import Records, page

pytest.importorskip("selenium.webdriver")
pytestmark = NEEDED

ROOT = Path(__file__).parent.parent
COMMITTED = [ROOT / "experiments" / "results", ROOT / "benchmarks" / "results"]
NUMBERS = {"runs": [{"name": "b", "r": 10}, {"name": "c", "r": 9.5}, {"name": "a"}, {"name": "d", "r": -2}]}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with opened(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


@pytest.fixture(scope="module")
def committed(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(page(Records.read(COMMITTED)), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    write_record(folder / "small.json", NUMBERS)
    path = folder / "page.html"
    path.write_text(page(Records.read([folder])), encoding="utf-8")
    return path.as_uri()


def column(browser, head):
    """Return the first cells of the rows of the small table, and the state of the head of a column."""
    state = browser.execute_script(
        "return document.querySelectorAll('#more th[scope=col]')[arguments[0]].ariaSort", head
    )
    cells = "return [...document.querySelectorAll('#more tbody tr')].map(row => row.cells[1].textContent)"
    return browser.execute_script(cells), state


def test_the_committed_page_loads_without_a_word_on_the_console(browser, committed):
    browser.get(committed)
    assert browser.get_log("browser") == []
    assert "Versatile Influence" in browser.title
    assert browser.execute_script("return document.querySelectorAll('table').length") > 10


def test_every_picture_is_drawn_and_has_words_that_stand_for_it(browser, committed):
    browser.get(committed)
    script = """return Promise.all([...document.images].map(async image => {
        image.loading = 'eager'; await image.decode(); return [image.naturalWidth, image.alt]}))"""
    images = browser.execute_script(script)
    assert len(images) >= 4
    for width, alt in images:
        assert width > 300
        assert len(alt) > 40


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1400])
def test_nothing_is_wider_than_the_window_and_tables_scroll_inside(browser, committed, width, scheme):
    size(browser, width, scheme=scheme)
    browser.get(committed)
    browser.execute_script("document.querySelectorAll('details').forEach(each => each.open = true)")
    page_width, window = browser.execute_script(
        "const e = document.documentElement; return [e.scrollWidth, innerWidth]"
    )
    assert page_width <= window == width
    wide = """return [...document.querySelectorAll('p, h1, h2, figure, .scroll, summary')]
        .filter(each => each.getBoundingClientRect().right > innerWidth + 1).length"""
    assert browser.execute_script(wide) == 0
    assert browser.execute_script("return getComputedStyle(document.querySelector('.scroll')).overflowX") == "auto"
    if width == 360:
        # Every cell is there to be read, with the name of its column, and nothing has to be pushed sideways.
        assert (
            browser.execute_script(
                "return [...document.querySelectorAll('.scroll')].filter(SIDEWAYS).length".replace(
                    "SIDEWAYS", "each => each.scrollWidth > each.clientWidth + 1"
                )
            )
            == 0
        )
        label = "return getComputedStyle(document.querySelector('tbody td'), '::before').content"
        assert browser.execute_script(label) == '"Data"'


@pytest.fixture
def on_paper(browser, committed):
    """Yield the page as it prints on A4 with margins of 12 mm."""
    size(browser, 703)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    browser.get(committed)
    yield browser
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_on_paper_nothing_is_cut_and_what_is_folded_is_there(on_paper):
    widest = "return Math.max(...[...document.querySelectorAll('table, figure, p')].map(RIGHT))".replace(
        "RIGHT", "each => each.getBoundingClientRect().right"
    )
    assert on_paper.execute_script(widest) <= 704
    hidden = "return [...document.querySelectorAll('details table')].filter(each => !each.checkVisibility()).length"
    assert on_paper.execute_script(hidden) == 0
    # Where a style sheet cannot unfold, the page does before it prints, and folds after.
    folded = "dispatchEvent(new Event(arguments[0])); return document.querySelectorAll('details:not([open])').length"
    assert on_paper.execute_script(folded, "beforeprint") == 0
    assert on_paper.execute_script(folded, "afterprint") > 10


def test_where_a_number_comes_from_is_read_without_a_pointer(browser, committed):
    size(browser, 360)
    browser.get(committed)
    summary = browser.find_element("xpath", "//section[@id='table1']//summary[contains(., 'Where these numbers')]")
    browser.execute_script("arguments[0].focus()", summary)
    browser.switch_to.active_element.send_keys("\ue007")
    rows = browser.execute_script(
        "return [...arguments[0].parentElement.querySelectorAll('tbody tr')].map(row => row.innerText)", summary
    )
    (row,) = [row for row in rows if row.startswith("Cox regression, METABRIC: Ours, stationary")]
    assert "cox_accuracy:runs/data=metabric" in row
    # All numbers of the section are named there.
    named = browser.execute_script(
        "const part = document.querySelector('#table1');"
        "const all = [...part.querySelectorAll('.scroll data, .differs data')].map(each => each.dataset.source);"
        "const said = [...arguments[0].parentElement.querySelectorAll('code')].map(each => each.textContent);"
        "return all.filter(source => source.startsWith('paper:table1') && !said.includes(source))",
        summary,
    )
    assert named == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_their_ground(browser, committed, scheme):
    size(browser, 1400, scheme=scheme)
    browser.get(committed)
    script = """
        const light = colour => { const [r, g, b] = colour.match(/[0-9.]+/g).map(Number).map(v => v / 255)
            .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b };
        const ground = element => { for (; element; element = element.parentElement) {
            const colour = getComputedStyle(element).backgroundColor;
            if (!/, 0\\)$/.test(colour)) return colour } };
        return ['p', '.lead', 'nav a', 'thead th', 'td', 'summary', '.from', 'footer p'].map(name => {
            const element = document.querySelector(name);
            const pair = [light(getComputedStyle(element).color), light(ground(element))].sort((a, b) => b - a);
            return [name, (pair[0] + 0.05) / (pair[1] + 0.05)] })"""
    assert [found for found in browser.execute_script(script) if found[1] < 4.5] == []


def test_tables_sort_by_number_by_name_and_back_with_missing_cells_last(browser, small):
    browser.get(small)
    browser.execute_script("document.querySelectorAll('details').forEach(each => each.open = true)")
    _, name, r = browser.find_elements("css selector", "#more thead button")
    seen = []
    for _ in range(3):
        r.click()
        seen.append(column(browser, 2))
    assert seen == [
        (["d", "c", "b", "a"], "ascending"),
        (["b", "c", "d", "a"], "descending"),
        (["b", "c", "a", "d"], None),
    ]
    name.click()
    assert column(browser, 1) == (["a", "b", "c", "d"], "ascending")
    r.click()
    assert column(browser, 1)[1] is None


def test_tables_sort_by_the_keyboard(browser, small):
    browser.get(small)
    browser.execute_script("document.querySelectorAll('details').forEach(each => each.open = true)")
    button = browser.find_elements("css selector", "#more thead button")[2]
    browser.execute_script("arguments[0].focus()", button)
    for key, order in (("\ue007", ["d", "c", "b", "a"]), (" ", ["b", "c", "d", "a"])):
        browser.switch_to.active_element.send_keys(key)
        assert column(browser, 2)[0] == order
