"""What `benchmarks.fitting.compare_priors` fits: measurements of real poses on the stand-in body, and the errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import roma
import torch
from torch import Tensor, nn

from benchmarks.density.left_out_rigs import JOINTS
from poseprior import PoseDataset, skeleton
from poseprior.fitting import BodyPoints, Camera, Joints3D, Keypoints2D, Markers, Target, layout
from poseprior.io import read_poses
from poseprior.params import pose_from_smplx
from poseprior.rotations import geodesic_distance, tangent_to_rotvec

CAMERA = Camera(1100.0, (512.0, 512.0))
_SIZE = 1024.0
_BODY = 22
_SHAPE_SPREAD = 0.5


@dataclass(frozen=True)
class Bodies:
    """True bodies in front of the camera.

    Attributes:
        pose: (B, 55, 3) rotvecs; joints that the data did not measure are at rest.
        observed: (B, 55) bool, measured joints.
        betas, transl: (B, 10), and (B, 3) metres.
        people: B names of who it is.
    """

    pose: Tensor
    observed: Tensor
    betas: Tensor
    transl: Tensor
    people: tuple[str, ...]

    def select(self, rows: Tensor) -> Bodies:
        """Some of the bodies, (B',)."""
        people = tuple(self.people[k] for k in rows.tolist())
        return Bodies(self.pose[rows], self.observed[rows], self.betas[rows], self.transl[rows], people)


@dataclass(frozen=True)
class Task:
    """One way to measure bodies.

    Attributes:
        name: of the task.
        target: makes the measurement of bodies; the noise has a fixed seed.
        scored: joints whose rotations are scored; of bodies those that every rig measures, no toes and no collars.
        points: joints of smplx whose positions are scored.
        single_view: whether one camera sees it, so that depth is unknown.
        hands: whether it is about a hand.
        hidden: joints whose position error is the task's, None for all points.
    """

    name: str
    target: Callable[[nn.Module, Bodies], Target]
    scored: tuple[int, ...] = JOINTS
    points: tuple[int, ...] = tuple(range(_BODY))
    single_view: bool = True
    hands: bool = False
    hidden: tuple[int, ...] | None = None


def read_bodies(path: Path, count: int) -> Bodies:
    """`count` frames of a file, as many of every person as of any other, seen from any side."""
    dataset = read_poses(path)
    generator = torch.Generator().manual_seed(1)
    index = spread_over_subjects(dataset, count, generator)
    observed = dataset.observed[index]
    pose = torch.where(observed[..., None], dataset.poses[index], 0.0)
    pose[:, _BODY:] = 0.0
    yaw = torch.zeros(count, 3)
    yaw[:, 1] = 2.0 * math.pi * torch.rand(count, generator=generator)
    root = tangent_to_rotvec(yaw, torch.tensor([math.pi, 0.0, 0.0]))
    pose[:, 0] = tangent_to_rotvec(0.1 * torch.randn(count, 3, generator=generator), root)
    return _placed(pose, observed, dataset, index, generator)


def spread_over_subjects(dataset: PoseDataset, count: int, generator: torch.Generator) -> Tensor:
    """Rows of `count` random frames, as many of every subject as of any other."""
    assert dataset.subject is not None
    names = dataset.subject.tolist()
    subjects = list(dict.fromkeys(names))
    rows = []
    for number, subject in enumerate(subjects):
        own = torch.tensor([k for k, name in enumerate(names) if name == subject])
        wanted = count // len(subjects) + (number < count % len(subjects))
        rows.append(own[torch.randperm(len(own), generator=generator)[:wanted]])
    return torch.cat(rows)


def read_hands(path: Path, count: int) -> Bodies:
    """`count` right hands of a file on a body at rest, the palm towards the camera in any turn."""
    dataset = read_poses(path)
    right = dataset.observed[:, 40].nonzero()[:, 0]
    generator = torch.Generator().manual_seed(1)
    index = right[torch.randperm(len(right), generator=generator)[:count]]
    observed = dataset.observed[index]
    pose = torch.where(observed[..., None], dataset.poses[index], 0.0)
    pose[:, 0] = torch.tensor([math.pi, 0.0, 0.0])
    return _placed(pose, observed, dataset, index, generator)


def _placed(
    pose: Tensor, observed: Tensor, dataset: PoseDataset, index: Tensor, generator: torch.Generator
) -> Bodies:  # fmt: skip
    """The poses as bodies of random shapes, about 3 m in front of the camera."""
    betas = _SHAPE_SPREAD * torch.randn(len(pose), 10, generator=generator)
    transl = torch.tensor([0.0, 0.0, 3.0]) + 0.1 * torch.randn(len(pose), 3, generator=generator)
    people = [""] * len(pose) if dataset.subject is None else [str(dataset.subject[k]) for k in index.tolist()]
    return Bodies(pose, observed, betas, transl, tuple(people))


def points(model: nn.Module, bodies: Bodies, joints: tuple[int, ...]) -> Tensor:
    """(B, K, 3) true positions."""
    return BodyPoints(model, joints=joints)(bodies.pose, betas=bodies.betas, transl=bodies.transl)


def keypoints(
    *, sigma: float, hide: tuple[str, ...] = (), outliers: float = 0.0, name: str = "openpose_25", only: str = ""
) -> Callable[[nn.Module, Bodies], Target]:
    """Makes the points of a layout in a picture, with noise of `sigma` pixels.

    Args:
        sigma: pixels.
        hide: how the names of points begin that are not seen.
        outliers: share of the points that are anywhere in the image.
        name: of the layout.
        only: the part of which alone points are seen.
    """

    def make(model: nn.Module, bodies: Bodies) -> Target:
        order = layout(name)
        generator = torch.Generator().manual_seed(7)
        joints = tuple(0 if j is None or j > 126 else j for j in order.joints)
        pixels = CAMERA.project(points(model, bodies, joints))
        pixels = pixels + sigma * torch.randn(pixels.shape, generator=generator)
        outlier = torch.rand(pixels.shape[:2], generator=generator) < outliers
        pixels = torch.where(outlier[..., None], _SIZE * torch.rand(pixels.shape, generator=generator), pixels)
        seen = [not any(n.startswith(h) for h in hide) and (p == "body" or p == only or not only)
                for n, p in zip(order.names, order.parts, strict=True)]  # fmt: skip
        confidence = torch.tensor(seen, dtype=torch.float32).expand(len(pixels), -1)
        return Keypoints2D(pixels, camera=CAMERA, layout=name, confidence=confidence, sigma=sigma)

    return make


def _joints(*, sigma: float, missing: float) -> Callable[[nn.Module, Bodies], Target]:
    def make(model: nn.Module, bodies: Bodies) -> Target:
        generator = torch.Generator().manual_seed(7)
        measured = points(model, bodies, tuple(range(skeleton.NUM_JOINTS)))
        measured = measured + sigma * torch.randn(measured.shape, generator=generator)
        measured[:, _BODY:] = math.nan
        measured[torch.rand(measured.shape[:2], generator=generator) < missing] = math.nan
        return Joints3D(measured, sigma=sigma)

    return make


def _markers(*, sigma: float) -> Callable[[nn.Module, Bodies], Target]:
    def make(model: nn.Module, bodies: Bodies) -> Target:
        generator = torch.Generator().manual_seed(7)
        vertices = _marker_vertices(model)
        measured = BodyPoints(model, vertices=vertices)(bodies.pose, betas=bodies.betas, transl=bodies.transl)
        measured = measured + sigma * torch.randn(measured.shape, generator=generator)
        return Markers(measured, vertices=vertices, sigma=sigma)

    return make


def _marker_vertices(model: nn.Module) -> list[int]:
    """12 vertices: two on the head and the pelvis, one on the chest and on each wrist, elbow, knee... of the skin."""
    template, weights = model.v_template, model.lbs_weights
    assert isinstance(template, Tensor) and isinstance(weights, Tensor)
    places = (("pelvis", 1), ("pelvis", -1), ("spine3", 1), ("head", 1), ("left_wrist", 1), ("right_wrist", 1),
              ("left_elbow", 1), ("right_elbow", 1), ("left_knee", 1), ("right_knee", 1), ("left_ankle", 1),
              ("right_ankle", 1))  # fmt: skip
    chosen = []
    for name, side in places:
        joint = skeleton.JOINT_NAMES.index(name)
        score = weights[:, joint] * 10.0 + side * template[:, 2]  # on the front, or the back for -1
        chosen.append(int(score.argmax()))
    return chosen


_ARM = ("left_elbow", "left_wrist")
_LEGS = ("left_knee", "right_knee", "left_ankle", "right_ankle", "left_big", "left_small", "left_heel", "right_big",
         "right_small", "right_heel")  # fmt: skip
_HAND_POINTS = (*range(40, 55), *range(71, 76))
TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("arm-hidden", keypoints(sigma=5.0, hide=_ARM), hidden=(18, 20)),
        Task("legs-out-of-frame", keypoints(sigma=5.0, hide=_LEGS), hidden=(4, 5, 7, 8)),
        Task("keypoints-5px", keypoints(sigma=5.0)),
        Task("keypoints-15px", keypoints(sigma=15.0)),
        Task("outliers-20%", keypoints(sigma=5.0, outliers=0.2)),
        Task("joints-20%-missing", _joints(sigma=0.02, missing=0.2), single_view=False),
        Task("markers-12", _markers(sigma=0.01), single_view=False),
        Task(
            "hand-2d", keypoints(sigma=1.5, name="openpose_137", only="right_hand"), scored=tuple(range(40, 55)),
            points=_HAND_POINTS, hands=True,
        ),
    )
}  # fmt: skip


def errors(model: nn.Module, params: dict[str, Tensor], bodies: Bodies, task: Task) -> dict[str, list[float]]:
    """By frame: MPJPE (root or wrist aligned), PA-MPJPE and hidden joints' error, mm; rotation error, degrees."""
    pose, _ = pose_from_smplx({k: v for k, v in params.items() if "pose" in k or k == "global_orient"})
    chosen = BodyPoints(model, joints=(21 if task.hands else 0, *task.points))
    found = chosen(pose, betas=params["betas"], transl=params["transl"])
    true = chosen(bodies.pose, betas=bodies.betas, transl=bodies.transl)
    found, true = found[:, 1:] - found[:, :1], true[:, 1:] - true[:, :1]
    distance = 1000.0 * (found - true).norm(dim=-1)
    hidden = distance if task.hidden is None else distance[:, [task.points.index(j) for j in task.hidden]]
    scored = list(task.scored)
    weight = bodies.observed[:, scored].float()
    turn = torch.rad2deg(geodesic_distance(pose[:, scored], bodies.pose[:, scored]))
    return {
        "mpjpe_mm": distance.mean(-1).tolist(),
        "pa_mpjpe_mm": _aligned(found, true).tolist(),
        "hidden_mm": hidden.mean(-1).tolist(),
        "rotation_deg": ((turn * weight).sum(-1) / weight.sum(-1).clamp_min(1.0)).tolist(),
    }


def _aligned(found: Tensor, true: Tensor) -> Tensor:
    """(B,) mean distance in mm after the best similarity transform."""
    a, b = found - found.mean(1, keepdim=True), true - true.mean(1, keepdim=True)
    turn, scale = roma.special_procrustes((b.mT @ a).double(), return_singular_values=True)
    size = (scale.sum(-1) / a.double().square().sum((1, 2))).to(a)
    moved = size[:, None, None] * (a @ turn.mT.to(a))
    return 1000.0 * (moved - b).norm(dim=-1).mean(-1)
