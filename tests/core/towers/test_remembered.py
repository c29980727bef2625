import pytest

from tasks.core.errors import UsageError
from tasks.core.towers.config import MotionConfig, SoundConfig
from tasks.core.towers.motion import MotionExtractor
from tasks.core.towers.remembered import tower_of
from tasks.core.towers.sound import SoundExtractor


def record(maker):
    return {"encoder": maker.made_by, "dim": maker.dim, "grid": maker.steps}


@pytest.mark.parametrize(
    "maker",
    [
        MotionExtractor(MotionConfig(columns=3, cells=2, hop_s=0.4, around=2.0, block_s=30)),
        SoundExtractor(SoundConfig(hop_s=0.2, pool="moments")),
        SoundExtractor(SoundConfig(hop_s=0.1, span_s=0.3, logmel={"n_mels": 40, "hop_s": 0.02})),
    ],
)
def test_what_a_model_remembers_makes_the_same_features(maker):
    found = tower_of("visual", record(maker), "runs/mine").maker
    assert (found.made_by, found.steps, found.dim) == (maker.made_by, maker.steps, maker.dim)
    assert type(found) is type(maker)


def test_features_of_other_programs_must_be_given():
    foreign = {"encoder": {"reference": "i3d", "weights_hash": None}, "dim": 2048, "grid": {"stride_s": 0.32, "span_s": 0.96}}
    with pytest.raises(UsageError, match="features of i3d") as caught:
        tower_of("visual", foreign, "runs/mine")
    assert "--features visual=FOLDER" in caught.value.hint


def test_an_encoder_that_has_changed_is_refused(monkeypatch):
    from tasks.core.towers import remembered as towers

    made = record(MotionExtractor(MotionConfig()))
    monkeypatch.setattr(towers, "_maker", lambda *given: MotionExtractor(MotionConfig(cells=2)))
    with pytest.raises(UsageError, match="now it is another"):
        tower_of("visual", made, "runs/mine")
