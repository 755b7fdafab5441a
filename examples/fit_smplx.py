"""Fit SMPL-X bodies to noisy 2D keypoints whose left arm is hidden, with and without a prior.

    python examples/fit_smplx.py                                  # the licence-free stand-in body
    python examples/fit_smplx.py --model models --out fits        # your SMPL-X file: models/smplx/SMPLX_NEUTRAL.npz

Writes overlay.png (the true bodies and both fits under the keypoints) and fitted.npz (SMPL-X parameters of the fit with
the prior), and prints the errors, which are known here because the keypoints are made from known poses.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import smplx
import torch
import tyro

import poseprior
from poseprior.fitting import BodyPoints, Camera, FitBodyConfig, Keypoints2D, fit_body, layout, stand_in_body
from poseprior.io import synthetic_poses
from poseprior.params import pose_to_smplx
from poseprior.viz import plot_fits


@dataclasses.dataclass(frozen=True)
class Options:
    """Command line."""

    model: Path | None = None
    """Folder for `smplx.create`; the stand-in body if not given."""
    prior: str = "body-mixture"
    """A shipped prior, or the path of one."""
    out: Path = Path("fits")
    frames: int = 4
    iterations: int = 60


def main() -> None:
    """Make keypoints, fit them twice, compare."""
    options = tyro.cli(Options)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        place = options.model if options.model else stand_in_body(folder)
        model = smplx.create(str(place), "smplx", use_pca=False, flat_hand_mean=True)
    prior = poseprior.load(options.prior)

    # What a detector would see: OpenPose's 25 points, 5 px of noise, left elbow and wrist hidden.
    truth = synthetic_poses(50 * options.frames, seed=3).poses[::50].clone()
    truth[:, 0] = torch.tensor([3.1, 0.0, 0.0])  # upright in a camera's frame, where y points down
    truth[:, 22:] = 0.0
    transl = torch.tensor([0.0, 0.0, 3.0]).expand(len(truth), 3)
    order = layout("openpose_25")
    camera = Camera(1000.0, (500.0, 500.0))
    points = BodyPoints(model, joints=[j or 0 for j in order.joints])(truth, transl=transl)
    pixels = camera.project(points) + 5.0 * torch.randn(len(truth), 25, 2, generator=torch.Generator().manual_seed(0))
    confidence = torch.tensor([float(name not in ("left_elbow", "left_wrist")) for name in order.names])

    target = Keypoints2D(pixels, camera=camera, layout="openpose_25", confidence=confidence, sigma=5.0)
    joints = BodyPoints(model, joints=range(22))
    true_joints = joints(truth)
    fits = {}
    for name, used in (("without a prior", None), (f"with {options.prior}", prior)):
        fit = fits[name] = fit_body(
            model, target, prior=used, config=FitBodyConfig(iterations=options.iterations), progress=True
        )
        found = joints(fit.pose, betas=fit.params["betas"])
        error = 1000.0 * ((found - found[:, :1]) - (true_joints - true_joints[:, :1])).norm(dim=-1)
        print(
            f"{name}: {float(error.mean()):.0f} mm mean joint error, {float(error[:, [18, 20]].mean()):.0f} mm on the "
            f"hidden arm; {int(fit.converged.sum())} of {len(truth)} converged"
        )
    options.out.mkdir(parents=True, exist_ok=True)
    fit.save(options.out / "fitted.npz")
    print(f"SMPL-X parameters are in {options.out / 'fitted.npz'}")
    true = {**pose_to_smplx(truth), "transl": transl}
    plot_fits(model, {"true body": true, **fits}, target, path=options.out / "overlay.png")
    print(f"the first bodies are drawn in {options.out / 'overlay.png'}")


if __name__ == "__main__":
    main()
