"""`fit_body`: SMPL-X bodies from 3D joints, 2D keypoints or markers, and a prior."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn

from .._checks import as_tensor, check_effect, check_number, check_switch, check_whole
from .._inference_mode import leaves_inference_mode, made_in_inference_mode
from ..keypoint_layouts import NUM_WITHOUT_CONTOUR
from ..prior import LatentPosePrior, PosePrior
from .body.hand_convention import require_smplx
from .config import MOST_STARTS, FitBodyConfig
from .energy import EnergyTerm, PoseParams, summands
from .result import BodyFit
from .solver.measured_joints import movable_joints
from .solver.problem import FitProblem
from .solver.run import FitRun
from .targets import Target
from .term import LARGEST_WEIGHT, PosePriorTerm


@leaves_inference_mode
def fit_body(
    model: nn.Module,
    targets: Target | Sequence[Target],
    *,
    prior: PosePrior | PosePriorTerm | None = None,
    prior_weight: float = 1.0,
    terms: Sequence[EnergyTerm] = (),
    start: PoseParams | None = None,
    betas: Tensor | None = None,
    num_hypotheses: int = 1,
    config: FitBodyConfig | None = None,
    progress: bool = False,
) -> BodyFit:
    """The most probable bodies: minima of the energies of targets and terms, in nats, for a batch of frames at once.

    The stages follow Bogo et al., "Keep it SMPL" (2016), and Pavlakos et al., "SMPLify-X" (2019): first root and position,
    from the torso; then body and shape, with an outlier threshold that is tolerant at first; then everything, hands and
    face too. For 2D keypoints several starts run in one batch, and the better half goes on after each stage. Points in 3D
    that are exact need no stages: inverse kinematics puts the body next to the minimum. The mesh is never computed, only
    the vertices that are measured.

    Args:
        model: SMPL-X model of the smplx package, any hand convention; its own parameters are not changed.
        targets: `Joints3D`, `Keypoints2D`, `Markers`, or several of them, of the same B frames.
        prior: a fitted prior, or a `PosePriorTerm` made with reduction="sum"; None for the rest regulariser alone.
        prior_weight: of `prior`, unless that is a `PosePriorTerm`, which has its own; 1 is the posterior.
        terms: more energies in nats summed over joints, such as a hand prior's `PosePriorTerm` or a `PoseAnchor`. They are
            called with poses (S, B, 55, 3), S starts of B bodies.
        start: a pose to start from (keyword dict of the model, or rotvecs (B, 55, 3)), such as a regressor's. Its root is
            used when it is not zero. The `betas` and `expression` of a dict are where shape and face start; its `transl` has
            no effect, since bodies are placed where the points are.
        betas: (nb,) or (B, nb), a known shape, which is then kept.
        num_hypotheses: keep this many modes, with posterior weights (Laplace's approximation). With more than one, the
            modes are those that the starts reach; other depths and hands are not tried.
        config: `FitBodyConfig`.
        progress: show a bar of the stages.

    Returns:
        `BodyFit`. A frame without any point gets the prior's pose at the origin.

    Raises:
        ValueError: no measured point at all, targets of different lengths, an unfitted prior, a model that is not SMPL-X.

    >>> import smplx, tempfile
    >>> from poseprior.fitting import Joints3D, stand_in_body
    >>> model = smplx.create(stand_in_body(tempfile.mkdtemp()), "smplx", use_pca=False, flat_hand_mean=True)
    >>> joints = model().joints[:, :55].detach()
    >>> fit = fit_body(model, Joints3D(joints), config=FitBodyConfig(iterations=5))
    >>> fit.params["body_pose"].shape
    torch.Size([1, 63])
    """
    require_smplx(model)
    if type(model).__name__.endswith("Layer"):
        raise ValueError(
            f"model: expected smplx.create(folder, model_type='smplx'), which takes rotvecs, got {type(model).__name__}, which "
            "takes rotation matrices (smplx.build_layer)."
        )
    if made_in_inference_mode(model):
        raise ValueError(
            "model: expected one whose weights gradients can pass, got one that was made under torch.inference_mode; make it "
            "outside."
        )
    if config is not None and not isinstance(config, FitBodyConfig):
        raise ValueError(f"config: expected a FitBodyConfig, got {type(config).__name__}.")
    config = FitBodyConfig() if config is None else config
    check_switch("progress", progress)
    betas = None if betas is None else as_tensor("betas", betas)
    targets = _as_list(targets)
    template = model.v_template
    assert isinstance(template, Tensor)
    targets = [copy(target) for target in targets]
    for target in targets:
        beyond = [v for v in target.vertices if v >= len(template)]
        if beyond:
            raise ValueError(f"vertices: expected vertices of the model, 0 to {len(template) - 1}, got {beyond[:5]}.")
        target.to(template)
        if not getattr(model, "use_face_contour", False):
            target.without_joints_from(NUM_WITHOUT_CONTOUR)
    bodies = _check(targets, num_hypotheses, config)
    prior_term = _prior_term(prior, prior_weight, config)
    every = [*([prior_term] if prior_term else []), *_as_terms(terms)]
    judged = {joint for term in every for joint in term.joints}
    if prior_term is not None and config.space == "latent":
        judged |= set(prior_term.prior.joints)
    free = tuple(sorted((movable_joints(model, targets) | judged) - {0}))
    problem = FitProblem(model, targets, every, free, config)
    with torch.no_grad():
        run = FitRun(model, problem, prior_term, bodies, start, betas, num_hypotheses)
    return run.fit(progress)


def _as_list(targets: Target | Sequence[Target]) -> list[Target]:
    found = [targets] if isinstance(targets, Target) or not isinstance(targets, Sequence) else list(targets)
    if not found or not all(isinstance(target, Target) for target in found):
        kinds = [type(target).__name__ for target in found]
        raise ValueError(f"targets: expected Joints3D, Keypoints2D or Markers, got {kinds or 'none'}.")
    return found


def _as_terms(terms: Sequence[EnergyTerm]) -> list[EnergyTerm]:
    """The terms, sums taken apart."""
    listed = isinstance(terms, Sequence)
    if not listed or not all(isinstance(term, EnergyTerm) for term in terms):
        got = [type(term).__name__ for term in terms] if listed else type(terms).__name__
        raise ValueError(f"terms: expected a list of EnergyTerm, such as [PoseAnchor(...)], got {got}.")
    found = [part for term in terms for part in summands(term)]
    for term in found:
        if term.reduction != "sum":
            raise ValueError(
                f"terms: expected reduction='sum' in {type(term).__name__} {term.name!r}, got {term.reduction!r}: targets are "
                "summed over points."
            )
    return found


def _check(targets: list[Target], num_hypotheses: int, config: FitBodyConfig) -> int:
    lengths = {target.num_frames for target in targets}
    if len(lengths) > 1:
        raise ValueError(f"targets: expected the same number of frames in each, got {sorted(lengths)}.")
    if len({target.name for target in targets}) < len(targets):
        raise ValueError("targets: expected different names, got one twice; pass name= to each.")
    if not any(bool((target.confidence > 0).any()) for target in targets):
        raise ValueError(
            "targets: expected a measured point in some frame, got none (all are NaN or have confidence 0); check the "
            "detector's output and the layout."
        )
    check_whole("num_hypotheses", num_hypotheses, least=1, most=MOST_STARTS)
    if num_hypotheses > 1 and config.smooth_sigma is not None:
        raise ValueError(
            "num_hypotheses: expected 1 with smooth_sigma, since a sequence is fitted as one; leave one out."
        )
    return lengths.pop()


def _prior_term(
    prior: PosePrior | PosePriorTerm | None, weight: float, config: FitBodyConfig
) -> PosePriorTerm | None:  # fmt: skip
    check_number("prior_weight", weight, least=0.0, most=LARGEST_WEIGHT)
    if isinstance(prior, PosePriorTerm):
        if weight != 1.0:
            raise ValueError(f"prior_weight: expected a weight in the PosePriorTerm itself, got {weight} beside it.")
        if prior.reduction != "sum":
            raise ValueError(
                "prior: expected a PosePriorTerm with reduction='sum', got 'mean': targets are summed over points; make it "
                "PosePriorTerm(prior, reduction='sum')."
            )
        term: PosePriorTerm | None = prior
    else:
        if prior is None:
            check_effect("prior_weight", weight, 1.0, "prior=None", "a prior")
        term = None if prior is None else PosePriorTerm(prior, weight=weight, reduction="sum")
    if config.space == "latent" and not (term and isinstance(term.prior, LatentPosePrior)):
        got: Any = "no prior" if term is None else type(term.prior).__name__
        raise ValueError(f"config: space='latent' expects a prior with a latent space (a VAE, GlobalFlow), got {got}.")
    if config.space == "latent" and term is not None and not term.judges_latents:
        raise ValueError(
            "prior: expected a PosePriorTerm without robust, joints and joint_weights with space='latent', since a latent is "
            "judged as a whole; leave them out, or fit in space='pose'."
        )
    return term
