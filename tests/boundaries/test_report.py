import base64
import io
import json
import re
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest
from detection_helpers import detection
from PIL import Image

from tasks.boundaries.report import pictured, thumbnail_frames, write_report
from tasks.boundaries.result import Boundary, Scores
from tasks.core.report import detections

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
VOID = {"meta", "img", "br", "line", "polygon", "polyline"}


class Reader(HTMLParser):
    """The elements of a page as (tag, attributes, text directly in it); checks that tags close in order."""

    def __init__(self, html):
        super().__init__()
        self.open, self.elements = [], []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append([tag, dict(attrs), ""])
        if tag not in VOID:
            self.open.append(self.elements[-1])

    def handle_startendtag(self, tag, attrs):
        assert tag in VOID
        self.elements.append([tag, dict(attrs), ""])

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if self.open:
            self.open[-1][2] += data

    def find(self, tag, kind=None):
        return [(attrs, text) for name, attrs, text in self.elements if name == tag and kind in (None, attrs.get("class"))]


def pictures(found, height=48, width=64):
    """Grey pairs; each picture is as bright as its place."""
    n = len(thumbnail_frames(found))
    return [tuple(np.full((height, width, 3), 60 + (2 * i + side) % 180, np.uint8) for side in (0, 1)) for i in range(n)]


def read(folder, found, thumbnails="made"):
    path = folder / "clip.html"
    write_report(path, found, pictures(found) if thumbnails == "made" else thumbnails)
    return Reader(path.read_text(encoding="utf-8"))


def decoded(source):
    head, data = source.split(",")
    assert head == "data:image/jpeg;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_frames_lie_on_either_side():
    assert thumbnail_frames(detection([40, 75])) == [(39, 46), (74, 81)]
    # the second picture stays before the middle to the next boundary and inside the video; nothing is before the first frame
    assert thumbnail_frames(detection([0, 40, 44, 98])) == [(0, 6), (39, 42), (43, 50), (97, 99)]
    assert thumbnail_frames(detection([99])) == [(98, 99)]
    assert thumbnail_frames(detection([5], n_frames=10, fps=1.0)) == [(4, 5)]
    assert thumbnail_frames(detection([])) == []


def test_two_boundaries_on_one_frame():
    found = detection(boundaries=[Boundary(1.6, 40, 0.9), Boundary(1.61, 40, 0.8)])
    assert thumbnail_frames(found) == [(39, 46), (39, 46)]


def test_the_strongest_have_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(detections, "MAX_PICTURED", 2)
    found = detection(boundaries=[Boundary(i / 25, i, score) for i, score in ((10, 0.7), (20, 0.9), (30, 0.6), (40, 0.8))])
    assert pictured(found) == [1, 3]
    assert [before for before, _ in thumbnail_frames(found)] == [19, 39]
    page = read(tmp_path, found)
    assert [attrs["alt"] for attrs, _ in page.find("img")] == [f"{side} boundary {i}" for i in (2, 4) for side in ("before", "after")]
    assert len(page.find("li", "card")) == 4
    assert "Pictures of the 2 boundaries with the highest scores out of 4." in [text for _, text in page.find("p")]


def test_page_shows_pictures_table_and_markers(tmp_path):
    page = read(tmp_path, detection([40, 75]))
    images = [decoded(attrs["src"]) for attrs, _ in page.find("img")]
    assert [image.shape for image in images] == [(48, 64, 3)] * 4
    assert [round(image.mean()) for image in images] == [60, 61, 62, 63]
    captions = ["before · frame 39", "after · frame 46", "before · frame 74", "after · frame 81"]
    assert [text for _, text in page.find("figcaption")] == captions
    cells = [text for _, text in page.find("td", "number")]
    assert cells == ["", "0:01.600", "1.600000", "40", "0.6000", "", "", "0:03.000", "3.000000", "75", "0.9000", ""]
    markers = [attrs for attrs, _ in page.find("a", "marker")]
    assert [marker["style"] for marker in markers] == ["left:40.0000%", "left:75.0000%"]
    assert [marker["aria-label"] for marker in markers][1] == "2 of 2 · 0:03.000 · frame 75 · score 0.90"
    ids = [attrs["id"] for _, attrs, _ in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {marker["href"].removeprefix("#") for marker in markers} <= set(ids)


def test_kinds_are_told_where_they_are_known(tmp_path):
    page = read(tmp_path, detection(boundaries=[Boundary(1.6, 40, 0.9, "dissolve")]))
    assert page.find("td", "number")[-1][1] == "dissolve"
    assert page.find("a", "marker")[0][0]["aria-label"] == "1 of 1 · 0:01.600 · frame 40 · dissolve · score 0.90"


def test_curve_and_threshold_are_drawn_to_scale(tmp_path):
    page = read(tmp_path, detection([40], start_s=0.0))
    points = [tuple(map(float, point.split(","))) for point in page.find("polyline", "curve")[0][0]["points"].split()]
    assert len(points) == 100
    assert points[40] == (400.0, 40.0)
    assert points[41] == (410.0, 90.0)
    assert page.find("line", "threshold")[0][0]["y1"] == "50"
    assert not read(tmp_path, detection(settings={})).find("line", "threshold")
    assert not read(tmp_path, detection(settings={"threshold": 12.0})).find("line", "threshold")


def test_times_are_presentation_times(tmp_path):
    page = read(tmp_path, detection([40], pts=100 + np.arange(100) / 25))
    assert page.find("a", "marker")[0][0]["style"] == "left:40.0000%"
    assert page.find("td", "number")[2][1] == "101.600000"
    assert "1:41" in [text for attrs, text in page.find("span") if attrs.get("class", "").startswith("label")]


def test_nothing_outside_the_page_is_asked_for(tmp_path):
    page = read(tmp_path, detection())
    assert not page.find("link")
    for _, attrs, _ in page.elements:
        assert attrs.get("src", "data:").startswith("data:")
        assert attrs.get("href", "#").startswith("#")
        assert "srcset" not in attrs
        assert not any(name.startswith("on") for name in attrs)
    text = (tmp_path / "clip.html").read_text(encoding="utf-8")
    assert "http" not in text
    assert "url(" not in text
    assert "@import" not in text


def test_text_of_the_user_cannot_become_markup(tmp_path):
    evil = "<script>alert(1)<b>"
    found = detection(path=f'{evil}".mp4', method=evil, settings={evil: {evil: evil}}, damage=evil)
    page = read(tmp_path, found)
    assert len(page.find("script")) == 1
    assert not page.find("b")
    assert page.find("h1")[0][1] == f'{evil}".mp4'
    assert f"The video is damaged: {evil}" in [text for _, text in page.find("p")]


def test_without_pictures_markers_lead_to_the_table(tmp_path):
    page = read(tmp_path, detection(), None)
    assert not page.find("img")
    assert [attrs["href"] for attrs, _ in page.find("a", "marker")] == ["#row-1", "#row-2"]
    assert [attrs["id"] for attrs, _ in page.find("tr") if "id" in attrs] == ["row-1", "row-2"]


def test_without_boundaries_the_page_says_so(tmp_path):
    texts = [text for _, text in read(tmp_path, detection([])).find("p")]
    assert "There are no boundaries. The highest score is 0.10." in texts
    empty = Scores(np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.float32))
    page = read(tmp_path, detection([], scores=empty), None)
    assert "There are no boundaries: the video is too short to be scored." in [text for _, text in page.find("p")]
    assert not page.find("polyline")


def test_pictures_must_fit_the_boundaries(tmp_path):
    with pytest.raises(ValueError, match="1 pairs of thumbnails for 2 boundaries"):
        write_report(tmp_path / "a.html", detection(), pictures(detection())[:1])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("shape", "size"), [((500, 1000), (100, 200)), ((1000, 500), (200, 100)), ((90, 120), (90, 120))])
def test_pictures_are_small_and_keep_their_shape(tmp_path, shape, size):
    found = detection([40])
    page = read(tmp_path, found, pictures(found, *shape))
    assert {decoded(attrs["src"]).shape[:2] for attrs, _ in page.find("img")} == {size}


def test_a_page_of_ten_hours_is_small(tmp_path):
    n = 10 * 3600 * 10
    read(tmp_path, detection([n // 2], n_frames=n, fps=10.0), None)
    assert (tmp_path / "clip.html").stat().st_size < 100_000


STEPS = """<script>
const seen = [];
const look = (name) => seen.push([name, document.getElementById("now").textContent.split(" ")[0],
  [...document.querySelectorAll("[aria-current]")].map((part) => part.id || part.hash).join(" "), document.activeElement.hash || ""]);
const press = (key) => { document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true })); look(key); };
["ArrowRight", "j", "j", "ArrowLeft", "k", "k", "End", "ArrowRight", "Home"].forEach(press);
const plot = document.getElementById("plot"), box = plot.getBoundingClientRect();
const at = (type, share) => plot.dispatchEvent(new PointerEvent(type,
  { clientX: box.left + share * box.width, clientY: box.top + 20, bubbles: true, detail: 1 }));
at("click", 0.755); look("click on 3");
at("click", 0.25); look("click on nothing");
document.querySelector("#boundary-2 img").click(); look("card");
document.getElementById("next").click(); look("next");
at("pointermove", 0.4); seen.push(document.getElementById("cursor").textContent);
document.title = JSON.stringify(seen);
</script>"""


@pytest.mark.skipif(BROWSER is None, reason="no chromium on PATH")
def test_keyboard_and_mouse_in_a_browser(tmp_path):
    path = tmp_path / "clip.html"
    found = detection([10, 40, 75])
    write_report(path, found, pictures(found))
    path.write_text(path.read_text(encoding="utf-8").replace("</body>", f"{STEPS}</body>"), encoding="utf-8")
    quiet = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"]
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", *quiet, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    done = subprocess.run([*command, "--window-size=1200,900", path.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    *states, cursor = json.loads(unescape(re.search("<title>(.*?)</title>", done.stdout).group(1)))
    assert [(name, number) for name, number, _, _ in states] == [
        *[("ArrowRight", "1"), ("j", "2"), ("j", "3"), ("ArrowLeft", "2"), ("k", "1"), ("k", "1"), ("End", "3"), ("ArrowRight", "3")],
        *[("Home", "1"), ("click on 3", "3"), ("click on nothing", "3"), ("card", "2"), ("next", "3")],
    ]
    assert all(chosen == f"#boundary-{number} boundary-{number} row-{number}" for _, number, chosen, _ in states)
    assert all(focus == f"#boundary-{number}" for _, number, _, focus in states[:10])
    assert cursor == "0:01.600 · score 0.90"
