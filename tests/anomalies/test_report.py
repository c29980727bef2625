import base64
import io
import json
import re
import shutil
import subprocess
from html import unescape

import numpy as np
import pytest
from found_anomalies import detection, scores_of, write_yard
from PIL import Image

from tasks.anomalies.heat import overlay
from tasks.anomalies.report import pictured, pictures, write_report
from tasks.core.report import detections
from tasks.core.video.open import open_video

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
THREE = (0.1,) * 10 + (0.7,) * 5 + (0.1,) * 10 + (0.6,) * 5 + (0.1,) * 10 + (0.95,) * 10


def grey(n, level=90):
    return [np.full((64, 96, 3), level + i, np.uint8) for i in range(n)]


def page_of(folder, found, thumbnails="made"):
    path = folder / "yard.html"
    write_report(path, found, grey(len(pictured(found))) if thumbnails == "made" else thumbnails)
    return path.read_text(encoding="utf-8")


def images(page):
    found = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)" alt="([^"]+)"', page)
    return [(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).astype(int), alt) for data, alt in found]


def test_each_interval_has_its_peak_with_and_without_heat(tmp_path):
    found = images(page_of(tmp_path, detection(THREE)))
    assert [alt for _, alt in found] == [
        text.format(i) for i in (1, 2, 3) for text in ("peak of interval {}", "where interval {} is anomalous")
    ]
    for number, (plain, hot) in enumerate(zip(found[::2], found[1::2], strict=True)):
        assert np.abs(plain[0] - (90 + number)).max() <= 2
        assert np.abs(hot[0][:20, :40] - (90 + number)).max() <= 3
        assert (hot[0][-20:, -20:, 0] - hot[0][-20:, -20:, 2]).mean() > 40
    assert len(images(page_of(tmp_path, detection(THREE, heat=False)))) == 3


def test_the_heat_is_that_of_the_peak(tmp_path):
    score = np.array([0.1, 0.6, 0.9, 0.6, 0.1])
    found = images(page_of(tmp_path, detection(score)))
    expected = overlay(grey(1)[0], scores_of(score).heat[2]).astype(int)
    assert np.abs(found[1][0] - expected).mean() < 2


def test_the_picture_is_the_frame_of_the_peak(tmp_path, monkeypatch):
    monkeypatch.setenv("VID_CACHE", str(tmp_path / "cache"))
    with open_video(write_yard(tmp_path / "yard.mp4", frames=50)) as reader:
        found = detection(np.r_[np.full(20, 0.1), 0.6, 0.9, 0.6, np.full(27, 0.1)])
        (picture,) = pictures(found, reader)
        assert np.array_equal(picture, reader.get([21])[0])
        assert pictures(detection(np.full(50, 0.1)), reader) == []


def test_table_marks_and_indicators(tmp_path):
    page = page_of(tmp_path, detection(THREE))
    spans = re.findall(r'class="marker span" style="left:([\d.]+)%;width:([\d.]+)%" href="#(interval-\d)"', page)
    assert spans == [("20.0000", "10.0000", "interval-1"), ("50.0000", "10.0000", "interval-2"), ("80.0000", "20.0000", "interval-3")]
    rows = re.findall(r'<tr id="row-\d".*?</tr>', page)
    assert re.findall(r">([^<>]+)<", rows[2]) == ["3", "0:04.000", "0:05.000", "4.000000", "5.000000", "40–49", "0.9500", "0:04.000", "40"]
    assert "<span>motion 0.35</span><span>change 0.17</span>" in page
    assert "3 intervals · 0:05.000 · 50 frames · 10 fps · 96×64 · training-free" in page
    assert "The first and last half second are judged by shorter windows." in page
    assert "0.95 at 0:04.000 (frame 40)" in page


def test_scores_beyond_one_are_drawn_to_scale(tmp_path):
    page = page_of(tmp_path, detection(scores=scores_of([0.0, 8.0, 2.0, -2.0], parts=()), settings={"threshold": 4.0}))
    assert re.search(r'class="threshold"[^>]*y1="40"', page)
    assert re.search(r'data-low="-2.0" data-high="8.0" points="0.00,80.00 250.00,0.00 500.00,60.00 750.00,100.00"', page)


def test_a_threshold_above_everything_is_drawn_too(tmp_path):
    page = page_of(tmp_path, detection([0.1, 0.2], settings={"threshold": 3.0}, intervals=[]))
    assert re.search(r'class="threshold"[^>]*y1="0"', page)
    assert "Nothing reaches the threshold. The highest score is 0.2." in page


def test_the_highest_have_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(detections, "MAX_PICTURED", 2)
    assert pictured(detection(THREE)) == [0, 2]
    page = page_of(tmp_path, detection(THREE))
    assert [alt for _, alt in images(page)][::2] == ["peak of interval 1", "peak of interval 3"]
    assert "Pictures of the 2 intervals with the highest peaks out of 3." in page


def test_without_scores_or_pictures(tmp_path):
    assert "Nothing was scored" in page_of(tmp_path, detection(scores=scores_of([]), intervals=[]))
    page = page_of(tmp_path, detection(THREE), None)
    assert "<img" not in page
    assert 'href="#row-3"' in page
    with pytest.raises(ValueError, match="1 pictures for 3 intervals"):
        write_report(tmp_path / "b.html", detection(THREE), grey(1))


def test_nothing_outside_is_asked_for_and_text_stays_text(tmp_path):
    evil = "<script>alert(1)<b>"
    page = page_of(
        tmp_path, detection(path=f'{evil}".mp4', method=evil, settings={"threshold": 0.5, evil: evil}, damage=evil, notes=[evil])
    )
    assert page.count("<script>") == 1
    assert "<b>" not in page
    assert not re.search(r"https?:|url\(|@import|<link|srcset", page)


def test_ten_hours_make_a_small_page(tmp_path):
    score = np.random.default_rng(0).random(10 * 3600 * 10) * 0.4
    page_of(tmp_path, detection(score, heat=False), None)
    assert (tmp_path / "yard.html").stat().st_size < 150_000


STEPS = """<script>
const seen = [];
const look = (name) => seen.push([name, document.getElementById("now").textContent.split(" ")[0],
  [...document.querySelectorAll("[aria-current]")].map((part) => part.id || part.hash).join(" ")]);
const press = (key) => { document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true })); look(key); };
["ArrowRight", "j", "j", "j", "ArrowLeft", "Home", "End"].forEach(press);
const plot = document.getElementById("plot"), box = plot.getBoundingClientRect();
const at = (type, share) => plot.dispatchEvent(new PointerEvent(type,
  { clientX: box.left + share * box.width, clientY: box.top + 60, bubbles: true, detail: 1 }));
at("click", 0.25); look("inside 1");
at("click", 0.99); look("inside 3");
at("click", 0.4); look("outside");
document.querySelector("#interval-2 img").click(); look("card");
const read = () => { at("pointermove", 0.5); return document.getElementById("cursor").textContent; };
const shown = () => [...document.querySelectorAll(".part")].map((line) => getComputedStyle(line).display !== "none");
seen.push(read(), shown());
press("1"); seen.pop(); seen.push(read(), shown());
document.querySelector("input[data-shows='1']").click(); seen.push(read(), shown());
document.title = JSON.stringify(seen);
</script>"""


@pytest.mark.skipif(BROWSER is None, reason="no chromium on PATH")
def test_keyboard_mouse_and_switches_in_a_browser(tmp_path):
    path = tmp_path / "yard.html"
    found = detection(THREE)
    write_report(path, found, grey(3))
    path.write_text(path.read_text(encoding="utf-8").replace("</body>", f"{STEPS}</body>"), encoding="utf-8")
    quiet = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"]
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", *quiet, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    done = subprocess.run([*command, "--window-size=1200,900", path.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    *states, all_, both, less, one, again, back = json.loads(unescape(re.search("<title>(.*?)</title>", done.stdout).group(1)))
    assert [(name, number) for name, number, _ in states] == [
        *[("ArrowRight", "1"), ("j", "2"), ("j", "3"), ("j", "3"), ("ArrowLeft", "2"), ("Home", "1"), ("End", "3")],
        *[("inside 1", "1"), ("inside 3", "3"), ("outside", "3"), ("card", "2")],
    ]
    assert all(chosen == f"#interval-{number} interval-{number} row-{number}" for _, number, chosen in states)
    assert all_ == again == "0:02.500 · score 0.60 · motion 0.30 · change 0.15"
    assert less == "0:02.500 · score 0.60 · change 0.15"
    # curves stand in the drawing from the last to the first
    assert (both, one, back) == ([True, True], [True, False], [True, True])
