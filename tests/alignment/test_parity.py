"""The public implementation on random weights: similarities, losses, co-training rules and the model after a step agree with ours."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.alignment import objective, pseudo
from tasks.alignment.config import CotrainConfig
from tasks.alignment.convert import convert
from tasks.alignment.learned import AlignmentModel, load_aligner
from tasks.core.convert import read_pth
from tasks.core.reporter import Quiet

pytestmark = pytest.mark.real
TEMPERATURE = 0.07
PUBLIC = {"windows": "exclusive", "agree_iou": 0.5, "one_sentence": True, "score": "max", "labels": "medians"}


@pytest.fixture(scope="module")
def parity(real_data) -> Path:
    folder = real_data.parent / "parity"
    if not folder.exists():
        pytest.skip("no parity cases beside this checkout")
    return folder


@pytest.fixture(scope="module")
def case(parity) -> tuple[dict, dict, dict]:
    folder = parity / "tan_init_small"
    return dict(np.load(folder / "inputs.npz")), dict(np.load(folder / "expected.npz")), json.loads((folder / "inputs.json").read_text())


def loaded(parity: Path, out: Path, name: str = "checkpoint_init.pth.tar") -> AlignmentModel:
    words = json.loads((parity / "tan_init_small" / "inputs.json").read_text())["words"]
    (out / "words.txt").write_text("\n".join(words))
    convert(parity / "tan_init_small" / name, "tan", out / "model", Quiet(), str(out / "words.txt"))
    return load_aligner(str(out / "model"))


def texts(model: AlignmentModel, case: tuple) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, K, C) sentence vectors, padded by repeating the last one, and their mask."""
    vectors = [model.encode(sentences) for sentences in case[2]["sentences"]]
    longest = max(map(len, vectors))
    padded = [torch.cat([v, v[-1:].expand(longest - len(v), -1)]) for v in vectors]
    return torch.stack(padded), torch.tensor([[k < len(v) for k in range(longest)] for v in vectors])


def crossed(video: torch.Tensor, text: torch.Tensor) -> np.ndarray:
    """Cosines of every video's features with the sentences of every video, (B, S, T, B, K), as the public code has them."""
    if text.ndim == 3:
        return torch.einsum("astc,bkc->astbk", video, text).detach().numpy()
    return torch.einsum("astc,bskc->astbk", video, text).detach().numpy()


def close(found, expected) -> None:
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-4, atol=1e-5)


def test_words_are_numbered_and_pooled_as_there(parity, case, tmp_path):
    model = loaded(parity, tmp_path)
    for number, sentences in enumerate(case[2]["sentences"]):
        np.testing.assert_array_equal(model.tokenizer(sentences).numpy(), case[0][f"tokens_{number}"])
    close(torch.cat([model.encode(sentences) for sentences in case[2]["sentences"]]), case[1]["sentence_embedding"])


@pytest.mark.parametrize("prefix", ["", "after1:"])
def test_similarities_of_both_encoders_at_every_stage(parity, case, tmp_path, prefix):
    model = loaded(parity, tmp_path, "checkpoint.pth.tar" if prefix else "checkpoint_init.pth.tar")
    text, told = texts(model, case)
    video = torch.from_numpy(case[0]["video"])
    found = model.aligner(video, text, torch.ones(video.shape[:2], dtype=torch.bool), told)
    close(found.dual_video.detach(), case[1][f"{prefix}dual_feature_video"])
    real = told.numpy()
    close(crossed(found.dual_video, found.dual_text)[..., real], case[1][f"{prefix}logits_dual"][..., real])
    close(crossed(found.joint_video, found.joint_text)[..., real], case[1][f"{prefix}logits_joint"][..., real])


def test_padded_seconds(parity, case, tmp_path):
    model = loaded(parity, tmp_path)
    text, told = texts(model, case)
    seen = ~torch.from_numpy(case[1]["padded:video_padding_mask"])
    found = model.aligner(torch.from_numpy(case[0]["video"]), text, seen, told)
    shown = seen[:, None, :, None, None].expand(-1, 3, -1, *told.shape) & told
    for name, values in (("dual", crossed(found.dual_video, found.dual_text)), ("joint", crossed(found.joint_video, found.joint_text))):
        close(values[shown.numpy()], case[1][f"padded:logits_{name}"][shown.numpy()])


def test_positions_from_another_row_and_of_longer_windows(parity, case, tmp_path):
    model = loaded(parity, tmp_path)
    video = torch.from_numpy(case[0]["video"])
    close(model.aligner.dual_features(video, torch.ones(3, 64, dtype=torch.bool), 7).detach(), case[1]["offset7:visual_feature"])
    longer = torch.from_numpy(case[1]["long:video"])
    text = model.encode(case[2]["sentences"][0])[None]
    masks = torch.ones(1, 101, dtype=torch.bool), torch.ones(1, 5, dtype=torch.bool)
    found = model.aligner(longer, text, *masks, stretch=64)
    close(torch.einsum("bstc,bskc->bstk", found.joint_video, found.joint_text).detach(), case[1]["long:sim_joint"])
    close(torch.einsum("bstc,bkc->bstk", found.dual_video, found.dual_text).detach(), case[1]["long:sim_dual"])


def test_losses_of_the_first_stage(parity, case, tmp_path):
    model = loaded(parity, tmp_path)
    text, told = texts(model, case)
    video = torch.from_numpy(case[0]["video"])
    found = model.aligner(video, text, torch.ones(3, 64, dtype=torch.bool), told)
    positive = flat_positive(torch.from_numpy(case[1]["asr_mask"]), told)
    for name, values, sentences in (("dual", found.dual_video, found.dual_text[:, None]), ("joint", found.joint_video, found.joint_text)):
        rows = values.transpose(0, 1).flatten(1, 2)
        loss = objective.correspondence(rows, sentences.transpose(1, 2)[told].transpose(0, 1), positive, TEMPERATURE)
        close(loss.item(), case[1][f"step:loss:loss-{name}"])


def flat_positive(masks: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
    """(B * T, M) logarithms of weights from masks (B, K, T)."""
    size = len(masks)
    blocks = torch.eye(size, dtype=torch.bool)[:, None, :, None] & masks.transpose(1, 2)[:, :, None]
    return torch.zeros(blocks[..., told].shape).masked_fill(~blocks[..., told], -torch.inf).flatten(0, 1)


class Given:
    """Rows with these cosines, (B, S, T, B, K): unit vectors whose products they are need not exist, so the loss gets them as they are."""

    def __init__(self, cosines: torch.Tensor, told: torch.Tensor):
        self.rows = cosines.permute(1, 0, 2, 3, 4)[..., told].flatten(1, 2)


def loss_of(given: Given, positive: torch.Tensor, kept: torch.Tensor | None = None) -> float:
    """`objective.correspondence` of cosines (S, N, M): features are those rows, sentences the unit vectors."""
    sentences = torch.eye(positive.shape[1])[None]
    return objective.correspondence(given.rows, sentences, positive, TEMPERATURE, kept).item()


@pytest.fixture(scope="module")
def rules(parity) -> tuple[dict, dict]:
    folder = parity / "tan_pseudo_labels"
    inputs = {name: torch.from_numpy(values) for name, values in np.load(folder / "inputs.npz").items()}
    times = json.loads((folder / "inputs.json").read_text())
    middles = [[(a + b) / 2 for a, b in zip(*row, strict=True)] for row in zip(times["abs_text_start"], times["abs_text_end"], strict=True)]
    inputs["middles"] = torch.tensor([value for row in middles for value in row])
    return inputs, dict(np.load(folder / "expected.npz"))


@pytest.mark.parametrize(("run", "alpha", "edges"), [("keep", 0.5, 0.2), ("th0.25", 0.25, 0.2), ("no_trim", 0.5, 0.0)])
def test_the_rules_of_co_training(rules, run, alpha, edges):
    inputs, every = rules
    expected = {name.partition("|")[2]: values for name, values in every.items() if name.startswith(f"cotrain_{run}|")}
    config = CotrainConfig(**PUBLIC, alpha=alpha, edges=edges)
    told = inputs["text_padding_mask"] == 0
    seen = torch.ones(3, 64, dtype=torch.bool)
    given = torch.from_numpy(expected["asr_mask"])
    durations = given.sum(-1).clamp(min=1) * told

    def own(name: str) -> torch.Tensor:
        return torch.stack([inputs[name][b, -1, :, b] for b in range(3)]).transpose(1, 2)

    masks = {}
    for name in ("dual", "joint"):
        starts, masks[name] = pseudo.spans(own(f"ema_logits_{name}"), durations, seen, told, "exclusive", TEMPERATURE)
        np.testing.assert_array_equal(starts[told], expected[f"{name}_start"][told])
        np.testing.assert_array_equal(masks[name][told], expected[f"{name}_mask"][told])
    close(pseudo.iou(masks["dual"], masks["joint"])[told], expected["iou"][told.numpy()])
    target, _ = pseudo.agreed(masks["dual"], masks["joint"], given & told[..., None], config)
    np.testing.assert_array_equal(target[told], expected["target"][told])
    best = [own(f"logits_{name}").amax(-1)[told] / TEMPERATURE for name in ("dual", "joint")]
    kept = pseudo.above_quantile(pseudo.standard_maxima(*best), alpha)
    np.testing.assert_array_equal(kept, expected["kept"])
    labels = pseudo.median_labels(*best)
    if edges:
        labels = labels.masked_fill((inputs["middles"] < edges) | (inputs["middles"] > 1 - edges), 0)
    np.testing.assert_array_equal(torch.where(labels < 0, 2, labels), expected["alignability_label"])
    positive = flat_positive(target, told)
    for name in ("dual", "joint"):
        cosines = Given(inputs[f"logits_{name}"], told)
        close(loss_of(cosines, positive), expected[f"loss:loss-{name}-all"])
        close(loss_of(cosines, positive, kept), expected[f"loss:loss-{name}"])
    close(objective.alignability(inputs["joint_logits_alignability"][:, 2, :, 0][told], labels).item(), expected["loss:loss-joint-bce"])


def test_names_of_the_training_script_and_of_the_twin(parity, tmp_path):
    """`lang_model` for the text tower; of a twin the network itself."""
    file = parity / "tan_init_small" / "checkpoint_init.pth.tar"
    tensors = read_pth(file)["state_dict"]
    twin = {f"online.{name}": tensor for name, tensor in tensors.items()}
    twin |= {f"target.{name}": tensor + 1 for name, tensor in tensors.items()}
    twin |= {name.replace("bert.", "lang_model."): tensor for name, tensor in tensors.items() if name.startswith("bert.")}
    twin |= {"online.binary_head.weight": torch.ones(1, 64), "online.binary_head.bias": torch.ones(1)}
    torch.save({"state_dict": twin, "epoch": 1}, tmp_path / "twin.pth.tar")
    convert(tmp_path / "twin.pth.tar", "tan", tmp_path / "twin", Quiet())
    plain, second = loaded(parity, tmp_path), load_aligner(str(tmp_path / "twin"))
    assert second.saved["head_trained"]
    assert not plain.saved["head_trained"]
    for name, tensor in plain.state_dict().items():
        if "head" not in name:
            torch.testing.assert_close(second.state_dict()[name], tensor)
    assert second.aligner.head.bias.item() == 1
