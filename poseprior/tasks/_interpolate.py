"""`interpolate`: plausible poses on the way from one pose to another."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from .._checks import check_choice, check_effect, check_floating, check_number, check_whole
from .._inference_mode import leaves_inference_mode
from .._pose_checks import check_draws
from ..latent import interpolate_latent
from ..prior import LatentPosePrior, PosePrior
from ..rotations import geodesic_path
from ..training.pose_rows import check_prior
from ._denoise import denoise

_PULL = 0.2


@leaves_inference_mode
def interpolate(
    prior: PosePrior,
    start: Tensor,
    end: Tensor,
    steps: int,
    *,
    method: Literal["auto", "latent", "geodesic"] = "auto",
    pull: float | None = None,
) -> Tensor:
    """Poses on a plausible path between two poses.

    "latent" (priors with a latent space): encode both ends, turn from one latent to the other on the sphere while the
    norm changes evenly, decode. "geodesic" (every prior): x_t = a Exp(t Log(a^-1 b)) for each joint, then each x_t is
    pulled to the prior as if it were a pose with noise of sigma_t = pull * sin(pi t), `denoise(prior, x_t, sigma_t)`.

    Args:
        prior: any prior.
        start: (*batch, 55, 3) rotvecs, radians.
        end: as `start`.
        steps: poses on the path, both ends included; 2 or more.
        method: "auto" is "latent" where the prior has a latent space, else "geodesic".
        pull: radians; None is 0.2, and 0 gives the bare geodesic. Only on a "geodesic" path.

    Returns:
        (steps, *batch, 55, 3). The ends are `start` and `end` ("latent": as the prior reconstructs them, which is the
        same rotations for a flow). Joints that are not modelled follow their geodesic.

    Raises:
        ValueError: shapes that differ, fewer than 2 steps, a negative `pull`, or one for a latent path, an unknown
            method, or "latent" for a prior without a latent space.
    """
    check_prior(prior)
    for name, pose in (("start", start), ("end", end)):
        check_floating(name, pose, "(*batch, 55, 3)")
    if start.shape != end.shape:
        raise ValueError(f"end: expected the shape of start, {tuple(start.shape)}, got {tuple(end.shape)}.")
    check_whole("steps", steps, least=2)
    check_draws("steps", steps * max(1, start[..., 0, 0].numel()), steps)
    if pull is not None:
        check_number("pull", pull, least=0.0)
    end = end.to(start)
    check_choice("method", method, ("auto", "latent", "geodesic"))
    if method == "latent" and not isinstance(prior, LatentPosePrior):
        raise ValueError(f"method: {type(prior).__name__} has no latent space; use method='geodesic'.")
    latent_path = method != "geodesic" and isinstance(prior, LatentPosePrior)
    if latent_path:
        check_effect("pull", pull, None, f"method={method!r} and a prior with a latent space", "method='geodesic'")
    pull = _PULL if pull is None else pull
    with torch.no_grad():
        for name, pose in (("start", start), ("end", end)):
            try:
                prior.log_prob(pose)  # checks the arguments
            except ValueError as error:
                said = str(error)
                raise ValueError(name + said.removeprefix("pose") if said.startswith("pose:") else said) from None
        time = torch.linspace(0.0, 1.0, steps, dtype=start.dtype, device=start.device)
        path = geodesic_path(start, end, time)
        path = torch.cat([start[None], path[1:-1], end[None]])
        if latent_path:
            assert isinstance(prior, LatentPosePrior)
            joints = list(prior.joints)
            path[..., joints, :] = interpolate_latent(prior, start, end, steps)[..., joints, :]
            return path
    if pull > 0 and steps > 2:
        sigma = pull * torch.sin(torch.pi * time[1:-1]).reshape(-1, *[1] * (start.dim() - 1))
        path[1:-1] = denoise(prior, path[1:-1], sigma)
    return path
