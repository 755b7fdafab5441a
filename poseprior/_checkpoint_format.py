"""The file format of priors: safetensors with JSON metadata, written atomically and checked before it is read.

A file holds tensors, and under the key `poseprior` of its header the JSON metadata. Types and ranks of tensors, and the
length and form of the metadata, are checked by the header alone, before any tensor is read. `digest`, an entry of the
metadata, is the hash of everything else, so that a flipped bit is found.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from ._checks import check_ending, quoted
from ._text import shown

if TYPE_CHECKING:  # the header of a file is read without torch
    from torch import Tensor

#: Format of the metadata. Files of this and every older format load.
FORMAT_VERSION = 1
#: Licence in the files of priors whose metadata names none: weights belong to whoever trained them.
DEFAULT_LICENCE = "unspecified"
#: Metadata that describe the file itself. A prior's own `metadata` hold none of them after loading.
REQUIRED = ("format_version", "class", "config", "joints")
RESERVED = (*REQUIRED, "digest")
#: What the digest looks like. Under another name it shows that its own was damaged: files without one have no such entry.
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

_KEY = "poseprior"
#: Bytes of a file's header at most; those of the shipped priors have some 10 kB.
MOST_HEADER = 1 << 24
_TYPES = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL")
_MOST_DIMENSIONS = 8
_MOST_TENSORS = 10_000


def write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write tensors and metadata atomically.

    Args:
        path: the target, ending in `.safetensors`.
        tensors: state by name.
        metadata: JSON-able; `format_version`, `digest` and, if it is missing, `licence` are added.

    Raises:
        ValueError: another suffix, metadata that JSON cannot hold or that are too long, or a place that cannot be written.
    """
    from safetensors.torch import save as to_bytes

    from .io.atomic import replacing

    check_ending("path", path, ".safetensors")
    meta = {"licence": DEFAULT_LICENCE, **metadata, "format_version": FORMAT_VERSION}
    tensors = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    try:
        meta = json.loads(json.dumps(meta, allow_nan=False))  # as a reader will have it: keys are strings, tuples lists
        text = json.dumps({**meta, "digest": content_digest(tensors, meta)})
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"metadata: expected JSON-able values without NaN, got an entry that is not: {error}."
        ) from error
    if not isinstance(meta["licence"], str):
        raise ValueError(f"metadata: expected a string for 'licence', got {quoted(meta['licence'])}.")
    if len(text) > MOST_HEADER // 2:
        raise ValueError(
            f"metadata: expected at most {MOST_HEADER // 2:,} characters of JSON, got {len(text):,}; write long notes to a "
            "file of their own."
        )
    content = to_bytes(tensors, metadata={_KEY: text})
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def content_digest(tensors: dict[str, Tensor], metadata: dict[str, Any]) -> str:
    """SHA-256 of tensors (names, types, shapes, bytes) and of all metadata but the digest itself.

    Raises:
        TypeError, ValueError: metadata that JSON cannot hold.
    """
    import torch

    rest = {key: value for key, value in metadata.items() if key != "digest"}
    found = hashlib.sha256(json.dumps(rest, sort_keys=True, allow_nan=False).encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        found.update(f"\n{name!r} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return f"sha256:{found.hexdigest()}"


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of a prior's file.

    Raises:
        ValueError: no such file, not safetensors (a pickle is refused without being executed), cut short, damaged, not of
            poseprior, of a newer format, or with tensors that no prior has.
    """
    header = read_header(path)
    meta = _check_metadata(header, path)
    check_tensor_types(header, path)
    try:
        with safe_open(path, framework="pt") as handle:
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}
    except (SafetensorError, OSError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"path: {shown(path)} is not a whole safetensors file ({quoted(str(error))}); it may be cut short, copy it again."
        ) from error
    misnamed = "digest" not in meta and any(isinstance(v, str) and _DIGEST.fullmatch(v) for v in meta.values())
    if misnamed or ("digest" in meta and meta["digest"] != content_digest(tensors, meta)):
        raise ValueError(
            f"path: the content of {shown(path)} does not match the digest that was written with it; the file is damaged or was "
            "edited, copy it again."
        )
    return tensors, meta


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata alone, from the header of the file; raises as `read`, except that tensors are not checked."""
    return _check_metadata(read_header(path), path)


def read_header(path: Path) -> dict[str, Any]:
    """The JSON header of a safetensors file: names, types and shapes of tensors, and the metadata."""
    _require_regular_file(path)
    try:
        with path.open("rb") as handle:
            size = os.fstat(handle.fileno()).st_size
            start = handle.read(9)
            length = struct.unpack("<Q", start[:8])[0] if len(start) == 9 else size
            whole = start[8:] == b"{" and length <= size - 8
            raw = start[8:] + handle.read(length - 1) if whole and length <= MOST_HEADER else b""
    except OSError as error:
        raise ValueError(f"path: cannot read {shown(path)} ({error.strerror or error}).") from error
    if not whole:
        _refuse_foreign(path, start, size)
    if not raw:
        raise ValueError(
            f"path: the header of {shown(path)} has {length:,} bytes, expected at most {MOST_HEADER:,}; prior.save writes no "
            "such file."
        )
    header = parse_json(raw.decode("utf-8", "surrogateescape"), f"the header of {shown(path)}")
    if not isinstance(header, dict) or not isinstance(header.get("__metadata__", {}), dict):
        raise ValueError(f"path: the header of {shown(path)} is not that of a safetensors file; the file is damaged.")
    return header


def _require_regular_file(path: Path) -> None:
    """Refuse folders, pipes, devices and what is not there, without opening anything."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        if (
            isinstance(error, OSError)
            and error.strerror
            and not isinstance(error, FileNotFoundError | NotADirectoryError)
        ):
            raise ValueError(f"path: cannot read {quoted(str(path))} ({error.strerror}).") from error
        raise ValueError(
            f"path: no file at {shown(path)}; give the path of a .safetensors file that prior.save wrote (poseprior.load "
            "takes names of shipped priors, too)."
        ) from None
    if stat.S_ISDIR(mode):
        raise ValueError(
            f"path: expected a .safetensors file, {shown(path)} is a folder without prior.safetensors; if it is an unfinished "
            "run, repeat its command."
            if not (path / "prior.safetensors").exists()
            else f"path: expected a .safetensors file, {shown(path)} is a folder; did you mean {shown(path)}/prior.safetensors?"
        )
    if not stat.S_ISREG(mode):
        raise ValueError(f"path: expected a .safetensors file, {shown(path)} is a pipe, a device or a socket.")


def _refuse_foreign(path: Path, start: bytes, size: int) -> None:
    """Tell pickles, zips and other files by their first bytes, before any parser sees them."""
    if path.suffix.lower() == ".npz":
        raise ValueError(
            f"path: expected a .safetensors file that prior.save wrote, got {shown(path)}, which holds arrays."
        )
    if start[:2] == b"PK" or start[:1] == b"\x80":
        raise ValueError(
            f"path: {shown(path)} looks like a pickle or a PyTorch .pt file, which can run code when read; poseprior loads only "
            ".safetensors written by prior.save."
        )
    raise ValueError(
        f"path: {shown(path)} ({size} bytes) is not a safetensors file, or is cut short; expected one that prior.save wrote."
    )


def check_tensor_types(header: dict[str, Any], path: Path) -> None:
    """Refuse tensors of types and ranks that no prior has, by the header alone, and more tensors than any has."""
    if len(header) > _MOST_TENSORS:
        raise ValueError(f"path: {shown(path)} holds {len(header):,} tensors, expected at most {_MOST_TENSORS:,}.")
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        kind = entry.get("dtype") if isinstance(entry, dict) else None
        shape = entry.get("shape") if isinstance(entry, dict) else None
        if (
            not isinstance(kind, str)
            or kind not in _TYPES
            or not isinstance(shape, list)
            or len(shape) > _MOST_DIMENSIONS
        ):
            rank = f"{len(shape)} dimensions" if isinstance(shape, list) else "no shape"
            raise ValueError(
                f"path: the tensor {quoted(name)} of {shown(path)} has dtype {quoted(kind)} and {rank}; expected one of "
                f"{', '.join(_TYPES)} and at most {_MOST_DIMENSIONS} dimensions."
            )


def _check_metadata(header: dict[str, Any], path: Path) -> dict[str, Any]:
    raw = header.get("__metadata__", {}).get(_KEY)
    if not isinstance(raw, str):
        raise ValueError(
            f"path: {shown(path)} is a safetensors file of something else: it has no 'poseprior' metadata; expected one that "
            "prior.save wrote."
        )
    meta = parse_json(raw, f"the metadata of {shown(path)}")
    version = meta.get("format_version") if isinstance(meta, dict) else None
    if not isinstance(version, int) or isinstance(version, bool):
        raise ValueError(f"path: {shown(path)} names no format_version; the file is damaged.")
    if version > FORMAT_VERSION:
        raise ValueError(
            f"path: {shown(path)} has format_version {quoted(version)}, this poseprior reads up to {FORMAT_VERSION}; update "
            "poseprior."
        )
    missing = [key for key in REQUIRED if key not in meta]
    if missing:
        raise ValueError(f"path: the metadata of {shown(path)} lacks {', '.join(missing)}; the file is damaged.")
    for key, kind in (("class", str), ("config", dict), ("joints", list), ("licence", str), ("digest", str)):
        if key in meta and not isinstance(meta[key], kind):
            raise ValueError(
                f"path: {key!r} in the metadata of {shown(path)} is {quoted(meta[key])}, expected a {kind.__name__}; the file is "
                "damaged."
            )
    return meta


def parse_json(text: str, what: str) -> Any:
    """JSON without NaN, infinities and whole numbers that no option has."""
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ValueError(f"path: {what} is not JSON ({quoted(reason)}); the file is damaged.") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"it holds {name}")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("it holds a number beyond double precision")
    return number
