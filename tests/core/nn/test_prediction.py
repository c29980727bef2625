"""What a classifier sees of predictions that fail."""

import numpy as np
import pytest
import torch
from encoder_toys import FRAMES, SIZE, tiny_encoder, tiny_settings
from pinned import same_everywhere

from tasks.classify.config import FinetuneConfig
from tasks.classify.finetune import architecture, build, check
from tasks.core.checkpoint import load_config, load_weights
from tasks.core.errors import UsageError
from tasks.core.nn.config import DiscrepancyConfig, R2D3DConfig
from tasks.core.nn.encoders import tokens_of
from tasks.core.nn.prediction import DiscrepancyEncoder, discrepancy_settings, discrepancy_weights, next_map

MODEL = {"width": 4, "image_size": 64, "block_frames": 2, "predict": 2}


def clips(frames=8, size=64):
    return torch.from_numpy(np.random.default_rng(0).standard_normal((2, frames, 3, size, size)))


@pytest.mark.parametrize("slots", [None, 5])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_tokens_are_z_prediction_and_difference_of_every_predicted_block(slots, bidirectional, float64):
    encoder = same_everywhere(DiscrepancyEncoder(DiscrepancyConfig(**MODEL, bidirectional=bidirectional, slots=slots)), vectors=0.1).eval()
    with torch.no_grad():
        out = encoder.outputs(clips())
        z, places = encoder.maps(clips()).mean(3), []
        for y in range(2):  # place by place, block by block
            for x in range(2):
                told = []
                ways = ((encoder.aggregator, z), (encoder.backward_aggregator, z.flip(1)))
                for gru, way in ways[: 1 + bidirectional]:
                    here = way[:, :, :, y : y + 1, x : x + 1]
                    state = torch.zeros_like(here[:, 0])
                    for block in range(2):
                        state = gru.step(here[:, block].relu(), state)
                    first = encoder.prediction(state)[0]
                    second = encoder.prediction(gru.step(first.relu(), state))[0]
                    told += [here[:, 2], here[:, 3], first, second, (here[:, 2] - first).abs(), (here[:, 3] - second).abs()]
                places.append(torch.cat(told, 1)[:, :, 0, 0])
    torch.testing.assert_close(out["tokens"], torch.stack(places, 1), rtol=1e-9, atol=1e-9)
    assert out["tokens"].shape == (2, 4, encoder.dim)
    torch.testing.assert_close(out["map"], z)


def test_where_nothing_surprises_the_difference_is_nothing(float64):
    """A memory of one vector that all features equal: predictions are right."""
    encoder = same_everywhere(DiscrepancyEncoder(DiscrepancyConfig(**MODEL, slots=1))).eval()
    still = clips()[:1, :1].expand(1, 8, 3, 64, 64)
    with torch.no_grad():
        z = encoder.maps(still).mean((3, 4, 5))[0, 0]
        encoder.prediction.memory.copy_(z[None])
        told = encoder.outputs(still)["tokens"].mean(1).view(1, 3, 2, -1)
        other = encoder.outputs(clips()[:1])["tokens"].mean(1).view(1, 3, 2, -1)
    torch.testing.assert_close(told[:, 0], told[:, 1], rtol=1e-7, atol=1e-7)
    assert other[:, 2].mean() > 0


def test_an_address_is_a_mean_of_the_memory():
    memory, context = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.zeros(1, 2, 1, 1)
    found, address = next_map(lambda c: torch.log(torch.tensor([0.25, 0.75])).view(1, 2, 1, 1), memory, context)
    assert found.flatten().tolist() == pytest.approx([2.5, 3.5])
    assert address.flatten().tolist() == pytest.approx([0.25, 0.75])


def test_clips_that_leave_nothing_to_predict_from_are_refused():
    config = DiscrepancyConfig(**MODEL)
    config.check_clip(6)
    with pytest.raises(UsageError, match="of them 2 are predicted, and none is left") as error:
        config.check_clip(4)
    assert error.value.hint == "set data.clip.frames to 6 or more"
    with pytest.raises(UsageError, match="cannot be cut into blocks of 2"):
        config.check_clip(7)
    with pytest.raises(UsageError, match="none is left"):
        DiscrepancyEncoder(config).outputs(torch.zeros(1, 4, 3, 64, 64))


@pytest.fixture(params=[("memdpc", True), ("dpc", False)], ids=lambda value: value[0])
def pretrained(request, tmp_path):
    """(folder of a pretrained model, its network)"""
    from tasks.core.checkpoint import save_model
    from tasks.predictive.config import DPCConfig, MemDPCConfig
    from tasks.predictive.model import PredictiveCoder

    name, bidirectional = request.param
    model = R2D3DConfig(width=4, image_size=32, block_frames=2, predict=1, bidirectional=bidirectional)
    method = MemDPCConfig(slots=6) if name == "memdpc" else DPCConfig()
    coder = same_everywhere(PredictiveCoder(model, method), vectors=0.1).eval()
    saved = {
        "task": "predictive",
        "method": name,
        "architecture": model.model_dump(),
        "prediction": method.model_dump(),
        "preprocessing": {},
    }
    save_model(tmp_path / "pre", coder.state_dict(), {**saved, "preprocessing": {}}, "")
    return tmp_path / "pre", coder


@pytest.mark.parametrize("mode", ["linear", "finetune"])
def test_a_classifier_takes_the_whole_pretrained_network(pretrained, mode):
    folder, coder = pretrained
    config = FinetuneConfig(init=str(folder), discrepancy=True, head={"mode": mode}, data={"clip": {"frames": FRAMES}})
    classifier = build(config, architecture(config), 3).classifier.eval()
    video = torch.randn(2, FRAMES, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        tokens = tokens_of(classifier.encoder.outputs(video))
        parts = [part for way in coder(video) for part in (way.target, way.predicted, (way.target - way.predicted).abs())]
    expected = torch.cat([part.flatten(1, 2) for part in parts], 1).flatten(2).transpose(1, 2)
    torch.testing.assert_close(tokens, expected)
    classifier.head(tokens_of(classifier.encoder.outputs(video))).sum().backward()
    trained = [name for name, parameter in classifier.encoder.named_parameters() if parameter.grad is not None]
    assert (len(trained) == len(list(classifier.encoder.parameters()))) == (mode == "finetune")


def test_settings_and_weights_are_those_of_the_pretrained_model(pretrained):
    folder, coder = pretrained
    saved = load_config(folder)
    found = discrepancy_settings(saved, R2D3DConfig(**saved["architecture"]), "x")
    assert found.slots == (None if coder.memory is None else 6)
    assert discrepancy_settings(saved, found, "x") is found  # a classifier that has it already
    network = DiscrepancyEncoder(found)
    network.load_state_dict(discrepancy_weights(load_weights(folder)))
    assert torch.equal(network.prediction.predictor[0].weight, coder.predictor[0].weight)


def test_models_that_predict_nothing_are_refused(tmp_path):
    from encoder_toys import encoder_folder

    encoder_folder(tmp_path / "pre", "resnet", "boundaries")
    config = FinetuneConfig(init=str(tmp_path / "pre"), discrepancy=True, head={"mode": "linear"}, data={"clip": {"frames": FRAMES}})
    with pytest.raises(UsageError, match="task 'boundaries' without a predictor"):
        architecture(config)
    scratch = FinetuneConfig(model={"family": "discrepancy"}, discrepancy=True)
    with pytest.raises(UsageError, match="add --from RUN"):
        check(scratch)


def test_the_tiny_network_is_one_of_the_table():
    encoder = tiny_encoder("discrepancy")
    assert encoder.dim == 3 * 16 * 1 * 2
    assert tiny_settings("discrepancy").finetuned().statistics == "running"
    assert encoder.outputs(torch.zeros(1, FRAMES, 3, SIZE, SIZE))["tokens"].shape == (1, 1, encoder.dim)
