"""Which `--smooth` a video wants: `poseprior fit` on the keypoints of moving people, by its standard deviation.

    python -m benchmarks.fitting.smooth_videos --data ../shared/data --clips 4

Each clip is 1.1 s (32 frames at 30 a second) of a val person of `smplx_body/`, who walks, turns or jumps before a camera 3 m
away, with the hands of a sitting of sign language. The keypoints are those of OpenPose with hands: 5 px of noise, which is
independent from frame to frame, one in ten points missing, and the right forearm and hand unseen for 10 frames. Errors are
those of `fit_body` with `body-mixture` and `hand-mixture`, as the command uses them.

- MPJPE: mean distance of the 22 body joints, roots aligned.
- fingers: mean distance of the finger joints, wrists aligned.
- unseen: of the right elbow and wrist while they are unseen, roots aligned.
- shake: mean length of what the second differences of body joints have beyond the person's own, mm a frame squared.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from pathlib import Path

import numpy as np
import smplx
import torch
from torch import Tensor, nn

import poseprior
from poseprior import PoseDataset, skeleton
from poseprior.fitting import (
    BodyFit,
    BodyPoints,
    Camera,
    FitBodyConfig,
    Keypoints2D,
    PosePriorTerm,
    fit_body,
    layout,
    stand_in_body,
)
from poseprior.rotations import rotvec_to_tangent, tangent_to_rotvec

from ..common import markdown_head, markdown_row, parser_for

_FRAMES, _FPS = 32, 30.0
_CAMERA = Camera(1100.0, (512.0, 512.0))
_NOISE, _MISSING = 5.0, 0.1
_UNSEEN = slice(12, 22)
_FOREARM, _FINGERS = (19, 21), range(25, 55)


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--clips", type=int, default=4, help="clips, of different people first")
    parser.add_argument("--values", type=float, nargs="+", default=[0.1, 0.05, 0.02, 0.01])
    options = parser.parse_args()
    torch.set_num_threads(1)
    clips = _clips(options)
    print(_own_accelerations(clips))
    with tempfile.TemporaryDirectory() as folder:
        model = smplx.create(str(stand_in_body(folder)), "smplx", use_pca=False, flat_hand_mean=True)
    body = poseprior.load("body-mixture")
    hands = [PosePriorTerm(poseprior.load("hand-mixture"), reduction="sum", name="hand_prior")]
    print(markdown_head(["--smooth", "MPJPE, mm", "fingers, mm", "unseen, mm", "shake, mm", "s a clip"]))
    for value in (None, *options.values):
        rows, started = [], time.monotonic()
        for number, pose in enumerate(clips):
            transl = torch.tensor([0.0, 0.0, 3.0]).expand(len(pose), 3)
            target = _keypoints(model, pose, transl, number)
            config = FitBodyConfig(smooth_sigma=value)
            fit = fit_body(model, target, prior=body, terms=hands, config=config)
            rows.append(_errors(model, fit, pose, transl))
        mean = torch.tensor(rows).mean(0).tolist()
        cells = [f"{number:.1f}" for number in (*mean, (time.monotonic() - started) / len(clips))]
        print(markdown_row(["none" if value is None else f"{value:g}", *cells]), flush=True)


def _clips(options: argparse.Namespace) -> list[Tensor]:
    """(32, 55, 3) poses each: body and hands in motion, upright before the camera."""
    data = poseprior.read_poses(options.data / "smplx_body" / "val_poses.npz")
    hands = _hand_recordings(options.data / "hands" / "hands_val.npz")
    found = []
    generator = torch.Generator().manual_seed(0)
    for number, rows in enumerate(_unbroken(data)[: options.clips]):
        pose = torch.where(data.observed[rows][..., None], data.poses[rows], 0.0)
        # Seen from a random side: a turn about the vertical, then upside down into the camera's frame (y down).
        yaw = torch.tensor([0.0, 2.0 * math.pi * float(torch.rand((), generator=generator)), 0.0])
        upside_down = torch.tensor([math.pi, 0.0, 0.0])
        pose[:, 0] = tangent_to_rotvec(tangent_to_rotvec(pose[:, 0], yaw), upside_down)
        for side, first in ((0, 25), (1, 40)):
            hand = hands[(2 * number + side) % len(hands)]
            pose[:, first : first + 15] = hand if side == 1 else skeleton.reflect(hand)
        found.append(pose)
    return found


def _unbroken(data: PoseDataset) -> list[Tensor]:
    """Rows of 32 frames in a row, one run of each person, then the second of each, the liveliest first."""
    assert data.subject is not None and data.sequence is not None and data.frame is not None
    frame = np.asarray(data.frame)
    whole = np.asarray(data.observed[:, 1:22].all(1))
    runs: dict[str, list[tuple[float, Tensor]]] = {}
    start = 0
    while start + _FRAMES <= len(frame):
        rows = slice(start, start + _FRAMES)
        same = len(set(data.sequence[rows])) == 1 and frame[start + _FRAMES - 1] - frame[start] == _FRAMES - 1
        if same and whole[rows].all():
            index = torch.arange(start, start + _FRAMES)
            moved = float(data.poses[index].diff(dim=0).norm(dim=-1).mean())
            runs.setdefault(str(data.subject[start]), []).append((moved, index))
            start += _FRAMES
        else:
            start += 1
    ranked = [sorted(own, key=lambda run: -run[0]) for own in runs.values()]
    return [own[k][1] for k in range(max(map(len, ranked))) for own in ranked if k < len(own)]


def _hand_recordings(path: Path) -> list[Tensor]:
    """(32, 15, 3) right hands each: a recording to its end and back, at 30 frames a second."""
    file = np.load(path)
    found = []
    for number in dict.fromkeys(file["recording"].tolist()):
        rows = (file["recording"] == number) & (file["side"] == 1)
        times = file["time"][rows]
        if rows.sum() < 12 or np.diff(times).max() > 0.3:
            continue
        length = times[-1] - times[0]
        at = np.abs((np.arange(_FRAMES) / _FPS + length) % (2.0 * length) - length) + times[0]
        pose = file["hand_pose"][rows]
        flat = np.stack([np.interp(at, times, column) for column in pose.reshape(len(pose), -1).T], axis=1)
        found.append(torch.as_tensor(flat, dtype=torch.float32).reshape(_FRAMES, 15, 3))
    return found


def _keypoints(model: nn.Module, pose: Tensor, transl: Tensor, seed: int) -> Keypoints2D:
    order = layout("openpose_137")
    generator = torch.Generator().manual_seed(seed)
    joints = [0 if j is None or j > 126 else j for j in order.joints]
    pixels = _CAMERA.project(BodyPoints(model, joints=joints)(pose, transl=transl))
    pixels = pixels + _NOISE * torch.randn(pixels.shape, generator=generator)
    seen = torch.tensor([part != "face" and j is not None for part, j in zip(order.parts, order.joints, strict=True)])
    confidence = seen * (torch.rand(pixels.shape[:2], generator=generator) >= _MISSING).float()
    lost = [
        k for k, (name, part) in enumerate(zip(order.names, order.parts, strict=True))
        if part == "right_hand" or name in ("right_elbow", "right_wrist")
    ]  # fmt: skip
    confidence[_UNSEEN, lost] = 0.0
    return Keypoints2D(pixels, camera=_CAMERA, layout="openpose_137", confidence=confidence, sigma=_NOISE)


def _errors(model: nn.Module, fit: BodyFit, pose: Tensor, transl: Tensor) -> tuple[float, ...]:
    points = BodyPoints(model, joints=range(55))
    found = points(fit.pose, betas=fit.params["betas"], transl=fit.params["transl"])
    true = points(pose, transl=transl)

    def off(joints: tuple[int, ...] | range, root: int) -> Tensor:
        chosen = list(joints)
        distance = (found[:, chosen] - found[:, [root]]) - (true[:, chosen] - true[:, [root]])
        return 1000.0 * distance.norm(dim=-1)

    def acceleration(joints: Tensor) -> Tensor:
        placed = joints[:, :22] - joints[:, :1]
        return 1000.0 * placed.diff(n=2, dim=0)

    fingers = torch.cat([off(range(25, 40), 20), off(range(40, 55), 21)], dim=1)
    shake = (acceleration(found) - acceleration(true)).norm(dim=-1)
    return (
        float(off(range(22), 0).mean()), float(fingers.mean()), float(off(_FOREARM, 0)[_UNSEEN].mean()),
        float(shake.mean()),
    )  # fmt: skip


def _own_accelerations(clips: list[Tensor]) -> str:
    """How much the recorded rotations themselves accelerate: the size that `--smooth` stands for."""
    pose = torch.stack(clips)
    change = rotvec_to_tangent(pose[:, 1:], pose[:, :-1]).diff(dim=1)

    def rms(joints: range) -> float:
        return float(change[:, :, list(joints)].square().mean().sqrt())

    return f"root mean square accelerations, rad a frame squared: body {rms(range(1, 22)):.3f}, fingers {rms(_FINGERS):.3f}"


if __name__ == "__main__":
    main()
