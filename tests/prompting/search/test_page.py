"""The page of a search."""

from painted import write_video
from search_toys import GRID

from tasks.core.data.captions import Sentence
from tasks.prompting.search.find import Found
from tasks.prompting.search.moments import Moment
from tasks.prompting.search.page import link_to, write_page
from tasks.prompting.search.store import Video


def found(path, said=()):
    video = Video(str(path), str(path), None, None, "1-of-1", 0, 9, GRID, 18.0, None, 0.0)
    return Found(video, Moment(0, 0.5, 1.25, 0.6, 0.4567), tuple(said))


def test_every_moment_has_a_picture_and_a_link_into_its_video(tmp_path):
    (tmp_path / "my films").mkdir()
    write_video(tmp_path / "my films" / "a #1.mp4", 40)
    video = found(tmp_path / "my films/a #1.mp4", [Sentence(0.5, 1.0, "<b>A dog</b> barks.")])
    html = write_page(tmp_path / "page.html", "a <dog>", [video, found(tmp_path / "gone.mp4")], {"by": "pictures"}).read_text()
    assert 'href="my%20films/a%20%231.mp4#t=0.50"' in html
    assert html.count("data:image/jpeg;base64,") == 1
    assert "no picture: no such file" in html
    assert "<b>" not in html
    assert "&lt;b&gt;A dog&lt;/b&gt; barks." in html
    assert "<h1>a &lt;dog&gt;</h1>" in html
    assert "1. 0:00 to 0:01" in html
    assert "0.457" in html
    assert "http" not in html.replace("http://www.w3.org", "")


def test_a_link_is_relative_to_the_page(tmp_path):
    assert link_to(str(tmp_path / "a" / "x.mp4"), 12.345, tmp_path / "pages") == "../a/x.mp4#t=12.35"
    assert link_to(str(tmp_path / "x.mp4"), -1.0, tmp_path) == "x.mp4#t=0.00"


def test_nothing_found_is_said(tmp_path):
    assert "nothing was found" in write_page(tmp_path / "page.html", "a dog", [], {}).read_text()
