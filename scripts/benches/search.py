"""Search: sentences written before any result was seen against chance and shuffled sentences, hours of video per minute, a million windows.

The sentences are `search_captions.csv`, four about each of six clips, written from looking at the clips alone. A video's rank is that of
its best window, as in `vid search --per video`; a moment counts as found where the best window of its video lies in it.
"""

import argparse
import csv
import tempfile
import time
from pathlib import Path

import numpy as np

from benches import DATA

CAPTIONS = Path(__file__).with_name("search_captions.csv")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", help="image-text model; without it only the search through random vectors is timed")
    parser.add_argument("--data", default=str(DATA / "clips"), help="folder with the clips of the sentences")
    parser.add_argument("--hop", type=float, default=1.0, help="seconds between windows")
    parser.add_argument("--windows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)


def run(args: argparse.Namespace) -> None:
    if args.model:
        with tempfile.TemporaryDirectory() as folder:
            found_by_words(args.model, Path(args.data), args.hop, Path(folder) / "index")
            speed(args.model, Path(args.data), Path(folder) / "speed")
    timed(args.windows, args.dim)


def found_by_words(model: str, data: Path, hop: float, folder: Path) -> None:
    """Indexes the clips, searches them by every sentence, prints a table."""
    from tasks.core.data.inputs import gather
    from tasks.core.reporter import Quiet
    from tasks.core.towers import load_pair
    from tasks.prompting.search.build import run as index
    from tasks.prompting.search.config import IndexConfig
    from tasks.prompting.search.find import similarities
    from tasks.prompting.search.store import Index

    pair = load_pair(model)
    list(index(IndexConfig(model=model, hop_s=hop), gather([str(data)]), folder, False, Quiet()))
    opened = Index(folder)
    rows = list(csv.DictReader(CAPTIONS.open(encoding="utf-8")))
    vectors = pair.encode_text([row["text"] for row in rows]).numpy()
    best, mean, within = [], [], []
    for row, vector in zip(rows, vectors, strict=True):
        scores, spans, videos = similarities(opened, vector)
        own = [scores[span.first : span.first + span.n] for span in spans]
        best.append([part.max() for part in own])
        mean.append([part.mean() for part in own])
        names = [Path(video.path).name for video in videos]
        true = names.index(row["video"])
        at = spans[true].begin_s(int(own[true].argmax()))
        within.append(float(row["start"]) <= at < float(row["end"]))
    truth = np.array([names.index(row["video"]) for row in rows])
    covered = [float(row["end"]) - float(row["start"]) for row in rows]
    lengths = np.array([span.until_s for span in spans])[truth]
    short = [number for number, share in enumerate(np.minimum(1, covered / lengths)) if share < 0.75]
    print(f"{len(names)} videos, {len(rows)} sentences, {model}\n")
    print("| text to video | R@1 | R@5 | chance | shuffled sentences, R@1 |\n|---|---|---|---|---|")
    for name, found in (("best window", np.array(best)), ("mean of the windows", np.array(mean))):
        r1, r5 = recall(found, truth, 1), recall(found, truth, 5)
        chance = 100 / len(names)
        print(f"| {name} | {r1:.1f} | {r5:.1f} | {chance:.1f} and {min(100, 5 * chance):.1f} | {shuffled(found, truth):.1f} |")
    hits, by_chance = np.mean([within[n] for n in short]), np.mean([min(1, covered[n] / lengths[n]) for n in short])
    print(f"\nthe right moment of the right video, {len(short)} sentences about less than 3/4 of it: {100 * hits:.1f} %, a random window ")
    print(f"{100 * by_chance:.1f} %")


def speed(model: str, data: Path, folder: Path) -> None:
    """Indexes the clips with the usual step, and says what each takes of a core; what loading the model takes is not counted."""
    from tasks.core.data.inputs import gather
    from tasks.prompting.search.build import Windows
    from tasks.prompting.search.config import IndexConfig

    windows, sources = Windows(IndexConfig(model=model)), gather([str(data)])
    windows.of(sources[0].row)
    print("\n| video | size | seconds | of a core | hours a minute and core |\n|---|---|---|---|---|")
    all_s = all_took = 0.0
    for source in sources:
        took = float("inf")
        for _ in range(3):  # the least: what other programs of the machine take of its caches is no part of the work
            started = time.process_time()
            _, grid, until, _ = windows.of(source.row)
            took = min(took, time.process_time() - started)
        seconds, size = until - grid.offset_s, size_of(source.row.path)
        all_s, all_took = all_s + seconds, all_took + took
        print(f"| {Path(source.row.path).name} | {size} | {seconds:.1f} | {took:.2f} | {seconds / took / 60:.2f} |")
    hop = windows.head["hop_s"]
    print(f"\nall: {all_s / all_took / 60:.2f} hours of video a minute and core, a window every {hop:g} s")


def size_of(path: str) -> str:
    """Width x height."""
    from tasks.core.video.open import open_video

    with open_video(path) as reader:
        return f"{reader.width}x{reader.height}"


def recall(scores: np.ndarray, truth: np.ndarray, k: int) -> float:
    """Percent of sentences whose video is among the k best; scores (sentences, videos)."""
    own = scores[np.arange(len(truth)), truth]
    return 100 * float(np.mean((scores > own[:, None]).sum(1) < k))


def shuffled(scores: np.ndarray, truth: np.ndarray, times: int = 2000) -> float:
    """R@1 where the sentences are dealt out to the videos at random: what hubs among the videos alone give."""
    rng = np.random.default_rng(0)
    return float(np.mean([recall(scores, rng.permutation(truth), 1) for _ in range(times)]))


def timed(windows: int, dim: int) -> None:
    """An exact search through random vectors: of the file as it is mapped, and of the moments."""
    from tasks.core.data.grid import Grid
    from tasks.prompting.search.find import dots
    from tasks.prompting.search.moments import Span, moments

    rng = np.random.default_rng(0)
    with tempfile.TemporaryFile() as file:
        for first in range(0, windows, 65536):
            block = rng.standard_normal((min(65536, windows - first), dim), np.float32)
            file.write((block / np.linalg.norm(block, axis=1, keepdims=True)).astype(np.float16).tobytes())
        file.flush()
        vectors = np.memmap(file, np.float16, "r", shape=(windows, dim))
        query = rng.standard_normal(dim).astype(np.float32)
        spans = [Span(first, min(1800, windows - first), Grid(2.0, 0.04)) for first in range(0, windows, 1800)]
        best = []
        for _ in range(3):
            wall, cpu = time.perf_counter(), time.process_time()
            scores = dots(vectors, query / np.linalg.norm(query))
            middle = time.process_time()
            moments(scores, spans, 10, 5.0)
            best.append((time.process_time() - cpu, middle - cpu, time.perf_counter() - wall))
    cpu, product, _ = min(best)
    wall = min(wall for _, _, wall in best)
    print(
        f"\n{windows} windows of {dim} numbers in float16: {cpu:.2f} s of a core ({product:.2f} s the cosines), {wall:.2f} s on the clock"
    )
