"""Results saved with `torch.save`: tensors by name, dicts in dicts as names with slashes; nothing is unpickled."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..._text import printable, short, shown
from .array_file import ArrayFile, require_file
from .npy import Header
from .plain_code import conversion_code

_DEEPEST = 8
_SMALL, _MOST_EXPANSION = 64 * 2**20, 20


@dataclass
class _Room:
    """Bytes that the tensors of a file may still take."""

    left: int


class _Unusable(ValueError):
    """A tensor or a dict of a sound file that is not read."""


def open_torch(path: Path) -> ArrayFile:
    """The tensors of a file that `torch.save` wrote.

    Raises:
        ValueError: no torch file, a damaged one, or one that holds more than tensors, numbers, text and dicts of them.
    """
    require_file(path, ".pt")
    most = max(_SMALL, _MOST_EXPANSION * path.stat().st_size)
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                size = sum(info.file_size for info in archive.infolist())
            if size > most:
                raise ValueError(f"it would unfold to {size} bytes, which torch.save never writes")
        arrays: dict[str, NDArray[Any]] = {}
        for key, array in _leaves(torch.load(path, map_location="cpu", weights_only=True), "", 0, _Room(most)):
            if key in arrays:
                raise ValueError(f"two of its arrays have the name {printable(key)!r}")
            arrays[key] = array
    except (pickle.UnpicklingError, Warning) as error:  # a warning where warnings are errors
        raise ValueError(
            f"{shown(path)}: expected a torch file of tensors and dicts of them, got a damaged one or one that holds other "
            f"objects ({short(error)}); those are pickles, which are never loaded. For a file that you "
            f"trust:\n{conversion_code(path, 'torch')}"
        ) from None
    except _Unusable as error:
        raise ValueError(f"{shown(path)}: expected dense tensors and dicts of them, but {error}.") from None
    except Exception as error:  # the unpickler raises whatever damaged bytes lead it to
        raise ValueError(
            f"{shown(path)}: expected a torch file of tensors and dicts of them, got a damaged one or something else "
            f"({short(error)}); copy or download it again."
        ) from None
    headers = {key: Header(array.shape, array.dtype, False, 0) for key, array in arrays.items()}
    return ArrayFile(path, headers, arrays.__getitem__, kind="torch")


def _leaves(value: Any, name: str, depth: int, room: _Room) -> Iterator[tuple[str, NDArray[Any]]]:
    """Tensors and numbers, with the names that lead to them."""
    if depth > _DEEPEST:
        raise _Unusable(f"{printable(name)!r} is more than {_DEEPEST} dicts and lists deep; save it in fewer")
    if isinstance(value, Mapping):
        for key, inside in _by_person(value).items():
            yield from _leaves(inside, f"{name}/{key}" if name else str(key), depth + 1, room)
    elif isinstance(value, list | tuple) and value:
        yield from _stacked(value, name, depth, room)
    elif isinstance(value, Tensor):
        if value.layout != torch.strided or value.is_quantized or value.is_nested:
            # Not made dense here: indices that are damaged would be read without a check.
            raise _Unusable(
                f"{printable(name)!r} is a sparse, nested or quantized tensor; save .to_dense() or .dequantize()"
            )
        plain = value.detach()
        room.left -= plain.numel() * plain.element_size()
        if room.left < 0:
            raise ValueError("its tensors have more numbers than the file, which strides of 0 can make of few")
        yield name or "poses", (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()
    elif isinstance(value, bool | int | float | str):
        yield name, np.asarray(value)


def _by_person(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Lists beside the numbers of the people that their entries are of, in any order, as a dict of each person."""
    ids = next((value[key] for key in ("tid", "track_id", "track_ids") if key in value), None)
    if not isinstance(ids, list | tuple) or len(set(map(_number, ids))) < len(ids):
        return value
    lists = [key for key, each in value.items() if isinstance(each, list | tuple) and len(each) == len(ids)]
    people = {_number(each): {key: value[key][place] for key in lists} for place, each in enumerate(ids)}
    return {key: each for key, each in value.items() if key not in lists} | people


def _number(person: Any) -> str:
    return str(person.tolist() if isinstance(person, Tensor) else person)


def _stacked(
    values: list[Any] | tuple[Any, ...], name: str, depth: int, room: _Room
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Lists of frames as one array, NaN where a frame lacks something or it is empty; entries of several shapes by their place.

    Dicts with an `id` are people: each is a dict of that name.
    """
    if all(isinstance(value, Mapping) and "id" in value for value in values):
        people: dict[str, list[Any]] = {}
        for value in values:
            people.setdefault(_number(value["id"]), []).append({k: v for k, v in value.items() if k != "id"})
        yield from _leaves({k: v[0] if len(v) == 1 else v for k, v in people.items()}, name, depth, room)
        return
    rows = [dict(_leaves(value, name, depth + 1, room)) for value in values]
    for key in dict.fromkeys(key for row in rows for key in row):
        found = {place: row[key] for place, row in enumerate(rows) if key in row and row[key].size}
        shapes = {array.shape for array in found.values()}
        if len(shapes) == 1:
            largest = max(array.nbytes for array in found.values())
            room.left -= len(rows) * largest - sum(array.nbytes for array in found.values())
            if room.left < 0:
                raise ValueError(
                    "its lists would unfold to far more than the file, with frames that lack what others have"
                )
            text = next(iter(found.values())).dtype.kind == "U"
            missing = np.full(shapes.pop(), "" if text else np.nan)
            yield key, np.stack([found.get(place, missing) for place in range(len(rows))])
        else:
            tail = key[len(name) :] if name else f"/{key}"
            yield from ((f"{name}/{place}{tail}".strip("/"), array) for place, array in found.items())
