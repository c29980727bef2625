"""References, and the real client against the Hub on loopback: what is fetched, pinned, committed, and what never leaves."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import READER, TOKEN, Hub
from hub_session import environment, python

from tasks.core import hub as vidhub
from tasks.core.errors import UsageError

SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("hf://org/repo", ("org/repo", None, None)),
        ("hf://org/repo@v1.0", ("org/repo", None, "v1.0")),
        ("hf://org/repo/a/b.yaml", ("org/repo", "a/b.yaml", None)),
        ("hf://o-r.g/re_po/x.yaml@refs/pr/1", ("o-r.g/re_po", "x.yaml", "refs/pr/1")),
    ],
)
def test_a_reference_and_back(reference, parts):
    assert vidhub.parse(reference) == parts
    assert vidhub.reference_of(*parts) == reference


@pytest.mark.parametrize(
    "bad",
    [
        "hf://repo",
        "hf://../repo",
        "hf://org/..",
        "hf://org/repo/../../etc/passwd",
        "hf://org/repo//etc/passwd",
        "hf://org/repo/./x",
        "hf://org/repo/a\\..\\b",
        "hf://org/repo/*",
        "hf://org/repo/",
        "hf://org/repo@../../x",
        "hf://org/repo@a/../b",
        "hf://org/repo@--help",
        "hf://org/repo@",
        "hf://org/repo\n",
        "hf://org/re\x1bpo",
        "hf://datasets/org/repo",
        "org/repo",
    ],
)
def test_what_is_no_reference(bad):
    with pytest.raises(UsageError) as caught:
        vidhub.parse(bad)
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("bad", ["name", "org/name/file", "org/name@v1", "../name", "org/name "])
def test_what_is_no_repository(bad):
    with pytest.raises(UsageError):
        vidhub.repository(bad)


FETCH = """
import json, sys
from tasks.core import hub
from tasks.core.checkpoint import find_model
from tasks.core.errors import UsageError
told = []
for reference in sys.argv[1:]:
    try:
        told.append(str(find_model(reference)))
    except UsageError as error:
        told.append([error.message, error.hint])
print(json.dumps([told, hub.pins()]))
"""


@pytest.fixture
def hub():
    with Hub(part=1000) as server:
        yield server


@pytest.fixture
def model(hub):
    """A repository with a tag `v1` on its first commit and a second commit after it."""
    files = {"model.safetensors": b"first", "config.json": "{}", "README.md": "# m", "pytorch_model.bin": b"PK", "code.py": "boom"}
    repo = hub.add("org/model", files)
    repo.tags["v1"] = repo.head
    hub.add("org/model", {"model.safetensors": b"second"})
    return repo


def fetch(hub, home, *references, **changes):
    return json.loads(python(FETCH, environment(hub, home, **changes), home.parent, *references))


def test_a_model_is_fetched_pinned_and_then_found_offline(hub, model, tmp_path):
    home = tmp_path / "home"
    (newest, tagged), pins = fetch(hub, home, "hf://org/model", "hf://org/model@v1")
    first, second = (commit for commit, _ in model.commits)
    assert pins == {"hf://org/model": f"hf://org/model@{second}", "hf://org/model@v1": f"hf://org/model@{first}"}
    assert Path(newest, "model.safetensors").read_bytes() == b"second"
    assert Path(tagged, "model.safetensors").read_bytes() == b"first"
    assert sorted(path.name for path in Path(newest).iterdir()) == ["README.md", "config.json", "model.safetensors"]

    asked = len(hub.requests)
    hub.add("org/model", {"model.safetensors": b"third"})
    (same,), pins = fetch(hub, home, "hf://org/model", HF_HUB_OFFLINE="1")
    assert (same, pins) == (newest, {"hf://org/model": f"hf://org/model@{second}"})
    assert len(hub.requests) == asked
    (found,), _ = fetch(hub, home, "hf://org/model")
    assert Path(found, "model.safetensors").read_bytes() == b"third"


def test_one_process_sees_one_commit(hub, model, tmp_path):
    code = """
from tasks.core import hub
first = hub.fetch_model("hf://org/model")
print("fetched", flush=True)
input()
assert hub.fetch_model("hf://org/model") == first
assert hub.fetch_file("hf://org/model/config.json").parent == first
print("same")
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment(hub, tmp_path / "home"), **pipes)
    assert process.stdout.readline() == "fetched\n"
    hub.add("org/model", {"config.json": '{"moved": "on"}'})
    out, _ = process.communicate("\n", timeout=60)
    assert out == "same\n"


def test_the_token_goes_to_the_hub_and_not_to_where_it_sends_us(hub, model, tmp_path):
    fetch(hub, tmp_path / "home", "hf://org/model")
    told = {path.split("/")[1]: headers.get("authorization") for _, path, headers in hub.requests}
    assert told["cdn"] is None
    assert told["api"] == f"Bearer {TOKEN}"


def test_what_is_missing_offline_names_the_command_that_mends_it(hub, model, tmp_path):
    home = tmp_path / "cache of mine" / "huggingface"
    home.mkdir(parents=True)
    changes = {"VID_CACHE": str(home.parent)}
    ((message, hint),), _ = fetch(hub, home, "hf://org/model@v1", HF_HUB_OFFLINE="1", **changes)
    assert "not in the local cache" in message
    command = hint.removeprefix("on a machine with network run: ")
    assert command == f"HF_HOME='{home}' hf download org/model --revision v1"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = environment(hub, tmp_path / "elsewhere", PATH=path)
    done = subprocess.run(["sh", "-c", command], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (found,), _ = fetch(hub, home, "hf://org/model@v1", HF_HUB_OFFLINE="1", **changes)
    assert Path(found, "model.safetensors").read_bytes() == b"first"


def test_what_cannot_be_had_says_why(hub, model, tmp_path):
    hub.add("org/secret", {"config.json": "{}"}, private=True)
    hub.add("org/gated", {"config.json": "{}"}, gated=True)
    hub.add("org/pickled", {"config.json": "{}", "pytorch_model.bin": b"PK"})
    names = ["absent", "secret", "gated", "model@v9", "pickled"]
    told, pins = fetch(hub, tmp_path / "home", *(f"hf://org/{name}" for name in names), HF_TOKEN=None)
    messages = [message for message, _ in told]
    assert messages[0] == "there is no hf://org/absent, or it is private"
    assert messages[1] == "there is no hf://org/secret, or it is private"
    assert messages[2] == "access to hf://org/gated has to be asked for"
    assert messages[3] == "hf://org/model@v9: no such revision"
    assert messages[4] == "hf://org/pickled has no weights as safetensors, only pickles (pytorch_model.bin), which are never read"
    assert all(hint for _, hint in told)
    assert list(pins) == ["hf://org/pickled"]


COMMIT = """
import json, sys
from pathlib import Path
from tasks.core import hub
from tasks.core.errors import UsageError
told = []
for repo, private, files in json.loads(sys.argv[1]):
    try:
        files = {name: Path(found[1:]) if found.startswith("@") else found.encode() for name, found in files.items()}
        done = hub.commit(repo, files, "a message", private, {"README.md": b"# new"})
        told.append([done.commit, done.changed])
    except UsageError as error:
        told.append([error.message, error.hint])
print(json.dumps(told))
"""


def commit(hub, cwd, *asked, **changes):
    return json.loads(python(COMMIT, environment(hub, cwd / "home", **changes), cwd, json.dumps(asked)))


@pytest.mark.parametrize("size", [10, 2500])
def test_files_become_one_commit_and_only_when_they_change(hub, tmp_path, size):
    content = bytes(range(256)) * 10
    (tmp_path / "w.safetensors").write_bytes(content[:size])
    files = {"w.safetensors": f"@{tmp_path}/w.safetensors", "sub/config.json": "{}"}
    one, again, more = commit(
        hub, tmp_path, ("org/new", True, files), ("org/new", True, files), ("org/new", False, {**files, "sub/config.json": "[]"})
    )
    repo = hub.repos["org/new"]
    assert [one[1], again[1], more[1]] == [True, False, True]
    assert one[0] == again[0] != more[0] == repo.head
    assert repo.private
    assert repo.messages == ["initial commit", "a message", "a message"]
    assert (repo.files["w.safetensors"], repo.files["sub/config.json"], repo.files["README.md"]) == (content[:size], b"[]", b"# new")
    parts = hub.asked("PUT", "/lfs/part/")
    assert (hub.asked("PUT", "/lfs/put/"), parts) == {10: (1, 0), 2500: (0, 3)}[size]


def test_an_upload_through_xet(tmp_path):
    pytest.importorskip("hf_xet")
    import hashlib

    (tmp_path / "w.safetensors").write_bytes(b"weights" * 1000)
    files = {"w.safetensors": f"@{tmp_path}/w.safetensors"}
    (tmp_path / "store").mkdir()
    with Hub(xet=tmp_path / "store") as hub:
        ((_, changed),) = commit(hub, tmp_path, ("org/new", False, files), HF_HUB_DISABLE_XET=None)
        assert changed
        kept = hub.repos["org/new"].files["w.safetensors"]
        name = hashlib.sha256(b"weights" * 1000).hexdigest()
        assert kept in (f"xet {name}".encode(), b"weights" * 1000)  # older clients are told `basic` and use it
    with Hub() as hub:
        ((said, more),) = commit(hub, tmp_path, ("org/new", False, files), HF_HUB_DISABLE_XET=None)
        if more is True:  # an older client: the file is there
            assert hub.repos["org/new"].files["w.safetensors"] == b"weights" * 1000
        else:
            assert said.startswith("cannot write hf://org/new: ")
            assert said.isprintable()
            assert more == "if this Hub has no Xet storage, set HF_HUB_DISABLE_XET=1"
            assert "w.safetensors" not in hub.repos["org/new"].files


def test_what_may_not_be_written_says_why(hub, model, tmp_path):
    files = {"a.json": "{}"}
    ((private, _),) = commit(hub, tmp_path, ("org/model", True, files))
    assert private == "org/model exists and is public"
    denied = commit(hub, tmp_path, ("org/model", False, files), ("org/other", False, files), HF_TOKEN=READER)
    assert [message for message, _ in denied] == [f"the Hub denies access to hf://org/{name} (403)" for name in ("model", "other")]
    ((nobody, hint),) = commit(hub, tmp_path, ("org/model", False, files), HF_TOKEN=None)
    assert (nobody, hint) == ("publishing needs a Hub token", "log in with: hf auth login, or set HF_TOKEN")
    ((offline, _),) = commit(hub, tmp_path, ("org/model", False, files), HF_HUB_OFFLINE="1")
    assert offline == "cannot reach hf://org/model: HF_HUB_OFFLINE is set"
    assert len(model.commits) == 2


@pytest.mark.parametrize("token", [TOKEN, "hf_abc\x01def", "secret\x7fWithout\x02Prefix"])
def test_the_token_is_in_no_message(hub, tmp_path, token):
    code = """
import sys
from tasks.core import hub
class Odd:
    def get_token(self): return hub._client().get_token()
for quoted in (repr, str, lambda t: repr(t.encode()), lambda t: f"Illegal header value b'Bearer {t}'"):
    print(hub._reason(Odd(), ValueError("before " + quoted(hub._client().get_token()) + " after")))
"""
    out = python(code, environment(hub, tmp_path / "home", HF_TOKEN=token), tmp_path)
    assert out.count("before") == 4
    for piece in (token, repr(token)[1:-1], "abc", "Without", "loopback"):
        assert piece not in out
