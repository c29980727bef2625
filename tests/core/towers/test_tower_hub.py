"""Towers from the Hub: what is fetched of them, and the revision that is recorded."""

import json

from clip_toys import clip_folder
from hub_server import Hub
from hub_session import environment, python

LOAD = """
import json, sys
from tasks.core.towers import load_image_tower, load_text_tower
from tasks.core.towers.identity import recall
image, text = load_image_tower("hf://org/clip"), load_text_tower("hf://org/clip")
text(["a red square"])
told = [image.source, text.source]
if len(sys.argv) > 1:
    told.append(recall(json.loads(sys.argv[1]), load_text_tower, "runs/mine").source)
print(json.dumps(told))
"""


def test_a_tower_is_recorded_at_its_commit_and_called_back_from_there(tmp_path):
    clip = clip_folder(tmp_path / "clip")
    with Hub(part=1 << 20) as hub:
        files = {file.name: file.read_bytes() for file in clip.iterdir()}
        repo = hub.add("org/clip", {**files, "pytorch_model.bin": b"PK", "modeling.py": b"boom"})
        env = environment(hub, tmp_path / "home")
        image, text = json.loads(python(LOAD, env, tmp_path))
        assert text["reference"] == image["reference"] == "hf://org/clip"
        assert text["revision"] == image["revision"] == repo.head
        hub.add("org/clip", {"model.safetensors": (clip_folder(clip, activation="gelu") / "model.safetensors").read_bytes()})
        hub.add("org/clip", {"config.json": (clip / "config.json").read_bytes()})
        _, newer, recalled = json.loads(python(LOAD, env, tmp_path, json.dumps(text)))
        assert newer["revision"] == repo.head != text["revision"]
        assert newer["weights_hash"] != text["weights_hash"] == recalled["weights_hash"]
        fetched = {path.rpartition("/")[2] for _, path, _ in hub.requests if "/resolve/" in path}
        assert fetched >= {"vocab.json", "merges.txt", "config.json", "model.safetensors"}
        assert not fetched & {"pytorch_model.bin", "modeling.py"}
