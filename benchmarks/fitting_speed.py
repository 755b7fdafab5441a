"""What a prior adds to a step of a fit, and to a whole fit, side by side, one thread, medians.

    python benchmarks/fitting_speed.py [--seconds 2]

Steps (energy and gradient) of two loops: `fit_body`'s own, which computes no mesh, and one through smplx's forward pass, as
most code has it. 25 2D keypoints; 1 body and 32 bodies. Whole fits: tasks of `benchmarks/fitting.py` on bodies drawn from
`body-gaussian`, without a prior, with the rest regulariser alone, and with each prior; in 2D from 16 starts, most of them
samples of the prior (so 4 without a prior), and from 4 for all.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from fitting import Method, Options, few_orders, fit
from fitting_tasks import CAMERA, TASKS, Bodies
from speed_joint_flow import median_ms
from torch import Tensor, nn

import poseprior
from poseprior.fitting import BodyPoints, Keypoints2D, PosePriorTerm, layout, stand_in_body

#: Bodies fitted at once, and repetitions of the whole fits.
_BODIES, _REPEATS = (16, 128), 3
_WHOLE = (
    "body-gaussian",
    "body-mixture-smooth",
    "body-global-flow-smooth",
    "body-joint-flow-smooth",
    "body-order-agnostic-smooth",
)
NAMES = ("body-gaussian", "body-joint-flow", "body-global-flow", "body-order-agnostic", "body-vae")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="for each median")
    seconds: float = parser.parse_args().seconds
    import smplx

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        model = smplx.create(str(stand_in_body(Path(folder))), "smplx", use_pca=False, flat_hand_mean=True)
    print(f"{time.strftime('%Y-%m-%d')}, 1 thread; torch {torch.__version__}, poseprior {poseprior.__version__}, smplx "
          f"{version('smplx')}")  # fmt: skip
    print("\n| prior | bodies | points alone, ms | + prior, ms | share | mesh, ms | + prior, ms | share |")
    print("|---|---|---|---|---|---|---|---|")
    for name in NAMES:
        for bodies in (1, 32):
            row = _row(model, poseprior.load(name), name, bodies, seconds)
            print(f"| {row} |", flush=True)
    _whole_fits(model)


def _people(count: int) -> Bodies:
    """Bodies drawn from `body-gaussian`, facing the camera 3 m away."""
    pose = poseprior.load("body-gaussian").sample(count, generator=torch.Generator().manual_seed(0))
    pose[:, 0, 0] = math.pi
    return Bodies(
        pose, observed=torch.ones(count, 55, dtype=torch.bool), betas=torch.zeros(count, 10),
        transl=torch.tensor([0.0, 0.0, 3.0]).expand(count, 3), mean=torch.zeros(55, 3),
        whitener=torch.eye(3).expand(55, 3, 3),
    )  # fmt: skip


def _whole_fits(model: nn.Module) -> None:
    """Milliseconds a body of whole fits, and their ratio to the fit without a prior."""
    methods = [Method("no prior"), Method("rest regulariser", l2=True)]
    methods += [Method(name, few_orders(poseprior.load(name))) for name in _WHOLE]
    print("\n| whole fits, ms a body | starts | bodies | " + " | ".join(method.name for method in methods) + " |")
    print("|---" * (3 + len(methods)) + "|")
    for task, starts in ((TASKS["keypoints-5px"], 16), (TASKS["keypoints-5px"], 4), (TASKS["joints-20%-missing"], 1)):
        options = Options(num_starts=starts)
        for count in _BODIES:
            bodies = _people(count)
            rounds = [
                [fit(model, task, method, 1.0, bodies, options)["seconds_a_frame"] for method in methods]
                for _ in range(_REPEATS + 1)
            ]
            median = torch.tensor(rounds[1:]).median(0).values
            cells = [f"{1e3 * seconds:.0f} ({seconds / median[0]:.2f})" for seconds in median]
            print(f"| {task.name} | {starts} | {count} | " + " | ".join(cells) + " |", flush=True)


def _row(model: nn.Module, prior: poseprior.PosePrior, name: str, bodies: int, seconds: float) -> str:
    pose = torch.zeros(bodies, 55, 3)
    latent = name == "body-vae"
    z = torch.zeros(bodies, prior.latent_dim) if isinstance(prior, poseprior.LatentPosePrior) and latent else None
    pose[:, list(prior.joints)] = prior.sample(bodies, generator=torch.Generator().manual_seed(0))[
        :, list(prior.joints)
    ]
    term = PosePriorTerm(prior, reduction="sum")
    joints = [j or 0 for j in layout("openpose_25").joints]
    points = BodyPoints(model, joints=joints)
    place = torch.tensor([0.0, 0.0, 3.0]).expand(bodies, 3)
    pixels = CAMERA.project(points(pose, transl=place))
    target = Keypoints2D(pixels, camera=CAMERA, layout="openpose_25")

    def lean(p: Tensor) -> Tensor:
        return target.energy(points(p, transl=place)).sum()

    def mesh(p: Tensor) -> Tensor:
        output = model(global_orient=p[:, 0], body_pose=p[:, 1:22].flatten(1), betas=torch.zeros(bodies, 10),
                       left_hand_pose=p[:, 25:40].flatten(1), right_hand_pose=p[:, 40:].flatten(1), jaw_pose=p[:, 22],
                       leye_pose=p[:, 23], reye_pose=p[:, 24], expression=torch.zeros(bodies, 10),
                       transl=place)  # fmt: skip
        return target.energy(output.joints[:, joints]).sum()

    def step(data: Callable[[Tensor], Tensor], with_prior: bool) -> Callable[[], object]:
        def run() -> object:
            leaf = pose.clone().requires_grad_()
            if z is None:
                return torch.autograd.grad(data(leaf) + (term(leaf).sum() if with_prior else 0.0), leaf)
            code = z.clone().requires_grad_()
            full = leaf + prior.decode(code) if with_prior else leaf  # type: ignore[attr-defined]
            energy = data(full) + (term(latent=code).sum() if with_prior else 0.0)
            return torch.autograd.grad(energy, (leaf, code) if with_prior else leaf)

        return run

    cells = [name + (" (latent)" if latent else ""), str(bodies)]
    for data in (lean, mesh):
        bare, full = (median_ms(step(data, with_prior), seconds=seconds) for with_prior in (False, True))
        cells += [f"{bare:.2f}", f"{full:.2f}", f"{full / bare - 1.0:.0%}"]
    return " | ".join(cells)


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        main()
