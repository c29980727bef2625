"""Names of outputs are unique."""

from tasks.core.data.inputs import gather


def test_parts_of_a_long_video_keep_apart(tmp_path):
    rows = ["path,start,end", "day.mp4,12345.67,12345.7", "day.mp4,12345.71,12345.74", "day.mp4,0.5,"]
    (tmp_path / "parts.csv").write_text("\n".join(rows) + "\n")
    assert [found.name for found in gather([str(tmp_path / "parts.csv")])] == [
        "day-12345.67-12345.7",
        "day-12345.71-12345.74",
        "day-0.5-end",
    ]
