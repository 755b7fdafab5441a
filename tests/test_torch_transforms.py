"""Priors under torch.func and torch.compile: what users of transforms do, against plain calls."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial

import pytest
import torch
from prior_cases import CASES, fitted, whole_poses
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import grad, hessian, jacrev, jvp, vmap

from poseprior import JointFlow, LatentPosePrior, PosePrior, load
from poseprior.fitting import PosePriorTerm
from poseprior.fitting.body.skinning import Tree, posed_points
from poseprior.kinematics import keypoint_positions
from poseprior.pretrained.listing import pretrained_files

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")

SHIPPED = sorted(pretrained_files())
NAMES = [*CASES, *SHIPPED]
#: Their Hessians take long: 16 importance samples through a decoder.
_SLOW_HESSIANS = ("vae", "body-vae", "hand-vae", "body-vae-published", "hand-vae-published", "whole-body")
#: Compiled in every run, without the gradient of the graph; the others in slow tests, and some of what ships in `test_compile`.
_COMPILED = ("gaussian-full",)
#: One of each class whose graph takes long to trace: log_prob alone is compiled, and only for these.
_LARGE_GRAPHS = ("joint-flow", "joint-flow-published", "order-agnostic", "vae")
_SMALL_GRAPHS = (
    "gaussian-diagonal", "gaussian-full", "adapted", "mixture", "product", "global-flow", "global-flow-published",
    "global-flow-context", "kernel-density",
)  # fmt: skip


@cache
def _prior(name: str) -> PosePrior:
    return load(name) if name in SHIPPED else fitted(name)


@cache
def _poses(name: str) -> Tensor:
    """(3, 55, 3), one of them at rest, within what every chart takes."""
    poses = whole_poses()[:3].clone() if name in CASES else load(name).sample(
        3, generator=torch.Generator().manual_seed(0)
    )  # fmt: skip
    poses[0] = 0.0
    return poses


def _conditions(prior: PosePrior) -> Tensor | None:
    """(3, context_dim) for a conditional prior."""
    return torch.linspace(-1.0, 1.0, 3 * prior.context_dim).view(3, -1) if prior.context_dim else None


def _latents(prior: LatentPosePrior) -> Tensor:
    return 0.5 * torch.randn(3, prior.latent_dim, generator=torch.Generator().manual_seed(0))


def _slope(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(function(leaf).sum(), leaf)[0]


def _close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("name", NAMES)
def test_log_prob_of_one_pose_at_a_time(name: str) -> None:
    """Values and gradients of a batch are those of vmap over its poses, and over poses with their contexts."""
    prior, poses = _prior(name), _poses(name)
    context = _conditions(prior)
    expected = prior.log_prob(poses, context=context)
    slope = _slope(lambda x: prior.log_prob(x, context=context), poses)
    if context is None:
        _close(vmap(prior.log_prob)(poses), expected)
        _close(vmap(grad(prior.log_prob))(poses), slope)
        return

    def one(pose: Tensor, condition: Tensor) -> Tensor:
        return prior.log_prob(pose, context=condition)

    _close(vmap(one)(poses, context), expected)
    _close(vmap(grad(one))(poses, context), slope)
    many = vmap(one, in_dims=(None, 0))(poses[0], context)
    _close(many, prior.log_prob(poses[:1].expand(3, -1, -1), context=context))


@pytest.mark.parametrize("name", NAMES)
def test_derivatives_of_log_prob(name: str) -> None:
    """grad, jacrev, jvp and plain forward-mode differentiation give the gradient of backward."""
    prior, poses = _prior(name), _poses(name)
    condition = _conditions(prior)
    density = partial(prior.log_prob, context=None if condition is None else condition[1])
    slope = _slope(density, poses)
    _close(grad(lambda x: density(x).sum())(poses), slope)
    _close(jacrev(density)(poses[1]), slope[1])
    step = 0.1 * torch.randn(poses.shape, generator=torch.Generator().manual_seed(1))
    along = (slope * step).sum((1, 2))
    _close(jvp(density, (poses,), (step,))[1], along)
    with forward_ad.dual_level():
        found = forward_ad.unpack_dual(density(forward_ad.make_dual(poses, step))).tangent
    assert found is not None
    _close(found, along)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in (*_SLOW_HESSIANS, *SHIPPED) else ()) for n in NAMES]
)
def test_hessians_of_log_prob(name: str) -> None:
    """Along a direction, the Hessian is the change of the gradient."""
    prior, poses = _prior(name), _poses(name)
    condition = _conditions(prior)
    density = partial(prior.log_prob, context=None if condition is None else condition[1])
    pose = poses[1]
    found = hessian(density)(pose)
    step = torch.zeros_like(pose)
    step[list(prior.joints)] = torch.randn(len(prior.joints), 3, generator=torch.Generator().manual_seed(2))
    leaf = pose.clone().requires_grad_()
    (slope,) = torch.autograd.grad(density(leaf), leaf, create_graph=True)
    (expected,) = torch.autograd.grad((slope * step).sum(), leaf)
    ours = (found * step).sum((2, 3))
    torch.testing.assert_close(ours, expected, rtol=5e-3, atol=5e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("name", NAMES)
def test_masks_are_mapped_with_their_poses(name: str) -> None:
    prior, poses = _prior(name), _poses(name)
    if not prior.can_marginalise:
        return
    masks = torch.rand(3, 55, generator=torch.Generator().manual_seed(3)) < 0.6
    found = vmap(lambda pose, mask: prior.log_prob(pose, observed=mask))(poses, masks)
    _close(found, prior.log_prob(poses, observed=masks))


@pytest.mark.parametrize("name", NAMES)
def test_encode_and_decode(name: str) -> None:
    prior, poses = _prior(name), _poses(name)
    if not isinstance(prior, LatentPosePrior):
        return
    condition = _conditions(prior)
    one = None if condition is None else condition[0]
    latents = _latents(prior)
    encode, decode = partial(prior.encode, context=one), partial(prior.decode, context=one)
    torch.testing.assert_close(vmap(encode)(poses), encode(poses), rtol=1e-2, atol=1e-2)
    _close(vmap(decode)(latents), decode(latents))
    toward = _poses(name)
    slope = _slope(lambda z: (decode(z) * toward).sum(), latents)
    _close(grad(lambda z: (decode(z) * toward).sum())(latents), slope)
    step = torch.ones_like(latents)
    _close((jvp(decode, (latents,), (step,))[1] * toward).sum(), (slope * step).sum())
    assert torch.isfinite(jacrev(decode)(latents[0])).all()


def test_gradients_of_many_outputs_at_once() -> None:
    """torch.autograd.grad(is_grads_batched=True) runs backward under vmap."""
    for name in ("gaussian-full", "joint-flow", "global-flow", "order-agnostic"):
        prior, poses = _prior(name), _poses(name).clone().requires_grad_()
        (rows,) = torch.autograd.grad(prior.log_prob(poses), poses, torch.eye(3), is_grads_batched=True)
        _close(rows.sum(0), _slope(prior.log_prob, poses.detach()))


def test_gradients_to_weights_are_per_sample() -> None:
    """The idiom of per-sample gradients: functional_call under vmap and grad."""
    prior, poses = fitted("mixture"), whole_poses()[:3]
    weights = {name: parameter.detach() for name, parameter in prior.named_parameters()}

    def loss(weights: dict[str, Tensor], pose: Tensor) -> Tensor:
        everything = torch.ones(1, len(prior.joints), dtype=torch.bool)
        arguments = (pose[None, list(prior.joints)], everything, None, 0)
        value: Tensor = torch.func.functional_call(prior, weights, arguments)
        return value

    rows = vmap(grad(loss), in_dims=(None, 0))(weights, poses)
    for name, found in rows.items():
        each = torch.stack([grad(loss)(weights, pose)[name] for pose in poses])
        _close(found, each)
    before = prior.log_prob(poses)
    torch.testing.assert_close(before, prior.log_prob(poses))


def test_prior_terms() -> None:
    """A term of keyword arguments, as optimisers of users call it; a robust one too."""
    prior = fitted("mixture")
    poses = whole_poses()[:3]
    for options in ({}, {"robust": 5.0}, {"joint_weights": {"left_knee": 0.5}}, {"joints": ["left_knee", "spine2"]}):
        term = PosePriorTerm(prior, **options)  # type: ignore[arg-type]
        body = poses[:, 1:22].flatten(1)

        def energy(body_pose: Tensor, term: PosePriorTerm = term) -> Tensor:
            return term({"body_pose": body_pose})

        _close(vmap(energy)(body), energy(body))
        _close(vmap(grad(energy))(body), _slope(energy, body))
        assert torch.isfinite(hessian(energy)(body[1])).all()


def test_skinning() -> None:
    """Jacobians of skinned points, and second derivatives of their hand-written gradient."""
    generator = torch.Generator().manual_seed(0)
    tree = Tree.of([-1, 0, 1, 1], torch.zeros(1, dtype=torch.float64))
    pose = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64)
    pose[0, 1] = 0.0
    rest, vertices = (torch.randn(2, n, 3, generator=generator, dtype=torch.float64) for n in (4, 5))
    weights = torch.rand(5, 4, generator=generator, dtype=torch.float64).softmax(1)

    def points(pose: Tensor, rest: Tensor, vertices: Tensor) -> Tensor:
        return torch.cat(posed_points(pose, rest, vertices, weights, tree), 1)

    slope = _slope(lambda x: points(x, rest, vertices).square(), pose)
    torch.testing.assert_close(grad(lambda x: points(x, rest, vertices).square().sum())(pose), slope)
    every = jacrev(points, argnums=(0, 1, 2))(pose, rest, vertices)
    plain = torch.autograd.functional.jacobian(points, (pose, rest, vertices))
    for ours, theirs in zip(every, plain, strict=True):
        torch.testing.assert_close(ours, theirs)
    one = vmap(lambda p, r, v: points(p[None], r[None], v[None])[0])(pose, rest, vertices)
    torch.testing.assert_close(one, points(pose, rest, vertices))
    inputs = tuple(t.clone().requires_grad_() for t in (pose, rest, vertices))
    assert torch.autograd.gradgradcheck(points, inputs)


def test_kinematics() -> None:
    """At rest too, where a rotation matrix has a second derivative."""
    for pose in (torch.zeros(55, 3, dtype=torch.float64), whole_poses()[0].double()):

        def height(x: Tensor) -> Tensor:
            return keypoint_positions(x).square().sum()

        found = hessian(height)(pose)
        assert torch.isfinite(found).all()
        torch.testing.assert_close(found, torch.autograd.functional.hessian(height, pose))


def test_values_are_not_looked_at() -> None:
    """Plain calls refuse what is not finite; traced ones compute with it."""
    prior, poses = fitted("gaussian-full"), whole_poses()[:2].clone()
    poses[0, prior.joints[0]] = math.nan
    found = vmap(prior.log_prob)(poses)
    assert bool(torch.isnan(found[0])) and bool(torch.isfinite(found[1]))
    with pytest.raises(ValueError, match="expected finite rotvecs"):
        prior.log_prob(poses)
    with pytest.raises(ValueError, match="expected shape"):
        vmap(prior.log_prob)(poses[:, 1:])


# ---------------------------------------------------------------------- torch.compile


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in _COMPILED else pytest.mark.slow) for n in (*_SMALL_GRAPHS, *_LARGE_GRAPHS)],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_compiled_without_graph_breaks(name: str) -> None:
    """One graph for every batch size: value, gradient, latents and poses of latents."""
    prior, poses = _prior(name), _poses(name)
    condition, backend = _conditions(prior), "eager" if name in _COMPILED else "aot_eager"
    one = None if condition is None else condition[1]
    functions: dict[str, Callable[[Tensor], Tensor]] = {"log_prob": partial(prior.log_prob, context=one)}
    if prior.can_marginalise:
        mask = torch.arange(55) % 3 != 1
        functions["masked"] = lambda x: prior.log_prob(x, observed=mask)
    if isinstance(prior, LatentPosePrior):
        functions |= {"encode": partial(prior.encode, context=one), "decode": partial(prior.decode, context=one)}
    for what, plain in functions.items() if name in _SMALL_GRAPHS else [("log_prob", functions["log_prob"])]:
        assert isinstance(prior, LatentPosePrior) or what != "decode"
        torch.compiler.reset()
        compiled = torch.compile(plain, fullgraph=True, dynamic=True, backend=backend)
        for rows in (3, 2):
            x = _latents(prior)[:rows] if isinstance(prior, LatentPosePrior) and what == "decode" else poses[:rows]
            tolerance = 2e-2 if what == "encode" else 2e-3
            torch.testing.assert_close(compiled(x), plain(x), rtol=tolerance, atol=tolerance)
            if what != "encode":
                _close(_slope(compiled, x), _slope(plain, x))
    torch.compiler.reset()


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_densities_are_one_graph(name: str) -> None:
    """Traced whole for every batch size; generating code for the graphs, which takes minutes, is left out."""
    prior, poses = load(name), _poses(name)
    prior.log_prob(poses)
    torch.compiler.reset()
    compiled = torch.compile(prior.log_prob, fullgraph=True, dynamic=True, backend="eager")
    for rows in (3, 2):
        _close(compiled(poses[:rows]), prior.log_prob(poses[:rows]))
        _close(_slope(compiled, poses[:rows]), _slope(prior.log_prob, poses[:rows]))
    torch.compiler.reset()


@pytest.mark.slow
def test_a_compiled_search_is_one_node() -> None:
    """JointFlow.decode: its bisection alone and under vmap, and the gradient through it."""
    prior = JointFlow(["left_hip", "left_knee"], hidden=8).eval().requires_grad_(False)
    latents = torch.linspace(-1.5, 1.5, 3 * prior.latent_dim).view(3, -1)
    sizes = []

    def counted(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
        sizes.append(len(graph.graph.nodes))
        return graph.forward

    for function in (prior.decode, vmap(prior.decode)):
        torch.compiler.reset()
        compiled = torch.compile(function, fullgraph=True, dynamic=True, backend=counted)
        for rows in (3, 2):
            torch.testing.assert_close(compiled(latents[:rows]), prior.decode(latents[:rows]))
    _close(_slope(compiled, latents), _slope(prior.decode, latents))
    assert max(sizes) < 1500
    torch.compiler.reset()


def test_compiled_graphs_follow_the_weights() -> None:
    """Loading other weights, and moving to another type, reach a graph that holds what was cached of them."""
    prior = CASES["gaussian-full"].build(CASES["gaussian-full"].joints).eval().requires_grad_(False)
    pose = whole_poses()[:3]
    prior.log_prob(pose)
    compiled = torch.compile(prior.log_prob, fullgraph=True, dynamic=True, backend="eager")
    _close(compiled(pose), prior.log_prob(pose))
    state = prior.state_dict()
    state = {name: value + 0.3 if "log_scale" in name else value for name, value in state.items()}
    prior.load_state_dict(state)
    _close(compiled(pose), prior.log_prob(pose))
    prior.double()
    _close(compiled(pose), prior.log_prob(pose))
    torch.compiler.reset()


def test_a_compiled_graph_follows_weights_that_are_frozen_again() -> None:
    """Without dropout, in graphs made before the training and after it, and under transforms."""
    prior, pose = load("body-global-flow"), _poses("body-global-flow")
    expected = prior.log_prob(pose)
    before = torch.compile(prior.log_prob, fullgraph=True, dynamic=True, backend="eager")
    _close(before(pose), expected)
    prior.requires_grad_(True).train()
    assert float((before(pose).detach() - expected).abs().max()) > 0.01
    torch.nn.ModuleList([prior]).requires_grad_(False)
    _close(before(pose), expected)
    prior.requires_grad_(True).train().requires_grad_(False)
    _close(torch.compile(prior.log_prob, fullgraph=True, dynamic=True, backend="eager")(pose), expected)
    prior.requires_grad_(True).train().requires_grad_(False)
    _close(vmap(prior.log_prob)(pose), expected)
    torch.compiler.reset()
