from html.parser import HTMLParser

import pytest

from tasks.core.report.page import Page

PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 20
SVG = '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


class Reader(HTMLParser):
    """Collects tags, attributes and text, and checks that tags close in order."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.attributes, self.words = [], [], [], []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def full_page():
    page = Page("A <title> & more", "sub <b>title</b>")
    page.section("Results <i>").text("one <script>alert(1)</script>\n\ntwo").code("vid demo > /dev/null")
    page.table(["name", "top-1"], [["scratch<br>", 12.34567], ["TATS", None]], caption="a < b", marked=[1])
    page.facts({"seed": 3, "path": "<path>"})
    page.figure(PNG, 'a "quoted" caption').figure(SVG, alt="drawing")
    return page


def test_text_is_escaped_and_tags_are_balanced():
    reader = Reader(full_page().html())
    assert not {"script", "b", "i", "br", "path"} & set(reader.tags)
    assert "one <script>alert(1)</script>" in reader.words
    assert "scratch<br>" in reader.words
    assert ("alt", 'a "quoted" caption') in reader.attributes


def test_nothing_outside_the_page_is_asked_for():
    reader = Reader(full_page().html())
    assert "link" not in reader.tags
    assert not any(name in ("href", "srcset") for name, _ in reader.attributes)
    assert all(value.startswith("data:image/") for name, value in reader.attributes if name == "src")
    assert "http" not in full_page().html()
    assert "url(" not in full_page().html()


def test_both_colour_schemes_are_styled():
    assert "prefers-color-scheme: dark" in full_page().html()


def test_table_cells():
    html = Page("t").table(["a", "b"], [["x", 0.123456], ["y", None], ["z"]]).html()
    assert '<td class="number">0.1235</td>' in html
    assert '<td class="number">–</td>' in html
    assert "<td>x</td>" in html
    assert '<tr class="marked">' not in html
    assert Page("t").table(["a"], []).html().count("<tr>") == 1


def test_a_figure_must_be_a_picture():
    with pytest.raises(ValueError, match="PNG"):
        Page("t").figure(b"GIF89a")


def test_write_makes_the_folder_and_leaves_no_temporary(tmp_path):
    path = full_page().write(tmp_path / "deep" / "report.html")
    assert path.read_text(encoding="utf-8") == full_page().html()
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_settings_are_told_in_words():
    from tasks.core.report.cards import told

    settings = {
        "min_gap_s": 0.5,
        "short_side_px": 64,
        "normal": ["ped2/train", "b"],
        "hop_s": None,
        "events": {"min_score": 0.1, "soft": True},
    }
    assert told(settings) == {
        "min gap (s)": 0.5,
        "short side (px)": 64,
        "normal": "ped2/train, b",
        "events: min score": 0.1,
        "events: soft": "yes",
    }


def test_pictures_beside_each_other_never_are_wider_than_their_half():
    """A grid column of 1fr is at least as wide as its picture, which a wide video takes out of a phone's screen."""
    from tasks.core.report.cards import STYLE

    assert "grid-template-columns: 1fr" not in STYLE
    assert "repeat(2, minmax(0, 1fr))" in STYLE
