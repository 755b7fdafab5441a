"""`hf://owner/repo/file` addresses: fetched through huggingface_hub (optional), cached by it, and hash-checked here."""

from __future__ import annotations

import hashlib
import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PREFIX = "hf://"
_CHUNK = 1 << 20
_ADDRESS = re.compile(
    r"hf://(?P<repo>[\w.-]+/[\w.-]+)/(?P<file>[^@#]+\.safetensors)(@(?P<revision>[^#@]+))?(#sha256=(?P<sha256>[0-9a-fA-F]{64}))?"
)


@dataclass(frozen=True)
class Address:
    """A file on the hub.

    Attributes:
        repo: "owner/name".
        file: path inside the repository.
        revision: branch, tag or commit; None is the default branch.
        sha256: what the file must hash to, lower-case hex; None takes the hub's word.
    """

    repo: str
    file: str
    revision: str | None
    sha256: str | None


def parse(address: str) -> Address:
    """The parts of `hf://owner/repo/file.safetensors[@revision][#sha256=<64 hex digits>]`.

    >>> parse("hf://ann/priors/body/flow.safetensors@v1")
    Address(repo='ann/priors', file='body/flow.safetensors', revision='v1', sha256=None)
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise ValueError(
            "path: expected hf://owner/repo/file.safetensors, optionally with @revision and then #sha256=<64 hex digits>, "
            f"got {address!r}."
        )
    sha256 = match["sha256"]
    return Address(match["repo"], match["file"], match["revision"], None if sha256 is None else sha256.lower())


def fetch(address: str) -> Path:
    """The cached file of an address, downloaded if need be.

    The content is checked against `#sha256=` where the address has it; otherwise against the hub's own hash, the name
    under which huggingface_hub caches the content (a sha256 for large files, a git hash for small ones). Caches
    without symbolic links do not keep that name, and there only `#sha256=` checks.

    Raises:
        ValueError: a malformed address, huggingface_hub not installed, nothing there, no network and no cached copy, or
            content that does not hash to what it should.
    """
    where = parse(address)
    try:
        client: Any = importlib.import_module("huggingface_hub")
    except ImportError:
        raise ValueError(
            f"path: {address} needs the package huggingface_hub, which is not installed; pip install 'poseprior[hub]', or "
            "download the file yourself and give its path."
        ) from None
    try:
        file = Path(client.hf_hub_download(repo_id=where.repo, filename=where.file, revision=where.revision))
    except (OSError, ValueError) as error:  # all of its errors are one or the other
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ValueError(
            f"path: {address} could not be fetched ({type(error).__name__}: {reason}); check the name, the network and "
            "your access, or download the file yourself and give its path. A file fetched once also loads offline."
        ) from error
    _check(file, where, address)
    return file


def _check(file: Path, where: Address, address: str) -> None:
    expected = where.sha256 or _hub_hash(file)
    if expected is None:
        return
    found = _sha256(file) if len(expected) == 64 else _git_hash(file)
    if found != expected:
        raise ValueError(
            f"path: {address} does not hash to what it should (expected {expected}, got {found}): the download is damaged "
            f"or the file was changed; delete {file.resolve()} and try again, or correct the hash."
        )


def _hub_hash(file: Path) -> str | None:
    """The hub's hash of the content, from the name of the cached blob behind the symbolic link."""
    name = file.resolve().name
    return name if file.is_symlink() and re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", name) else None


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as handle:
        while block := handle.read(_CHUNK):
            digest.update(block)
    return digest.hexdigest()


def _git_hash(file: Path) -> str:
    content = file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
