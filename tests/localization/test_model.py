"""The whole localiser: shapes, padding, parts that can be switched off."""

import localization_toys as toys
import pytest
import torch

from tasks.core.errors import UsageError
from tasks.localization.config import LocalizerConfig
from tasks.localization.model import EventLocalizer

OFF = {"alignment": {"enabled": False}, "contrast": {"enabled": False}, "neck": {"enabled": False}}
KINDS = {
    "del": {},
    "none of three": OFF,
    "actionformer": {**OFF, "input": "visual", "branch": "attention", "window": (5,), "level_norm": True, "positions": 64},
    "unav": {**OFF, "branch": "cross", "positions": 64, "dependency": True},
    "concat": {**OFF, "input": "concat"},
    "audio": {"input": "audio"},
    "time": {"alignment": {"mask": "time"}},
    "band": {"alignment": {"mask": "band", "band": 2}},
    "shared ends": {"head": {"class_aware": False}, "neck": {"bottom_up": False}},
}


def localizer(classes: int = 3, **model) -> EventLocalizer:
    torch.manual_seed(0)
    made = EventLocalizer(toys.config(model).model, toys.DIMS, classes)
    for name, parameter in made.named_parameters():
        if name.endswith("bias"):  # they are what could reach out of the padding
            torch.nn.init.normal_(parameter, std=0.3)
    return made.eval()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [64, 41])
def test_every_level_is_half_as_long(kind: str, length: int):
    model = localizer(**KINDS[kind])
    batch = toys.batch((length, length - 7))
    found = model(batch["video"], batch["audio"], batch["mask"])
    padded = -(-length // 32) * 32
    assert [mask.shape for mask in found.masks] == [(2, padded >> level) for level in range(6)]
    assert [x.shape for x in found.logits] == [(2, padded >> level, 3) for level in range(6)]
    ends = (3, 2) if model.config.head.class_aware else (2,)
    assert [x.shape for x in found.offsets] == [(2, padded >> level, *ends) for level in range(6)]
    assert all((x >= 0).all() for x in found.offsets)
    assert [int(mask[1].sum()) for mask in found.masks] == [-(-(length - 7) // 2**level) for level in range(6)]


@pytest.mark.parametrize("length", [224, 192, 2304])
def test_published_lengths_need_no_padding(length: int):
    model = localizer(**OFF, window=(9,))
    one = torch.zeros(1, toys.DIMS["visual"], length), torch.zeros(1, toys.DIMS["audio"], length)
    found = model(*one, torch.ones(1, length, dtype=torch.bool))
    assert [x.shape[1] for x in found.logits] == [length >> level for level in range(6)]


@pytest.mark.parametrize("kind", KINDS)
def test_padding_and_the_others_of_a_batch_never_change_what_is_valid(float64, kind: str):
    model = localizer(**KINDS[kind])
    batch = toys.batch((41, 23))
    alone = model(batch["video"][:1, :, :41], batch["audio"][:1, :, :41], batch["mask"][:1, :41])
    more = torch.full((2, 1, 60), 9.0)  # rubbish in the padding
    padded = {name: torch.cat([batch[name], more.expand(-1, batch[name].shape[1], -1)], -1) for name in ("video", "audio")}
    padded = {name: torch.where(torch.nn.functional.pad(batch["mask"], (0, 60))[:, None], x, 9.0) for name, x in padded.items()}
    together = model(padded["video"], padded["audio"], torch.nn.functional.pad(batch["mask"], (0, 60)))
    for level, mask in enumerate(alone.masks):
        valid = mask[0]
        for mine, other in ((alone.logits, together.logits), (alone.offsets, together.offsets)):
            assert torch.allclose(mine[level][0][valid], other[level][0, : len(valid)][valid], atol=1e-9), level
    assert int(together.masks[0][0].sum()) == 41


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_learns_from_every_parameter(kind: str):
    """Each of alignment, contrast and PAN can be switched off, and the model still trains."""
    trained = toys.method(model=KINDS[kind], loss={"first_positives": 20}).train()
    found = toys.losses(trained, toys.batch((64, 50), events=6))
    assert found["loss"].isfinite()
    found["loss"].backward()
    without = [name for name, parameter in trained.named_parameters() if parameter.grad is None]
    assert not without
    history = toys.train(trained, toys.batch((64, 50), events=6), 8, 1e-2)
    assert history[-1] < 0.9 * history[0]


@pytest.mark.parametrize("part", ["alignment", "contrast", "neck"])
def test_a_part_that_is_off_is_not_there(part: str):
    names = {name.split(".")[0] for name, _ in localizer(**{part: {"enabled": False}}).named_parameters()}
    assert ("neck" in names) == (part != "neck")
    assert ("token_scores" in names) == (part != "contrast")
    own = {name.split(".")[1] for name, _ in localizer(**{part: {"enabled": False}}).named_parameters() if name.startswith("align")}
    assert ("layers" in own) == (part != "alignment")


@pytest.mark.parametrize(("stream", "other"), [("visual", "audio"), ("audio", "video")])
def test_one_modality_never_looks_at_the_other(stream: str, other: str):
    model, batch = localizer(input=stream), toys.batch((32,))
    changed = {**batch, other: batch[other] + 1}
    first, second = (model(each["video"], each["audio"], each["mask"]).logits for each in (batch, changed))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_stream_that_is_missing_is_named():
    with pytest.raises(UsageError, match="takes the stream 'audio'"):
        EventLocalizer(toys.config().model, {"visual": 4}, 3)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"width": 30}, "does not divide by heads"),
        ({"window": (4,)}, "odd numbers"),
        ({"window": (3, 3)}, "2 numbers for 6 levels"),
        ({"input": "audio", "branch": "cross"}, "needs both modalities"),
        ({"ranges": ((4, 2),)}, "from a smaller to a larger"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict, said: str):
    with pytest.raises(ValueError, match=said):
        LocalizerConfig(**settings)
