"""`hf://owner/repo/file` addresses: fetched through huggingface_hub (optional), cached by it, and hash-checked here."""

from __future__ import annotations

import hashlib
import importlib
import re
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._checks import quoted

PREFIX = "hf://"
_CHUNK = 1 << 20
_ADDRESS = re.compile(
    r"hf://(?P<owner>[^/@#]+)/(?P<repo>[^/@#]+)/(?P<file>[^@#]+\.safetensors)(@(?P<revision>[^#@]+))?"
    r"(#sha256=(?P<sha256>[0-9a-fA-F]{64}))?"
)
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
_REVISION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,248}[A-Za-z0-9_-])?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_LONGEST_PATH = 400
_LONGEST_ADDRESS = 1200
#: Seconds to wait for the hub's first answer. Its client waits and tries again for half a minute.
_PATIENCE = 3.0
#: What may be a password: a name and what follows its colon before an `@`; tokens of the hub, and queries.
_LOGIN = re.compile(r"[^/@]+@?")
_TOKEN = re.compile(r"hf_\w{8,}|(?<=\?)[^#]+")


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
    match = _ADDRESS.fullmatch(address) if len(address) <= _LONGEST_ADDRESS else None
    if match is None:
        raise ValueError(
            "path: expected hf://owner/repo/file.safetensors, optionally with @revision and then #sha256=<64 hex digits>, of "
            f"at most {_LONGEST_ADDRESS} characters, got {shown(address)}."
        )
    if match["owner"] in ("datasets", "spaces", "models"):
        raise ValueError(
            f"path: expected the owner of a model repository after hf://, got {match['owner']!r}; give "
            "hf://owner/repo/file.safetensors of a model repository, or download the file and give its path."
        )
    for part in ("owner", "repo"):
        name = match[part]
        if not _NAME.fullmatch(name) or "--" in name or ".." in name or name.endswith(".git"):
            raise ValueError(
                f"path: expected a hub's {part} of letters, digits, '-', '_' and '.' (96 at most, none of '.-' at either end, "
                f"no '--' or '..'), got {shown(name)} in {shown(address)}."
            )
    file, revision, sha256 = match["file"], match["revision"], match["sha256"]
    odd = any(piece in ("", ".", "..") or piece != piece.strip() for piece in file.split("/"))
    if odd or not file.isprintable() or len(file) > _LONGEST_PATH or re.search(r'[\\?%*:|"<>]', file):
        raise ValueError(
            f"path: expected a path inside the repository, such as body/flow.safetensors, without '..', blanks at the ends of "
            f'names or any of \\ ? % * : | " < >, got {shown(file)} in {shown(address)}.'
        )
    if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision or "//" in revision):
        raise ValueError(
            f"path: expected a branch, a tag or a commit after '@', of letters, digits and '-', '_', '.', '/', got "
            f"{shown(revision)} in {shown(address)}."
        )
    return Address(f"{match['owner']}/{match['repo']}", file, revision, None if sha256 is None else sha256.lower())


def fetch(address: str) -> Path:
    """The cached file of an address, downloaded if need be.

    The content is checked against `#sha256=` where the address has it; otherwise against the hub's own hash, the name
    under which huggingface_hub caches the content (a sha256 for large files, a git hash for small ones). Caches
    without symbolic links do not keep that name, and there only `#sha256=` checks.

    A hub that does not answer within 3 seconds is out of reach: then the cached copy is taken, if there is one. If nothing in
    the address pins it (neither a commit nor a hash), it may be an older version, and a warning says so.

    Raises:
        ValueError: a malformed address, huggingface_hub not installed, nothing there, no network and no cached copy, or
            content that does not hash to what it should.
    """
    where = parse(address)
    address = masked(address)  # from here on it stands in messages alone
    try:
        client: Any = importlib.import_module("huggingface_hub")
    except Exception as error:  # not installed, or broken: then it raises anything
        what = "not installed" if isinstance(error, ImportError) else f"broken here ({type(error).__name__})"
        raise ValueError(
            f"path: {address} needs the package huggingface_hub, which is {what}; pip install 'poseprior[hub]', or "
            "download the file yourself and give its path."
        ) from None
    reached = _reached(client, where)
    cached: dict[str, Any] = {} if reached else {"local_files_only": True}
    try:
        file = Path(client.hf_hub_download(repo_id=where.repo, filename=where.file, revision=where.revision, **cached))
    except Exception as error:  # whatever the client's network library raises; its text may hold a token
        raise ValueError(
            f"path: {address} could not be fetched ({_reason(error, reached)}); check the name, the network and your access, or "
            "download the file yourself and give its path. A file fetched once also loads offline."
        ) from None
    _check(file, where, address)
    if not reached and where.sha256 is None and not _COMMIT.fullmatch(where.revision or ""):
        warnings.warn(
            f"{address} is unpinned, and the hub did not answer: this is the copy that was cached earlier, which may be an "
            f"older version. Its hash pins it: #sha256={_sha256(file)}",
            stacklevel=2,
        )
    return file


def _reached(client: Any, where: Address) -> bool:
    """Whether the hub answers a question about the file soon, be it with a refusal."""
    ask = getattr(client, "get_hf_file_metadata", None)
    if ask is None:
        return True
    found: list[bool] = []

    def run() -> None:
        try:
            ask(client.hf_hub_url(where.repo, where.file, revision=where.revision), timeout=_PATIENCE)
            found.append(True)
        except Exception as error:  # a refusal has a response, a network that is not there has none
            status = _status(error)
            found.append(status is not None and status < 500)

    asking = threading.Thread(target=run, daemon=True)  # the name service alone may take longer than the patience
    asking.start()
    asking.join(_PATIENCE + 0.5)
    return bool(found) and found[0]


def _reason(error: Exception, reached: bool) -> str:
    """Why a file could not be fetched, in our words."""
    status = _status(error)
    if status in (401, 403):
        return f"the hub refuses access, {status}: log in, and accept the conditions of a gated repository"
    if status is not None:
        return f"the hub answers {status}{': no such repository, revision or file' if status == 404 else ''}"
    if not reached:
        return "the hub does not answer, and the local cache has no copy"
    return getattr(error, "strerror", None) or type(error).__name__


def _status(error: BaseException | None) -> int | None:
    """The HTTP status behind an error of the client; None where nobody answered."""
    while error is not None:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
        error = error.__cause__ or error.__context__
    return None


def masked(text: str) -> str:
    """A part of an address without what looks like a password: tokens, names before an `@`, and queries."""
    text = _LOGIN.sub(lambda found: "***" if ":" in found[0] and found[0].endswith("@") else found[0], text)
    return _TOKEN.sub("***", text)


def shown(text: str) -> str:
    """`masked`, quoted for a message."""
    return quoted(masked(text))


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
