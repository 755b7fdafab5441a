"""A body that `smplx.create` loads and that needs no licence: for trying things, tests and benchmarks.

Nothing in it comes from SMPL-X data: the skeleton is that of `poseprior.kinematics`, the surface a few dozen tubes.
The file has the tensors and shapes of `SMPLX_NEUTRAL.npz`, read by `smplx` 0.1.28.
"""

from __future__ import annotations

import os
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..._text import shown
from ...io.atomic import replacing
from ...skeleton import JOINT_NAMES, MIRROR, NUM_JOINTS, PARENTS
from .stand_in_hands import hand_space
from .stand_in_head import expression_directions, landmarks
from .stand_in_mesh import NUM_VERTICES, BodyMesh, body_mesh
from .stand_in_shape import SHAPE_NAMES, figure
from .stand_in_tubes import Array, Indices

_MARK = "poseprior_stand_in"  # an entry of the file that says it is ours
_SHAPE_COLUMNS, _EXPRESSION_COLUMNS = 300, 100  # with fewer, smplx prints a warning and takes at most 10 of each
_KEYPOINT_IDS = {  # vertex ids that smplx reads as keypoints (smplx/vertex_ids.py), left or middle, and right
    "nose": (9120, 9120), "eye": (9448, 9929), "ear": (6, 616), "thumb": (5361, 8079), "index": (4933, 7669),
    "middle": (5058, 7794), "ring": (5169, 7905), "pinky": (5286, 8022), "big_toe": (5770, 8463),
    "small_toe": (5780, 8474), "heel": (8846, 8635),
}  # fmt: skip


def stand_in_body(folder: str | os.PathLike[str], *, num_betas: int = 10) -> Path:
    """Write a licence-free stand-in for the SMPL-X neutral body; returns the folder to give to `smplx.create`.

    The file is `folder/smplx/SMPLX_NEUTRAL.npz`: 10,475 vertices, 55 joints, 300 shape and 100 expression columns of
    which the first ten each do something (`SHAPE_NAMES`, `EXPRESSIONS` beside this module), no pose correctives. It is
    the same file every time. It is *not* SMPL-X: of the parameters fitted to one body, only the pose carries over to the
    other, and vertices correspond only at the 21 that `smplx` reads as keypoints. docs/stand_in_body.md says more.

    Args:
        folder: where; made when missing.
        num_betas: how many shape columns do something, 0 to 10; the others are zero.

    Returns:
        `folder` as a path: `smplx.create(folder, model_type="smplx", ...)`.

    Raises:
        ValueError: `num_betas` out of range, or another body (such as the licensed one) is already there.

    >>> import tempfile
    >>> path = stand_in_body(tempfile.mkdtemp())
    >>> sorted(file.name for file in (path / "smplx").iterdir())
    ['SMPLX_NEUTRAL.npz']
    """
    if isinstance(num_betas, bool) or not isinstance(num_betas, int) or not 0 <= num_betas <= len(SHAPE_NAMES):
        raise ValueError(f"num_betas: expected 0 to {len(SHAPE_NAMES)}, got {num_betas!r}; other columns are zero.")
    target = Path(folder) / "smplx" / "SMPLX_NEUTRAL.npz"
    if target.exists() and not _is_ours(target):
        raise ValueError(
            f"folder: expected one without a body model of its own, got {os.fspath(folder)!r} whose {shown(target)} was not "
            "written by stand_in_body (the licensed model, perhaps); it is left as it is; choose another folder."
        )
    arrays: dict[str, Any] = dict(_arrays())
    if num_betas < len(SHAPE_NAMES):
        shapedirs = arrays["shapedirs"].copy()
        shapedirs[:, :, num_betas : len(SHAPE_NAMES)] = 0.0
        arrays["shapedirs"] = shapedirs
    with replacing(target) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return Path(folder)


def _is_ours(path: Path) -> bool:
    try:
        with np.load(path, allow_pickle=False) as file:
            return _MARK in file.files
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return False


@lru_cache(maxsize=1)
def _arrays() -> dict[str, np.ndarray[Any, Any]]:
    """What the file holds, by the names that `smplx` reads. Read-only: cached for the next call."""
    mesh = body_mesh(np.zeros(len(SHAPE_NAMES)))
    neutral = figure(np.zeros(len(SHAPE_NAMES)))
    regressor = _regressor(mesh)
    local = (mesh.vertices - neutral.at("head")) / neutral.head
    on_face = np.zeros(NUM_VERTICES)
    on_face[mesh.parts["head"]] = 1.0
    directions = np.zeros((NUM_VERTICES, 3, _SHAPE_COLUMNS + _EXPRESSION_COLUMNS), dtype=np.float32)
    for k, unit in enumerate(np.eye(len(SHAPE_NAMES))):
        directions[:, :, k] = 0.5 * (body_mesh(unit).vertices - body_mesh(-unit).vertices)
    expressions = expression_directions(local, on_face)
    directions[:, :, _SHAPE_COLUMNS : _SHAPE_COLUMNS + expressions.shape[2]] = expressions
    skull_faces = mesh.faces[mesh.face_parts["head"]]
    marks = landmarks(local, skull_faces)
    for name in ("lmk_faces_idx", "dynamic_lmk_faces_idx"):
        marks[name] = marks[name] + mesh.face_parts["head"].start

    old = _order(mesh)  # old[new id] = id in the mesh
    new = np.argsort(old)
    tree = np.stack([np.array(PARENTS), np.arange(NUM_JOINTS)]).astype(np.int64)
    tree[0, 0] = 2**32 - 1  # the root's parent, as SMPL files write it
    floats = {
        "v_template": mesh.vertices[old], "shapedirs": directions[old], "J_regressor": regressor[:, old],
        "posedirs": np.broadcast_to(np.float32(0), (NUM_VERTICES, 3, 9 * (NUM_JOINTS - 1))),
        "weights": mesh.weights[old], **hand_space(),
    }  # fmt: skip
    arrays: dict[str, np.ndarray[Any, Any]] = {k: np.asarray(v, dtype=np.float32) for k, v in floats.items()}
    arrays |= {k: np.asarray(v, dtype=np.float32 if "bary" in k else np.int64) for k, v in marks.items()}
    arrays |= {"f": new[mesh.faces].astype(np.uint32), "kintree_table": tree, _MARK: np.array(1)}
    return arrays


def _regressor(mesh: BodyMesh) -> Array:
    """(55, V) rows that sum to one and give exactly the figure's joints, from the vertices around each.

    Each row is a Gaussian in the distance, bent by as little as makes sum(w) = 1 and sum(w v) = joint: an affine map
    of the surface (a longer or wider body) therefore moves the joint with it.
    """
    joints = figure(np.zeros(len(SHAPE_NAMES))).keypoints[:NUM_JOINTS]
    regressor = np.zeros((NUM_JOINTS, NUM_VERTICES))
    for j, name in enumerate(JOINT_NAMES):
        if MIRROR[j] < j:
            regressor[j] = regressor[MIRROR[j]][mesh.mirror]
            continue
        part = mesh.parts[_home(name)]
        v = mesh.vertices[part] - joints[j]
        distance = np.linalg.norm(v, axis=1)
        reach = max(0.35 * float(distance.min()), 0.004)
        near = np.exp(-0.5 * ((distance - distance.min()) / reach) ** 2)
        near[near < 1e-3] = 0.0
        near /= near.sum()
        moments = np.column_stack([np.ones(len(v)), v / reach])
        bend = np.linalg.lstsq((moments * near[:, None]).T @ moments, np.array([1.0, 0.0, 0.0, 0.0]), rcond=None)[0]
        regressor[j, part] = near * (moments @ bend)
        if MIRROR[j] == j:
            regressor[j] = 0.5 * (regressor[j] + regressor[j][mesh.mirror])
    return regressor


def _home(joint: str) -> str:
    """The part that a left or middle joint lies in."""
    if joint.endswith(("index1", "middle1", "pinky1", "ring1", "thumb1", "2", "3")) and joint.startswith("left_"):
        return joint[:-1]
    homes = {
        "head": "head", "jaw": "head", "left_eye_smplhf": "left_eye", "left_hip": "left_leg", "left_knee": "left_leg",
        "left_ankle": "left_leg", "left_foot": "left_foot", "left_shoulder": "left_arm", "left_elbow": "left_arm",
        "left_wrist": "left_arm",
    }  # fmt: skip
    return homes.get(joint, "torso")


def _order(mesh: BodyMesh) -> Indices:
    """A permutation of the vertices that puts the keypoints of `smplx` where it looks for them."""
    f = figure(np.zeros(len(SHAPE_NAMES)))
    places = {
        "nose": ("head", "head", (0.0, 0.024, 0.14)), "eye": ("left_eye", "left_gaze", (0.0, 0.0, 0.0)),
        "ear": ("left_ear", "head", (0.09, 0.040, -0.01)), "heel": ("left_foot", "left_ankle", (0.0, -0.08, -0.08)),
        "big_toe": ("left_foot", "left_toe_tip", (-0.022, 0.0, 0.005)),
        "small_toe": ("left_foot", "left_toe_tip", (0.045, 0.0, -0.03)),
    }  # fmt: skip
    for finger in ("thumb", "index", "middle", "ring", "pinky"):
        places[finger] = (f"left_{finger}", f"left_{finger}_tip", (0.0, 0.0, 0.0))
    old = np.arange(NUM_VERTICES)
    at = np.arange(NUM_VERTICES)  # where each vertex of the mesh stands now
    for name, (part, keypoint, beyond) in places.items():
        span = mesh.parts[part]
        distance = np.linalg.norm(mesh.vertices[span] - f.at(keypoint) - np.array(beyond), axis=1)
        if name == "nose":
            distance[np.abs(mesh.vertices[span, 0]) > 1e-9] = np.inf
        left = span.start + int(np.argmin(distance))
        for vertex, wanted in zip((left, int(mesh.mirror[left])), _KEYPOINT_IDS[name], strict=True):
            here, displaced = at[vertex], old[wanted]
            old[wanted], old[here] = vertex, displaced
            at[vertex], at[displaced] = wanted, here
    return old
