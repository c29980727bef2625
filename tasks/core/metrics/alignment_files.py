"""`vid eval alignment`: a file or folder of aligned sentences against annotations, by protocol."""

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tasks.core.data.segments.names import AnnotatedVideos
from tasks.core.engine.run import source_commit
from tasks.core.errors import InputError, UsageError
from tasks.core.metrics.alignment import dtw_path, pointing_scores, segment_scores, segments_of, soft_dtw_path
from tasks.core.metrics.retrieval import ranks
from tasks.core.reporter import Reporter

RECORDS = "*.alignment.json"
"""What `vid align` writes of each video."""
BREAKFAST_FPS = 15.0
DECODINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"dtw": dtw_path, "soft-dtw": soft_dtw_path}


def run(predictions: Path, ground_truth: Path, reporter: Reporter, protocol: str = "htm-align", decode: str = "dtw") -> dict[str, Any]:
    """One JSON-able object: the scores of the protocol, and where the numbers come from.

    Args:
        predictions: htm-align: `{video: [[second, score], ...]}` in the order of the ground truth (null for a sentence that was not found),
            or a record or folder of `vid align`. breakfast: `{video: [[start_s, end_s], ...]}`, or `{video: {"similarity": K x T,
            "stride_s": 1, "offset_s": 0}}`, or such a folder with `--write npz`. youcook2: `similarity` (N, N), sentences against segments,
            or `text` and `video` (N, d), as JSON or npz.
        ground_truth: htm-align: `{video: [[flag, start_s, end_s, text], ...]}`; an object with the list as `sentences` may stand for a
            video. breakfast: `{video: [[start_s, end_s, action], ...]}`, or a folder of the set's own text files. youcook2: `{segment:
            sentence}`, a list of sentences, or the set's own annotations.
        reporter: told what is missing.
        protocol: of PROTOCOLS.
        decode: breakfast: how similarities become segments, of DECODINGS.

    Raises:
        InputError: a file cannot be read, or both do not fit each other.
        UsageError: unknown protocol or decoding.
    """
    for what, name, known in (("protocol", protocol, PROTOCOLS), ("decoding", decode, DECODINGS)):
        if name not in known:
            raise UsageError(f"unknown {what} '{name}'", f"known: {', '.join(known)}")
    scores = PROTOCOLS[protocol](Path(predictions), Path(ground_truth), reporter, decode)
    return {
        **scores,
        "protocol": protocol,
        "predictions": str(predictions),
        "ground_truth": str(ground_truth),
        "data_hash": _digest(Path(ground_truth)),
        "commit": source_commit(),
    }


def htm_align(predictions: Path, ground_truth: Path, reporter: Reporter, decode: str) -> dict[str, Any]:
    """`pointing_scores` over the sentences of all videos, `n_videos` and `n_missing` of them without predictions, whose sentences count as
    not found, with the lowest score.
    """
    truth = {video: entry.get("sentences") if isinstance(entry, Mapping) else entry for video, entry in _mapping(ground_truth).items()}
    for video, sentences in truth.items():
        for item in sentences if isinstance(sentences, list) else [None]:
            if not (isinstance(item, list) and len(item) == 4 and item[0] in (0, 1) and _numbers(item[1:3])):
                raise InputError(f"{ground_truth}: '{video}' is not a list of [flag, start_s, end_s, text]")
    found = _of_truth(_pointed(predictions), truth, predictions, ground_truth)
    lowest = min((score for items in found.values() for _, score, _ in items if score is not None), default=0.0) - 1.0
    moments, scores, flags, spans = [], [], [], []
    for video, sentences in truth.items():
        items = found.get(video, [(None, None, None)] * len(sentences))
        _check_fit(video, items, sentences, predictions)
        moments += [moment for moment, _, _ in items]
        scores += [lowest if score is None else score for _, score, _ in items]
        flags += [item[0] for item in sentences]
        spans += [(item[1], item[2]) for item in sentences]
    missing = _warn_missing(truth, found, reporter)
    return {**pointing_scores(moments, scores, flags, spans), "n_videos": len(truth), "n_missing": missing}


def breakfast(predictions: Path, ground_truth: Path, reporter: Reporter, decode: str) -> dict[str, Any]:
    """`segment_scores` over all videos, `n_missing` of them without predictions, for which nothing counts as found; `decoding`, None where
    the predictions have times already.
    """
    truth = _breakfast_texts(ground_truth) if ground_truth.is_dir() else _mapping(ground_truth)
    for video, segments in truth.items():
        if not all(isinstance(item, list) and len(item) == 3 and _numbers(item[:2]) for item in segments):
            raise InputError(f"{ground_truth}: '{video}' is not a list of [start_s, end_s, action]")
        _check_disjoint(segments, f"{ground_truth}: '{video}'")
    given = _of_truth(_arrays(predictions) if predictions.is_dir() else _mapping(predictions), truth, predictions, ground_truth)
    decoded = any(isinstance(entry, Mapping) for entry in given.values())
    found = []
    for video, segments in truth.items():
        entry = given.get(video, [[0.0, 0.0]] * len(segments))
        where = f"{predictions}: '{video}'"
        spans = _decoded(entry, len(segments), where, decode) if isinstance(entry, Mapping) else entry
        if len(spans) != len(segments) or not all(isinstance(item, list | tuple) and _numbers(item[:2]) for item in spans):
            raise InputError(f"{where} is not a list of {len(segments)} [start_s, end_s]")
        _check_disjoint([item for item in spans if item[1] > item[0]], where)
        found.append([tuple(item[:2]) for item in spans])
    missing = _warn_missing(truth, given, reporter)
    true = [[(start, end) for start, end, _ in segments] for segments in truth.values()]
    names = [[str(label) for *_, label in segments] for segments in truth.values()]
    return {**segment_scores(found, true, names), "decoding": decode if decoded else None, "n_missing": missing}


def youcook2(predictions: Path, ground_truth: Path, reporter: Reporter, decode: str) -> dict[str, Any]:
    """Sentences look for their segments: `r_at_1`, `r_at_5`, `r_at_10`, fractions, and `median_rank`, of the similarities as they are; of
    features also `centered` (means over the set taken off) and `standardized` (each channel divided by its deviation too).
    """
    n = len(_sentences(ground_truth))
    arrays = _read_arrays(predictions)
    if "similarity" in arrays:
        _check_rows(arrays["similarity"], n, predictions, ground_truth)
        return {**_retrieval(arrays["similarity"], predictions), "n_sentences": n}
    text, video = arrays["text"], arrays["video"]
    for values in (text, video):
        _check_rows(values, n, predictions, ground_truth)
    if text.shape != video.shape:
        raise InputError(f"{predictions}: text has the shape {text.shape}, video {video.shape}")
    kinds = {"centered": [values - values.mean(0) for values in (text, video)]}
    kinds["standardized"] = [values / np.where(values.std(0) > 0, values.std(0), 1) for values in kinds["centered"]]
    more = {kind: _retrieval(a @ b.T, predictions) for kind, (a, b) in kinds.items()}
    return {**_retrieval(text @ video.T, predictions), **more, "n_sentences": n}


PROTOCOLS = {"htm-align": htm_align, "breakfast": breakfast, "youcook2": youcook2}


def _retrieval(similarity: np.ndarray, source: Path) -> dict[str, float]:
    if similarity.shape[0] != similarity.shape[1] or not np.isfinite(similarity).all():
        raise InputError(
            f"{source}: similarities must be finite and square, sentences against their segments; theirs is {similarity.shape}"
        )
    places = ranks(similarity, np.arange(len(similarity)))
    return {**{f"r_at_{k}": float((places <= k).mean()) for k in (1, 5, 10)}, "median_rank": float(np.median(places))}


Pointed = dict[str, list[tuple[float | None, float | None, str | None]]]
"""Video -> of each sentence the second, the score, and the text where it is known."""


def _pointed(path: Path) -> Pointed:
    """What was found: a file by hand, or what `vid align` wrote."""
    if path.is_dir():
        files = sorted(path.glob(RECORDS))
        if not files:
            raise InputError(f"{path}: no results of vid align in it ({RECORDS})")
        records = [_mapping(file) for file in files]
    else:
        content = _mapping(path)
        if not ("sentences" in content and "video" in content):
            return {video: _hand_made(path, video, items) for video, items in content.items()}
        records = [content]
    found: Pointed = {}
    for record in records:
        try:
            found[record["video"]] = [(item["t"], item["score"], item["text"]) for item in record["sentences"]]
        except (KeyError, TypeError):
            raise InputError(f"{path}: a record in it is not one of vid align") from None
    return found


def _hand_made(path: Path, video: str, items: Any) -> list[tuple[float | None, float | None, None]]:
    ok = isinstance(items, list)
    found = [[None, None] if item is None else item for item in items] if ok else []
    for item in found:
        ok = ok and isinstance(item, list) and len(item) == 2 and all(value is None or _numbers([value]) for value in item)
    if not ok:
        raise InputError(f"{path}: '{video}' is not a list of [second, score], a finite number each")
    return [(moment, score, None) for moment, score in found]


def _check_fit(video: str, items: list, sentences: list, source: Path) -> None:
    if len(items) != len(sentences):
        raise InputError(
            f"{source}: '{video}' has {len(items)} sentences, the ground truth {len(sentences)}", "in the same order, all of them"
        )
    for number, ((_, _, text), item) in enumerate(zip(items, sentences, strict=True), 1):
        if text is not None and text.split() != str(item[3]).split():
            raise InputError(f"{source}: sentence {number} of '{video}' is '{text:.50}', in the ground truth '{item[3]:.50}'")


def _of_truth(given: Mapping[str, Any], truth: Mapping[str, Any], predictions: Path, ground_truth: Path) -> dict[str, Any]:
    """Predictions by the names that the ground truth has for their videos."""
    names = AnnotatedVideos(truth)
    found: dict[str, Any] = {}
    for video, entry in given.items():
        name = names.find(video, str(predictions))
        if name in found:
            raise InputError(f"{predictions}: '{name}' is there twice")
        found[name] = entry
    if not truth:
        raise InputError(f"{ground_truth}: no videos in it")
    if found and not found.keys() & truth.keys():
        hint = f"the first is called '{next(iter(found))}' there and '{next(iter(truth))}' here"
        raise InputError(f"{predictions} and {ground_truth} have no video in common", hint)
    return found


def _warn_missing(truth: Mapping[str, Any], found: Mapping[str, Any], reporter: Reporter) -> int:
    missing = [video for video in truth if video not in found]
    if missing:
        reporter.warn(f"{len(missing)} of {len(truth)} videos have no predictions, the first is '{missing[0]}'; they count as missed")
    if strange := [video for video in found if video not in truth]:
        reporter.warn(f"{len(strange)} predicted videos are not in the ground truth, the first is '{strange[0]}'; they do not count")
    return len(missing)


def _decoded(entry: Mapping[str, Any], actions: int, where: str, decode: str) -> list[tuple[float, float]]:
    try:
        similarity = np.asarray(entry["similarity"], np.float64)
        if similarity.ndim != 2 or not np.isfinite(similarity).all():
            raise ValueError
        stride, offset = float(entry.get("stride_s", 1.0)), float(entry.get("offset_s", 0.0))
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{where} has no finite matrix 'similarity' of actions against moments") from None
    if len(similarity) != actions or similarity.shape[1] < actions or stride <= 0:
        raise InputError(f"{where}: similarities {similarity.shape} do not fit its {actions} actions")
    return segments_of(DECODINGS[decode](similarity), actions, offset + stride * np.arange(similarity.shape[1] + 1))


def _check_disjoint(spans: list, where: str) -> None:
    ordered = sorted((item[0], item[1]) for item in spans)
    for (_, end), (start, _) in itertools.pairwise(ordered):
        if start < end - 1e-6:
            raise InputError(f"{where}: segments overlap, e.g. one from {start:g} s and one until {end:g} s")


def _breakfast_texts(folder: Path) -> dict[str, list]:
    """The set's own text files, `FIRST-LAST ACTION` a line, frames from 1 at BREAKFAST_FPS."""
    found: dict[str, list] = {}
    for file in sorted(folder.glob("*.txt")):
        found[file.stem] = []
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            frames, _, label = line.strip().partition(" ")
            first, _, last = frames.partition("-")
            if not line.strip():
                continue
            if not (first.isdecimal() and last.isdecimal() and label):
                raise InputError(f"{file}, line {number}: '{line[:50]}' is not FIRST-LAST ACTION")
            found[file.stem].append([(int(first) - 1) / BREAKFAST_FPS, int(last) / BREAKFAST_FPS, label.strip()])
    if not found:
        raise InputError(f"{folder}: no text files of Breakfast in it")
    return found


def _arrays(folder: Path) -> dict[str, Any]:
    """Similarities that `vid align --write npz` wrote, by video."""
    found = {}
    for file in sorted(folder.glob(RECORDS)):
        arrays = file.with_name(file.name.removesuffix(".json") + ".npz")
        if not arrays.is_file():
            raise InputError(f"{folder} has no {arrays.name}", "vid align writes similarities with --write npz")
        with np.load(arrays, allow_pickle=False) as kept:
            grid = {"stride_s": float(kept["stride_s"]), "offset_s": float(kept["offset_s"])}
            found[_mapping(file)["video"]] = {"similarity": kept["similarity"], **grid}
    return found


def _sentences(path: Path) -> list[str]:
    """The sentences of YouCook2's annotations in the order of videos and segments, or of a plain list or mapping."""
    content = _json(path)
    if isinstance(content, Mapping) and isinstance(content.get("database"), Mapping):
        videos = sorted(content["database"].items())
        return [item["sentence"] for _, video in videos if video.get("subset") == "validation" for item in video["annotations"]]
    found = list(content.values()) if isinstance(content, Mapping) else content
    if not isinstance(found, list) or not found or not all(isinstance(item, str) for item in found):
        raise InputError(f"{path}: neither sentences nor YouCook2's annotations")
    return found


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    if path.suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as kept:
                arrays: Mapping[str, Any] = dict(kept)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{path}: cannot be read ({error})") from None
    else:
        arrays = _mapping(path)
    if not ("similarity" in arrays or {"text", "video"} <= set(arrays)):
        raise InputError(f"{path}: neither 'similarity' nor 'text' and 'video' in it", f"it has {', '.join(arrays) or 'nothing'}")
    try:
        return {name: np.asarray(arrays[name], np.float64) for name in ("similarity", "text", "video") if name in arrays}
    except (TypeError, ValueError):
        raise InputError(f"{path}: its arrays are not numbers in rows of equal length") from None


def _check_rows(values: np.ndarray, n: int, predictions: Path, ground_truth: Path) -> None:
    if values.ndim != 2 or len(values) != n:
        raise InputError(
            f"{predictions} has an array of shape {values.shape}, {ground_truth} has {n} sentences", "one row for each, in its order"
        )


def _numbers(values: Any) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) for value in values)


def _mapping(path: Path) -> dict[str, Any]:
    content = _json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a JSON object of videos")
    return content


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({str(error).splitlines()[0]})") from None


def _digest(path: Path) -> str:
    files = sorted(path.glob("*.txt")) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
