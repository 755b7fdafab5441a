"""What a prior adds to a step of a fit, and to a whole fit, side by side, one thread.

    python -m benchmarks.fitting.fit_speed

Steps (energy and gradient) of two loops: `fit_body`'s own, which computes no mesh, and one through smplx's forward pass, as
most code has it. 25 2D keypoints; 1 body and 32 bodies. The four kinds of step take turns, and the fastest tenth of the
processor times counts. Whole fits, medians of wall times: tasks of `benchmarks.fitting.compare_priors` on bodies
drawn from `body-gaussian`, without a prior, with the rest regulariser alone, and with each prior; in 2D from 16 starts, most
of them samples of the prior (4 without a prior, the library's defaults), and from 4 for all.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

import poseprior
from benchmarks.common import in_turns_ms, machine_line, markdown_head, markdown_row, parser_for
from benchmarks.fitting.compare_priors import fit, stand_in_model
from benchmarks.fitting.methods import Method
from benchmarks.fitting.tasks import CAMERA, TASKS, Bodies, Task
from poseprior.fitting import BodyPoints, Keypoints2D, PosePriorTerm, layout

#: Bodies in a step, and bodies of a whole fit.
STEP_BODIES, FIT_BODIES = (1, 32), (16, 128)
STEP_PRIORS = ("body-gaussian", "body-joint-flow", "body-global-flow", "body-order-agnostic", "body-vae")
FIT_PRIORS = (
    "body-gaussian",
    "body-mixture",
    "body-global-flow",
    "body-joint-flow",
    "body-order-agnostic",
)


def main() -> None:
    """Print both tables."""
    parser = parser_for(__doc__, data=False)
    parser.add_argument("--seconds", type=float, default=8.0, help="for the steps of a row; default %(default)s")
    parser.add_argument("--repeats", type=int, default=3, help="of whole fits, 0 for none; default %(default)s")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = stand_in_model()
    print(f"{machine_line()}\n")
    print(
        markdown_head(
            ("prior", "bodies", "points alone, ms", "+ prior, ms", "added", "mesh, ms", "+ prior, ms", "added")
        )
    )
    for name in STEP_PRIORS:
        for bodies in STEP_BODIES:
            print(markdown_row(_step_row(model, poseprior.load(name), name, bodies, args.seconds)), flush=True)
    if args.repeats:
        _whole_fits(model, args.repeats)


def _people(count: int) -> Bodies:
    """Bodies drawn from `body-gaussian`, facing the camera 3 m away."""
    pose = poseprior.load("body-gaussian").sample(count, generator=torch.Generator().manual_seed(0))
    pose[:, 0, 0] = math.pi
    return Bodies(
        pose, observed=torch.ones(count, 55, dtype=torch.bool), betas=torch.zeros(count, 10),
        transl=torch.tensor([0.0, 0.0, 3.0]).expand(count, 3), people=("",) * count,
    )  # fmt: skip


def _whole_fits(model: nn.Module, repeats: int) -> None:
    """Milliseconds a body of whole fits, and their ratio to the fit without a prior."""
    methods = [Method("no prior"), Method("rest regulariser", l2=True)]
    methods += [Method(name, poseprior.load(name)) for name in FIT_PRIORS]
    head = ("whole fits, ms a body", "starts", "bodies", *(method.name for method in methods))
    print(f"\n{markdown_head(head)}")
    for task, starts in ((TASKS["keypoints-5px"], 16), (TASKS["keypoints-5px"], 4), (TASKS["joints-20%-missing"], 1)):
        for count in FIT_BODIES:
            bodies = _people(count)
            rounds = [[_seconds(model, task, method, bodies, starts) for method in methods] for _ in range(repeats + 1)]
            median = torch.tensor(rounds[1:]).median(0).values
            cells = [f"{1e3 * seconds:.0f} ({seconds / median[0]:.2f})" for seconds in median]
            print(markdown_row([task.name, str(starts), str(count), *cells]), flush=True)


def _seconds(model: nn.Module, task: Task, method: Method, bodies: Bodies, starts: int) -> float:
    """Seconds a body; from 4 starts at most without a prior, the library's default."""
    starts = starts if method.judged else min(starts, 4)
    return float(fit(model, task, method, 1.0, bodies, starts, from_truth=False)["seconds_a_frame"])


def _step_row(model: nn.Module, prior: poseprior.PosePrior, name: str, bodies: int, seconds: float) -> list[str]:
    """Cells: milliseconds of a step without and with the prior, in both loops."""
    pose = torch.zeros(bodies, 55, 3)
    latent_prior = prior if name == "body-vae" and isinstance(prior, poseprior.LatentPosePrior) else None
    pose[:, list(prior.joints)] = prior.sample(bodies, generator=torch.Generator().manual_seed(0))[
        :, list(prior.joints)
    ]
    term = PosePriorTerm(prior, reduction="sum")
    joints = [j or 0 for j in layout("openpose_25").joints]
    points = BodyPoints(model, joints=joints)
    place = torch.tensor([0.0, 0.0, 3.0]).expand(bodies, 3)
    pixels = CAMERA.project(points(pose, transl=place))
    target = Keypoints2D(pixels, camera=CAMERA, layout="openpose_25")

    def points_only(p: Tensor) -> Tensor:
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
            if latent_prior is None:
                return torch.autograd.grad(data(leaf) + (term(leaf).sum() if with_prior else 0.0), leaf)
            code = torch.zeros(bodies, latent_prior.latent_dim, requires_grad=True)
            full = leaf + latent_prior.decode(code) if with_prior else leaf
            energy = data(full) + (term(latent=code).sum() if with_prior else 0.0)
            return torch.autograd.grad(energy, (leaf, code) if with_prior else leaf)

        return run

    cells = [name + (" (latent)" if latent_prior is not None else ""), str(bodies)]
    steps = [step(data, with_prior) for data in (points_only, mesh) for with_prior in (False, True)]
    times = in_turns_ms(steps, seconds=seconds)
    for bare, full in (times[:2], times[2:]):
        cells += [f"{bare:.2f}", f"{full:.2f}", f"{full / bare - 1.0:.0%}"]
    return cells


if __name__ == "__main__":
    main()
