"""EfficientNet-Lite0 against its layers written out one by one, norms apart, as the published file has them."""

import pytest
import torch
import torch.nn.functional as F
from bridge_toys import published

from tasks.core.errors import InputError
from tasks.core.nn.efficientnet import NORM_EPS, STAGES, EfficientNetLite, SameConv, folded


def reference(x: torch.Tensor, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """The network, layer by layer, from published tensors; even sides only, where TensorFlow pads a stride of 2 behind."""

    def layer(x: torch.Tensor, name: str, norm: str, stride: int = 1, groups: int = 1, active: bool = True) -> torch.Tensor:
        kernel = tensors[f"{name}.weight"].shape[-1]
        pad = (kernel - 2) // 2 if stride == 2 else kernel // 2
        x = F.pad(x, (pad, kernel - 2 - pad, pad, kernel - 2 - pad) if stride == 2 else (pad,) * 4)
        x = F.conv2d(x, tensors[f"{name}.weight"], stride=stride, groups=groups)
        parts = (tensors[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        x = F.batch_norm(x, *parts, eps=1e-3)
        return x.clamp(0, 6) if active else x

    x, number = layer(x, "_conv_stem", "_bn0", 2), 0
    for repeats, _, expansion, _, stride in STAGES:
        for repeat in range(repeats):
            name, before = f"_blocks.{number}", x
            if expansion > 1:
                x = layer(x, f"{name}._expand_conv", f"{name}._bn0")
            x = layer(x, f"{name}._depthwise_conv", f"{name}._bn1", stride if repeat == 0 else 1, x.shape[1])
            x = layer(x, f"{name}._project_conv", f"{name}._bn2", active=False)
            x, number = (x + before if repeat else x), number + 1
    x = layer(x, "_conv_head", "_bn1").mean((2, 3))
    return x @ tensors["_fc.weight"].T + tensors["_fc.bias"]


def test_the_folded_network_computes_what_the_published_layers_do():
    tensors = published(7)
    network = EfficientNetLite(7).double().eval()
    network.load_state_dict({name: tensor.double() for name, tensor in folded(tensors, "x").items()})
    pictures = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        found, wanted = network(pictures), reference(pictures, tensors)
    assert wanted.std() > 0.1
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)  # folded tensors are float32


def test_it_has_the_published_number_of_parameters():
    """4.65 million, a gain and a bias for every channel of a norm; the gains are folded into the weights."""
    own = sum(parameter.numel() for parameter in EfficientNetLite(1000).parameters())
    channels = sum(layer.out_channels for layer in EfficientNetLite(2).modules() if isinstance(layer, SameConv))
    assert own + channels == 4_652_008
    assert NORM_EPS == 1e-3


@pytest.mark.parametrize(("size", "kernel", "stride", "pads"), [(8, 3, 2, (0, 1)), (7, 3, 2, (1, 1)), (8, 5, 2, (1, 2)), (8, 5, 1, (2, 2))])
def test_padding_is_as_much_as_it_takes_the_larger_part_behind(size, kernel, stride, pads):
    layer = SameConv(1, 1, kernel, stride).double()
    x = torch.randn(1, 1, size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wanted = F.conv2d(F.pad(x, pads * 2), layer.weight, layer.bias, stride)
    torch.testing.assert_close(layer(x), wanted)
    assert layer(x).shape[-1] == -(-size // stride)


def test_other_tensors_are_refused_by_name():
    tensors = published()
    lacking = {name: tensor for name, tensor in tensors.items() if name != "_blocks.3._bn1.bias"}
    with pytest.raises(InputError, match=r"y\.pth is no EfficientNet-Lite0: it lacks _blocks\.3\._bn1\.bias"):
        folded(lacking, "y.pth")
    with pytest.raises(InputError, match=r"it has '_blocks\.3\._se_reduce\.weight'"):
        folded({**tensors, "_blocks.3._se_reduce.weight": torch.zeros(1)}, "y.pth")
