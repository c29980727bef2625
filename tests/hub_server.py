"""A small Hugging Face Hub on loopback, in memory: what the real client asks of it, answered as the Hub answers.

Repositories and commits, the LFS protocol (basic and multipart), files by redirect to a "CDN" under another host name, private and gated
repositories, tokens. Xet storage is offered where a folder for it is given: the client's own store for tests (`local://`) then keeps the
content, and a commit holds the name of it only; else clients are told by a 404 that there is none.
"""

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_loopbackSecretOfTheTests"
READER = "hf_loopbackTokenThatMayOnlyRead"
ATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n*.bin filter=lfs diff=lfs merge=lfs -text\n"


@dataclass
class Repo:
    """A model repository: `commits` holds (id, path -> content) from the oldest to the newest; `tags` name -> commit."""

    private: bool = False
    gated: bool = False
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)

    def commit(self, message: str, changes: dict[str, bytes]) -> str:
        """Adds a commit; returns its id."""
        files = {**(self.commits[-1][1] if self.commits else {}), **changes}
        digest = hashlib.sha1(f"{len(self.commits)}{message}".encode())
        for name in sorted(files):
            digest.update(name.encode() + hashlib.sha256(files[name]).digest())
        self.commits.append((digest.hexdigest(), files))
        self.messages.append(message)
        return digest.hexdigest()

    @property
    def head(self) -> str:
        return self.commits[-1][0]

    @property
    def files(self) -> dict[str, bytes]:
        """Of the newest commit."""
        return self.commits[-1][1]

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        revision = self.head if revision == "main" else self.tags.get(revision, revision)
        return next(((name, files) for name, files in self.commits if name == revision), None)


class Hub(ThreadingHTTPServer):
    """The server; `repos`, and `requests`: (method, path, headers) of everything that was asked.

    Args:
        part: bytes of a part, above which an LFS file is uploaded in parts.
        xet: folder of a Xet store; None: there is none.
    """

    daemon_threads = True

    def __init__(self, part: int = 1 << 20, xet: Path | None = None):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.part, self.xet = part, xet
        self.repos: dict[str, Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.parts: dict[tuple[str, int], bytes] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.cdn = f"http://localhost:{self.server_address[1]}"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> "Hub":
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def add(self, name: str, files: dict[str, bytes | str], **facts: Any) -> Repo:
        """A repository with one commit of these files (or one more commit of it)."""
        repo = self.repos.setdefault(name, Repo(**facts))
        repo.commit("by the test", {path: text.encode() if isinstance(text, str) else text for path, text in files.items()})
        return repo

    def asked(self, method: str, pattern: str) -> int:
        """How many requests had this method and a path that `pattern` is found in."""
        return sum(m == method and re.search(pattern, path) is not None for m, path, _ in self.requests)


def is_lfs(path: str) -> bool:
    return path.endswith((".safetensors", ".bin"))


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: object) -> None:
        return None

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        self.server.requests.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
        length = self.headers.get("Content-Length")
        if length is not None:
            self.body = self.rfile.read(int(length))
        elif "chunked" in self.headers.get("Transfer-Encoding", ""):
            self.body = b"".join(iter(self._chunk, b""))
        else:
            self.body = b""
        self.path_only, self.query = unquote(parts.path), parse_qs(parts.query)
        for method, pattern, action in _ROUTES:
            found = re.fullmatch(pattern, self.path_only)
            if found and method == self.command:
                return action(self, **found.groupdict())
        self._fail(404, "NotFound", "no such route")

    do_GET = do_HEAD = do_POST = do_PUT = _answer

    def _chunk(self) -> bytes:
        size = int(self.rfile.readline(), 16)
        data = self.rfile.read(size)
        self.rfile.readline()
        return data

    def _send(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None, kind: str = "application/json") -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, value: Any, headers: dict[str, str] | None = None) -> None:
        self._send(200, json.dumps(value).encode(), headers)

    def _fail(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        body = json.dumps({"error": message}).encode()
        self._send(status, body, {"X-Error-Code": code, "X-Error-Message": message, **(headers or {})})

    # who may what

    @property
    def token(self) -> str | None:
        return self.headers.get("Authorization", "").removeprefix("Bearer ") or None

    def _repo(self, name: str) -> Repo | None:
        """The repository if the caller may read it; what it may not see does not exist."""
        repo = self.server.repos.get(name)
        if repo is None or (repo.private and self.token not in (TOKEN, READER)):
            self._fail(401 if self.token is None else 404, "RepoNotFound", "Repository not found")
            return None
        if repo.gated and self.token != TOKEN:
            self._fail(403, "GatedRepo", "Access to this model is restricted")
            return None
        return repo

    def _writer(self) -> bool:
        if self.token == TOKEN:
            return True
        self._fail(403 if self.token == READER else 401, "", "You do not have write access" if self.token else "Invalid credentials")
        return False

    def _at(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        repo = self._repo(name)
        if repo is None:
            return None
        found = repo.at(revision)
        if found is None:
            self._fail(404, "RevisionNotFound", "Invalid rev id")
        return found

    # reading

    def whoami(self) -> None:
        self._json({"type": "user", "name": "tester", "orgs": []}) if self.token else self._fail(401, "", "Invalid credentials")

    def info(self, name: str, revision: str = "main") -> None:
        if found := self._at(name, revision):
            repo = self.server.repos[name]
            files = [{"rfilename": path} for path in found[1]]
            facts = {"disabled": False, "downloads": 0, "likes": 0, "tags": [], "lastModified": "2026-01-01T00:00:00.000Z"}
            names = {"_id": "0", "id": name, "modelId": name, "sha": found[0], "private": repo.private, "gated": repo.gated}
            self._json({**names, **facts, "siblings": files})

    def tree(self, name: str, revision: str) -> None:
        if found := self._at(name, revision):
            rows = []
            for path, content in found[1].items():
                row: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": git_oid(content)}
                if is_lfs(path):
                    row["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
                rows.append(row)
            self._json(rows)

    def resolve(self, name: str, revision: str, path: str) -> None:
        found = self._at(name, revision)
        if found is None:
            return
        commit = {"X-Repo-Commit": found[0]}
        if path not in found[1]:
            return self._fail(404, "EntryNotFound", "Entry not found", commit)
        content = found[1][path]
        if not is_lfs(path):
            return self._send(200, content, {**commit, "ETag": f'"{git_oid(content)}"'}, "application/octet-stream")
        oid = hashlib.sha256(content).hexdigest()
        self.server.objects[oid] = content
        linked = {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(content)), "Location": f"{self.server.cdn}/cdn/{oid}"}
        self._send(302, b"", {**commit, **linked, "ETag": f'"{git_oid(content)}"'})

    def download(self, oid: str) -> None:
        self._send(200, self.server.objects[oid], {"ETag": f'"{oid}"'}, "application/octet-stream")

    # writing

    def xet_token(self, name: str, revision: str) -> None:
        if self.server.xet is None:
            return self._fail(404, "", "no Xet storage here")
        if self._writer():
            store, ends = f"local://{self.server.xet}", 4_000_000_000
            told = {"X-Xet-Cas-Url": store, "X-Xet-Access-Token": "xet", "X-Xet-Token-Expiration": str(ends)}
            self._json({"casUrl": store, "exp": ends, "accessToken": "xet"}, told)

    def create(self) -> None:
        asked = json.loads(self.body)
        name = f"{asked['organization']}/{asked['name']}"
        if not self._writer():
            return
        if name in self.server.repos:
            return self._fail(409, "", "You already created this model repo")
        repo = self.server.repos[name] = Repo(private=asked.get("private") is True or asked.get("visibility") == "private")
        repo.commit("initial commit", {".gitattributes": ATTRIBUTES})
        self._json({"url": f"{self.server.url}/{name}", "name": name, "id": "0"})

    def card(self) -> None:
        """The Hub refuses a model card whose head is no YAML."""
        import yaml

        head = re.match(r"---\n(.*?)\n---\n", json.loads(self.body)["content"], re.DOTALL)
        try:
            valid = head is None or isinstance(yaml.safe_load(head[1]), dict)
        except yaml.YAMLError:
            valid = False
        errors = [] if valid else [{"message": "metadata is not valid YAML"}]
        self._send(200 if valid else 400, json.dumps({"errors": errors, "warnings": []}).encode())

    def preupload(self, name: str, revision: str) -> None:
        found = self._at(name, revision) if self._writer() else None
        if found:
            asked = json.loads(self.body)["files"]
            modes = []
            for file in asked:
                there, lfs = found[1].get(file["path"]), is_lfs(file["path"])
                oid = None if there is None else hashlib.sha256(there).hexdigest() if lfs else git_oid(there)
                modes.append({"path": file["path"], "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False, "oid": oid})
            self._json({"files": modes})

    def batch(self, name: str) -> None:
        if not self._writer():
            return
        asked, objects = json.loads(self.body), []
        for item in asked["objects"]:
            oid, size = item["oid"], item["size"]
            answer: dict[str, Any] = {"oid": oid, "size": size, "authenticated": True}
            if oid not in self.server.objects:
                verify = {"href": f"{self.server.url}/lfs/verify", "header": {}}
                upload: dict[str, Any] = {"href": f"{self.server.cdn}/lfs/put/{oid}", "header": {}}
                if "multipart" in asked["transfers"] and size > self.server.part:
                    count = -(-size // self.server.part)
                    urls = {f"{n:05d}": f"{self.server.cdn}/lfs/part/{oid}/{n}" for n in range(1, count + 1)}
                    upload = {"href": f"{self.server.url}/lfs/complete/{oid}", "header": {"chunk_size": str(self.server.part), **urls}}
                answer["actions"] = {"upload": upload, "verify": verify}
            objects.append(answer)
        kind = "multipart" if any("chunk_size" in o.get("actions", {}).get("upload", {}).get("header", {}) for o in objects) else "basic"
        self._json({"transfer": kind, "objects": objects})

    def put(self, oid: str) -> None:
        self._keep(oid, self.body)

    def put_part(self, oid: str, number: str) -> None:
        self.server.parts[oid, int(number)] = self.body
        self._send(200, b"", {"ETag": f'"{hashlib.md5(self.body).hexdigest()}"'})

    def complete(self, oid: str) -> None:
        told = [part["partNumber"] for part in json.loads(self.body)["parts"]]
        self._keep(oid, b"".join(self.server.parts[oid, number] for number in told))

    def _keep(self, oid: str, content: bytes) -> None:
        if hashlib.sha256(content).hexdigest() != oid:
            return self._fail(400, "", "the content is not what its name says")
        self.server.objects[oid] = content
        self._send(200, b"{}")

    def verify(self) -> None:
        asked = json.loads(self.body)
        kept = self.server.objects.get(asked["oid"])
        self._json({}) if kept is not None and len(kept) == asked["size"] else self._fail(404, "", "not uploaded")

    def commit(self, name: str, revision: str) -> None:
        if not self._writer():
            return
        message, changes = "", {}
        for line in self.body.decode().splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                message = value["summary"]
            elif item["key"] == "file":
                changes[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                stored = self.server.objects.get(value["oid"])
                if stored is None and self.server.xet is None:
                    return self._fail(400, "", f"{value['path']} was not uploaded")
                changes[value["path"]] = f"xet {value['oid']}".encode() if stored is None else stored
        commit = self.server.repos[name].commit(message, changes)
        self._json({"commitUrl": f"{self.server.url}/{name}/commit/{commit}", "commitOid": commit, "success": True})


_REPO = r"(?P<name>[^/]+/[^/]+)"
_ROUTES = [
    ("GET", r"/api/whoami-v2", _Handler.whoami),
    ("POST", r"/api/repos/create", _Handler.create),
    ("POST", r"/api/validate-yaml", _Handler.card),
    ("GET", rf"/api/models/{_REPO}", _Handler.info),
    ("GET", rf"/api/models/{_REPO}/revision/(?P<revision>.+)", _Handler.info),
    ("GET", rf"/api/models/{_REPO}/tree/(?P<revision>[^/]+)", _Handler.tree),
    ("GET", rf"/api/models/{_REPO}/xet-write-token/(?P<revision>.+)", _Handler.xet_token),
    ("POST", rf"/api/models/{_REPO}/preupload/(?P<revision>.+)", _Handler.preupload),
    ("POST", rf"/api/models/{_REPO}/commit/(?P<revision>.+)", _Handler.commit),
    ("POST", rf"/{_REPO}\.git/info/lfs/objects/batch", _Handler.batch),
    ("PUT", r"/lfs/put/(?P<oid>\w+)", _Handler.put),
    ("PUT", r"/lfs/part/(?P<oid>\w+)/(?P<number>\d+)", _Handler.put_part),
    ("POST", r"/lfs/complete/(?P<oid>\w+)", _Handler.complete),
    ("POST", r"/lfs/verify", _Handler.verify),
    ("HEAD", rf"/{_REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", _Handler.resolve),
    ("GET", rf"/{_REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", _Handler.resolve),
    ("GET", r"/cdn/(?P<oid>\w+)", _Handler.download),
]
