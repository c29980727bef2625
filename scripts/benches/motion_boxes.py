"""Motion boxes against known motion: synthetic squares under a moving camera, UCSD Ped2 with YOLO boxes, speed; a sheet to look at.

`synthetic`: textured squares over a textured background that stands, pans, shakes, zooms. `ped2`: mean IoU with the box around all YOLO
boxes that move (no box three frames later overlaps them by more than 0.9), beside controls that know nothing: the whole frame, the
central half, and the found box at a random place. `speed`: CPU seconds per frame of 320x240 px, one thread. `sheet`: one frame of 20
videos with its box as PNG, for a person to judge.
"""

import argparse
import time
from itertools import product
from pathlib import Path

from benches import DATA, ROOT

CAMERAS = ("still", "pan", "shake", "zoom")
PARTS = ("synthetic", "ped2", "speed", "sheet")
_LATER = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--modes", nargs="+", default=["paper", "code"], choices=["paper", "code"])
    parser.add_argument("--flows", nargs="+", default=["dis", "tvl1"], choices=["dis", "tvl1"])
    parser.add_argument("--frames", type=int, default=16, help="of every clip, and of every video of Ped2")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheet", type=Path, default=Path("motion-boxes.png"), help="where the picture goes")


def run(args: argparse.Namespace) -> None:
    import sys

    import cv2
    import torch

    sys.path.insert(0, str(ROOT / "tests" / "core" / "flow"))  # the clips with known motion
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    for part in args.only:
        {"synthetic": synthetic, "ped2": ped2, "speed": speed, "sheet": sheet}[part](args)


def finder(mode: str, flow: str):
    from tasks.core.flow.boxes import MotionBoxes
    from tasks.core.flow.boxes_config import MotionBoxConfig

    return MotionBoxes(MotionBoxConfig(mode=mode, flow=flow))


def synthetic(args: argparse.Namespace) -> None:
    from moving_square import clip, iou

    print(f"synthetic, 320x240, {args.frames} frames: mean IoU with the square\n\n| mode | flow | side px | {' | '.join(CAMERAS)} |")
    print("|---|---|---|" + "---|" * len(CAMERAS))
    for mode, flow, side in product(args.modes, args.flows, (40, 80)):
        found = []
        for kind in CAMERAS:
            pictures, truth = clip([(80, 70, side, (3, 1))], kind, args.frames, 240, 320, args.seed)
            found.append(iou(finder(mode, flow).of_pictures(pictures), truth[:, 0]).mean())
        print(f"| {mode} | {flow} | {side} | {' | '.join(f'{value:.2f}' for value in found)} |", flush=True)


def ped2(args: argparse.Namespace) -> None:
    import numpy as np
    from moving_square import iou

    from tasks.core.data.boxes import BoxFile
    from tasks.core.video.open import open_video

    known, rng = BoxFile(DATA / "ped2" / "boxes.csv", 0.5), np.random.default_rng(args.seed)
    print(f"\nPed2, test videos, {args.frames} frames from the middle of each: mean IoU with the box around what moves\n")
    print("| mode | flow | found | whole frame | central half | found size, random place | frames |\n|---|---|---|---|---|---|---|")
    for mode, flow in product(args.modes, args.flows):
        scores = []
        for path in sorted((DATA / "ped2" / "test").glob("*.mp4")):
            boxes = known.of(str(path))
            with open_video(path) as reader:
                first = max(0, (reader.n_frames - args.frames) // 2)
                numbers = range(first, min(reader.n_frames, first + args.frames))
                made = finder(mode, flow).of_pictures(reader.get(list(numbers)))
                height, width = reader.height, reader.width
            for number, box in zip(numbers, made.astype(float), strict=True):
                truth = moving_union(boxes.get(number), boxes.get(number + _LATER))
                if truth is None:
                    continue
                side = box[2:] - box[:2]
                low = rng.uniform(0, 1, 2) * ((width, height) - side)
                rivals = [box, (0, 0, width, height), (width / 4, height / 4, width * 0.75, height * 0.75), (*low, *(low + side))]
                scores.append([float(iou(np.array(rival), truth)) for rival in rivals])
        print(f"| {mode} | {flow} | {' | '.join(f'{value:.3f}' for value in np.mean(scores, 0))} | {len(scores)} |", flush=True)


def moving_union(now, later):
    """The box around the boxes of a frame, `(n, 4)` or None, that are not where one is later; None where there is none."""
    import numpy as np
    from moving_square import iou

    if now is None or later is None:
        return None
    moving = now[iou(now[:, None], later[None]).max(1) < 0.9]
    return np.concatenate((moving[:, :2].min(0), moving[:, 2:].max(0))) if len(moving) else None


def speed(args: argparse.Namespace) -> None:
    from moving_square import clip

    print(
        "\nspeed, 320x240, one thread, CPU time, best of 3\n\n| mode | flow | ms a frame | clips of 16 frames/s | times real time at 25/s |"
    )
    print("|---|---|---|---|---|")
    pictures, _ = clip([(80, 70, 60, (3, 1))], "shake", args.frames, 240, 320, args.seed)
    for mode, flow in product(args.modes, args.flows):
        found, taken = finder(mode, flow), []
        for _ in range(3):
            started = time.process_time()
            found.of_pictures(pictures)
            taken.append((time.process_time() - started) / len(pictures))
        each = min(taken)
        print(f"| {mode} | {flow} | {each * 1e3:.1f} | {1 / (16 * each):.2f} | {1 / (25 * each):.2f} |", flush=True)


def sheet(args: argparse.Namespace) -> None:
    """20 videos of the gestures, one frame of each: orange the first mode with the first flow, blue the second mode where there are two."""
    import numpy as np
    from PIL import Image

    from tasks.core.inference.motion_boxes import draw_box
    from tasks.core.video.open import open_video

    rng = np.random.default_rng(args.seed)
    videos = sorted((DATA / "gestures").rglob("*.mp4"))
    page = Image.new("RGB", (5 * 324, 4 * 244), "white")
    for place, path in enumerate(rng.permutation(videos)[:20]):
        with open_video(str(path)) as reader:
            middle = int(reader.n_frames * rng.uniform(0.2, 0.8))
            first = max(0, middle - 8)
            pictures = reader.get(list(range(first, min(reader.n_frames, middle + 9))))
        picture = pictures[middle - first].copy()
        for mode, colour in zip(args.modes, ((255, 160, 0), (0, 200, 255)), strict=False):
            draw_box(picture, finder(mode, args.flows[0]).of_pictures(pictures)[middle - first], colour)
        page.paste(Image.fromarray(picture), (place % 5 * 324, place // 5 * 244))
    page.save(args.sheet)
    print(f"\n{args.sheet}")
