"""What the gestures tell without a network: histograms of the direction of motion around the hand, and a support vector machine."""

import csv
from pathlib import Path

import numpy as np
import torch

RATE_HZ, SIDE_PX, CELLS, DIRECTIONS = 10.0, 80, 4, 8
FAST = 0.3  # of the clip's fastest frames: where the person stands still there is no gesture


def histogram(pictures: torch.Tensor) -> np.ndarray:
    """`CELLS * CELLS * DIRECTIONS` numbers of a clip: how much moved where in which direction, over the frames in which something moves.

    Args:
        pictures: `(T, S, S)` uint8, grey.
    """
    from tasks.core.flow.flow import opencv_flow

    u, v = opencv_flow(pictures[:-1], pictures[1:], "dis").numpy().transpose(1, 0, 2, 3)
    speed = np.hypot(u, v)
    pace = np.sort(speed.reshape(len(speed), -1), 1)[:, -200:].mean(1)
    moving = pace > FAST * np.percentile(pace, 90)
    direction = np.floor((np.arctan2(v, u) + np.pi) / (2 * np.pi) * DIRECTIONS).astype(int) % DIRECTIONS
    found = [(speed * (direction == d))[moving].mean(0).reshape(CELLS, SIDE_PX // CELLS, CELLS, -1).mean((1, 3)) for d in range(DIRECTIONS)]
    return np.sqrt(np.ravel(found) / (np.linalg.norm(found) + 1e-6))


def hands(path: str) -> torch.Tensor:
    """A whole video at `RATE_HZ`, cut to the square around what moves: `(T, SIDE_PX, SIDE_PX)` uint8, grey."""
    from torchvision.transforms.v2.functional import resize

    from tasks.core.clips.motion_crop import boxes_around, motion_squares
    from tasks.core.flow.flow import to_grey
    from tasks.core.video.open import open_video

    with open_video(path) as video:
        times = np.arange(video.pts[0], video.pts[-1], 1 / RATE_HZ)
        frames = torch.from_numpy(video.get(np.searchsorted(video.pts, times - 1e-6)))
    clip = frames.permute(0, 3, 1, 2)[None]
    size = torch.tensor([clip.shape[-2:]])
    top, left, height, width = boxes_around(motion_squares(clip, size), size, 1.4)[0].tolist()
    return resize(to_grey(frames)[:, top : top + height, left : left + width], [SIDE_PX, SIDE_PX], antialias=True)


def reference(manifest: Path) -> tuple[float, float]:
    """Top-1 in percent: on people of the training set that were left out, one after the other, and on the test set."""
    from sklearn.svm import SVC

    rows = list(csv.DictReader(manifest.open()))
    clips = [hands(str(manifest.parent / row["path"])) for row in rows]
    plain, mirrored = (np.stack([histogram(clip) for clip in several]) for several in (clips, [clip.flip(-1) for clip in clips]))
    label, person = (np.array([row[key] for row in rows]) for key in ("label", "subject"))
    train = np.array([row["split"] == "train" for row in rows])

    def top1(learn: np.ndarray, test: np.ndarray) -> float:
        machine = SVC(C=10).fit(np.concatenate((plain[learn], mirrored[learn])), np.tile(label[learn], 2))
        return 100 * float((machine.predict(plain[test]) == label[test]).mean())

    left_out = [top1(train & (person != one), train & (person == one)) for one in sorted(set(person[train]))]
    return float(np.mean(left_out)), top1(train, ~train)
