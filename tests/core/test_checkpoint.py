"""Model folders: written whole, read without trust."""

import json
import pickle

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tasks.core.checkpoint import CONFIG, WEIGHTS, find_model, load_config, load_strict, load_weights, save_model
from tasks.core.errors import UsageError

CONFIGURATION = {"task": "toy", "method": "plain", "architecture": {"width": 3}}


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "model"
    save_model(path, {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}, CONFIGURATION, "# card")
    return path


def refused(call, *arguments):
    """The message of the UsageError that `call` raises: one line that a terminal can show."""
    with pytest.raises(UsageError) as caught:
        call(*arguments)
    assert caught.value.exit_code == 2
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 700
    return caught.value.message


def test_there_and_back(folder):
    weights = load_weights(find_model(str(folder)))
    layer = torch.nn.Linear(3, 2)
    load_strict(layer, weights, "here")
    assert torch.equal(layer.weight, torch.ones(2, 3))
    assert load_config(folder) == CONFIGURATION
    with safe_open(folder / WEIGHTS, "pt") as file:
        told = file.metadata()
    assert {key: told[key] for key in ("format", "library", "task", "method")} == {
        "format": "pt",
        "library": "vid",
        "task": "toy",
        "method": "plain",
    }
    assert told["vid_version"]


def test_a_run_folder_stands_for_its_model(folder):
    assert find_model(str(folder.parent)) == folder


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_pickle_is_never_read(folder, protocol):
    class Trap:
        def __reduce__(self):
            return pytest.fail, ("a pickle was executed",)

    (folder / WEIGHTS).write_bytes(pickle.dumps(Trap(), protocol=protocol))
    assert "is a pickle, which is never read" in refused(load_weights, folder)
    torch.save({"weight": torch.ones(2)}, folder / WEIGHTS)
    assert "is a pickle, which is never read" in refused(load_weights, folder)


def test_a_folder_with_pickles_only_says_so(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"PK")
    assert "as a pickle (pytorch_model.bin)" in refused(find_model, str(tmp_path))


def test_a_header_as_long_as_a_pickle_begins_is_no_pickle(folder):
    """640 in little-endian is 80 02, the first bytes of a pickle."""
    weights = {"weight": torch.ones(2, 3)}
    for length in range(400, 640):
        save_file(weights, folder / WEIGHTS, metadata={"note": "x" * length})
        if (folder / WEIGHTS).read_bytes()[:2] == b"\x80\x02":
            break
    assert (folder / WEIGHTS).read_bytes()[:2] == b"\x80\x02"
    assert torch.equal(load_weights(folder)["weight"], weights["weight"])


@pytest.mark.parametrize("content", [b"", b"\x10", b"\xff" * 100, b"\x02\0\0\0\0\0\0\0{}" + b"\0" * 5, b"\x00" * 64])
def test_damaged_weights(folder, content):
    (folder / WEIGHTS).write_bytes(content)
    assert "not a readable safetensors file" in refused(load_weights, folder)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e4m3fn])
def test_weights_that_are_not_finite(folder, dtype):
    good = torch.linspace(-2, 2, 1000).to(dtype)
    save_file({"a": good, "n": torch.arange(5)}, folder / WEIGHTS)
    assert load_weights(folder)["a"].dtype == dtype
    for bad in (float("nan"), float("inf"), -float("inf")):
        if dtype == torch.float8_e4m3fn and bad == bad:
            continue  # it has no infinity
        wrong = good.clone()
        wrong[617] = bad
        save_file({"a": good, "b": wrong, "c": wrong.clone()}, folder / WEIGHTS)
        assert refused(load_weights, folder).endswith("holds NaN or infinite weights: b, c")


def test_large_finite_weights_are_fine_though_their_sum_is_not(folder):
    save_file({"a": torch.full((1000,), 3e38)}, folder / WEIGHTS)
    assert len(load_weights(folder)["a"]) == 1000


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"weight": torch.ones(3, 2), "bias": torch.ones(2)}, "weight has shape (3, 2), not (2, 3)"),
        ({"weight": torch.ones(2, 3)}, "missing bias"),
        ({"weight": torch.ones(2, 3), "bias": torch.ones(2), "more": torch.ones(1)}, "unexpected more"),
        ({"weight": torch.ones(2, 3), "bias": torch.ones(2, dtype=torch.int64)}, "bias has type int64, not float32"),
        ({"weight": torch.ones(2, 3, dtype=torch.complex64), "bias": torch.ones(2)}, "weight has type complex64, not float32"),
        ({"weight": torch.ones(2, 3), "bias": torch.ones(2), "\x1b[2J\n": torch.ones(1)}, r"unexpected '\x1b[2J\n'"),
        (
            {"weight": torch.ones(2, 3), "bias": torch.ones(2), **{f"k{n:05}{'x' * 500}": torch.ones(1) for n in range(2000)}},
            "and 1995 more",
        ),
    ],
)
def test_weights_that_do_not_fit(folder, weights, message):
    save_file(weights, folder / WEIGHTS)
    assert message in refused(load_strict, torch.nn.Linear(3, 2), load_weights(folder), "there")


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG])
@pytest.mark.parametrize("run", [True, False])
def test_a_link_out_of_the_folder_is_not_followed(folder, tmp_path, name, run):
    outside = tmp_path / "outside"
    outside.mkdir()
    (folder / name).rename(outside / name)
    (folder / name).symlink_to(outside / name)
    given = folder
    if run:
        given = tmp_path / "run"
        given.mkdir()
        folder.rename(given / "model")
    assert "link that leads out of its folder" in refused(find_model, str(given))


def test_a_model_folder_that_is_a_link_out_of_the_run(folder, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "model").symlink_to(folder)
    assert "link that leads out of its folder" in refused(find_model, str(run))


def test_links_inside_the_folder_or_to_it_are_fine(folder, tmp_path):
    (folder / WEIGHTS).rename(folder / "w")
    (folder / WEIGHTS).symlink_to("w")
    (tmp_path / "short").symlink_to(folder)
    assert find_model(str(tmp_path / "short")) == tmp_path / "short"


def test_a_snapshot_of_the_hub_cache_may_point_to_its_blobs_only(folder, tmp_path):
    storage = tmp_path / "models--org--name"
    snapshot = storage / "snapshots" / ("0" * 40)
    snapshot.parent.mkdir(parents=True)
    folder.rename(snapshot)
    (storage / "blobs").mkdir()
    (snapshot / WEIGHTS).rename(storage / "blobs" / "abc")
    (snapshot / WEIGHTS).symlink_to("../../blobs/abc")
    assert find_model(str(snapshot)) == snapshot
    (storage / "blobs" / "abc").rename(tmp_path / "abc")
    (snapshot / WEIGHTS).unlink()
    (snapshot / WEIGHTS).symlink_to("../../../abc")
    assert "link that leads out of its folder" in refused(find_model, str(snapshot))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"task": "toy"}',
        '{"task": ["toy"], "architecture": {}}',
        '{"task": "toy", "architecture": 7}',
        '{"task": "toy", "architecture": {}, "labels": "ab"}',
        '{"task": "toy", "architecture": {}, "labels": ["a\\u001b[2J"]}',
        '{"task": "toy", "architecture": {}, "preprocessing": []}',
        "[" * 100_000,
        '{"x": ' + "9" * 5000 + "}",
        '"' + "x" * 11_000_000 + '"',
    ],
)
def test_a_configuration_that_is_none(folder, text):
    (folder / CONFIG).write_text(text)
    assert str(folder / CONFIG) in refused(load_config, folder)


def test_an_unfinished_run_and_nothing_at_all(tmp_path):
    assert "does not exist" in refused(find_model, str(tmp_path / "absent"))
    assert "is not a model folder" in refused(find_model, str(tmp_path))
    (tmp_path / "config.yaml").write_text("task: toy\n")
    assert "has not finished" in refused(find_model, str(tmp_path))


def test_a_folder_is_replaced_whole(folder):
    (folder / "old.json").write_text(json.dumps({}))
    save_model(folder, {"weight": torch.ones(1)}, CONFIGURATION, "# card")
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
