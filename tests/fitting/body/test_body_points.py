"""`BodyPoints` against the real smplx forward pass, and `posed_points` against autograd."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from poseprior.fitting import BodyPoints
from poseprior.fitting.body.skinning import Tree, posed_points
from poseprior.rotations import tangent_to_rotvec

_VERTICES = (5, 4000, 9999, 123)


def _inputs(batch: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    g = torch.Generator().manual_seed(0)
    pose = 0.5 * torch.randn(batch, 55, 3, generator=g, dtype=torch.float64)
    pose[:, 3] *= 4.0
    pose[0, 5] = 0.0
    rest = (torch.randn(batch, n, generator=g, dtype=torch.float64) for n in (10, 10, 3))
    return tuple(t.to(dtype).requires_grad_() for t in (pose, *rest))


def _smplx_points(model: nn.Module, pose: Tensor, betas: Tensor, expression: Tensor, transl: Tensor) -> Tensor:
    output = model(
        global_orient=pose[:, 0], body_pose=pose[:, 1:22].flatten(1), jaw_pose=pose[:, 22], leye_pose=pose[:, 23],
        reye_pose=pose[:, 24], left_hand_pose=pose[:, 25:40].flatten(1), right_hand_pose=pose[:, 40:].flatten(1),
        betas=betas, expression=expression, transl=transl,
    )  # fmt: skip
    return torch.cat((output.joints, output.vertices[:, list(_VERTICES)]), 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("contour", [False, True])
def test_points_and_gradients_are_those_of_smplx(
    make_model: Callable[..., nn.Module], contour: bool, dtype: torch.dtype
) -> None:
    model = make_model(use_face_contour=contour, dtype=dtype, batch_size=3)
    generator = torch.Generator().manual_seed(1)
    posedirs = model.posedirs
    assert isinstance(posedirs, Tensor)
    posedirs.copy_(0.002 * torch.randn(posedirs.shape, generator=generator))  # the stand-in has none, real models do
    inputs = _inputs(3, dtype)
    theirs = _smplx_points(model, *inputs)
    points = BodyPoints(model, joints=range(theirs.shape[1] - len(_VERTICES)), vertices=_VERTICES)
    ours = points(inputs[0], betas=inputs[1], expression=inputs[2], transl=inputs[3])
    # smplx adds 1e-8 to rotvecs, which is what is left in float64.
    torch.testing.assert_close(ours, theirs, atol=2e-6 if dtype == torch.float32 else 1e-7, rtol=0)
    weight = torch.randn(ours.shape, generator=generator, dtype=torch.float64).to(dtype)
    for mine, right in zip(
        torch.autograd.grad((ours * weight).sum(), inputs), torch.autograd.grad((theirs * weight).sum(), inputs),
        strict=True,
    ):  # fmt: skip
        scale = right.abs().max()
        torch.testing.assert_close(mine / scale, right / scale, atol=5e-5 if dtype == torch.float32 else 1e-6, rtol=0)


@pytest.mark.parametrize("joints", [[20], [0, 7, 55], [66, 30], [100, 3, 60]])
def test_any_selection_is_part_of_the_whole(model: nn.Module, joints: list[int]) -> None:
    pose, betas, expression, transl = _inputs(2, torch.float32)
    options = {"betas": betas, "expression": expression, "transl": transl}
    every = BodyPoints(model, joints=range(127), vertices=_VERTICES)(pose, **options)
    some = BodyPoints(model, joints=joints, vertices=_VERTICES[1:2])(pose, **options)
    torch.testing.assert_close(some, every[:, [*joints, 128]], atol=1e-6, rtol=0)


def test_written_out_gradient_is_the_derivative() -> None:
    g = torch.Generator().manual_seed(0)
    parents = [-1, 0, 1, 1, 0]
    tree = Tree.of(parents, torch.zeros(1, dtype=torch.float64))
    pose = torch.randn(2, 5, 3, generator=g, dtype=torch.float64)
    pose[0, 1], pose[0, 2], pose[1, 3] = 0.0, 1e-7, torch.tensor([3.0, 1.0, 0.5])
    rest, vertices = (torch.randn(2, n, 3, generator=g, dtype=torch.float64) for n in (5, 7))
    weights = torch.rand(7, 5, generator=g, dtype=torch.float64)
    inputs = tuple(t.requires_grad_() for t in (pose, rest, vertices))

    def both(p: Tensor, r: Tensor, v: Tensor) -> Tensor:
        return torch.cat(posed_points(p, r, v, weights, tree), 1)

    assert torch.autograd.gradcheck(both, inputs, atol=1e-6)


def test_gradient_is_finite_everywhere(model: nn.Module) -> None:
    points = BodyPoints(model, joints=range(127))
    for size in (0.0, 1e-7, torch.pi, 2 * torch.pi, 20.0):
        pose = torch.zeros(1, 55, 3)
        pose[..., 1] = size
        leaf = pose.requires_grad_()
        (gradient,) = torch.autograd.grad(points(leaf).square().sum(), leaf)
        assert gradient.isfinite().all()


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("pca", [True, False])
def test_pose_is_final_whatever_the_hands_of_the_model(
    make_model: Callable[..., nn.Module], flat: bool, pca: bool
) -> None:
    """The pose has the mean hand in it; smplx gets it without, as rotations or as all 45 coefficients."""
    model = make_model(use_pca=pca, num_pca_comps=45, flat_hand_mean=flat, batch_size=2, dtype=torch.float64)
    pose = _inputs(2, torch.float64)[0].detach()
    mean, options = model.get_buffer("pose_mean").view(55, 3), {}
    assert bool(mean.any()) != flat
    for side, part in (("left", slice(25, 40)), ("right", slice(40, 55))):
        hand = (pose - mean)[:, part].flatten(1)
        if pca:
            hand = torch.linalg.solve(model.get_buffer(f"{side}_hand_components").T, hand.T).T
        options[f"{side}_hand_pose"] = hand
    with torch.no_grad():
        theirs = model(
            global_orient=pose[:, 0], body_pose=pose[:, 1:22].flatten(1), jaw_pose=pose[:, 22], leye_pose=pose[:, 23],
            reye_pose=pose[:, 24], **options,
        ).joints  # fmt: skip
    torch.testing.assert_close(BodyPoints(model, joints=range(127))(pose), theirs, atol=1e-7, rtol=0)


@pytest.mark.parametrize("contour", [False, True])
def test_the_wider_dtype_decides(make_model: Callable[..., nn.Module], contour: bool) -> None:
    single, double = (make_model(use_face_contour=contour, dtype=d) for d in (torch.float32, torch.float64))
    pose, betas, expression, transl = _inputs(2, torch.float64)
    joints = range(144 if contour else 127)
    points = BodyPoints(single, joints=joints)
    before = points(pose.float())
    found = points(pose, betas=betas, expression=expression, transl=transl)
    expected = BodyPoints(double, joints=joints)(pose, betas=betas, expression=expression, transl=transl)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert all(g.dtype == torch.float64 for g in torch.autograd.grad(found.sum(), (pose, betas, expression, transl)))
    after = points(pose.float())
    assert after.dtype == torch.float32 and torch.equal(after, before)
    assert BodyPoints(double, joints=[0])(pose.float()).dtype == torch.float64


def test_layers_of_smplx_and_one_shape_for_all(body_folder: Path, model: nn.Module) -> None:
    layer = pytest.importorskip("smplx").SMPLXLayer(body_folder / "smplx", use_pca=False, flat_hand_mean=True)
    pose, betas, _, transl = _inputs(3, torch.float32)
    one = BodyPoints(layer, joints=range(127))(pose, betas=betas[:1], transl=transl[:1])
    each = BodyPoints(model, joints=range(127))(pose, betas=betas[:1].expand(3, -1), transl=transl[:1].expand(3, -1))
    torch.testing.assert_close(one, each, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("pose", (3, 53, 3)), ("pose", (3, 165)), ("pose", (55, 3)), ("betas", (2, 10)), ("betas", (10,)),
     ("expression", (3, 100)), ("transl", (2, 3)), ("transl", (3,))],
)  # fmt: skip
def test_wrong_shapes_are_named(model: nn.Module, name: str, shape: tuple[int, ...]) -> None:
    arguments = {"pose": torch.zeros(3, 55, 3)} | {name: torch.zeros(shape)}
    with pytest.raises(ValueError, match=f"{name}: expected"):
        BodyPoints(model, joints=[0, 60])(arguments.pop("pose"), **arguments)


def test_clear_errors(model: nn.Module) -> None:
    with pytest.raises(ValueError, match="use_face_contour"):
        BodyPoints(model, joints=[130])
    with pytest.raises(ValueError, match="vertices: expected indices from 0"):
        BodyPoints(model, vertices=[10**6])
    with pytest.raises(ValueError, match="SMPL-X model"):
        BodyPoints(nn.Linear(2, 2), joints=[0])
    with pytest.raises(ValueError, match="betas: expected"):
        BodyPoints(model, joints=[0])(torch.zeros(1, 55, 3), betas=torch.zeros(1, 16))


@pytest.mark.parametrize("contour", [False, True])
def test_turns_are_the_velocities_of_points(make_model: Callable[..., nn.Module], contour: bool) -> None:
    """Against autograd: exact for joints, close for vertices, whose weights blend."""
    model = make_model(use_face_contour=contour)
    chosen = [*range(55), *range(55, 127), *([127, 130] if contour else [])]
    points = BodyPoints(model, joints=chosen)
    pose, betas, expression, transl = (t.detach() for t in _inputs(2, torch.float32))
    axes, position = points.turns(pose, betas=betas, expression=expression, transl=transl)
    place = points(pose, betas=betas, expression=expression, transl=transl)
    arm = place[:, None, None] - position[:, :, None, None]  # (B, C, 1, K, 3)
    velocity = torch.linalg.cross(axes[..., None, :].expand(-1, -1, -1, len(chosen), -1), arm.expand(-1, -1, 3, -1, -1))
    velocity = velocity * points.carried.T[None, :, None, :, None]

    def posed(rotvec: Tensor, body: int) -> Tensor:
        root = tangent_to_rotvec(rotvec[0], pose[body, 0])  # the root turns about its own axes
        moved = torch.cat((root[None], rotvec[1:]))[None]
        rest = {"betas": betas[body, None], "expression": expression[body, None], "transl": transl[body, None]}
        return points(moved, **rest)[0]

    for body in range(2):
        start = pose[body].clone()
        start[0] = 0.0
        jacobian = torch.autograd.functional.jacobian(lambda r, b=body: posed(r, b), start)  # (K, 3, 55, 3)
        assert isinstance(jacobian, Tensor)
        expected = jacobian.permute(2, 3, 0, 1)[list(points.chain)]
        torch.testing.assert_close(velocity[body, :, :, :55], expected[:, :, :55], atol=1e-4, rtol=0)
        skin = (velocity[body] - expected)[:, :, 55:].norm() / expected[:, :, 55:].norm()
        assert float(skin) < 0.05
