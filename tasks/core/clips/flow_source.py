"""Where the flow of a clip's frames comes from: a folder that `vid data flow` wrote, or the frames themselves."""

from typing import Any

import numpy as np

from tasks.core.clips.config import DataConfig, FlowInput
from tasks.core.data.rows import Rows
from tasks.core.errors import InputError
from tasks.core.flow.flow_config import FlowSettings
from tasks.core.flow.folder import FlowFolder
from tasks.core.flow.levels import compute_pictures
from tasks.core.video.open import open_video
from tasks.core.video.reader import VideoError

PROBED = 8
"""Videos of which `check_flow_folder` looks for flow."""


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


def check_flow_folder(data: DataConfig, rows: Rows) -> None:
    """Looks before training whether a folder of flow belongs to the videos.

    Args:
        data: nothing is checked where its `flow` has no folder.
        rows: of the training set.

    Raises:
        UsageError: the folder holds no flow.
        InputError: of none of some videos there is flow that fits: it is of other videos, or of another number of frames.
    """
    if data.flow is None or data.flow.folder is None:
        return
    source, reasons = FlowSource(data.flow), []
    for row in rows[:: max(1, len(rows) // PROBED)][:PROBED]:
        try:
            with open_video(row.path, data.decoder) as video:
                source.pictures(video, row.path, np.zeros(1, np.int64))
            return
        except VideoError as error:
            reasons.append(str(error))
    raise InputError(f"the flow in {data.flow.folder} is not of these videos: {reasons[0]}", "vid data flow MANIFEST -o FOLDER makes it")
