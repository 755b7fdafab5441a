"""Code for messages: how a user turns a pickle that they trust into an `.npz` of plain arrays."""

from __future__ import annotations

from pathlib import Path

#: For each kind of file, what to import and what loads it.
_LOADERS = {
    "npz": ("", "dict(np.load({path!r}, allow_pickle=True, encoding='latin1'))"),
    "npy": ("", "{{'poses': np.load({path!r}, allow_pickle=True, encoding='latin1')}}"),
    "pickle": ("import pathlib, pickle\n", "pickle.loads(pathlib.Path({path!r}).read_bytes(), encoding='latin1')"),
    "joblib": ("import joblib  # pip install joblib\n", "joblib.load({path!r})"),
    "torch": ("import torch\n", "torch.load({path!r}, map_location='cpu', weights_only=False)"),
    "json": ("import json, pathlib\n", "json.loads(pathlib.Path({path!r}).read_bytes())"),
}

#: Of the printed code: each function gives the arrays in `v` by their names within it, `name` is that of `v` in the file.
_FUNCTIONS = """\
skip = []  # names to leave out
is_pose = re.compile("pose|orient|rot|hand|quat", re.I).search
def leave_out(name, what):
    assert not is_pose(name), f"{name} is {what}; or put it in skip"
    print(f"left out {name}: {what}")
    return {}
def join(*names):
    return "/".join(str(n) for n in names if n != "")
def of_dict(v, name):
    pairs = [(join(n, k), a) for n, x in v.items() for k, a in flat(x, join(name, n)).items()]
    assert len(dict(pairs)) == len(pairs), f"two arrays of one name in {name or 'the file'}"
    return dict(pairs)
def of_frames(v, name):  # frames that lack an array, or have an empty one, are NaN
    frames, out = {n: flat(x, name) for n, x in v.items()}, {}
    for k in dict.fromkeys(k for arrays in frames.values() for k in arrays):
        has = {n: arrays[k] for n, arrays in frames.items() if k in arrays and arrays[k].size}
        shapes = {a.shape for a in has.values()}
        if len(shapes) == 1:
            text = any(a.dtype.kind in "SU" for a in has.values())
            out[k] = np.stack([has.get(n, np.full(*shapes, "" if text else np.nan)) for n in v])
        elif len(has) < 100 or is_pose(join(name, k)):
            out |= {join(n, k): a for n, a in has.items()}
        else:
            leave_out(join(name, k), f"arrays of {len(shapes)} shapes in {len(has)} entries")
    return out
def by_person(v):  # lists beside the numbers of people, in any order
    ids = next((v[k] for k in ("tid", "track_id", "track_ids") if k in v), None)
    lists = [k for k, x in v.items() if isinstance(x, (list, tuple)) and isinstance(ids, (list, tuple)) and len(x) == len(ids)]
    if not lists or len(set(map(str, ids))) < len(ids):
        return v
    people = {str(i): {k: v[k][n] for k in lists} for n, i in enumerate(ids)}
    return {k: x for k, x in v.items() if k not in lists} | people
def flat(v, name):
    v = v.detach().cpu().numpy() if hasattr(v, "detach") else v
    v = v.astype(float).filled(np.nan) if np.ma.is_masked(v) else v
    v = v.tolist() if isinstance(v, np.ndarray) and v.dtype == object else v
    if v is None or name in skip:
        return {}
    if isinstance(v, dict):
        v = by_person(v)
        numbers = {n: int(re.findall("[0-9]+", str(n))[-1]) for n in v if re.search("[0-9]", str(n))}
        if not len(v) == len(numbers) > 99:
            return of_dict(v, name)
        frames = sorted(v, key=numbers.get)  # a hundred entries with numbers in their names
        out = of_frames({n: v[n] for n in frames}, name)
        if out and len(set(numbers.values())) == len(v) and all(a.shape[:1] == (len(v),) for a in out.values()):
            out = {"frame": np.array(sorted(numbers.values()))} | out
        return out
    if isinstance(v, (list, tuple)) and v and all(isinstance(x, dict) and "id" in x for x in v):
        people = {}  # by id, each with one entry or with those of its frames
        for x in v:
            people.setdefault(f"{x['id']}", []).append({k: y for k, y in x.items() if k != "id"})
        return of_dict({i: x[0] if len(x) == 1 else x for i, x in people.items()}, name)
    if isinstance(v, (list, tuple)) and not (v and all(isinstance(x, (int, float)) for x in v)):
        return of_frames(dict(enumerate(v)), name)
    a = np.asarray(v)
    return {"" if name else "poses": a} if a.dtype.kind in "biufSU" else leave_out(name, type(v).__name__)
"""


def conversion_code(path: Path, kind: str) -> str:
    """Python that loads a file ("npz", "npy", "pickle", "joblib", "torch" or "json") and writes `..._plain.npz` beside it.

    Dicts become names with slashes. Lists, and dicts of a hundred numbered entries, are frames: arrays, NaN where a frame
    lacks something or has None or an empty list. Entries of several shapes get their place as a name, dicts with an `id` that,
    and lists beside `tid` or `track_id` are of the people with these numbers.
    What is neither numbers nor text is left out and printed; under the name of rotations it stops the code.
    """
    imports, source = _LOADERS[kind]
    target = str(path.with_name(f"{path.stem}_plain.npz"))
    return (
        f"import numpy as np, re\n{imports}{_FUNCTIONS}"
        f"arrays = flat({source.format(path=str(path))}, '')\n"
        "assert arrays, 'found no arrays of numbers'\n"
        f"np.savez({target!r}, **{{k + '_' * (k in ('file', 'allow_pickle')): a for k, a in arrays.items()}})"
    )
