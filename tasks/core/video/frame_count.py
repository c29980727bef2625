"""How far work on several videos is, in frames, though the length of most is not known before they are opened."""

from collections.abc import Callable
from typing import Any

from tasks.core.reporter import Progress


def expect(advance: Callable[[int], None], frames: int) -> None:
    """Tells whoever counts how many frames the video at hand has; a plain function is not told."""
    if (told := getattr(advance, "expect", None)) is not None:
        told(frames)


class FrameCount:
    """The frames of several videos on one bar: those that are not open yet are taken to be as long as the others are on average.

    Args:
        bar: counts frames.
        videos: how many there are.
        still: called with every sign of life.
    """

    def __init__(self, bar: Progress, videos: int, still: Callable[[], None] = lambda: None):
        self.bar, self.videos, self.still = bar, videos, still
        self._lengths: dict[int, int] = {}
        self._behind: dict[int, int] = {}
        self._done = 0
        self._sum, self._with_frames, self._counted = 0, 0, 0  # of lengths; videos that have any; frames behind

    def of(self, number: int) -> "VideoCount":
        """What work on video `number` is given to count with."""
        return VideoCount(self, number)

    def expect(self, number: int, frames: int) -> None:
        """The length of a video is known."""
        if number not in self._lengths:
            self._lengths[number] = max(0, frames)
            self._sum += self._lengths[number]
            self._with_frames += frames > 0
        self.advance(number, 0)

    def advance(self, number: int, frames: int) -> None:
        """More frames of a video are behind; never more than it has."""
        before = self._behind.get(number, 0)
        behind = min(before + frames, self._lengths.get(number, before + frames))
        self._behind[number] = behind
        self._counted += behind - before
        self._show(behind - before)

    def finish(self, number: int) -> None:
        """Work on a video is over, whether it had frames or not."""
        self._done += 1
        self.expect(number, self._behind.get(number, 0))
        self.advance(number, self._lengths[number])

    @property
    def total(self) -> int | None:
        """Frames of all videos, as far as can be said; None: nothing can."""
        if not self._with_frames:
            return None
        return max(self._counted, round(self._sum + self._sum / self._with_frames * (self.videos - len(self._lengths))))

    def _show(self, more: int) -> None:
        if (total := self.total) is not None:
            self.bar.expect(total, f"{self._done} of {self.videos} videos" if self.videos > 1 else "")
        self.bar.advance(more)
        self.still()


class VideoCount:
    """`advance` of one video."""

    def __init__(self, count: Any, number: int):
        self._count, self._number = count, number

    def __call__(self, frames: int) -> None:
        self._count.advance(self._number, frames)

    def expect(self, frames: int) -> None:
        """The video has so many."""
        self._count.expect(self._number, frames)
