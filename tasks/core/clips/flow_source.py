"""Where the flow of a clip's frames comes from: a folder that `vid data flow` wrote, or the frames themselves."""

from typing import Any

import numpy as np

from tasks.core.clips.config import FlowInput
from tasks.core.flow.flow_config import FlowSettings
from tasks.core.flow.folder import FlowFolder
from tasks.core.flow.levels import compute_pictures


class FlowSource:
    """Flow as `data.flow` says. Can be sent to worker processes.

    Args:
        config: UsageError where its folder holds no flow.
    """

    def __init__(self, config: FlowInput):
        self.channels = config.channels
        self._compute = config.compute
        self._folder = FlowFolder(config.folder) if config.folder is not None else None

    @property
    def settings(self) -> FlowSettings:
        """How the flow is computed, or was."""
        return self._compute or self._folder.settings

    def pictures(self, video: Any, path: str, frames: np.ndarray) -> np.ndarray:
        """The flow of some frames, the same from a folder and computed here.

        Args:
            video: an open `VideoReader`; of a folder's videos anything with their `pts`.
            path: of the video.
            frames: `(T,)` frame numbers.

        Returns:
            `(T, h, w, C)` uint8.

        Raises:
            VideoError: there is no flow of this video in the folder, or its frames cannot be decoded.
        """
        if self._folder is not None:
            found = self._folder.pictures(path, len(video.pts), frames)
        else:
            found = compute_pictures(video, frames, self._compute)
        return found[..., : self.channels]
