"""The site from the folder that `make site` builds, without a server or a network: in a browser, and as one reads."""

import time
from pathlib import Path

import pytest
from chromium import CHROMIUM, DRIVER, opened, size

from experiments.twelve_questions import QUESTIONS, reached

SITE = Path(__file__).parent.parent / "site"
pytestmark = pytest.mark.skipif(not (SITE / "index.html").exists(), reason="needs `make site`")
PAGES = ["index", "survival", "peers", "through_training", "api", "generated/gallery/plot_trial"]
START = SITE / "index.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    pytest.importorskip("selenium.webdriver")
    if not (CHROMIUM and DRIVER):
        pytest.skip("needs chromium and chromedriver (see .ci/run)")
    with opened(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


def until(browser, script):
    """Return what a script returns as soon as it is something."""
    end = time.monotonic() + 20
    while not (found := browser.execute_script(script)):
        assert time.monotonic() < end, script
        time.sleep(0.1)
    return found


def test_search_finds_a_page_and_leads_to_it(browser):
    size(browser, 1400)
    browser.get(START.as_uri())
    field = browser.find_element("css selector", ".md-search__input")
    field.click()
    field.send_keys("tolerance")
    until(browser, "return document.querySelectorAll('.md-search-result__item').length > 2")
    links = "return [...document.querySelectorAll('.md-search-result__link')].map(each => each.pathname)"
    assert any(path.endswith("how_far_to_trust.html") for path in browser.execute_script(links))
    browser.find_element("css selector", ".md-search-result__link").click()
    until(browser, "return !location.pathname.endsWith('index.html')")
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("width", [360, 1400])
def test_navigation_leads_to_every_page(browser, width):
    size(browser, width)
    browser.get(START.as_uri())
    if width == 360:
        browser.find_element("css selector", "label[for=__drawer].md-header__button").click()
    pages = browser.execute_script(
        "const links = document.querySelectorAll('.md-nav--primary a.md-nav__link');"
        "return [...links].map(each => each.getAttribute('href'))"
    )
    files = {page.split("#")[0] for page in pages} - {""}
    built = {page.name for page in SITE.glob("*.html")} - {"404.html", "index.html"}
    assert built <= files
    assert all((SITE / file).exists() for file in files)
    if width == 1400:
        browser.find_element("link text", "Survival analysis").click()
        assert until(browser, "return document.querySelector('h1').innerText").startswith("Survival analysis")


def test_programs_are_copied_by_their_button(browser):
    size(browser, 1400)
    browser.get(START.as_uri())
    code = browser.find_element("css selector", ".highlight code").text
    browser.find_element("css selector", ".highlight .md-clipboard, .highlight button[data-clipboard-target]").click()
    field = browser.find_element("css selector", ".md-search__input")
    field.click()
    field.send_keys("\ue009v")
    assert code.startswith("pip install")
    assert until(browser, "return document.querySelector('.md-search__input').value") == code


def test_tabs_and_search_go_by_the_keyboard(browser):
    size(browser, 1400)
    browser.get(START.as_uri())
    until(browser, "return document.querySelectorAll('.tabbed-labels label').length == 6")
    active = browser.switch_to.active_element
    active.send_keys("/")
    assert until(browser, "return document.activeElement.className").startswith("md-search__input")
    browser.switch_to.active_element.send_keys("\ue00c")
    first = browser.find_element("css selector", ".tabbed-set > input")
    browser.execute_script("arguments[0].focus()", first)
    browser.switch_to.active_element.send_keys("\ue014")
    shown = "return [...document.querySelectorAll('.tabbed-block')].findIndex(each => each.offsetHeight > 0)"
    assert browser.execute_script(shown) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1400])
@pytest.mark.parametrize("page", PAGES)
def test_nothing_is_wider_than_the_window(browser, page, width, scheme):
    size(browser, width, scheme=scheme)
    browser.get((SITE / f"{page}.html").as_uri())
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    # Tables and programs scroll in a box of their own, which is not cut.
    cut = """return [...document.querySelectorAll('.md-typeset table, .md-typeset pre > code')].filter(each => {
        for (let at = each; at; at = at.parentElement) {
            if (['auto', 'scroll'].includes(getComputedStyle(at).overflowX)) return false }
        return each.getBoundingClientRect().right > innerWidth + 1 }).length"""
    assert browser.execute_script(cut) == 0
    broken = "return [...document.images].filter(each => each.complete && !each.naturalWidth).length"
    assert browser.execute_script(broken) == 0
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.who)
def test_twelve_questions_are_answered_within_two_clicks(question):
    assert len(question.clicks) <= 2
    page, answered = reached(question)
    assert answered, page
