"""Code for messages: how a user turns a pickle that they trust into an `.npz` of plain arrays."""

from __future__ import annotations

from pathlib import Path

_LOADERS = {
    "npz": ("", "dict(np.load({path!r}, allow_pickle=True))"),
    "npy": ("", "{{'poses': np.load({path!r}, allow_pickle=True)}}"),
    "pickle": ("import pathlib, pickle\n", "pickle.loads(pathlib.Path({path!r}).read_bytes())"),
    "torch": ("import torch\n", "torch.load({path!r}, map_location='cpu', weights_only=False)"),
}

_CODE = """\
import numpy as np
{imports}def flat(v, name):
    if isinstance(v, np.ndarray) and v.dtype == object:
        v = v.item() if v.ndim == 0 else list(v.ravel())
    if isinstance(v, dict):
        return {{k: a for n, x in v.items() for k, a in flat(x, f"{{name}}/{{n}}" if name else str(n)).items()}}
    if isinstance(v, (list, tuple)) and v and isinstance(v[0], (dict, np.ndarray)):
        rows = [flat(x, name) for x in v]
        return {{k: np.stack([r[k] for r in rows]) for k in rows[0]}}
    a = np.asarray(v.detach().cpu() if hasattr(v, "detach") else v)
    return {{name or "poses": a}} if a.dtype.kind in "biufSU" else {{}}
np.savez({target!r}, **flat({source}, ""))"""


def conversion_code(path: Path, kind: str) -> str:
    """Python that unpickles a file ("npz", "npy", "pickle" or "torch") and writes `..._plain.npz` beside it.

    Dicts become names with slashes, lists of dicts (one a frame) become arrays, and what is no number is left out.
    """
    imports, source = _LOADERS[kind]
    target = str(path.with_name(f"{path.stem}_plain.npz"))
    return _CODE.format(imports=imports, source=source.format(path=str(path)), target=target)
