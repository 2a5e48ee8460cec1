import json
import os
import shutil
import subprocess
import threading
import time

import pytest
import uvicorn

from serving.api import console
from serving.api.app import create_app
from serving.registry import ModelStore
from serving.release.processes import free_port
from tests.serving.sites import ITEM_IDS, KEYS, register

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
NODE = shutil.which("node")
FILTERS = [
    ('category=films,"sci fi" price<=20 price > 3 brand!=acme',
     {"category": ["films", "sci fi"], "price": {"lte": 20, "gt": 3}, "not": {"brand": "acme"}}),
    ("sale=true brand=12", {"sale": True, "brand": "12"}),
    ("created_at>=2026-01-01T00:00:00Z", {"created_at": {"gte": "2026-01-01T00:00:00Z"}}),
    ('{"price": 3}', {"price": 3}),
    ("price 3", "not understood: price 3"),
    ("a!=1 b!=2", "one != at a time: items that meet all of several can be written as JSON"),
]  # fmt: skip


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


def test_what_trends_now_comes_without_a_query_and_without_what_is_gone(client):
    client.delete(f"/v1/items/{ITEM_IDS[0]}")
    found = client.get("/v1/items", params={"limit": 2}).json()["items"]
    assert [item["item_id"] for item in found] == ITEM_IDS[1:3]


def test_filters_are_read_as_people_type_them():
    if NODE is None:
        pytest.skip("needs node on the PATH")
    script = """
      const { parseFilter } = require(process.argv[1]);
      const [texts, kinds] = JSON.parse(process.argv[2]);
      const read = (text) => { try { return parseFilter(text, kinds); } catch (e) { return e.message; } };
      console.log(JSON.stringify(texts.map(read)));
    """  # noqa: E501
    kinds = {"category": "text", "price": "number", "sale": "truth", "brand": "text"}
    told = json.dumps([[text for text, _ in FILTERS], kinds])
    path = str(console.files(console.__package__).joinpath("filter.js"))
    done = subprocess.run([NODE, "-e", script, path, told], capture_output=True, check=True)
    assert json.loads(done.stdout) == [read for _, read in FILTERS]


@pytest.fixture
def settings(settings, tmp_path):
    """Of a site that knows dislikes, and draws new items often."""
    roles = {"dislike": "negative"}
    version = register(settings.home, tmp_path / "roles", seed=2, event_roles=roles)
    ModelStore(settings.home / "models").promote(version, why="test")
    return settings.model_copy(update={"new_item_share": 0.0})


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

    shown = listed(page)
    page.click("h1")
    page.keyboard.press("Shift+Digit1")
    expect(page.locator("#message")).to_contain_text("Sent a dislike of")
    expect(page.locator(f"#list tr[data-item={shown[0]}]")).to_have_count(0)

    page.keyboard.press("f")
    page.keyboard.type("category=books price>=10")
    page.keyboard.press("Enter")
    expect(page.locator("#list small").first).to_have_text("books")
    assert {int(one[5:]) % 3 for one in listed(page)} == {0}
    assert min(int(one[5:]) for one in listed(page)) >= 20
    page.fill("#filter", "pricee=3")
    page.press("#filter", "Enter")
    expect(page.locator("#message.error")).to_contain_text("filter.pricee no item has")
    assert "422" in problems.pop()
    expect(page.locator("#trend li")).to_have_count(10)
    assert page.locator("#trend li").first.inner_text() == "Title 0"

    page.fill("#filter", "price=12345")
    page.click("h1")
    page.keyboard.press("n")
    page.keyboard.type("brand-new")
    page.fill("#put-title", "Brand new")
    page.fill("#put-attributes", "price=12345 brand=b9")
    page.press("#put-id", "Enter")
    expect(page.locator("#list tr")).to_contain_text(["Brand new"])
    expect(page.locator("#message")).to_have_text("Put brand-new: it is in list 1 from here.")
    page.click("#take-out")
    expect(page.locator("#message")).to_contain_text("Took brand-new out")
    expect(page.locator("#list tr")).to_have_count(0)
    page.fill("#filter", "")
    page.press("#filter", "Enter")
    expect(page.locator("#list tr")).to_have_count(10)
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
