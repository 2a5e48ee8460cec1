import os
import shutil
import threading
import time

import pytest
import uvicorn

from serving.api.app import create_app
from serving.release.processes import free_port
from tests.serving.sites import ITEM_IDS, KEYS

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def test_items_are_found_by_title_and_by_id(client):
    found = client.get("/v1/items", params={"query": "TITLE 1", "limit": 3}).json()["items"]
    assert [item["title"] for item in found] == ["Title 1", "Title 10", "Title 11"]
    named = client.get("/v1/items", params={"item_id": [ITEM_IDS[3], "unknown"]}).json()["items"]
    assert named == [{"item_id": ITEM_IDS[3], "title": "Title 3", "category": "books"}]
    assert client.get("/v1/items").json()["items"][0]["item_id"] == ITEM_IDS[0]


def test_parameters_out_of_range_are_refused_without_an_echo(client):
    response = client.get("/v1/items", params={"limit": "canary"})
    assert (response.status_code, response.json()["field"]) == (422, "limit")
    assert "canary" not in response.text


def test_the_page_loads_nothing_from_elsewhere(client):
    response = client.get("/")
    assert response.headers["content-security-policy"].startswith("default-src 'self'")
    assert "http" not in response.text


@pytest.fixture
def url(settings):
    """The application on a real socket of this process."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(create_app(settings), port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def page():
    if CHROMIUM is None:
        pytest.skip("needs Chromium on the PATH")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser.new_page(viewport={"width": 1100, "height": 760})
        browser.close()


def listed(page):
    return page.eval_on_selector_all("#list tr", "rows => rows.map(row => row.dataset.item)")


@pytest.mark.alone
def test_a_click_shifts_the_list(url, page, tmp_path):
    from playwright.sync_api import expect

    problems = []
    page.on("console", lambda message: message.type == "error" and problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    history = page.locator("#history li")

    page.goto(f"{url}/#key={KEYS.admin[0]}")
    expect(page.locator("#list tr")).to_have_count(10)
    assert "key=" not in page.url
    assert listed(page) == ITEM_IDS[:10]

    page.fill("#user", "anna")
    page.press("#user", "Enter")
    page.click("#list tr:nth-child(3)")
    expect(history).to_have_text(["Title 2"])
    shifted = listed(page)
    assert shifted != ITEM_IDS[:10]
    assert ITEM_IDS[2] not in shifted

    page.click("h1")
    page.keyboard.press("1")
    expect(history).to_have_count(2)
    assert shifted[0] not in listed(page)

    page.fill("#find", "Title 5")
    page.press("#find", "Enter")
    expect(page.locator("#history li.added")).to_have_text(["Title 5"])
    page.screenshot(path=os.environ.get("CONSOLE_SCREENSHOT", tmp_path / "console.png"))
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert problems == []


def test_without_a_key_the_page_asks_for_one(url, page):
    page.goto(url)
    page.wait_for_selector("#key-label:not([hidden])")
    page.fill("#key", KEYS.admin[0])
    page.click("form button")
    page.wait_for_selector("#list tr")
