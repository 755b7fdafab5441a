"""The library's main job on the shipped weights: sample, score, complete, denoise and fit, without data or a licence.

    python examples/demo.py [--data poses.npz] [--out demo]

Writes OUT/index.html, one self-contained page with pictures and a 3D scene, and the pictures beside it. With `--data` the
poses that are scored, completed and denoised come from a file of yours; otherwise they are drawn from `body-joint-flow`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from pathlib import Path

import torch
from demo_page import Section, write_page
from torch import Tensor, nn
from tqdm import tqdm

import poseprior
from poseprior import skeleton
from poseprior.fitting import BodyPoints, Camera, FitBodyConfig, Keypoints2D, fit_body, layout, stand_in_body
from poseprior.params import pose_to_smplx
from poseprior.rotations import add_tangent_noise, geodesic_distance
from poseprior.tasks import denoise, score
from poseprior.viz import bodies_scene, plot_fit, plot_poses

_ARM = (16, 18, 20)
_SIGMA = 0.15
_KNEE = skeleton.JOINT_NAMES.index("left_knee")


def main() -> None:
    """Run every step, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="an .npz of poses of yours")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for the results")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    prior = poseprior.load("body-order-agnostic")
    good = _good_poses(prior, args.data)
    model = _stand_in()
    steps = (
        lambda: _samples(args.out, model),
        lambda: _scores(poseprior.load("body-mixture"), good[:1], args.out),
        lambda: _completions(prior, good[1:2], args.out),
        lambda: _denoised(prior, good[2:3], args.out),
        lambda: _fits(good, model, args.out),
    )
    sections: list[Section] = []
    for step in tqdm(steps, desc="demo"):
        sections += step()
    whose = f"poses of {args.data}" if args.data else "poses drawn from the shipped priors themselves"
    write_page(
        args.out / "index.html", "poseprior: what the shipped priors do",
        f"Made by make demo in {time.monotonic() - started:.0f} s on one core, from {whose}. Figures are drawn without any "
        "licensed body model.", sections,
    )  # fmt: skip
    print(f"results: {args.out / 'index.html'} (open it in a browser), pictures beside it")


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _good_poses(prior: poseprior.PosePrior, data: Path | None) -> Tensor:
    """(4, 55, 3) plausible body poses: from the file, or the likelier ones of another prior's draws."""
    if data is not None:
        dataset = poseprior.read_poses(data)
        whole = dataset.observed[:, list(prior.joints)].all(1).nonzero()[:, 0]
        if len(whole) < 4:
            raise SystemExit(f"--data: expected 4 poses that show the whole body, got {len(whole)} in {data}.")
        return dataset.poses[whole[torch.linspace(0, len(whole) - 1, 4).long()]]
    drawn = poseprior.load("body-joint-flow").sample(64, generator=_generator(4))
    likely = prior.log_prob(drawn).argsort(descending=True)
    return drawn[likely[8:40:8]]


def _stand_in() -> nn.Module:
    import smplx

    with tempfile.TemporaryDirectory() as folder:
        model: nn.Module = smplx.create(str(stand_in_body(folder)), "smplx", use_pca=False, flat_hand_mean=True)
    return model


def _samples(out: Path, model: nn.Module) -> list[Section]:
    prior = poseprior.load("whole-body")
    poses = prior.sample(24, generator=_generator(1))
    plot_poses(poses, joints=prior.joints, path=out / "samples.png", dpi=90)
    shown = poses[:6].clone()
    with torch.no_grad():
        bodies = model(**pose_to_smplx(shown), betas=torch.zeros(6, 10), expression=torch.zeros(6, 10)).vertices
    scene = bodies_scene(bodies.numpy(), model.faces.astype(int))  # type: ignore[union-attr,operator]
    facts = f"{prior.num_parameters:,} parameters, {len(prior.joints)} joints"
    return [
        Section("24 whole-body poses", f"Draws of whole-body ({facts}): body from motion capture, fingers from hand "
                "tracking, independent of each other because no recording shows both.", out / "samples.png",
                code='poseprior.load("whole-body").sample(24)'),
        Section("Six of them to turn", "Drag to turn, scroll to zoom. The body is the licence-free stand-in, skinned by "
                "smplx.", scene=scene),
    ]  # fmt: skip


def _scores(prior: poseprior.PosePrior, good: Tensor, out: Path) -> list[Section]:
    broken = good.clone()
    broken[0, _KNEE] = torch.tensor([-1.75, 0.0, 0.0])  # bent forwards by 100 degrees
    both = torch.cat((good, broken))
    result = score(prior, both, generator=_generator())
    rows: list[tuple[str, ...]] = [
        ("pose", "percentile of the pose", "percentile of its worst joint", "that joint", "its excess surprise, nats")
    ]
    for k, name in enumerate(("as it was", "left knee bent forwards")):
        joint = int(result.attribution[k].argmax())
        blame = float(result.attribution[k, joint])
        rows.append((name, f"{float(result.percentile[k]):.0f}", f"{float(result.joint_percentile[k]):.1f}",
                     skeleton.JOINT_NAMES[joint], f"{blame:.1f}"))  # fmt: skip
    titles = [rows[1][0], f"{rows[2][0]}: {rows[2][3]}"]
    plot_poses(both, titles=titles, path=out / "scores.png", dpi=90)
    text = "The same pose, whole and broken. Percentiles are among people whom the prior has not seen (the pose) and among "
    text += "its own samples (the worst joint); below 1 is implausible."
    return [
        Section(
            "A good and a broken pose", text, out / "scores.png", tuple(rows), code="poseprior.tasks.score(prior, pose)"
        )
    ]


def _completions(prior: poseprior.PosePrior, pose: Tensor, out: Path) -> list[Section]:
    observed = torch.ones(55, dtype=torch.bool)
    observed[list(_ARM)] = False
    filled = prior.complete(pose[0], observed, num_samples=10, generator=_generator())
    titles = ["as it was", *(f"draw {k}" for k in range(1, 11))]
    plot_poses(torch.cat((pose, filled)), titles=titles, path=out / "completions.png", dpi=90)
    return [Section("A hidden left arm, ten ways", "Shoulder, elbow and wrist are drawn given all other joints, from the "
                    "prior's exact conditional.", out / "completions.png",
                    code="prior.complete(pose, observed, num_samples=10)")]  # fmt: skip


def _denoised(prior: poseprior.PosePrior, pose: Tensor, out: Path) -> list[Section]:
    joints = list(prior.joints)
    noisy = pose.clone()
    noisy[:, joints] = add_tangent_noise(pose[:, joints], _SIGMA, generator=_generator())
    clean = denoise(prior, noisy, _SIGMA)
    off = [float(torch.rad2deg(geodesic_distance(p[:, joints], pose[:, joints])).mean()) for p in (noisy, clean)]
    titles = ["as it was", f"noisy: {off[0]:.1f} degrees off", f"denoised: {off[1]:.1f} degrees off"]
    plot_poses(torch.cat((pose, noisy, clean)), titles=titles, path=out / "denoised.png", dpi=90)
    text = f"Noise of {_SIGMA} rad on every joint, and the most probable pose behind it. Mean rotation error: {off[0]:.1f} "
    text += f"degrees before, {off[1]:.1f} after."
    return [Section("Denoising", text, out / "denoised.png", code=f"poseprior.tasks.denoise(prior, pose, {_SIGMA})")]


def _fits(poses: Tensor, model: nn.Module, out: Path) -> list[Section]:
    truth = poses.clone()
    truth[:, 0] = torch.tensor([3.1, 0.3, 0.0])  # upright in a camera's frame, where y points down
    truth[:, 22:] = 0.0
    place = torch.tensor([0.0, 0.0, 3.0]).expand(len(truth), 3)
    order, camera = layout("openpose_25"), Camera(1000.0, (500.0, 500.0))
    points = BodyPoints(model, joints=[j or 0 for j in order.joints])(truth, transl=place)
    pixels = camera.project(points) + 5.0 * torch.randn(len(truth), 25, 2, generator=_generator())
    seen = torch.tensor([float(name not in ("left_elbow", "left_wrist")) for name in order.names])
    target = Keypoints2D(pixels, camera=camera, layout="openpose_25", confidence=seen, sigma=5.0)
    joints = BodyPoints(model, joints=range(22))
    true = joints(truth)
    rows: list[tuple[str, ...]] = [("fit", "mean joint error, mm", "hidden left arm, mm", "seconds")]
    sections = []
    for name, label in ((None, "without a prior"), ("body-mixture", "with body-mixture"),
                        ("body-joint-flow", "with body-joint-flow")):  # fmt: skip
        prior = None if name is None else poseprior.load(name)
        started = time.monotonic()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit = fit_body(model, target, prior=prior, config=FitBodyConfig(iterations=60))
        found = joints(fit.pose, betas=fit.params["betas"])
        error = 1000.0 * ((found - found[:, :1]) - (true - true[:, :1])).norm(dim=-1)
        rows.append((label, f"{float(error.mean()):.0f}", f"{float(error[:, [18, 20]].mean()):.0f}",
                     f"{time.monotonic() - started:.1f}"))  # fmt: skip
        picture = out / f"fit_{'none' if name is None else name}.png"
        plot_fit(model, fit, target, path=picture, dpi=80)
        sections.append(Section(f"The fits, {label}", "Yellow and red dots are the noisy keypoints.", picture))
    head = Section(
        "Fitting 2D keypoints", f"{len(truth)} bodies, OpenPose's 25 points, 5 px of noise, left elbow and wrist hidden; fitted "
        "with the stand-in body. The prior decides what the picture does not show.", rows=tuple(rows),
        code="fit_body(model, Keypoints2D(pixels, camera=camera, layout='openpose_25', confidence=c), prior=prior)",
    )  # fmt: skip
    return [head, *sections]


if __name__ == "__main__":
    main()
