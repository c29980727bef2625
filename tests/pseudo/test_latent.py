"""The 7-channel latent inpainting model, through diffusers with tiny random networks."""

import json

import numpy as np
import pytest
import tiny_models
import torch
from diffusers import UNet2DModel
from safetensors.torch import load_file, save_file

from tasks.core.errors import UsageError
from tasks.pseudo import pipeline
from tasks.pseudo.config import GenerateConfig
from tasks.pseudo.inpaint import inpaint
from tasks.pseudo.latent import LatentInpainter, load_parts, noise_of, resized
from tasks.pseudo.masks import random_mask
from tasks.pseudo.model import condition, fold, make_scheduler, sample

CPU = torch.device("cpu")
BLOCKS = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2, "layers_per_block": 1}


def pictures(n=3, height=32, width=48, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (n, height, width, 3), np.uint8)


def holes(n=3, height=32, width=48):
    return np.stack([random_mask(height, width, np.random.default_rng(i)) for i in range(n)])


class Oracle:
    """A UNet that knows the answer: it predicts the noise that leads to `clean`, and keeps what it was asked."""

    def __init__(self, clean, scheduler):
        self.clean, self.scheduler, self.asked, self.times = clean, scheduler, [], []
        self.config = {}

    def __call__(self, x, t):
        self.asked.append(x)
        self.times.append(int(t))
        a = self.scheduler.alphas_cumprod[t]
        noise = (x[:, :3] - a.sqrt() * self.clean) / (1 - a).sqrt()
        return type("Out", (), {"sample": noise})


def test_the_unet_is_given_noise_masked_latent_and_mask():
    """7 channels in this order, hole pixels black before encoding, mask +1 in the hole and -1 outside, nearest neighbour."""
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    m = torch.zeros(2, 1, 16, 16)
    m[:, :, 4:12, 8:16] = 1
    seen = []

    def encode(picture):
        seen.append(picture)
        return picture[..., ::4, ::4] * 0.5

    known = condition(encode, x, m)
    assert (seen[0][(m == 1).expand(-1, 3, -1, -1)] == -1).all()
    torch.testing.assert_close(seen[0][(m == 0).expand(-1, 3, -1, -1)], x[(m == 0).expand(-1, 3, -1, -1)])
    assert known.shape == (2, 4, 4, 4)
    torch.testing.assert_close(known[:, :3], seen[0][..., ::4, ::4] * 0.5)
    np.testing.assert_array_equal(known[0, 3].numpy(), np.where(m[0, 0, ::4, ::4] > 0, 1.0, -1.0))

    noise = torch.randn(2, 3, 4, 4)
    scheduler = make_scheduler(tiny_models.config(model={**tiny_models.MODEL, "diffusion": {}}).model.diffusion)
    oracle = Oracle(torch.zeros(2, 3, 4, 4), scheduler)
    sample(oracle, scheduler, known, noise, 50)
    first = oracle.asked[0]
    assert first.shape[1] == 7
    torch.testing.assert_close(first[:, :3], noise)
    torch.testing.assert_close(first[:, 3:], known)
    assert all((later[:, 3:] == known).all() for later in oracle.asked)


def test_fifty_ddim_steps_by_hand():
    """CompVis' steps 981, 961, ... 1, eta 0, against a loop in float64; the last step ends at the first noise level."""
    scheduler = make_scheduler(tiny_models.config(model={**tiny_models.MODEL, "diffusion": {}}).model.diffusion)
    clean, noise = torch.randn(1, 3, 4, 4), torch.randn(1, 3, 4, 4)
    oracle = Oracle(clean, scheduler)
    found = sample(oracle, scheduler, torch.zeros(1, 4, 4, 4), noise, 50)
    assert oracle.times == [981 - 20 * i for i in range(50)]
    betas = np.linspace(0.0015**0.5, 0.0205**0.5, 1000) ** 2
    alphas = np.cumprod(1 - betas)
    x = noise.double().numpy()
    for t in oracle.times:
        before = alphas[t - 20] if t >= 20 else alphas[0]
        guess = (x - np.sqrt(alphas[t]) * clean.numpy()) / np.sqrt(1 - alphas[t])
        x = np.sqrt(before) * clean.numpy() + np.sqrt(1 - before) * guess
    np.testing.assert_allclose(found.numpy(), x, atol=1e-4)
    assert np.abs(found.numpy() - clean.numpy()).max() < 0.2


@pytest.mark.parametrize("size", [None, 32])
def test_outside_the_hole_every_pixel_is_the_input(size):
    filler = LatentInpainter(*tiny_models.parts(), CPU, steps=3, size=size)
    frames, masks = pictures(height=30, width=50), holes(height=30, width=50)
    made = inpaint(filler, frames, masks, [1, 2, 3])
    np.testing.assert_array_equal(made[~masks], frames[~masks])
    assert (made[masks] != frames[masks]).any(-1).mean() > 0.9


def test_the_fill_does_not_depend_on_what_stood_in_the_hole():
    filler = LatentInpainter(*tiny_models.parts(), CPU, steps=3, size=None)
    frames, masks = pictures(1), np.zeros((1, 32, 48), bool)
    masks[0, 8:20, 10:30] = True
    other = np.where(masks[..., None], 255 - frames, frames)
    for size in (None, 32):
        filler.size = size
        near = np.zeros_like(masks)
        near[0, 10:18, 12:28] = True  # at another size the hole's rim mixes with its surroundings only in what is pasted back
        np.testing.assert_array_equal(filler.fill(frames, masks, [4])[near], filler.fill(other, masks, [4])[near])


def test_noise_belongs_to_the_seed_not_to_the_batch():
    assert (noise_of([5, 6], (3, 4, 4))[1] == noise_of([6], (3, 4, 4))[0]).all()
    filler = LatentInpainter(*tiny_models.parts(), CPU, steps=3, size=None)
    frames, masks = pictures(4), holes(4)
    whole = inpaint(filler, frames, masks, [1, 2, 3, 4]).astype(int)
    alone = np.concatenate([inpaint(filler, frames[i : i + 1], masks[i : i + 1], [i + 1]) for i in range(4)]).astype(int)
    assert np.abs(whole - alone).max() <= 1
    again = inpaint(filler, frames, masks, [9, 2, 3, 4]).astype(int)
    assert np.abs(again[0] - whole[0])[masks[0]].mean() > 1
    np.testing.assert_array_equal(again[1:], whole[1:])


def test_working_sizes():
    filler = LatentInpainter(*tiny_models.parts(), CPU, size=32)
    assert filler.multiple == 4
    assert filler.working_size(240, 360) == (32, 32)
    filler.size = None
    assert filler.working_size(241, 358) == (240, 360)
    filler.short_side = 64
    assert filler.working_size(240, 360) == (64, 96)


def test_no_hole_gets_lost_when_a_frame_is_made_smaller():
    m = torch.zeros(1, 1, 64, 64)
    m[0, 0, 33, :] = 1
    x, small = resized(torch.rand(1, 3, 64, 64), m, (16, 24))
    assert x.shape[-2:] == small.shape[-2:] == (16, 24)
    assert set(small.unique().tolist()) == {0.0, 1.0}
    assert (small[0, 0].amax(0) == 1).all()


def test_folding_statistics_changes_latents_and_nothing_else():
    autoencoder, _, _ = tiny_models.parts()
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        before, picture = autoencoder.encode(x).latents, autoencoder(x).sample
        mean, std = before.mean((0, 2, 3)), torch.tensor(2.7)
        fold(autoencoder, mean, std)
        after = autoencoder.encode(x).latents
        torch.testing.assert_close(after, (before - mean[:, None, None]) / std, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(autoencoder(x).sample, picture, atol=1e-4, rtol=1e-3)


def test_a_folder_is_read_back_whole(tmp_path):
    folder = tiny_models.folder_of(tmp_path / "m")
    autoencoder, unet, scheduler = load_parts(folder)
    saved = tiny_models.parts()
    for part, own in ((autoencoder, saved[0]), (unet, saved[1])):
        assert all((part.state_dict()[key] == value).all() for key, value in own.state_dict().items())
    assert (scheduler.config.prediction_type, scheduler.config.clip_sample) == ("v_prediction", False)
    loaded = pipeline.load(GenerateConfig(model=str(folder), steps=2), CPU)
    assert isinstance(loaded.filler, LatentInpainter)
    assert (loaded.filler.size, loaded.filler.steps) == (256, 2)
    assert pipeline.load(GenerateConfig(model=str(folder), size=64), CPU).filler.size == 64


def test_a_unet_that_can_take_text_works_without(tmp_path):
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        in_channels=7,
        out_channels=3,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=8,
        attention_head_dim=8,
        norm_num_groups=8,
    )
    folder = tiny_models.folder_of(tmp_path / "m")
    unet.save_pretrained(folder / "unet", safe_serialization=True)
    filler = LatentInpainter(*load_parts(folder), CPU, steps=2, size=None)
    assert type(filler.unet) is UNet2DConditionModel
    assert filler.fill(pictures(2), holes(2), [1, 2]).shape == (2, 32, 48, 3)


def test_unusable_models_are_refused_with_a_reason(tmp_path):
    def load(path, **changes):
        return pipeline.load(GenerateConfig(model=str(path), **changes), CPU)

    with pytest.raises(UsageError, match="does not exist"):
        load(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"model_index\.json"):
        load(tmp_path / "empty")
    with pytest.raises(UsageError, match="--spatial ldm") as told:
        pipeline.load(GenerateConfig(), CPU)
    assert "telea" in told.value.hint
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("task: pseudo\n")
    with pytest.raises(UsageError, match="yet"):
        load(tmp_path / "run")

    folder = tiny_models.folder_of(tmp_path / "pickled")
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    file.rename(file.with_suffix(".bin"))
    with pytest.raises(UsageError, match="unet"):
        load(folder)

    folder = tiny_models.folder_of(tmp_path / "code")
    (folder / "unet" / "my.py").write_text("raise SystemExit")
    with pytest.raises(UsageError, match="never executed"):
        load(folder)

    folder = tiny_models.folder_of(tmp_path / "other")
    file = folder / "unet" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "layers_per_block": 2}))
    with pytest.raises(UsageError, match="cannot be read"):
        load(folder)

    folder = tiny_models.folder_of(tmp_path / "less")
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    del state["conv_in.bias"]
    save_file(state, file)
    with pytest.raises(UsageError, match=r"do not fit: missing conv_in\.bias"):
        load(folder)

    folder = tiny_models.folder_of(tmp_path / "nine")
    UNet2DModel(in_channels=9, out_channels=3, block_out_channels=(8, 8), norm_num_groups=4, **BLOCKS).save_pretrained(folder / "unet")
    with pytest.raises(UsageError, match="UNet from 9 to 3"):
        load(folder)


class Pipe:
    """Stands for a diffusers pipeline: same arguments, paints the mask's white red."""

    vae_scale_factor = 8
    unet = type("Unet", (), {"config": type("C", (), {"sample_size": 4})})

    def to(self, device):
        return self

    def set_progress_bar_config(self, **_):
        return None

    def __call__(self, prompt, image, mask_image, height, width, num_inference_steps, generator, strength, output_type, guidance_scale):
        self.given = locals()
        made = [np.asarray(i, np.float32) / 255 for i in image]
        for picture, mask in zip(made, mask_image, strict=True):
            picture[np.asarray(mask) > 127] = 1, 0, 0
        return type("Out", (), {"images": np.stack(made)})


def test_a_pipeline_gets_white_holes_its_own_size_and_a_generator_per_frame():
    pipe = Pipe()
    filler = pipeline.PipelineInpainter(pipe, CPU, 7, None, "")
    frames, masks = pictures(2, 60, 90), np.zeros((2, 60, 90), bool)
    masks[:, 20:40, 30:60] = True
    made = inpaint(filler, frames, masks, [11, 12])
    np.testing.assert_array_equal(made[~masks], frames[~masks])
    inner = made[:, 24:36, 34:56].reshape(-1, 3).mean(0)
    assert inner[0] > 240
    assert inner[1:].max() < 15
    given = pipe.given
    assert (given["height"], given["width"], given["num_inference_steps"], given["prompt"]) == (32, 32, 7, ["", ""])
    assert [g.initial_seed() for g in given["generator"]] == [11, 12]
    assert given["guidance_scale"] == 1.0


@pytest.fixture
def stable_diffusion(tmp_path):
    """A folder of the real StableDiffusionInpaintPipeline with tiny random networks."""
    transformers = pytest.importorskip("transformers")
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionInpaintPipeline, UNet2DConditionModel

    torch.manual_seed(0)
    words = {"<|startoftext|>": 0, "<|endoftext|>": 1, **{chr(97 + i): 2 + i for i in range(26)}}
    words |= {f"{chr(97 + i)}</w>": 28 + i for i in range(26)} | {"ab</w>": 54}
    (tmp_path / "vocab.json").write_text(json.dumps(words))
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b</w>\n")
    tokenizer = transformers.CLIPTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"), model_max_length=8)
    text = transformers.CLIPTextConfig(
        hidden_size=16,
        intermediate_size=16,
        num_attention_heads=2,
        num_hidden_layers=1,
        vocab_size=60,
        max_position_embeddings=8,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    blocks = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}
    pipe = StableDiffusionInpaintPipeline(
        vae=AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4, **blocks
        ),
        unet=UNet2DConditionModel(
            sample_size=16,
            in_channels=9,
            out_channels=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=16,
            attention_head_dim=4,
            **blocks,
        ),
        text_encoder=transformers.CLIPTextModel(text),
        tokenizer=tokenizer,
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(tmp_path / "sd", safe_serialization=True)
    return tmp_path / "sd"


def test_the_real_stable_diffusion_inpainting_pipeline(stable_diffusion):
    loaded = pipeline.load(GenerateConfig(model=str(stable_diffusion), steps=2), CPU)
    assert loaded.facts["kind"] == "StableDiffusionInpaintPipeline"
    frames, masks = pictures(2), holes(2)
    made = inpaint(loaded.filler, frames, masks, [1, 2])
    np.testing.assert_array_equal(made[~masks], frames[~masks])
    assert (made[masks] != frames[masks]).any(-1).mean() > 0.5
    np.testing.assert_array_equal(inpaint(loaded.filler, frames, masks, [1, 2]), made)


def test_a_pipeline_without_transformers_names_the_package(tmp_path, monkeypatch):
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionInpaintPipeline"}')
    monkeypatch.setattr(pipeline, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="transformers"):
        pipeline.load(GenerateConfig(model=str(tmp_path)), CPU)
