"""Footage and its twins, clips of both, flow files, features of frames."""

import itertools
import json
from pathlib import Path

import anomaly_toys
import cv2
import numpy as np
import pytest
import torch
from encoder_toys import encoder_folder

from tasks.anomalies.config import FlowConfig
from tasks.anomalies.data import FlowClips, FrameClips, all_clips, flow_batches, flow_loader, frame_batches, frame_loader
from tasks.anomalies.footage import Footage, PseudoFolder, find_footage
from tasks.anomalies.prepare import feature_files, flow_files, flow_stream, flow_used
from tasks.core.clips.config import ClipConfig, DataConfig
from tasks.core.data.manifest import Row, read_sources
from tasks.core.errors import InputError, UsageError
from tasks.core.flow.flow import flow_of
from tasks.core.flow.flow_config import TVL1Config
from tasks.core.towers.visual import FrameEncoder, described, load_encoder
from tasks.core.video.open import open_video

DATA = DataConfig(clip=ClipConfig(frames=8, stride_frames=1), preload=True, workers=0)
CPU = torch.device("cpu")
FLOW = FlowConfig(clip_px=5.0, tvl1=anomaly_toys.TVL1)


def found(videos: Path, pseudo: Path | None = None, length: int = 8) -> list[Footage]:
    footage, skipped = find_footage(read_sources([str(videos)]), length, "auto", PseudoFolder(pseudo) if pseudo else None)
    assert not skipped
    return footage


def test_every_start_is_a_clip(videos):
    clips = all_clips(found(videos), 8)
    assert len(clips) == 3 * (20 - 7)
    assert {tuple(clip) for clip in clips.tolist()} == {(v, s) for v in range(3) for s in range(13)}


def test_only_the_part_that_counts_gives_clips(videos):
    (item,), _ = find_footage([Row(str(videos / "v0"), start_s=0.2, end_s=0.6)], 8, "auto", None)  # 25 frames a second
    assert list(item.starts(8)) == [5, 6, 7]


def test_short_and_unreadable_videos_are_named(videos, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    anomaly_toys.write_frames(tmp_path / "short", anomaly_toys.clip(7, 0))
    rows = [Row(str(videos / "v0")), Row(str(tmp_path / "broken.mp4")), Row(str(tmp_path / "short"))]
    footage, skipped = find_footage(rows, 8, "auto", None)
    assert [item.path for item in footage] == [str(videos / "v0")]
    assert [Path(path).name for path, _ in skipped] == ["broken.mp4", "short"]
    assert skipped[1][1] == "7 frames, a clip has 8"
    with pytest.raises(InputError, match="none of the 2"):
        find_footage(rows[1:], 8, "auto", None)


def test_twins_are_found_by_path_and_after_a_move_by_name(videos, twins, tmp_path):
    for item in found(videos, twins):
        name = Path(item.path).name
        assert item.frames == str(twins / "frames" / name)
        assert item.flow_pseudo == twins / "flow_pseudo" / name
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for video in videos.iterdir():
        (moved / video.name).symlink_to(video)
    assert [item.frames for item in found(moved, twins)] == [item.frames for item in found(videos, twins)]


def test_a_namesake_is_no_twin(videos, twins, tmp_path):
    """Cameras number their files alike: `cam1/v0` and `cam2/v0` are different videos."""
    pseudo, namesake = PseudoFolder(twins), tmp_path / "cam2" / "v0"
    here = {str(videos / name): str(videos / name) for name in ("v0", "v1")}
    assert pseudo.sources_of([*here, str(namesake)]) == here
    assert pseudo.sources_of([str(videos / "v1"), str(namesake)]) == {str(videos / "v1"): str(videos / "v1")}
    assert pseudo.sources_of([str(namesake), str(tmp_path / "cam3" / "v0")]) == {}
    anomaly_toys.write_frames(namesake, anomaly_toys.clip(20, 9))
    (own, other), _ = find_footage([Row(str(videos / "v0")), Row(str(namesake))], 8, "auto", pseudo)
    assert own.frames == str(twins / "frames" / "v0")
    assert (other.frames, other.flow, other.flow_pseudo) == (None, None, None)


def test_what_a_pseudo_folder_lacks_is_lacking(videos, tmp_path):
    only_flow = anomaly_toys.pseudo(tmp_path / "flow", videos, ("flow", "flow_pseudo"))
    assert {(item.frames, item.flow is None) for item in found(videos, only_flow)} == {(None, False)}
    only_frames = anomaly_toys.pseudo(tmp_path / "frames", videos, ("frames",))
    assert {(item.frames is None, item.flow, item.flow_pseudo) for item in found(videos, only_frames)} == {(False, None, None)}


def test_foreign_pseudo_folders_are_refused(videos, twins, tmp_path):
    with pytest.raises(UsageError, match=r"no videos\.csv"):
        PseudoFolder(videos)
    other = anomaly_toys.write_frames(tmp_path / "other", anomaly_toys.clip(9, 1))
    with pytest.raises(UsageError, match="no pseudo-anomalies of these videos"):
        find_footage([Row(str(other))], 8, "auto", PseudoFolder(twins))
    longer = anomaly_toys.write_frames(tmp_path / "v0", anomaly_toys.clip(21, 0))
    with pytest.raises(InputError, match=r"frames 0 to 20 are to be used, .* made from 0 to 19"):
        find_footage([Row(str(longer))], 8, "auto", PseudoFolder(twins))


def test_twins_of_a_part_of_a_video(videos, tmp_path):
    """Made from frames 5 to 14 only; pictures keep the numbers of their frames."""
    whole = anomaly_toys.pseudo(tmp_path / "whole", videos)
    for kind in ("frames", "flow", "flow_pseudo"):
        for number in (*range(5), *range(15, 20)):
            (whole / kind / "v0" / f"{number:06d}.png").unlink()
    table = (whole / "videos.csv").read_text()
    (whole / "videos.csv").write_text(table.replace(f"{videos / 'v0'},20", f"{videos / 'v0'},10"))
    pseudo = PseudoFolder(whole)
    part = Row(str(videos / "v0"), start_s=0.24, end_s=0.6)
    (item,), _ = find_footage([part], 8, "auto", pseudo)
    assert (item.low, item.high, item.first) == (6, 15, 5)
    normal, changed = FrameClips([item], DATA, 8, 1.0, 0)[0, 0].clips
    assert np.array_equal(normal[:, :10], changed[:, :10])
    assert np.array_equal(normal, anomaly_toys.clip(20, 0)[6:14])
    ((flow, mixed),) = made([item], tmp_path / "flow")
    assert len(np.load(flow)) == len(np.load(mixed)) == 9
    with pytest.raises(InputError, match="frames 0 to 19 are to be used"):
        find_footage([Row(str(videos / "v0"))], 8, "auto", pseudo)


def test_a_clip_that_cost_a_process_its_life_is_named_by_its_video(videos, twins):
    clips = FrameClips(found(videos, twins), DATA, 8, 1.0, 0)
    last = len(clips) - 1
    refused = clips.refused((last, 0), "it crashed")
    assert (refused.path, refused.skipped, refused.clips) == (clips[last, 0].path, "it crashed", [])


def batch_of(clips: FrameClips, rows: int = 6, rank: int = 0, world: int = 1) -> dict:
    return next(iter(frame_loader(clips, rows, rank, world, 0)(0)))


def test_a_twin_has_the_frames_of_its_clip(videos, twins):
    clips = FrameClips(found(videos, twins), DATA, 8, 1.0, 0)
    for index in (0, 14, 38):
        normal, changed = clips[index, 0].clips
        video, first = all_clips(clips.footage, 8)[index]
        assert np.array_equal(normal, anomaly_toys.clip(20, video)[first : first + 8])
        expected = normal.copy()
        expected[:, 10:20, 10:20] = 0
        assert np.array_equal(changed, expected)


@pytest.mark.parametrize("preload", [True, False])
def test_inputs_are_twins_and_targets_are_normal(videos, twins, preload):
    data = DATA.model_copy(update={"preload": preload})
    prepare = frame_batches(32)
    all_ones = FrameClips(found(videos, twins), data, 8, 1.0, 0)
    ready = prepare(batch_of(all_ones), CPU)
    never = prepare(batch_of(FrameClips(found(videos, twins), data, 8, 0.0, 0)), CPU)
    assert ready["input"].shape == (6, 3, 8, 32, 32)
    assert torch.equal(ready["target"], never["target"])
    assert torch.equal(never["input"], never["target"])
    assert not any(torch.equal(a, b) for a, b in zip(ready["input"], ready["target"], strict=True))
    index = batch_of(all_ones)["uid"][0]
    video, first = all_clips(all_ones.footage, 8)[index]
    frames = anomaly_toys.clip(20, video)[first : first + 8]
    expected = np.stack([cv2.resize(frame, (32, 32), interpolation=cv2.INTER_AREA) for frame in frames]) / 127.5 - 1
    assert np.abs(ready["target"][0].permute(1, 2, 3, 0).numpy() - expected).mean() < 0.03


def test_draws_follow_the_rate_and_differ_between_epochs(videos, twins):
    clips = FrameClips(found(videos, twins), DATA, 8, 0.4, 0)
    drawn = np.array([[len(clips[index, epoch].clips) == 2 for index in range(len(clips))] for epoch in range(20)])
    assert drawn.mean() == pytest.approx(0.4, abs=0.06)
    assert (drawn[0] != drawn[1]).any()
    again = FrameClips(found(videos, twins), DATA, 8, 0.4, 0)
    assert [len(again[index, 3].clips) == 2 for index in range(len(again))] == drawn[3].tolist()


def test_two_processes_share_a_batch(videos, twins):
    clips = FrameClips(found(videos, twins), DATA, 8, 0.5, 0)
    whole = batch_of(clips, 6)
    halves = [batch_of(clips, 3, rank, 2) for rank in range(2)]
    assert torch.cat([half["video"] for half in halves]).equal(whole["video"])
    assert 6 < len(whole["video"]) < 12


def made(footage: list[Footage], folder: Path, size: int = 32) -> list:
    folder.mkdir(exist_ok=True)
    return flow_files(footage, FLOW, size, folder, CPU, "auto", slice(None), lambda n: None)


def test_flow_comes_from_the_pseudo_folder_where_it_has_some(videos, twins, tmp_path):
    footage = found(videos, twins)
    assert flow_used(footage, FLOW, PseudoFolder(twins).tvl1) == FLOW.model_copy(update={"short_side": 32, "tvl1": TVL1Config(warps=7)})
    for normal, changed in made(footage, tmp_path / "flow"):
        for file, (u, v) in ((normal, (1, 0)), (changed, (4, -2))):
            flow = np.load(file)
            assert (flow.shape, flow.dtype) == ((20, 2, 32, 32), np.float16)
            assert np.allclose(flow[:, 0], u, atol=0.02)
            assert np.allclose(flow[:, 1], v, atol=0.02)


def test_flow_is_computed_where_there_is_none(videos, tmp_path):
    footage = found(videos)
    assert flow_used(footage, FLOW, None) == FLOW
    files = made(footage, tmp_path / "flow", 48)
    assert [pseudo for _, pseudo in files] == [None] * 3
    with open_video(footage[0].path) as reader:
        expected = flow_of(reader.get(range(20)), config=FLOW.tvl1)
    flow = np.load(files[0][0])
    assert flow.shape == (20, 2, 48, 48)
    assert np.array_equal(flow[-1], flow[-2])
    assert flow[:-1].mean((0, 2, 3)) == pytest.approx(expected.mean((0, 2, 3)).tolist(), abs=0.02)  # px stay px
    before = files[0][0].stat().st_mtime_ns
    made(footage, tmp_path / "flow", 48)
    assert files[0][0].stat().st_mtime_ns == before


def test_what_was_prepared_stays_with_its_video(videos, twins, tmp_path):
    """A run goes on after one of its videos became unreadable."""
    footage = found(videos, twins)
    folder = tmp_path / "flow"
    before, after = made(footage, folder), made(footage[1:], folder)
    assert after == before[1:]
    assert len({file for pair in before for file in pair}) == 6
    encoder = load_encoder(str(anomaly_toys.vit_folder(tmp_path / "vit")))
    (tmp_path / "features").mkdir()
    before, after = (feature_files(part, encoder, tmp_path / "features", CPU, "auto", slice(None), int) for part in (footage, footage[1:]))
    assert after == before[1:]
    (part,), _ = find_footage([Row(str(videos / "v1"), start_s=0.2)], 8, "auto", PseudoFolder(twins))
    assert not set(made([part], folder)[0]) & {file for pair in made(footage, folder) for file in pair}


@pytest.mark.parametrize("frames", [1, 2, 32, 33, 34, 65])
def test_flow_of_a_stream_is_flow_of_the_whole(frames):
    video = np.stack([anomaly_toys.clip(1, 0)[0] + np.uint8(t) for t in range(frames)])
    parts = list(flow_stream(((t, t / 25, frame) for t, frame in enumerate(video)), FLOW, CPU))
    joined = torch.cat(parts)
    assert len(joined) == frames
    if frames == 1:
        assert not joined.any()
        return
    assert torch.allclose(joined[:-1], flow_of(video, config=FLOW.tvl1), atol=1e-4)
    assert torch.equal(joined[-1], joined[-2])


def test_flow_clips_are_encoded(videos, twins, tmp_path):
    footage = found(videos, twins)
    clips = FlowClips(footage, made(footage, tmp_path / "flow"), 8, 1.0, 0)
    assert len(clips) == 39
    ready = flow_batches(FLOW)(next(iter(flow_loader(clips, DATA, 4, 0, 1, 0)(0))), CPU)
    assert ready["input"].shape == (4, 3, 8, 32, 32)
    for name, vector in (("target", (1 / 5, 0, 0)), ("input", (4 / 5, -2 / 5, 0))):
        assert torch.allclose(ready[name], torch.tensor(vector).view(1, 3, 1, 1, 1).expand(4, 3, 8, 32, 32), atol=0.01)
    mixed = FlowClips(footage, clips.files, 8, 0.5, 0)
    counts = [len(mixed[index, epoch][1]) for index, epoch in itertools.product(range(39), range(10))]
    assert np.mean(counts) - 1 == pytest.approx(0.5, abs=0.08)


def test_an_interrupted_pseudo_folder_is_named(videos, tmp_path):
    pseudo = anomaly_toys.pseudo(tmp_path / "pseudo", videos)
    (pseudo / "flow_pseudo" / "v0" / "000019.png").unlink()
    with pytest.raises(InputError, match="19 pictures of flow, 20 expected"):
        made(found(videos, pseudo), tmp_path / "flow")


def test_a_video_transformer_describes_stills(tmp_path):
    encoder = load_encoder(str(anomaly_toys.vit_folder(tmp_path / "runs" / "vit" / "model")))
    assert (encoder.dim, encoder.saved["kind"], encoder.saved["source"]) == (32, "vit", "vit")
    frames = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    mean, std = torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1), torch.tensor([0.2, 0.3, 0.25]).view(3, 1, 1)
    still = ((frames / 255 - mean) / std)[:, None].repeat(1, 4, 1, 1, 1)
    with torch.no_grad():
        expected = encoder.network(still).mean(1)
    assert torch.allclose(encoder(frames), expected, atol=1e-5)
    again = FrameEncoder(encoder.saved, encoder.network.state_dict())
    assert torch.equal(again(frames), encoder(frames))
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_an_encoder_of_another_family_describes_stills(tmp_path):
    from tasks.core.towers import load_encoder as clip_encoder

    encoder_folder(tmp_path / "resnet", "resnet")
    encoder, clips = load_encoder(str(tmp_path / "resnet")), clip_encoder(tmp_path / "resnet")
    frames = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    with torch.no_grad():
        expected = torch.cat([clips(frame[None])["pooled"] for frame in frames])
    assert torch.allclose(encoder(frames.permute(0, 3, 1, 2)), expected, atol=1e-4)


def test_encoders_that_see_nothing_in_a_still_are_refused(tmp_path):
    with pytest.raises(UsageError, match="cannot describe single frames"):
        described(str(anomaly_toys.vit_folder(tmp_path / "motion", input="motion")))
    folder = anomaly_toys.vit_folder(tmp_path / "flow")
    described(str(folder))
    saved = json.loads((folder / "config.json").read_text())
    saved["preprocessing"]["flow"] = "dis"
    (folder / "config.json").write_text(json.dumps(saved))
    with pytest.raises(UsageError, match="cannot describe single frames"):
        described(str(folder))


def test_a_clip_tower_describes_frames(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, projection_dim=16, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8
    )
    torch.manual_seed(0)
    tower = transformers.CLIPVisionModelWithProjection(config).eval()
    tower.save_pretrained(tmp_path / "clip")
    encoder = load_encoder(str(tmp_path / "clip"))
    assert (encoder.dim, encoder.saved["source"]) == (16, "clip")
    frames = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    mean, std = (torch.tensor(encoder.saved[name]).view(3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        expected = tower(pixel_values=(frames / 255 - mean) / std).image_embeds
    assert torch.allclose(encoder(frames), expected, atol=1e-5)
    again = FrameEncoder(encoder.saved, encoder.network.state_dict())
    assert torch.equal(again(frames), encoder(frames))


def test_features_of_frames_and_twins(videos, twins, tmp_path):
    encoder = load_encoder(str(anomaly_toys.vit_folder(tmp_path / "vit")))
    folder = tmp_path / "features"
    folder.mkdir()
    footage = found(videos, twins)
    for item, (normal, changed) in zip(
        footage, feature_files(footage, encoder, folder, CPU, "auto", slice(None), lambda n: None), strict=True
    ):
        with open_video(item.path) as reader:
            expected = encoder(torch.from_numpy(reader.get(range(20))).permute(0, 3, 1, 2))
        assert np.allclose(np.load(normal), expected, atol=1e-5)
        assert np.load(changed).shape == (20, 32)
        assert not np.allclose(np.load(changed), np.load(normal), atol=1e-3)
