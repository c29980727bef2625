"""Names of videos, and finding them below a folder."""

from tasks.core.data.videos import VideoFiles, video_names


def test_names_of_a_video():
    assert video_names("some/where/abc.mp4") == ["abc"]
    assert video_names("a.b_000001_000011.MKV") == ["a.b_000001_000011", "a.b"]
    assert video_names("frames/v1.5/") == ["v1.5"]
    assert video_names("abc_000001_11.mp4") == ["abc_000001_11"]


def test_trimmed_clips_are_found_by_their_id_where_asked(tmp_path):
    (tmp_path / "abc_000010_000020.mp4").touch()
    assert VideoFiles(tmp_path, trimmed=True).find("x", "abc") == f"{tmp_path}/abc_000010_000020.mp4"
    assert VideoFiles(tmp_path, trimmed=False).find("x", "abc") is None
