"""Classifiers travel: transformers both ways, original checkpoints, ONNX. The other program is the reference."""

import argparse
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_classifier import far_from_start, tiny_classifier

from tasks.classify.config import FinetuneConfig
from tasks.classify.convert import convert, export_onnx, export_transformers
from tasks.classify.evaluate import load_classifier
from tasks.classify.finetune import check
from tasks.classify.model import HEADS, HeadConfig
from tasks.core.checkpoint import save_model
from tasks.core.errors import InputError, NoCounterpart, UsageError
from tasks.core.nn.config import SIZES, VitConfig
from tasks.core.reporter import Quiet

VIT = {"size": "tiny", "dim": 32, "depth": 2, "heads": 2, "image_size": 32, "frames": 4, "tubelet": 2, "patch": 8}
LABELS = ["wave", "point", "clap"]
SIZED = [(dim, 1, heads) for dim, _, heads in SIZES.values()]


@pytest.fixture(scope="module")
def reference():
    """The models of transformers; skips where it is absent."""
    pytest.importorskip("transformers")
    import videomae_reference

    return videomae_reference


def model_folder(folder, mode="finetune", preprocessing=None, head_eps=1e-5, **vit):
    """A classifier with weights far from their start, as `vid finetune` writes one."""
    head = HeadConfig(mode=mode, init_scale=1.0, norm_eps=head_eps)
    module, saved = tiny_classifier(VitConfig(**{**VIT, **vit}), LABELS, head)
    saved["preprocessing"] |= preprocessing or {}
    save_model(folder, far_from_start(module).state_dict(), saved, "# a card\n")
    return folder, module


def clips(config: VitConfig, n: int = 2) -> torch.Tensor:
    return torch.randn(n, config.frames, 3, config.image_size, config.image_size, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def same_logits(theirs, folder) -> float:
    ours, _ = load_classifier(str(folder))
    video = clips(ours.encoder.config)
    return float((theirs(video).logits - ours(video)).abs().max())


@pytest.mark.parametrize(("dim", "depth", "heads"), SIZED)
def test_from_transformers_in_all_widths(reference, tmp_path, dim, depth, heads):
    theirs = reference.classifier(
        hidden_size=dim, num_hidden_layers=depth, num_attention_heads=heads, intermediate_size=4 * dim, layer_norm_eps=1e-6
    )
    result = convert(reference.save(theirs, tmp_path / "theirs"), "transformers", tmp_path / "ours", Quiet())
    assert result["classes"] == 3
    assert same_logits(theirs, tmp_path / "ours") < 1e-5
    saved = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert saved["labels"] == reference.LABELS
    assert (saved["preprocessing"]["mean"], saved["preprocessing"]["std"]) == ([0.1, 0.2, 0.3], [0.5, 0.6, 0.7])


@pytest.mark.parametrize(
    "changes",
    [
        {"num_frames": 6, "tubelet_size": 3},
        {"image_size": 48, "patch_size": 16},
        {"layer_norm_eps": 1e-12},
        {"layer_norm_eps": 1e-2},
        {"qkv_bias": False},
        {"num_frames": 16, "image_size": 224, "patch_size": 16},
    ],
)
def test_from_transformers_with_other_settings(reference, tmp_path, changes):
    theirs = reference.classifier(**changes)
    convert(reference.save(theirs, tmp_path / "theirs"), "transformers", tmp_path / "ours", Quiet())
    assert same_logits(theirs, tmp_path / "ours") < 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_single_without_loss(reference, tmp_path, dtype):
    theirs = reference.classifier()
    folder = reference.save(theirs, tmp_path / "theirs", dtype)
    assert load_file(folder / "model.safetensors")["fc_norm.weight"].dtype == dtype
    convert(folder, "transformers", tmp_path / "ours", Quiet())
    assert same_logits(theirs, tmp_path / "ours") < 1e-5  # `theirs` was rounded when it was saved
    assert all(tensor.dtype == torch.float32 for tensor in load_file(tmp_path / "ours" / "model.safetensors").values())


@pytest.mark.parametrize(
    "vit", [{}, {"frames": 6, "tubelet": 3}, {"image_size": 48, "patch": 16}, {"norm_eps": 1e-3}, {"pos": "sincos1d-double"}]
)
def test_to_transformers_opens_with_auto_model(reference, tmp_path, vit):
    from transformers import AutoModelForVideoClassification

    folder, module = model_folder(tmp_path / "ours", **vit)
    result = export_transformers(folder, tmp_path / "theirs", Quiet())
    theirs, report = AutoModelForVideoClassification.from_pretrained(tmp_path / "theirs", output_loading_info=True)
    assert not [name for name in report["missing_keys"] if not name.endswith("key.bias")]  # which some versions have and start at zero
    assert not report["mismatched_keys"]
    assert [theirs.config.id2label[i] for i in range(3)] == LABELS
    video = clips(module.encoder.config)
    with torch.no_grad():
        difference = (theirs.eval()(video).logits - module(video)).abs().max()
    assert difference < 1e-5
    assert result["max_difference"] < 1e-5


def test_the_measured_difference_is_that_of_transformers(reference, tmp_path):
    """With the usual epsilon of 1e-6 outputs are a little apart; with one of 1e-2 it would be another model."""
    from transformers import AutoModelForVideoClassification

    folder, module = model_folder(tmp_path / "ours", head_eps=1e-6)
    result = export_transformers(folder, tmp_path / "theirs", Quiet())
    theirs = AutoModelForVideoClassification.from_pretrained(tmp_path / "theirs").eval()
    video = torch.randn(1, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        difference = float((theirs(video).logits - module(video)).abs().max())
    assert 1e-7 < difference < 3e-5
    assert result["max_difference"] == pytest.approx(difference, abs=1e-6)
    other, _ = model_folder(tmp_path / "other", head_eps=1e-2)
    with pytest.raises(UsageError, match="outputs differ by"):
        export_transformers(other, tmp_path / "not", Quiet())
    assert not (tmp_path / "not").exists()


def test_biases_reach_transformers_under_every_spelling(reference, tmp_path):
    folder, module = model_folder(tmp_path / "ours")
    export_transformers(folder, tmp_path / "theirs", Quiet())
    written = load_file(tmp_path / "theirs" / "model.safetensors")
    layer = "videomae.encoder.layer.1.attention.attention."
    for names, bias in ((("q_bias", "query.bias"), "q_bias"), (("v_bias", "value.bias"), "v_bias")):
        own = module.encoder.blocks[1].attn.get_parameter(bias)
        assert own.abs().min() > 0
        assert all(torch.equal(written[layer + name], own) for name in names)


def test_there_and_back_changes_no_tensor(tmp_path):
    folder, _ = model_folder(tmp_path / "ours", pos="sincos1d-double")
    export_transformers(folder, tmp_path / "theirs", Quiet())
    convert(tmp_path / "theirs", "transformers", tmp_path / "again", Quiet())
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("ours", "again"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    first, second = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("ours", "again"))
    assert all(first[key] == second[key] for key in ("preprocessing", "labels", "architecture"))
    theirs = json.loads((tmp_path / "theirs" / "config.json").read_text())
    assert [theirs["vid"]["preprocessing"].pop(name) for name in ("flow", "stretch")] == [None, False]
    (tmp_path / "theirs" / "config.json").write_text(json.dumps(theirs))  # as written before there were these
    convert(tmp_path / "theirs", "transformers", tmp_path / "third", Quiet())
    assert json.loads((tmp_path / "third" / "config.json").read_text())["preprocessing"] == first["preprocessing"]


def test_the_pipeline_gives_our_probabilities(reference, tmp_path):
    """A video of as many frames as the model takes: both programs see the same frames."""
    av = pytest.importorskip("av")
    import numpy as np
    from transformers import pipeline

    from tasks.classify.predict import load

    folder, _ = model_folder(tmp_path / "ours", preprocessing={"stride_frames": 1})
    export_transformers(folder, tmp_path / "theirs", Quiet())
    with av.open(str(tmp_path / "clip.mkv"), "w") as file:
        stream = file.add_stream("ffv1", rate=10, options={}, width=48, height=32, pix_fmt="bgr0")
        for i in range(4):
            picture = np.random.default_rng(i).integers(0, 256, (32, 48, 3), dtype=np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="bgr0")))
        file.mux(stream.encode())
    ours = load(folder).predict(tmp_path / "clip.mkv", clips=1, crops=1)
    classify = pipeline("video-classification", str(tmp_path / "theirs"))
    classify.video_processor = None  # it would need torchcodec; without it frames are read by PyAV
    theirs = {row["label"]: row["score"] for row in classify(str(tmp_path / "clip.mkv"))}
    assert theirs == pytest.approx(ours, abs=1e-5)


def test_the_image_processor_gives_our_pictures(reference, tmp_path):
    from transformers import AutoImageProcessor

    from tasks.core.clips.augment import EvalTransform
    from tasks.core.clips.config import AugmentConfig

    folder, _ = model_folder(tmp_path / "ours")
    export_transformers(folder, tmp_path / "theirs", Quiet())
    frames = torch.randint(0, 256, (4, 3, 32, 56), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    theirs = AutoImageProcessor.from_pretrained(tmp_path / "theirs")(list(frames), return_tensors="pt")["pixel_values"]
    transform = EvalTransform(AugmentConfig(crop="center", mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)), 32)
    ours = transform({"video": frames[None], "size": torch.tensor([[32, 56]])})
    assert torch.allclose(theirs, ours, atol=1e-5)
    try:
        from transformers import AutoVideoProcessor
    except ImportError:
        return  # versions before 4.52 have none
    theirs = AutoVideoProcessor.from_pretrained(tmp_path / "theirs")(frames, return_tensors="pt")["pixel_values"]
    assert torch.allclose(theirs, ours, atol=1e-5)


@pytest.mark.parametrize(
    ("vit", "message"),
    [({"pos": "sincos3d"}, "pos is sincos3d"), ({"pos_scale": 3.0}, "pos_scale is 3"), ({"input": "motion"}, "input is motion")],
)
def test_what_transformers_lacks_is_refused(tmp_path, vit, message):
    folder, _ = model_folder(tmp_path / "ours", **vit)
    with pytest.raises(UsageError, match=message):
        export_transformers(folder, tmp_path / "theirs", Quiet())
    assert not (tmp_path / "theirs").exists()


@pytest.mark.parametrize("mode", ["linear", "attentive"])
def test_probes_have_no_counterpart(tmp_path, mode):
    folder, _ = model_folder(tmp_path / "ours", mode)
    with pytest.raises(UsageError, match=f"no {mode} probe"):
        export_transformers(folder, tmp_path / "theirs", Quiet())


def change(folder, key, value):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, key: value}))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("image_size", 33, "image_size .33. must be a multiple of patch"),
        ("image_size", [32, 16], "image_size .32, 16. is not square"),
        ("patch_size", [8, 4], "patch_size .8, 4. is not square"),
        ("num_frames", 5, "frames .5. must be a multiple of tubelet"),
        ("hidden_act", "relu", "activation is relu"),
        ("intermediate_size", 96, "intermediate_size 96"),
        ("num_channels", 1, "takes 1 channels"),
        ("use_mean_pooling", False, "first token"),
        ("num_attention_heads", 5, "multiple of heads"),
        ("id2label", {"1": "a", "2": "b", "3": "c"}, "from 0"),
        ("id2label", ["a", "b", "c"], "not a mapping from numbers"),
        ("architectures", ["VideoMAEForPreTraining"], "not VideoMAEForVideoClassification"),
        ("architectures", 3, "not VideoMAEForVideoClassification"),
    ],
)
def test_what_this_suite_lacks_is_refused(tmp_path, key, value, message):
    folder, _ = model_folder(tmp_path / "ours")
    export_transformers(folder, tmp_path / "theirs", Quiet())
    change(tmp_path / "theirs", key, value)
    with pytest.raises(InputError, match=message):
        convert(tmp_path / "theirs", "transformers", tmp_path / "again", Quiet())
    assert not (tmp_path / "again").exists()


def test_odd_settings_of_an_image_processor_are_refused(tmp_path, reference):
    folder = reference.save(reference.classifier(), tmp_path / "theirs")
    (folder / "preprocessor_config.json").write_text('{"image_mean": 3}')
    with pytest.raises(InputError, match="three numbers each"):
        convert(folder, "transformers", tmp_path / "ours", Quiet())


Q = "videomae.encoder.layer.0.attention.attention."


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t.pop("classifier.bias"), "missing classifier.bias"),
        (lambda t: t.update({"videomae.extra": torch.zeros(1)}), "unexpected videomae.extra"),
        (lambda t: [t.pop(Q + name) for name in ("q_bias", "query.bias")], f"missing {Q}q_bias"),
        (lambda t: t.update({Q + "query.bias": torch.zeros(32)}), "two different biases"),
        (lambda t: t.update({"classifier.weight": torch.zeros(3, 16), "classifier.bias": torch.zeros(3)}), "head.linear.weight has shape"),
    ],
)
def test_every_tensor_must_have_its_place(tmp_path, edit, message):
    folder, _ = model_folder(tmp_path / "ours")
    export_transformers(folder, tmp_path / "theirs", Quiet())
    file = tmp_path / "theirs" / "model.safetensors"
    tensors = load_file(file)
    edit(tensors)
    save_file(tensors, file)
    with pytest.raises(InputError, match=message):
        convert(tmp_path / "theirs", "transformers", tmp_path / "again", Quiet())


def test_a_bias_of_the_keys_changes_nothing(reference, tmp_path):
    """Some versions of transformers have one; scores of a query all move by the same number."""
    theirs = reference.classifier()
    folder = reference.save(theirs, tmp_path / "theirs")
    tensors = load_file(folder / "model.safetensors")
    tensors |= {f"videomae.encoder.layer.{i}.attention.attention.key.bias": torch.randn(32) for i in range(2)}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    convert(folder, "transformers", tmp_path / "ours", Quiet())
    assert same_logits(theirs, tmp_path / "ours") < 1e-5


@pytest.mark.parametrize("entry", ["model", "module", None])
def test_an_original_checkpoint(reference, tmp_path, entry):
    theirs = reference.classifier(hidden_size=192, num_attention_heads=3, intermediate_size=768, layer_norm_eps=1e-6)
    theirs.fc_norm.eps = 1e-6  # as the original code has it
    tensors = reference.original(theirs, pretraining=False)
    settings = argparse.Namespace(input_size=16, num_frames=4, sampling_rate=2, data_set="SSV2")
    torch.save({entry: tensors, "args": settings, "epoch": 3} if entry else tensors, tmp_path / "checkpoint.pth")
    if entry is None:  # nothing says that it takes 16 px and 4 frames
        convert(tmp_path / "checkpoint.pth", "videomae-pth", tmp_path / "ours", Quiet())
        config = load_classifier(str(tmp_path / "ours"))[0].encoder.config
        assert (config.image_size, config.frames) == (224, 16)
        return
    convert(tmp_path / "checkpoint.pth", "videomae-pth", tmp_path / "ours", Quiet())
    assert same_logits(theirs, tmp_path / "ours") < 1e-5
    saved = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert (saved["preprocessing"]["sampling"], saved["preprocessing"]["stride_frames"]) == ("segments", 2)
    assert saved["labels"] == ["0", "1", "2"]


@pytest.mark.parametrize("mode", sorted(HEADS))
def test_onnx_gives_our_logits_for_any_batch(tmp_path, mode):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    folder, module = model_folder(tmp_path / "ours", mode, pos="sincos3d", pos_scale=3.0, input="motion")
    result = export_onnx(folder, tmp_path / "onnx", Quiet())
    assert result["max_difference"] < 1e-4
    session = onnxruntime.InferenceSession(str(tmp_path / "onnx" / "model.onnx"))
    video = clips(module.encoder.config, 3)
    (logits,) = session.run(["logits"], {"video": video.numpy()})
    with torch.no_grad():
        assert torch.allclose(torch.from_numpy(logits), module(video), atol=1e-4)
    saved = json.loads((tmp_path / "onnx" / "config.json").read_text())
    assert saved["labels"] == LABELS
    assert saved["preprocessing"]["mean"] == [0.4, 0.5, 0.6]


def test_a_model_that_sees_flow_is_no_model_of_transformers(tmp_path):
    pytest.importorskip("onnxscript")
    folder, _ = model_folder(tmp_path / "ours", preprocessing={"flow": "dis"})
    warned = []
    with pytest.raises(NoCounterpart, match="optical flow"):
        export_transformers(folder, tmp_path / "theirs", Quiet())
    reporter = Quiet()
    reporter.warn = warned.append
    export_onnx(folder, tmp_path / "onnx", reporter)
    assert "read_views makes its input" in "".join(warned)


def test_a_model_that_sees_flow_is_not_shown_colours(tmp_path):
    folder, module = model_folder(tmp_path / "ours", preprocessing={"flow": "dis"})
    clip = {"clip": {"frames": module.encoder.config.frames}, "train": [str(tmp_path)]}
    with pytest.raises(UsageError, match="would show it colours") as refused:
        check(FinetuneConfig(init=str(folder), data=clip))
    assert refused.value.hint == "--set augment.flow=dis"
    with pytest.raises(InputError):  # goes on to the videos, of which there are none
        check(FinetuneConfig(init=str(folder), data=clip, augment={"flow": "tvl1"}))


def test_onnx_names_the_missing_package(tmp_path, monkeypatch):
    import importlib.util

    folder, _ = model_folder(tmp_path / "ours")
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "onnxscript" else found(name, *rest))
    with pytest.raises(UsageError, match=r"onnxscript(.|\n)*vid-suite\[onnx\]"):
        export_onnx(folder, tmp_path / "onnx", Quiet())
