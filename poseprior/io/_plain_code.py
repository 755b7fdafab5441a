"""Code for messages: how a user turns a pickle that they trust into an `.npz` of plain arrays."""

from __future__ import annotations

from pathlib import Path

_LOADERS = {
    "npz": ("", "dict(np.load({path!r}, allow_pickle=True, encoding='latin1'))"),
    "npy": ("", "{{'poses': np.load({path!r}, allow_pickle=True, encoding='latin1')}}"),
    "pickle": ("import pathlib, pickle\n", "pickle.loads(pathlib.Path({path!r}).read_bytes(), encoding='latin1')"),
    "joblib": ("import joblib  # pip install joblib\n", "joblib.load({path!r})"),
    "torch": ("import torch\n", "torch.load({path!r}, map_location='cpu', weights_only=False)"),
    "json": ("import json, pathlib\n", "json.loads(pathlib.Path({path!r}).read_bytes())"),
}

_CODE = """\
import numpy as np
{imports}def deep(v):
    lists = isinstance(v, (list, tuple))
    return any(map(deep, v)) if lists else isinstance(v, (dict, np.ndarray)) or hasattr(v, "detach")
def flat(v, name):
    if isinstance(v, np.ndarray) and v.dtype == object:
        v = v.item() if v.ndim == 0 else list(v.ravel())
    if isinstance(v, (list, tuple)) and deep(v):
        rows, out = [flat(x, name) for x in v], {{}}
        for k in dict.fromkeys(k for row in rows for k in row):
            shapes = {{row[k].shape for row in rows if k in row}}
            if len(shapes) == 1:  # rows that lack it are NaN
                out[k] = np.stack([row[k] if k in row else np.full(*shapes, np.nan) for row in rows])
            else:
                tail = k[len(name):] if name else f"/{{k}}"
                out |= {{f"{{name}}/{{i}}{{tail}}".strip("/"): row[k] for i, row in enumerate(rows) if k in row}}
        return out
    if isinstance(v, dict):
        return {{k: a for n, x in v.items() for k, a in flat(x, f"{{name}}/{{n}}" if name else str(n)).items()}}
    try:
        a = np.asarray(v.detach().cpu() if hasattr(v, "detach") else v)
    except ValueError:  # lists of several lengths
        return {{}}
    return {{name or "poses": a}} if a.dtype.kind in "biufSU" else {{}}
arrays = flat({source}, "")
assert arrays, "found no arrays of numbers"
np.savez({target!r}, **arrays)"""


def conversion_code(path: Path, kind: str) -> str:
    """Python that loads a file ("npz", "npy", "pickle", "joblib", "torch" or "json") and writes `..._plain.npz` beside it.

    Dicts become names with slashes, lists of dicts (one a frame) become arrays, NaN where a frame lacks something; entries of
    several shapes (people, say) get their place as a name, and what is no number is left out.
    """
    imports, source = _LOADERS[kind]
    target = str(path.with_name(f"{path.stem}_plain.npz"))
    return _CODE.format(imports=imports, source=source.format(path=str(path)), target=target)
