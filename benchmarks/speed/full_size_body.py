"""A body model as large as the licensed SMPL-X file, filled with random numbers: for timing only."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from poseprior.skeleton import PARENTS

VERTICES, FACES, JOINTS = 10475, 20908, 55


def write_full_size_body(folder: Path) -> Path:
    """Write `smplx/SMPLX_NEUTRAL.npz` below `folder`, loadable by `smplx.create(folder, "smplx")`."""
    rng = np.random.default_rng(0)
    parents = np.array(PARENTS)
    parents[0] = 0
    weights = rng.random((VERTICES, JOINTS)).astype(np.float32)
    landmarks = rng.integers(0, FACES, 51)
    path = folder / "smplx" / "SMPLX_NEUTRAL.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        v_template=rng.normal(size=(VERTICES, 3)).astype(np.float32),
        f=rng.integers(0, VERTICES, (FACES, 3)).astype(np.uint32),
        shapedirs=rng.normal(size=(VERTICES, 3, 400)).astype(np.float32),
        posedirs=rng.normal(size=(VERTICES, 3, 486)).astype(np.float32),
        J_regressor=(rng.random((JOINTS, VERTICES)) / VERTICES).astype(np.float32),
        weights=weights / weights.sum(1, keepdims=True),
        kintree_table=np.stack([parents, np.arange(JOINTS)]).astype(np.int64),
        hands_componentsl=np.eye(45, dtype=np.float32),
        hands_componentsr=np.eye(45, dtype=np.float32),
        hands_meanl=np.zeros(45, np.float32),
        hands_meanr=np.zeros(45, np.float32),
        lmk_faces_idx=landmarks,
        lmk_bary_coords=np.full((51, 3), 1 / 3, np.float32),
        dynamic_lmk_faces_idx=rng.integers(0, FACES, (79, 17)),
        dynamic_lmk_bary_coords=np.full((79, 17, 3), 1 / 3, np.float32),
    )
    return path
