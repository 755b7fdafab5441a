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
from poseprior.fitting import BodyFit, BodyPoints, Camera, FitBodyConfig, Keypoints2D, fit_body, layout, stand_in_body
from poseprior.params import pose_to_smplx
from poseprior.rotations import add_tangent_noise, geodesic_distance
from poseprior.tasks import denoise, score
from poseprior.viz import bodies_scene, plot_fits, plot_poses

_ARM = (16, 18, 20)
_SIGMA = 0.15
_KNEES = tuple(skeleton.JOINT_NAMES.index(f"{side}_knee") for side in ("left", "right"))
_HEAD = skeleton.JOINT_NAMES.index("head")
#: How a reader begins.
_BEGIN = """git clone https://github.com/poseprior/poseprior
pip install "./poseprior[viz]"

import poseprior
from poseprior.viz import plot_poses

prior = poseprior.load("whole-body")
plot_poses(prior.sample(6), path="people.png")"""
#: Joints whose error the page lists.
_LISTED = ("head", "left_elbow", "left_wrist", "right_elbow", "right_wrist", "left_knee", "left_ankle", "right_ankle")


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
        args.out / "index.html", "poseprior: priors over human poses",
        "A PyTorch library of probability densities over SMPL-X poses of bodies and hands: draw poses, score them, complete "
        "and denoise them, and add a prior to a fit. Ten trained priors ship with it; no body model is needed.",
        sections, code=_BEGIN,
        foot=f"Made by make demo in {time.monotonic() - started:.0f} s on one core, from {whose}. Figures are drawn without "
        "any licensed body model.",
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
    plot_poses(poses, joints=prior.joints, path=out / "samples.png", dpi=100)
    shown = poses[:6].clone()
    with torch.no_grad():
        bodies = model(**pose_to_smplx(shown), betas=torch.zeros(6, 10), expression=torch.zeros(6, 10)).vertices
    scene = bodies_scene(bodies.numpy(), model.faces.astype(int), columns=3)  # type: ignore[union-attr,operator]
    facts = f"{prior.num_parameters:,} parameters, {len(prior.joints)} joints"
    return [
        Section("24 whole-body poses", f"Draws of whole-body ({facts}): body from motion capture, fingers from hand "
                "tracking, independent of each other because no recording shows both.", out / "samples.png",
                code='poseprior.load("whole-body").sample(24)'),
        Section("Six of them to turn", "Drag to turn, scroll or pinch to zoom. The body is the licence-free stand-in, skinned by "
                "smplx.", scene=scene),
    ]  # fmt: skip


def _scores(prior: poseprior.PosePrior, good: Tensor, out: Path) -> list[Section]:
    one, several = good.clone(), good.clone()
    one[0, _KNEES[0]] = several[0, _KNEES[0]] = several[0, _KNEES[1]] = torch.tensor([-1.75, 0.0, 0.0])  # bent forwards
    several[0, _HEAD] = torch.tensor([0.0, 2.6, 0.0])  # turned backwards
    poses = torch.cat((good, one, several))
    names = ("as it was", "left knee bent forwards", "both knees forwards, head backwards")
    result = score(prior, poses, generator=_generator())
    rows: list[tuple[str, ...]] = [("pose", "body", "worst joint", "joint to blame")]
    for k, name in enumerate(names):
        joint = skeleton.JOINT_NAMES[int(result.attribution[k].argmax())]
        low = float(result.joint_percentile[k])
        blame = f"{joint}, {float(result.attribution[k].max()):.0f} nats" if low < 1 or k else "none"
        rows.append((name, f"{float(result.percentile[k]):.1f}", f"{low:.1f}", blame))
    plot_poses(poses, titles=list(names), columns=3, path=out / "scores.png", dpi=110)
    text = (
        "The same pose, whole and broken, in percentiles among people whom the prior has not seen: of the body, and of its "
        "worst joint. One broken joint among twenty good ones shows in the second "
        "number, a broken body in the first. Below 1 is implausible."
    )
    return [
        Section(
            "Good and broken poses", text, out / "scores.png", tuple(rows), code="poseprior.tasks.score(prior, pose)"
        )
    ]


def _completions(prior: poseprior.PosePrior, pose: Tensor, out: Path) -> list[Section]:
    observed = torch.ones(55, dtype=torch.bool)
    observed[list(_ARM)] = False
    filled = prior.complete(pose[0], observed, num_samples=10, generator=_generator())
    titles = ["as it was", *(f"draw {k}" for k in range(1, 11))]
    plot_poses(torch.cat((pose, filled)), titles=titles, columns=4, path=out / "completions.png", dpi=110)
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
    plot_poses(torch.cat((pose, noisy, clean)), titles=titles, columns=3, path=out / "denoised.png", dpi=110)
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
    fits: dict[str, BodyFit] = {}
    errors: dict[str, Tensor] = {}
    seconds: dict[str, float] = {}
    for name in (None, "body-mixture", "body-joint-flow"):
        label = "no prior" if name is None else name
        prior = None if name is None else poseprior.load(name)
        started = time.monotonic()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fits[label] = fit_body(model, target, prior=prior, config=FitBodyConfig(iterations=60))
        seconds[label] = time.monotonic() - started
        found = joints(fits[label].pose, betas=fits[label].params["betas"])
        errors[label] = 1000.0 * ((found - found[:, :1]) - (true - true[:, :1])).norm(dim=-1)
    rows: list[tuple[str, ...]] = [("error, mm", *fits)]
    rows.append(("mean of 22 joints", *(f"{float(error.mean()):.0f}" for error in errors.values())))
    for listed in _LISTED:
        column = skeleton.JOINT_NAMES.index(listed)
        hidden = " (hidden)" if listed in ("left_elbow", "left_wrist") else ""
        rows.append((f"{listed}{hidden}", *(f"{float(error[:, column].mean()):.0f}" for error in errors.values())))
    rows.append(("seconds", *(f"{value:.1f}" for value in seconds.values())))
    body = {**pose_to_smplx(truth), "transl": place}
    captions = {
        name: [f"{float(error[k].mean()):.0f} mm off" for k in range(len(truth))] for name, error in errors.items()
    }
    plot_fits(model, {"true body": body, **fits}, target, captions=captions, path=out / "fits.png", dpi=80)
    return [
        Section(
            "Fitting 2D keypoints", f"{len(truth)} bodies, OpenPose's 25 points, 5 px of noise, left elbow and wrist hidden; "
            "fitted with the stand-in body. Dots are the noisy keypoints, yellow where the body meets them and red where it "
            "does not. The prior decides what the keypoints do not show.", out / "fits.png", tuple(rows),
            code="fit_body(model, Keypoints2D(pixels, camera=camera, layout='openpose_25', confidence=c), prior=prior)",
        )
    ]  # fmt: skip


if __name__ == "__main__":
    main()
