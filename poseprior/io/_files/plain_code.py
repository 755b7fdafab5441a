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
import numpy as np, re
{imports}skip = []  # names to leave out
def drop(name, what):
    assert name in skip or not re.search("pose|orient|rot|hand|quat", name, re.I), f"{{name}} is {{what}}; or put it in skip"
    print(f"left out {{name}}: {{what}}")
    return {{}}
def stack(rows, name, places):  # frames; those that lack an array, or have an empty one, are NaN
    out = {{}}
    for k in dict.fromkeys(k for row in rows for k in row):
        has = [(p, row[k]) for p, row in zip(places, rows) if k in row and row[k].size]
        shapes = {{a.shape for _, a in has}}
        if len(shapes) == 1:
            found, lost = dict(has), np.full(*shapes, "" if has[0][1].dtype.kind in "SU" else np.nan)
            out[k] = np.stack([found.get(p, lost) for p in places])
        elif len(has) > 99 and not re.search("pose|orient|rot|hand|quat", k, re.I):
            drop(k, f"arrays of {{len(shapes)}} shapes in {{len(has)}} entries")
        else:
            tail = k[len(name):] if name else f"/{{k}}"
            out |= {{f"{{name}}/{{p}}{{tail}}".strip("/"): a for p, a in has}}
    return out
def inside(v, name):
    pairs = [p for n, x in v.items() for p in flat(x, f"{{name}}/{{n}}".strip("/")).items()]
    assert len(dict(pairs)) == len(pairs), f"two arrays of one name in {{name or 'the file'}}"
    return dict(pairs)
def flat(v, name):
    v = v.detach().cpu().numpy() if hasattr(v, "detach") else v
    v = v.astype(float).filled(np.nan) if np.ma.is_masked(v) else v
    v = v.tolist() if isinstance(v, np.ndarray) and v.dtype == object else v
    if isinstance(v, (list, tuple)) and v and all(isinstance(x, dict) and "id" in x for x in v):  # people
        people = {{}}
        for x in v:
            people.setdefault(str(x["id"]), []).append({{k: y for k, y in x.items() if k != "id"}})
        return inside({{i: x[0] if len(x) == 1 else x for i, x in people.items()}}, name)
    if isinstance(v, (list, tuple)) and not (v and all(isinstance(x, (int, float)) for x in v)):
        return stack([flat(x, name) for x in v], name, range(len(v)))
    if isinstance(v, dict) and len(v) > 99 and all(re.search("[0-9]", str(n)) for n in v):  # frames by number
        number = {{n: int(re.findall("[0-9]+", str(n))[-1]) for n in v}}
        v = {{n: v[n] for n in sorted(v, key=number.get)}}
        out = stack([flat(x, name) for x in v.values()], name, list(v))
        if len(set(number.values())) == len(v) and all(a.shape[:1] == (len(v),) for a in out.values()):
            out.setdefault(f"{{name}}/frame".strip("/"), np.sort(list(number.values())))
        return out
    if isinstance(v, dict) or v is None:
        return inside(v or {{}}, name)
    a = np.asarray(v)
    return {{name or "poses": a}} if a.dtype.kind in "biufSU" else drop(name, type(v).__name__)
arrays = flat({source}, "")
assert arrays, "found no arrays of numbers"
np.savez({target!r}, **{{k + "_" * (k in ("file", "allow_pickle")): a for k, a in arrays.items()}})"""


def conversion_code(path: Path, kind: str) -> str:
    """Python that loads a file ("npz", "npy", "pickle", "joblib", "torch" or "json") and writes `..._plain.npz` beside it.

    Dicts become names with slashes. Lists, and dicts of a hundred numbered entries, are frames: arrays, NaN where a frame
    lacks something or has None or an empty list. Entries of several shapes get their place as a name, dicts with an `id` that.
    What is neither numbers nor text is left out and printed; under the name of rotations it stops the code.
    """
    imports, source = _LOADERS[kind]
    target = str(path.with_name(f"{path.stem}_plain.npz"))
    return _CODE.format(imports=imports, source=source.format(path=str(path)), target=target)
