"""The page in headless Chromium: sorting, filtering, keyboard, no console error, no request, HTML shown as text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reports.write import report

pytestmark = pytest.mark.browser
HOSTILE = "<b id=hostile>x</b>"


@pytest.fixture
def opened(browser: Any, full_run: Path, tmp_path: Path) -> Any:
    path = report(full_run, ("html",), tmp_path)["files"]["html"][0]
    browser.get(f"file://{path}")
    return browser


def column(browser: Any, number: int) -> list[str]:
    script = "return [...document.querySelectorAll('#board tbody tr')].map(r => r.children[arguments[0]].innerText)"
    found: list[str] = browser.execute_script(script, number)
    return found


def test_nothing_is_logged_and_nothing_requested(opened: Any) -> None:
    import json

    assert [entry for entry in opened.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    sent = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in sent if m["method"] == "Network.requestWillBeSent"]
    # Chromium's own start page asks for chrome:// addresses before the report is opened.
    assert [url for url in urls if not url.startswith(("file://", "data:", "chrome://", "chrome-untrusted://"))] == []


def test_every_section_draws_something(opened: Any) -> None:
    for name in ("pareto-plots", "learning-plots", "cell-plots", "ablation-plots", "federated-plots"):
        assert opened.execute_script("return document.querySelectorAll(`#${arguments[0]} svg`).length", name) > 0, name
    assert opened.execute_script("return document.querySelectorAll('.matrix td').length") >= 4
    assert "null" not in opened.execute_script("return document.getElementById('closeup').innerText")
    assert "NaN" not in opened.execute_script("return document.body.innerHTML")


def test_sorting_by_a_head_and_back(opened: Any) -> None:
    place = opened.execute_script(
        "return [...document.querySelectorAll('#board th')].findIndex(t => t.dataset.name === 'accuracy')"
    )
    for expected in (True, False):
        opened.execute_script("document.querySelector('#board th[data-name=accuracy] button').click()")
        values = [float(text) for text in column(opened, place) if text.strip().replace(".", "").isdigit()]
        assert values == sorted(values, reverse=expected)
        direction = opened.execute_script(
            "return document.querySelector('#board th[data-name=accuracy]').getAttribute('aria-sort')"
        )
        assert direction == ("descending" if expected else "ascending")


def test_filters_narrow_the_board_and_the_pictures(opened: Any) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    Select(opened.find_element(By.ID, "by-dataset")).select_by_value("br35h")
    assert {text.split()[0] for text in column(opened, 1)} == {"br35h"}
    assert opened.execute_script("return document.querySelectorAll('#pareto-plots figure').length") == 1
    opened.find_element(By.ID, "find").send_keys("noskip wide")
    assert set(column(opened, 0)) == {"deepmedix-wide-noskip-nodropout", "deepmedix-wide-noskip"}
    assert opened.find_element(By.ID, "count").text.startswith("2 of ")


def test_a_failed_row_shows_its_reason(opened: Any) -> None:
    from selenium.webdriver.common.by import By

    opened.find_element(By.ID, "find").send_keys("densenet121")
    assert "RuntimeError: out of paper" in opened.find_element(By.ID, "board").text


def test_picking_a_model_by_keyboard(opened: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    script = "const b = [...document.querySelectorAll('#board .pick')].find(x => x.textContent === 'deepmedix-gmp')"
    before = opened.execute_script(script + "; b.focus(); return b.getAttribute('aria-pressed')")
    opened.switch_to.active_element.send_keys(Keys.ENTER)
    after = opened.execute_script(script + "; return b.getAttribute('aria-pressed')")
    assert {before, after} == {"true", "false"}
    assert opened.switch_to.active_element.text == "deepmedix-gmp"


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen(opened: Any, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    opened.refresh()
    assert opened.execute_script("return document.documentElement.scrollWidth") <= width
    opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_dark_mode_changes_the_paper(opened: Any) -> None:
    script = "return getComputedStyle(document.body).backgroundColor"
    light = opened.execute_script(script)
    opened.execute_script("document.getElementById('theme').click()")
    assert opened.execute_script(script) != light


def test_html_in_names_is_text(
    browser: Any, new_run: Callable[[], Any], spec: Callable[..., dict[str, Any]],
    predictions: Callable[..., dict[str, Any]],
) -> None:  # fmt: skip
    run = new_run()
    for model in ("deepmedix", f"m{HOSTILE}"):
        table = predictions(model, "br35h", 0)
        table[f"p_{HOSTILE}"] = table.pop("p_yes")
        run.done(spec(model, "br35h", 0), table)
    browser.get("file://" + report(run.path, ("html",))["files"]["html"][0])
    assert browser.execute_script("return document.querySelectorAll('#hostile').length") == 0
    assert HOSTILE in browser.execute_script("return document.querySelector('.matrix').textContent")
    assert f"m{HOSTILE}" in browser.execute_script("return document.getElementById('board').textContent")
