"""Heads against slow references, and which settings go together."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tasks.classify.config import MLP_HIDDEN, FinetuneConfig, HeadConfig
from tasks.classify.heads import AttentiveProbe, PooledHead
from tasks.classify.method import Classification
from tasks.core.nn.config import R2D3DConfig, S3DConfig

TOKENS = torch.from_numpy(np.random.default_rng(0).standard_normal((6, 3, 8)))


def head(**settings) -> PooledHead:
    torch.manual_seed(0)
    made = PooledHead(8, 4, HeadConfig(**settings)).double().train()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def by_hand(made: PooledHead, x: np.ndarray, l2: bool, eps: float) -> np.ndarray:
    """Unit length, statistics of the batch, scale and shift, layers; one clip after the other."""
    if l2:
        x = np.stack([row / np.sqrt((row**2).sum()) for row in x])
    x = np.stack([(row - x.mean(0)) / np.sqrt(x.var(0) + eps) for row in x])
    if made.norm.affine:
        x = x * made.norm.weight.detach().numpy() + made.norm.bias.detach().numpy()
    if made.hidden is not None:
        x = np.maximum(x @ made.hidden.weight.detach().numpy().T + made.hidden.bias.detach().numpy(), 0)
    return x @ made.linear.weight.detach().numpy().T + made.linear.bias.detach().numpy()


@pytest.mark.parametrize("mode", ["linear", "mlp", "finetune"])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("norm", ["batch", "l2-batch"])
def test_batch_norm_heads_by_hand(mode, norm, affine):
    hidden = {"hidden": 5} if mode != "linear" else {}
    made = head(mode=mode, norm=norm, affine=affine, norm_eps=1e-3, init_scale=1.0, **hidden)
    expected = by_hand(made, TOKENS.mean(1).numpy(), norm == "l2-batch", 1e-3)
    np.testing.assert_allclose(made(TOKENS).detach().numpy(), expected, atol=1e-9)


def test_unit_length_makes_the_strength_of_features_irrelevant():
    made = head(mode="linear", norm="l2-batch")
    np.testing.assert_allclose(made(TOKENS * 7).detach(), made(TOKENS).detach(), atol=1e-5)
    assert not torch.allclose(head(mode="linear", norm="none")(TOKENS * 7), head(mode="linear", norm="none")(TOKENS))


def test_features_that_hardly_vary_are_seen_like_others_in_a_test_too():
    made, weak = (head(mode="linear", norm_eps=1e-14) for _ in range(2))
    for _ in range(20):
        made(TOKENS), weak(1 + 1e-5 * TOKENS)
    torch.testing.assert_close(weak.eval()(1 + 1e-5 * TOKENS), made.eval()(TOKENS), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("affine", [False, True])
def test_one_clip_is_normed_with_running_statistics(affine):
    made = head(mode="linear", affine=affine)
    made(TOKENS)
    running = {name: tensor.clone() for name, tensor in made.norm.state_dict().items()}
    alone = made(TOKENS[:1])
    assert all(torch.equal(tensor, running[name]) for name, tensor in made.norm.state_dict().items())
    torch.testing.assert_close(alone, made.eval()(TOKENS[:1]))


def test_what_null_means():
    assert [HeadConfig(mode=mode).norm_used() for mode in ("finetune", "linear", "mlp")] == ["layer", "batch", "batch"]
    assert [HeadConfig(mode=mode).hidden_used() for mode in ("finetune", "linear", "mlp")] == [None, None, MLP_HIDDEN]
    assert head(mode="mlp").hidden.out_features == MLP_HIDDEN


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"mode": "attentive", "norm": "batch"}, "its own pooling"),
        ({"mode": "attentive", "hidden": 3}, "its own pooling"),
        ({"mode": "linear", "hidden": 3}, "set mode to mlp"),
        ({"mode": "finetune", "affine": True}, "set norm to batch"),
    ],
)
def test_settings_that_do_not_go_together(settings, told):
    with pytest.raises(ValidationError, match=told):
        HeadConfig(**settings)


@pytest.mark.parametrize(("dim", "heads"), [(768, 12), (96, 1), (200, 2), (130, 2), (67, 1)])
def test_attention_heads_divide_any_width(dim, heads):
    probe = AttentiveProbe(dim, 3, HeadConfig(mode="attentive"))
    assert probe.heads == heads
    assert probe(torch.randn(2, 5, dim)).shape == (2, 3)


@pytest.mark.parametrize("model", [S3DConfig(width=0.05, image_size=32), R2D3DConfig(width=4, image_size=64)])
def test_the_head_may_learn_faster_than_the_network(model):
    """Also where the network's last layer, an aggregator, is as deep as the head."""
    for factor in (1.0, 0.1):
        config = FinetuneConfig(head={"norm": "none"}, encoder_lr=factor, optim={"layer_decay": 1.0})
        method = Classification(config, model, 3)
        names = {id(p): name for name, p in method.classifier.named_parameters()}
        groups = method.optimizers()["main"].groups
        rates = {names[id(p)]: group["lr_scale"] for group in groups for p in group["params"]}
        assert rates.keys() == set(names.values())
        assert {rate for name, rate in rates.items() if name.startswith("encoder.")} == {factor}
        assert {rate for name, rate in rates.items() if name.startswith("head.")} == {1.0}
