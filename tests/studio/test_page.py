"""The page in a real browser: Debian's Chromium, driven by Playwright."""

import base64
import os
import shlex
import shutil
import threading

import imageio.v3 as imageio
import numpy as np
import pytest
from latent_examples import tiny_cascade
from studio_serving import load, served, studio_of

from examples import ROOT, run
from igpt_tf.latent.cascade import Cascade
from igpt_tf.sampling import known_outside_box
from igpt_tf.studio.cascades import CascadeModel
from igpt_tf.studio.server import Studio

CHROMIUM = next((path for path in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if path), None)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no browser: the studio's page is NOT tested (apt install chromium)"),
]


@pytest.fixture(scope="module")
def chromium():
    sync_api = pytest.importorskip("playwright.sync_api", reason="no Playwright: the studio's page is NOT tested")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(preset):
    with served(studio_of(preset)) as address:
        yield address


def open_page(chromium, address, **how):
    """A page that has loaded, and what it complained of or asked elsewhere."""
    page = chromium.new_page(**{"viewport": {"width": 1280, "height": 900}, **how})
    page.set_default_timeout(60_000)
    page.problems = []
    page.on("console", lambda message: page.problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("request", lambda asked: page.asked.append(asked))
    page.asked = []
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    return page


@pytest.fixture
def page(chromium, address):
    page = open_page(chromium, address)
    yield page
    assert page.problems == []
    assert all(asked.url.startswith((address, "blob:", "data:")) for asked in page.asked)
    page.close()


def orders(page):
    """The drawings that the page has asked for."""
    return [asked.post_data_json for asked in page.asked if asked.url.endswith("/api/draw")]


def draw(page):
    page.click("#draw")
    page.wait_for_selector("#results-tools:not([hidden])")
    return orders(page)[-1]


def at(page, column, row):
    """The middle of one of the model's pixels on the mask, in the page's own."""
    box = page.locator("#mask").bounding_box()
    return box["x"] + (column + 0.5) * box["width"] / 8, box["y"] + (row + 0.5) * box["height"] / 8


def stroke(page, *cells):
    page.locator("#mask").scroll_into_view_if_needed()
    page.mouse.move(*at(page, *cells[0]))
    page.mouse.down()
    for cell in cells[1:]:
        page.mouse.move(*at(page, *cell))
    page.mouse.up()


def colors(page, selector):
    """The pixels (height, width, 3) of a canvas."""
    data = page.locator(selector).evaluate("canvas => canvas.toDataURL()")
    return imageio.imread(base64.b64decode(data.split(",")[1]))[..., :3]


def test_a_photograph_comes_back_row_by_row(page, palette):
    page.click(".photos button[title='boat.jpg']")
    page.wait_for_selector(".photos button[title='boat.jpg'][aria-pressed=true]")
    page.evaluate("""() => {
        window.rows = [];
        new MutationObserver(() => window.rows.push(document.querySelector('#progress-text').textContent))
            .observe(document.querySelector('#progress-text'), {childList: true});
    }""")
    order = draw(page)
    assert order["known"] == [1] * 32 + [0] * 32 and (order["n"], order["seed"]) == (4, 42)
    rows = [text.split(",")[0] for text in page.evaluate("rows") if text.startswith("row ")]
    assert list(dict.fromkeys(rows)) == ["row 5", "row 6", "row 7", "row 8"]
    assert page.locator(".card").count() == 4 and page.locator(".card.best").count() == 1
    given = palette.dequantize(np.array([order["tokens"]]))[0]
    np.testing.assert_array_equal(colors(page, "#seen"), given)
    drawn = colors(page, ".card canvas >> nth=2")
    np.testing.assert_array_equal(drawn[:4], given[:4])
    assert (drawn[4:] != given[4:]).any()


def test_the_same_seed_is_the_same_picture_and_another_is_not(page):
    draw(page)
    first = colors(page, ".card canvas >> nth=1")
    page.click("#again")
    page.wait_for_selector("#results-tools:not([hidden])")
    np.testing.assert_array_equal(colors(page, ".card canvas >> nth=1"), first)
    page.click("#more")
    page.wait_for_selector("#results-tools:not([hidden])")
    assert (colors(page, ".card canvas >> nth=1") != first).any()
    assert [order["seed"] for order in orders(page)] == [42, 42, 43]
    assert page.locator("#gallery button").count() == 12


def test_the_mask_that_is_painted_is_the_mask_that_is_sent(page):
    page.click("[data-tool=brush]")
    page.locator("#size").fill("1")
    stroke(page, (1, 1), (4, 1))
    stroke(page, (6, 7))
    known = np.ones((8, 8), int)
    known[1, 1:5] = known[7, 6] = 0
    assert draw(page)["known"] == known.reshape(-1).tolist()
    page.click("[data-tool=eraser]")
    stroke(page, (2, 1), (3, 1))
    known[1, 2:4] = 1
    assert draw(page)["known"] == known.reshape(-1).tolist()
    page.click("#invert")
    assert draw(page)["known"] == (1 - known).reshape(-1).tolist()
    page.click("#undo")
    page.click("#undo")
    known[1, 2:4] = 0
    assert draw(page)["known"] == known.reshape(-1).tolist()
    page.keyboard.press("Control+Shift+Z")
    known[1, 2:4] = 1
    assert draw(page)["known"] == known.reshape(-1).tolist()
    page.click("#clear")
    assert page.is_disabled("#draw")


def test_the_rows_slider_is_undone_step_by_step(page):
    page.focus("#rows")
    for key in ("ArrowRight", "ArrowRight", "Shift", "Control+z"):
        page.keyboard.press(key)
    assert page.input_value("#rows") == "5"
    page.keyboard.press("Control+Shift+Z")
    assert page.input_value("#rows") == "6"


def test_a_wrong_setting_is_shown_where_it_is(page):
    page.evaluate("document.querySelector('#particles').value = 999")
    page.click("#draw")
    assert page.is_visible("#particles") and not page.is_visible("#stop")


def test_errors_are_shown_in_every_dialog(page):
    draw(page)
    for number in (0, 1):
        page.click(f".card .picture >> nth={number}")
        page.evaluate("import('/page/dom.js').then(({complain}) => complain('a mistake'))")
        page.wait_for_selector("#viewer #alert:not([hidden])")
        page.keyboard.press("Escape")


def test_a_box_by_mouse_and_by_keyboard(page):
    page.click("[data-tool=box]")
    stroke(page, (2, 3), (5, 4))
    box = known_outside_box(8, 2, 3, 4, 2).astype(int).tolist()
    assert draw(page)["known"] == box
    page.click("#clear")
    page.focus("#mask")
    # From the middle, (4, 4), to the corner (2, 3), and from there to (5, 4).
    for key in ["ArrowLeft"] * 2 + ["ArrowUp"] + [" "] + ["ArrowRight"] * 3 + ["ArrowDown"] + [" "]:
        page.keyboard.press(key)
    assert draw(page)["known"] == known_outside_box(8, 2, 3, 4, 2).astype(int).tolist()


def test_stop_frees_the_studio_and_the_next_drawing_runs(page, address):
    page.evaluate("document.querySelector('#n').value = 16")
    page.click("#nothing")
    page.click("#draw")
    page.click("#stop")
    page.wait_for_selector("#draw:not([hidden])")
    assert "stopped" in page.text_content("#results-about")
    page.click(".photos button[title='cat.jpg']")
    page.evaluate("document.querySelector('#n').value = 2")
    page.fill("#seed", "7")
    assert draw(page)["seed"] == 7


def test_the_copied_command_makes_the_same_png(page, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page.click("[data-tool=brush]")
    page.locator("#size").fill("2")
    stroke(page, (2, 2), (5, 3))
    page.click("details summary")
    page.fill("#particles", "10")
    page.evaluate("document.querySelector('#temperature').value = 0.9")
    draw(page)
    page.click("#copy")
    command = shlex.split(page.text_content("#command-line"))
    assert command[:2] == ["igpt", "complete"] and "--mask" in command
    for name in ("picture.png", "mask.png"):
        if page.locator(f"#command button:has-text('Save {name}')").count():
            with page.expect_download() as download:
                page.click(f"#command button:has-text('Save {name}')")
            download.value.save_as(tmp_path / name)
    command = [word if word != "examples/photos/cat.jpg" else str(ROOT / word) for word in command]
    code, _, err = run(capsys, *command[1:], "--out", "out")
    assert code == 0, err
    page.keyboard.press("Escape")
    for number in (0, 3):
        page.click(f".card .picture >> nth={number}")
        with page.expect_download() as download:
            page.click("#viewer button:has-text('128 px')")
        page.keyboard.press("Escape")
        (drawn,) = (tmp_path / "out").glob(f"*_{number}.png")
        with open(download.value.path(), "rb") as file:
            assert file.read() == drawn.read_bytes()


def test_keep_and_go_on_surprise_and_before_and_after(page):
    draw(page)
    kept = colors(page, ".card canvas >> nth=0")
    page.click(".card .picture >> nth=0")
    page.click("[data-view=compare]")
    page.locator("#viewer input[type=range]").fill("20")
    assert "80%" in page.locator("#viewer .over").evaluate("canvas => canvas.style.clipPath")
    page.click("[data-view=surprise]")
    page.hover("#viewer .frame", position={"x": 2, "y": 2})
    assert "nats" in page.text_content("#viewer .legend")
    page.focus("#viewer .frame canvas")
    for key in ("ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    assert "column 2, row 2" in page.text_content("#viewer .legend")
    page.click("#viewer button:has-text('Keep and go on')")
    page.wait_for_function("() => document.querySelector('#crop-text').textContent.startsWith('8 ')")
    np.testing.assert_array_equal(colors(page, "#seen"), kept)
    page.click("#surprise")
    page.wait_for_selector("#viewer[open] .legend:not([hidden])")


def test_pictures_are_saved(page, tmp_path):
    draw(page)
    for button, start in (("#save-grid", b"\x89PNG"), ("#save-gif", b"GIF89a")):
        with page.expect_download() as download:
            page.click(button)
        with open(download.value.path(), "rb") as file:
            assert file.read().startswith(start)


def test_a_file_is_dropped_cropped_and_one_that_cannot_be_read_is_refused(page, tmp_path):
    wide = np.zeros((40, 80, 3), np.uint8)
    wide[:, 40:] = 255
    imageio.imwrite(tmp_path / "wide.png", wide)
    page.set_input_files("#file", tmp_path / "wide.png")
    page.wait_for_function("() => document.querySelector('#crop-text').textContent.startsWith('80 ')")
    half = colors(page, "#seen")
    assert (half[0, 0] != half[0, 7]).any()
    page.focus("#crop")
    for _ in range(30):
        page.keyboard.press("ArrowLeft")
    page.wait_for_function("""() => {
        const [r, g, b] = document.querySelector('#seen').getContext('2d').getImageData(7, 0, 1, 1).data;
        const [R, G, B] = document.querySelector('#seen').getContext('2d').getImageData(0, 0, 1, 1).data;
        return r === R && g === G && b === B;
    }""")
    assert draw(page)["picture"] == "picture.png"
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 nothing")
    page.set_input_files("#file", tmp_path / "broken.jpg")
    page.wait_for_selector("#alert:not([hidden])")
    assert "expected" in page.text_content("#alert")
    page.problems.clear()  # The browser reports the refusal, too.
    assert draw(page)["picture"] == "picture.png"


def test_several_browsers_see_their_places(chromium, preset):
    """A model that takes its time to load, so that others wait."""
    go = threading.Event()

    def slow(preset):
        go.wait(30)
        return load(preset)

    with served(studio_of(preset, load=slow)) as address:
        pages = [open_page(chromium, address) for _ in range(3)]
        for page in pages:
            page.click("#draw")
            page.wait_for_selector("#stop:not([hidden])")
        pages[2].wait_for_selector("#progress-text:has-text('2 drawings before')")
        pages[1].click("#stop")
        pages[2].wait_for_selector("#progress-text:has-text('1 drawing before')")
        go.set()
        for page in (pages[0], pages[2]):
            page.wait_for_selector("#results-tools:not([hidden])")
        for page in pages:
            assert page.problems == []
            page.close()


def test_a_cascade_shows_its_stages(chromium, tmp_path):
    tiny_cascade().save_to_preset(tmp_path)
    model = CascadeModel(str(tmp_path), tmp_path, Cascade.from_preset)
    with served(Studio([model])) as address:
        page = open_page(chromium, address)
        page.evaluate("""() => {
            window.stages = [];
            new MutationObserver(() => window.stages.push(document.querySelector('#progress-text').textContent))
                .observe(document.querySelector('#progress-text'), {childList: true});
        }""")
        page.click("#nothing")
        draw(page)
        stages = [text[:12] for text in page.evaluate("stages") if text.startswith("stage")]
        assert list(dict.fromkeys(stages)) == ["stage 1 of 3", "stage 2 of 3", "stage 3 of 3"]
        page.click(".card .picture >> nth=0")
        page.click("#viewer button:has-text('Keep and go on')")
        page.wait_for_selector("#nothing[aria-pressed=false]")
        assert draw(page)["known"] == [1] * 128 + [0] * 128
        assert page.is_visible("#copy") and page.is_hidden("#surprise") and page.problems == []
        page.close()


@pytest.mark.parametrize("width", [360, 640, 1024])
def test_nothing_is_wider_than_the_screen(chromium, address, width):
    """A telephone; 1280 pixels at 200 %; a tablet."""
    page = open_page(chromium, address, viewport={"width": width, "height": 740})
    draw(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.problems == []
    page.close()


def test_everything_is_reached_by_keyboard(page):
    reached = set()
    for _ in range(70):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.dataset.tool"))
    wanted = {"model", "help", "open", "paste", "nothing", "crop", "crop-scale", "surprise", "rows", "eraser", "invert"}
    assert wanted | {"clear", "load-mask", "mask", "n", "temperature", "seed", "dice", "draw"} <= reached
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#results-tools:not([hidden])")
    page.focus("#mask")
    page.keyboard.press("?")
    assert page.is_visible("#keys")
    page.keyboard.press("Escape")


def axe_core():
    """The script of axe-core, which checks accessibility; None where it is not installed."""
    places = [os.environ.get("AXE_CORE", ""), ROOT / ".venv/node_modules/axe-core/axe.min.js"]
    return next((str(place) for place in places if place and os.path.isfile(place)), None)


@pytest.mark.skipif(axe_core() is None, reason="no axe-core: accessibility is NOT checked (see .ci/run)")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_core_finds_nothing(chromium, address, scheme):
    page = open_page(chromium, address, color_scheme=scheme, bypass_csp=True)
    page.add_script_tag(path=axe_core())
    found = []

    def check(where):
        violations = page.evaluate("async () => (await axe.run(document, {resultTypes: ['violations']})).violations")
        found.extend((where, one["id"], [node["target"] for node in one["nodes"]]) for one in violations)

    check("start")
    draw(page)
    page.wait_for_selector("#toast", state="hidden")
    check("results")
    page.click(".card .picture >> nth=0")
    check("viewer")
    page.click("[data-view=compare]")
    check("compare")
    page.keyboard.press("Escape")
    page.click("#copy")
    check("command")
    page.keyboard.press("Escape")
    page.click("#help")
    check("keys")
    page.close()
    assert found == []
