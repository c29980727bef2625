"""Progress over videos whose lengths are not known before they are opened."""

from tasks.core.video.frame_count import FrameCount, expect


class Bar:
    def __init__(self):
        self.count, self.total, self.told = 0, None, ""

    def advance(self, n=1, **metrics):
        self.count += n

    def expect(self, total, told=""):
        self.total, self.told = total, told


def test_what_is_not_open_yet_is_as_long_as_the_others():
    bar = Bar()
    count = FrameCount(bar, 4)
    first, second = count.of(0), count.of(1)
    first(10)
    assert (bar.count, bar.total) == (10, None)  # nothing is known of its length
    expect(first, 100)
    assert bar.total == 400
    expect(second, 300)
    assert bar.total == 800
    second(30)
    assert bar.count == 40
    count.finish(0)
    assert (bar.count, bar.total, bar.told) == (130, 800, "1 of 4 videos")
    for number in (1, 2, 3):
        count.finish(number)  # two of them could not be opened
    assert (bar.count, bar.total, bar.told) == (400, 400, "4 of 4 videos")


def test_never_more_frames_than_a_video_has():
    bar = Bar()
    count = FrameCount(bar, 1)
    one = count.of(0)
    expect(one, 300)
    for _ in range(5):
        one(75)  # work that goes over a part twice
    assert (bar.count, bar.total, bar.told) == (300, 300, "")
    count.finish(0)
    assert (bar.count, bar.total) == (300, 300)


def test_a_length_that_nobody_tells_is_what_was_counted():
    bar = Bar()
    count = FrameCount(bar, 2)
    count.of(0)(50)
    count.finish(0)
    assert (bar.count, bar.total) == (50, 100)
    expect(lambda n: None, 7)  # a plain function is not told


def test_signs_of_life_are_passed_on():
    seen = []
    count = FrameCount(Bar(), 1, lambda: seen.append(1))
    count.of(0)(0)
    count.finish(0)
    assert len(seen) >= 2
