"""`hf://` addresses, with a stand-in for the client and, where it is installed, with the client itself."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import textwrap
import time
import traceback
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bounds import bounded

import poseprior
from poseprior.pretrained import hub

_ADDRESS = "hf://ann/priors/knee.safetensors"


class FakeHub(types.ModuleType):
    """Stands in for huggingface_hub: a cache of blobs named by their hash, behind symbolic links."""

    def __init__(self, cache: Path, content: bytes) -> None:
        super().__init__("huggingface_hub")
        self.calls: list[dict[str, Any]] = []
        self.cache, self.content = cache, content
        self.error: Exception | None = None
        self.silence: Exception | float | None = None
        self.etag = hashlib.sha256(content).hexdigest()

    def hf_hub_url(self, repo_id: str, filename: str, *, revision: str | None) -> str:
        return f"https://hub/{repo_id}/resolve/{revision}/{filename}"

    def get_hf_file_metadata(self, url: str, *, timeout: float) -> str:
        if isinstance(self.silence, Exception):
            raise self.silence
        time.sleep(self.silence or 0.0)
        return url

    def hf_hub_download(self, *, repo_id: str, filename: str, revision: str | None, **options: bool) -> str:
        self.calls.append({"repo_id": repo_id, "filename": filename, "revision": revision, **options})
        if self.error is not None:
            raise self.error
        blob, link = self.cache / self.etag, self.cache / "snapshot" / filename
        link.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(self.content)
        if not link.is_symlink():
            os.symlink(blob, link)
        return str(link)


class _Refused(Exception):
    """What the client raises for an HTTP status; neither an OSError nor a ValueError."""

    def __init__(self, status: int, text: str = "") -> None:
        super().__init__(text)
        self.response = types.SimpleNamespace(status_code=status)


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    path = tmp_path / "prior.safetensors"
    poseprior.GaussianPrior("left_knee").save(path)
    return path.read_bytes()


@pytest.fixture
def fake(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    module = FakeHub(tmp_path, content)
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    return module


def test_an_address_is_fetched_and_loaded(fake: FakeHub) -> None:
    assert poseprior.load("hf://ann/priors/sub/knee.safetensors@v1.0").joints == (4,)
    assert fake.calls == [{"repo_id": "ann/priors", "filename": "sub/knee.safetensors", "revision": "v1.0"}]
    assert poseprior.load(f"{_ADDRESS}#sha256={fake.etag.upper()}").joints == (4,)
    assert fake.calls[-1]["revision"] is None


def test_content_is_checked(fake: FakeHub) -> None:
    with pytest.raises(ValueError, match="does not hash to what it should"):
        poseprior.load(f"{_ADDRESS}#sha256=" + "0" * 64)
    fake.etag = "1" * 64  # the hub says another hash than the content has
    with pytest.raises(ValueError, match="does not hash to what it should"):
        poseprior.load("hf://ann/priors/other.safetensors")


def test_small_files_are_checked_by_their_git_hash(fake: FakeHub) -> None:
    header = b"blob %d\0" % len(fake.content)
    fake.etag = hashlib.sha1(header + fake.content).hexdigest()
    assert poseprior.load(_ADDRESS).joints == (4,)
    fake.content = fake.content[:-1] + b"\1"
    with pytest.raises(ValueError, match="does not hash"):
        poseprior.load(_ADDRESS)


# ---------------------------------------------------------------------- out of reach


@pytest.mark.parametrize("silence", [ConnectionError("no route"), _Refused(503), 60.0])
def test_a_cached_copy_is_taken_and_says_that_it_is_unpinned(fake: FakeHub, silence: Exception | float) -> None:
    fake.silence = silence
    started = time.monotonic()
    with pytest.warns(UserWarning, match=f"unpinned.*cached earlier.*#sha256={fake.etag}"):
        assert poseprior.load(f"{_ADDRESS}@main").joints == (4,)
    assert time.monotonic() - started < 15.0
    assert fake.calls[-1]["local_files_only"] is True


@pytest.mark.parametrize("pin", ["@" + "a" * 40, "#sha256={etag}", "@main#sha256={etag}"])
def test_a_pinned_copy_needs_no_word(fake: FakeHub, pin: str) -> None:
    fake.silence = ConnectionError()
    assert poseprior.load(_ADDRESS + pin.format(etag=fake.etag)).joints == (4,)


def test_out_of_reach_without_a_copy_says_what_to_do(fake: FakeHub) -> None:
    fake.silence, fake.error = ConnectionError(), FileNotFoundError("cannot find the requested files")
    with pytest.raises(ValueError, match=r"does not answer, and the local cache has no copy.*give its path"):
        poseprior.load(_ADDRESS)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (_Refused(401), "refuses access, 401: log in"), (_Refused(403), "gated repository"),
        (_Refused(404), "answers 404: no such repository"), (_Refused(500), "answers 500"),
        (OSError(28, "No space left on device"), "No space left on device"), (RuntimeError("odd"), "RuntimeError"),
    ],
)  # fmt: skip
def test_refusals_have_a_reason(fake: FakeHub, error: Exception, reason: str) -> None:
    fake.error = error
    with pytest.raises(ValueError, match=f"could not be fetched .*{reason}"):
        poseprior.load(_ADDRESS)


def test_no_token_is_ever_shown(fake: FakeHub) -> None:
    secret = "hf_" + "S3cret" * 5
    texts = (f"Illegal header value b'Bearer {secret}'", f"https://user:{secret}@hub/x?token={secret}")
    for error in (_Refused(401, texts[0]), OSError(texts[1]), ValueError(texts[0])):
        error.__cause__ = RuntimeError(texts[1])
        for fake.silence, fake.error in ((None, error), (error, error)):
            try:
                poseprior.load(_ADDRESS)
            except ValueError:
                assert secret not in traceback.format_exc()
            else:
                raise AssertionError("loaded")
    for address in (
        f"hf://{secret}/priors/x.pt",
        f"hf://ann:{secret}@hub/priors/x.safetensors",
        f"hf://ann/{secret}/..//",
    ):
        with pytest.raises(ValueError, match="path: expected") as caught:
            hub.parse(address)
        assert secret not in str(caught.value)
    fake.error = OSError("no network")
    for address in (
        f"hf://ann/priors/flow.safetensors@{secret}",
        f"hf://{secret}/priors/flow.safetensors",
        f"hf://ann/priors/{secret}/flow.safetensors",
        f"https://huggingface.co/o/r/resolve/{secret}/f.safetensors",
        f"https://example.com/f?access_token={secret[3:]}",
        f"s3://b/k?X-Amz-Signature={secret[3:]}",
        secret,
    ):
        with pytest.raises(ValueError, match="path: ") as caught:
            poseprior.load(address)
        assert secret[3:] not in str(caught.value)


def test_an_address_that_no_hub_has_is_not_recommended() -> None:
    with pytest.raises(ValueError, match="download the file and pass its path, or pass hf://owner/repo/file") as caught:
        poseprior.load("https://huggingface.co/o/r/resolve/main/../../x")
    assert "hf://o/r" not in str(caught.value)


@pytest.fixture
def silent_server() -> Iterator[str]:
    """An address that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.slow
def test_the_client_itself(content: bytes, tmp_path: Path, silent_server: str) -> None:
    """In a process of its own, whose cache holds one file of a branch."""
    pytest.importorskip("huggingface_hub")
    repo = tmp_path / "hub" / "models--ann--priors"
    blob = repo / "blobs" / hashlib.sha256(content).hexdigest()
    link = repo / "snapshots" / ("a" * 40) / "knee.safetensors"
    for path in (blob, link, repo / "refs" / "main"):
        path.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(content)
    link.symlink_to(blob)
    (repo / "refs" / "main").write_text("a" * 40)
    code = """
        import sys, time, warnings, huggingface_hub, poseprior
        for name, wanted in (("knee", "unpinned"), ("elbow", "could not be fetched")):
            started = time.monotonic()
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                try: poseprior.load(f"hf://ann/priors/{name}.safetensors"); text = str(said[-1].message)
                except ValueError as error: text = str(error)
            assert wanted in text and "hf_secret" not in text, text
            assert time.monotonic() - started < 15.0
    """
    for endpoint in (silent_server, "http://127.0.0.1:9"):
        places = {"HF_HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_ENDPOINT": endpoint}
        run = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120, check=False,
            env={**os.environ, **places, "HF_TOKEN": "hf_secretsecret", "NO_PROXY": "127.0.0.1"},
        )  # fmt: skip
        assert run.returncode == 0, run.stderr


# ---------------------------------------------------------------------- addresses


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # what an import of a missing package does
    with pytest.raises(ValueError, match=r"pip install 'poseprior\[hub\]'"):
        poseprior.load(_ADDRESS)


@pytest.mark.parametrize("error", ["AttributeError('secret')", "OSError('secret')", "RuntimeError('secret')"])
def test_a_broken_client_is_named(error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "huggingface_hub.py").write_text(f"raise {error}")
    monkeypatch.delitem(sys.modules, "huggingface_hub", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"huggingface_hub, which is broken here \(\w+Error\); pip install") as caught:
        poseprior.load(_ADDRESS)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    ["hf://" + "a" * 100_000 + "/b/c.safetensors", "hf://" + ":" * 100_000, "https://" + "a" * 100_000, ":" * 100_000,
     "https://x/" + "a:" * 50_000, "hf://x/?" + "?" * 100_000, "hf_" * 50_000, "s3://" + "a:@" * 50_000],
)  # fmt: skip
def test_long_addresses_are_refused_at_once(address: str, fake: FakeHub) -> None:
    with bounded(), pytest.raises(ValueError, match="path: ") as caught:
        poseprior.load(address)
    assert len(str(caught.value)) < 1000
    assert not fake.calls


def test_a_data_set_is_no_prior(fake: FakeHub) -> None:
    with pytest.raises(ValueError, match=r"owner of a model repository.*got 'datasets'"):
        poseprior.load("hf://datasets/ann/priors/knee.safetensors")
    assert not fake.calls


@pytest.mark.parametrize(
    "address",
    [
        "hf://ann/knee.safetensors",
        "hf://ann/priors/knee.pt",
        f"{_ADDRESS}#sha256=12",
        "hf://",
        f"{_ADDRESS}@",
        f"{_ADDRESS}#",
    ],
)
def test_malformed_addresses(address: str) -> None:
    with pytest.raises(ValueError, match=r"expected hf://owner/repo/file\.safetensors"):
        hub.parse(address)


@pytest.mark.parametrize(
    ("part", "odd"),
    [
        ("owner", ["..", ".", "-ann", "ann-", "a--b", "a b", "ann\n", "\u00e4nn", "a" * 97, "ann?x", "~", "ann.git"]),
        ("repo", ["..", ".", "-x", "x.", "x--y", "x..y", "x.git", "x%2f", "x\\y", "x\x00"]),
        ("path", ["../x", "a/../x", "./x", "/x", "a//x", "a\\x", "x\x00", "x\n", "%2e%2e/x", "a?b", " x", "a /x", "x" * 500]),
        ("branch", ["../main", "a..b", "-rf", "/x", "a//b", "main ", "a b", "x?y", "x\\y", "main\n", "x" * 300, "a/"]),
    ],
)  # fmt: skip
def test_every_part_is_checked_before_the_client_sees_it(part: str, odd: list[str], fake: FakeHub) -> None:
    for value in odd:
        parts = {"owner": "ann", "repo": "priors", "path": "knee", "branch": "main"} | {part: value}
        address = "hf://{owner}/{repo}/{path}.safetensors@{branch}".format(**parts)
        with pytest.raises(ValueError, match="path: expected ") as caught:
            poseprior.load(address)
        assert str(caught.value).isprintable()
    assert not fake.calls


def test_parts_of_good_addresses() -> None:
    found = hub.parse("hf://Ann-1/pri_ors.v2/a b/\u00e4/x.safetensors@refs/pr/1#sha256=" + "A" * 64)
    assert found == hub.Address("Ann-1/pri_ors.v2", "a b/\u00e4/x.safetensors", "refs/pr/1", "a" * 64)
