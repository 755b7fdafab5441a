"""An approximate inverse Hessian for each body of a stage: Gauss-Newton for the targets, Gaussians for the terms.

Fits are ill-conditioned: joints form chains, points have very different lever arms, and some directions hardly change
anything. Plain L-BFGS needs hundreds of steps; started from the inverse of

    H = J^T W J + P + damping

it needs tens. J is the derivative of the residuals: in closed form for joints, which turn points about axes, and by finite
differences for everything else. W are the weights that make the robust loss quadratic (iteratively reweighted least
squares), and P is the precision of the prior's own samples. The minimum stays where it is.

Source: Nocedal and Wright (2006), sections 7.2 and 10.3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain

import torch
from torch import Tensor

from ..anchor import PoseAnchor
from ..term import PosePriorTerm, factor_at
from .problem import FitProblem
from .stages import Stage
from .state import METRES_STEP, ROTATION_STEP, BodyState, Variables

_DIFFERENCE = 1e-2
_MOST_ROWS = 4096
_DAMPING = 1e-3


def preconditioner(problem: FitProblem, state: BodyState, stage: Stage) -> Callable[[Tensor], Tensor]:
    """A function from gradients (S P, D) to approximate Newton steps, in which the frames of a sequence are independent."""
    frames = stage.variables.frames
    alone = replace(stage.variables, frames=1, shape=stage.variables.shape and frames == 1)
    stage = replace(stage, variables=alone)
    with torch.no_grad():
        hessian = _data(problem, state, stage) + _regularisers(problem, state, stage)
        if frames > 1 and stage.smooth is not None:
            extra = torch.zeros(hessian.shape[-1], dtype=hessian.dtype, device=hessian.device)
            extra[:] = 6.0 * ROTATION_STEP**2 / stage.smooth**2
            hessian = hessian + extra.diag()
        diagonal = hessian.diagonal(dim1=-2, dim2=-1)
        hessian = hessian + torch.diag_embed(_DAMPING * (1.0 + diagonal))
        factor, failed = torch.linalg.cholesky_ex(hessian.double())
        if bool(failed.any()):
            raise ValueError(
                "targets, terms: expected energies with a finite curvature, got another; check sigma, weights, the camera and "
                "the unit of the points."
            )
        inverse = torch.cholesky_inverse(factor).to(state.pose)
    if frames == 1:
        return lambda gradient: (inverse @ gradient[..., None])[..., 0]

    def by_frame(gradient: Tensor) -> Tensor:
        size = inverse.shape[-1]
        each = gradient[:, : frames * size].reshape(-1, size)
        step = (inverse @ each[..., None])[..., 0].reshape(len(gradient), -1)
        return torch.cat((step, gradient[:, frames * size :] / frames), -1)

    return by_frame


def _data(problem: FitProblem, state: BodyState, stage: Stage) -> Tensor:
    """(S B, D, D): J^T W J, summed over targets."""
    variables = stage.variables
    starts, bodies = state.transl.shape[:2]
    size = variables.zero(state).shape[1]
    body = problem.body(state)
    base = [target.residuals(problem.of_target(body, k)) for k, target in enumerate(problem.targets)]
    columns: list[list[Tensor]] = [[] for _ in problem.targets]
    for moved in chain(_turned(problem, state, variables, body), _stepped(problem, state, variables, size)):
        for k, target in enumerate(problem.targets):
            there = target.residuals(problem.of_target(moved, k)).unflatten(0, (-1, starts))
            columns[k].append((there - base[k]) / _DIFFERENCE)
    total = torch.zeros(starts * bodies, size, size, dtype=state.pose.dtype, device=state.pose.device)
    for k, target in enumerate(problem.targets):
        weight = stage.data_weight * target.confidence * stage.chosen[k].to(target.confidence) / target.sigma.square()
        if target.robust is not None:
            squared = base[k].square().sum(-1) / target.sigma.square()
            cap = (target.robust * stage.scale_of(k)) ** 2
            weight = weight * (cap / (cap + squared)).square()
        root = weight.expand(base[k].shape[:-1]).sqrt()[..., None]
        jacobian = (torch.cat(columns[k]) * root).flatten(3).permute(1, 2, 3, 0).flatten(0, 1)  # (S B, K d, D)
        total = total + jacobian.mT @ jacobian
    return total


def _turned(problem: FitProblem, state: BodyState, variables: Variables, body: Tensor) -> Iterator[Tensor]:
    """Points (n S, B, K, 3) after small steps of the root, the position and the joints, to first order; a few joints at a
    time, so that memory stays bounded."""
    starts, bodies = state.transl.shape[:2]
    axes, position, carried = problem.turns(state)
    points = body.flatten(0, 1)[:, None, None]
    place = {joint: k for k, joint in enumerate(problem.points.chain)}

    def turned(joints: Sequence[int]) -> Tensor:
        moved = points.new_zeros(len(points), len(joints), 3, points.shape[3], 3)
        known = [(n, place[joint]) for n, joint in enumerate(joints) if joint in place]  # other joints move no point
        if known:
            at = [k for _, k in known]
            arm = points - position[:, at, None, None]
            velocity = torch.linalg.cross(axes[:, at, :, None].expand(*arm.shape[:2], 3, *arm.shape[3:]), arm.expand(
                -1, -1, 3, -1, -1))  # fmt: skip
            moved[:, [n for n, _ in known]] = velocity * carried.T[at][:, None, :, None]
        moved = points + _DIFFERENCE * ROTATION_STEP * moved
        return moved.flatten(1, 2).transpose(0, 1).unflatten(1, (starts, bodies)).flatten(0, 1)

    yield turned([0])
    shift = _DIFFERENCE * METRES_STEP * torch.eye(3, dtype=body.dtype, device=body.device)
    yield (body + shift[:, None, None, None]).flatten(0, 1)
    few = max(1, _MOST_ROWS // (3 * starts * bodies))
    for k in range(0, len(variables.joints), few):
        yield turned(variables.joints[k : k + few])


def _stepped(problem: FitProblem, state: BodyState, variables: Variables, size: int) -> Iterator[Tensor]:
    """Points (n S, B, K, 3) after small steps of everything else: hands, expression, latent, shape."""
    starts, bodies = state.transl.shape[:2]
    steps = _DIFFERENCE * torch.eye(size, dtype=state.pose.dtype, device=state.pose.device)
    for some in steps[6 + 3 * len(variables.joints) :].split(max(1, _MOST_ROWS // (starts * bodies))):
        which = torch.arange(starts, device=state.pose.device).repeat(len(some))[:, None].expand(-1, bodies)
        vector = some.repeat_interleave(starts * bodies, 0)
        yield problem.body(variables.apply(state.pick(which), vector))


def _regularisers(problem: FitProblem, state: BodyState, stage: Stage) -> Tensor:
    """(D, D) precision of priors, anchors, and the rest, shape and expression regularisers."""
    variables = stage.variables
    size = variables.zero(state).shape[1]
    result = torch.zeros(size, size, dtype=state.pose.dtype, device=state.pose.device)
    if not stage.regularised:
        return result
    start, at = 0, {}
    for name, length in variables.blocks(state):
        at[name], start = slice(start, start + length), start + length
    joints = variables.joints
    for term in problem.terms:
        if isinstance(term, PosePriorTerm):
            weight = term.weight * factor_at(term.schedule, stage.progress)
            if "latent" in at and term.prior is variables.prior:
                result[at["latent"], at["latent"]] += weight * torch.eye(at["latent"].stop - at["latent"].start)
            else:
                modelled = [k for k, j in enumerate(joints) if j in term.joints]
                index = torch.tensor([at["joints"].start + 3 * k + c for k in modelled for c in range(3)])
                if modelled:
                    precision = problem.surrogate(term).precision(tuple(joints[k] for k in modelled)).to(result)
                    result[index[:, None], index] += weight * ROTATION_STEP**2 * precision
        elif isinstance(term, PoseAnchor):
            factor = factor_at(term.schedule, stage.progress) * ROTATION_STEP**2
            for joint, sharpness in term.precision().items():
                if joint in joints:
                    first = at["joints"].start + 3 * joints.index(joint)
                    diagonal = torch.arange(first, first + 3)
                    result[diagonal, diagonal] += factor * sharpness
    rest = problem.config.rest_sigma
    if rest is not None:
        for k, joint in enumerate(joints):
            if joint in problem.resting:
                own = range(at["joints"].start + 3 * k, at["joints"].start + 3 * k + 3)
                result[list(own), list(own)] += (ROTATION_STEP / rest) ** 2
        if "hands" in at:
            result[at["hands"], at["hands"]] += torch.eye(at["hands"].stop - at["hands"].start).to(result) / rest**2
    if "expression" in at:
        result[at["expression"], at["expression"]] += torch.eye(at["expression"].stop - at["expression"].start)
    if variables.shape:
        result[start:, start:] += torch.eye(size - start).to(result)
    return result
