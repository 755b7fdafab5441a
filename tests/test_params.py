"""Layouts to and from (*, 55, 3): round trips, masks, PCA hands, gradients, and the errors they promise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from poseprior import params
from poseprior.rotations import random_rotvec
from poseprior.skeleton import PART_SLICES

BATCHES = [(), (4,), (2, 3), (1,)]


def _pose(*batch: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return random_rotvec(*batch, 55, generator=torch.Generator().manual_seed(0), dtype=dtype)


def _hand_model(rows: int = 45) -> dict[str, tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)

    def one() -> Tensor:
        return torch.linalg.qr(torch.randn(45, 45, generator=generator, dtype=torch.float64))[0][:rows]

    mean = (torch.randn(45, generator=generator) * 0.2, torch.randn(45, generator=generator) * 0.2)
    return {"hands_components": (one(), one()), "hands_mean": mean}


def _joints(layout: tuple[int, ...]) -> set[int]:
    return set(layout)


# -- SMPL-X keywords -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("batch", BATCHES)
def test_smplx_round_trip(batch: tuple[int, ...], flat: bool) -> None:
    pose = _pose(*batch, dtype=torch.float64)
    keywords = params.pose_to_smplx(pose, flat=flat)
    assert set(keywords) == set(PART_SLICES)
    assert keywords["body_pose"].shape == ((*batch, 63) if flat else (*batch, 21, 3))
    assert keywords["jaw_pose"].shape == ((*batch, 3) if flat else (*batch, 1, 3))
    back, observed = params.pose_from_smplx(keywords)
    assert torch.equal(back, pose)
    assert back.dtype == torch.float64
    assert observed.shape == (*batch, 55)
    assert observed.all()


def test_smplx_missing_parts_are_unobserved() -> None:
    pose = _pose(3)
    keywords = {k: v for k, v in params.pose_to_smplx(pose).items() if k in ("body_pose", "right_hand_pose")}
    back, observed = params.pose_from_smplx({**keywords, "jaw_pose": None, "betas": torch.zeros(3, 10)})
    seen = _joints((*range(1, 22), *range(40, 55)))
    assert {j for j in range(55) if observed[0, j]} == seen
    assert torch.equal(back[observed], pose[observed])
    assert not back[~observed].any()


def test_smplx_parts_broadcast() -> None:
    pose, observed = params.pose_from_smplx({"global_orient": torch.ones(1, 3), "body_pose": torch.zeros(5, 63)})
    assert pose.shape == (5, 55, 3)
    assert observed.shape == (5, 55)
    assert torch.equal(pose[:, 0], torch.ones(5, 3))


def test_smplx_one_joint_alone_is_a_batch() -> None:
    assert params.pose_from_smplx({"jaw_pose": torch.zeros(1, 3)})[0].shape == (1, 55, 3)
    assert params.pose_from_smplx({"jaw_pose": torch.zeros(4, 1, 3)})[0].shape == (4, 55, 3)
    both = {"jaw_pose": torch.zeros(1, 3), "body_pose": torch.zeros(21, 3)}
    assert params.pose_from_smplx(both)[0].shape == (55, 3)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, r"params: expected some of global_orient, .*none of them"),
        ({"betas": torch.zeros(10)}, r"none of them in \['betas'\]; rename"),
        ({"pose_body": torch.zeros(63)}, r"unknown names \['pose_body'\]; rename the keys"),
        ({"body_pose": torch.zeros(2, 69)}, r"body_pose: expected \(\*, 63\) or \(\*, 21, 3\), got \(2, 69\)"),
        ({"jaw_pose": torch.zeros(2, 4)}, r"jaw_pose: expected \(\*, 3\) or \(\*, 1, 3\), got \(2, 4\)"),
        ({"left_hand_pose": torch.zeros(2, 48)}, r"left_hand_pose: expected .* got \(2, 48\)"),
        ({"jaw_pose": torch.zeros(2, 3), "body_pose": torch.zeros(3, 63)}, r"batch shapes that broadcast, got"),
    ],
)
def test_smplx_errors(given: dict[str, Tensor], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        params.pose_from_smplx(given)


# -- hands -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [6, 12, 24])
def test_pca_hand_without_components_is_refused(count: int) -> None:
    with pytest.raises(
        ValueError, match=rf"right_hand_pose: got \(2, {count}\).*{count} PCA.*hands_components.*use_pca=False"
    ):
        params.pose_from_smplx({"right_hand_pose": torch.zeros(2, count)})


def test_pca_hand_must_say_what_it_is_relative_to() -> None:
    components = _hand_model()["hands_components"]
    with pytest.raises(ValueError, match=r"got neither hands_mean nor flat_hand_mean; pass hands_mean"):
        params.pose_from_smplx({"left_hand_pose": torch.zeros(2, 6)}, hands_components=components)


def test_flat_hand_mean_false_needs_the_mean() -> None:
    with pytest.raises(ValueError, match=r"hands_mean: expected \(left, right\) with flat_hand_mean=False, got None"):
        params.pose_from_smplx({"left_hand_pose": torch.zeros(2, 45)}, flat_hand_mean=False)


def test_pca_hand_is_what_smplx_computes() -> None:
    model = _hand_model()
    coefficients = torch.randn(3, 6, generator=torch.Generator().manual_seed(2))
    pose, observed = params.pose_from_smplx({"right_hand_pose": coefficients}, **model)
    expected = (
        torch.einsum("bi,ij->bj", coefficients, model["hands_components"][1][:6].float()) + model["hands_mean"][1]
    )
    torch.testing.assert_close(pose[:, 40:].flatten(1), expected)
    assert observed[:, 40:].all()
    assert not observed[:, :40].any()
    flat, _ = params.pose_from_smplx(
        {"right_hand_pose": coefficients}, hands_components=model["hands_components"], flat_hand_mean=True
    )
    torch.testing.assert_close(flat[:, 40:].flatten(1), expected - model["hands_mean"][1])


def test_relative_hands_add_the_mean() -> None:
    mean = _hand_model()["hands_mean"]
    hand = torch.randn(2, 15, 3, generator=torch.Generator().manual_seed(2)) * 0.1
    pose, _ = params.pose_from_smplx({"left_hand_pose": hand}, hands_mean=mean)
    torch.testing.assert_close(pose[:, 25:40], hand + mean[0].reshape(15, 3))
    back = params.pose_to_smplx(pose, hands_mean=mean, flat=False)
    torch.testing.assert_close(back["left_hand_pose"], hand)
    same, _ = params.pose_from_smplx({"left_hand_pose": hand}, hands_mean=mean, flat_hand_mean=True)
    assert torch.equal(same[:, 25:40], hand)


@pytest.mark.parametrize("count", [6, 12, 45])
def test_pca_round_trip_inside_the_span(count: int) -> None:
    model = _hand_model()
    coefficients = torch.randn(4, count, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    given = {"left_hand_pose": coefficients, "right_hand_pose": -coefficients}
    pose, _ = params.pose_from_smplx(given, **model, num_pca_comps=count)
    back = params.pose_to_smplx(pose, **model, num_pca_comps=count)
    torch.testing.assert_close(back["left_hand_pose"], coefficients)
    torch.testing.assert_close(back["right_hand_pose"], -coefficients)


def test_to_pca_is_the_least_squares_projection() -> None:
    model = _hand_model()
    skewed = torch.randn(45, 45, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    model["hands_components"] = (skewed, skewed)
    pose = _pose(2, dtype=torch.float64)
    found = params.pose_to_smplx(pose, **model, num_pca_comps=12)["left_hand_pose"]
    target = pose[:, 25:40].flatten(1) - model["hands_mean"][0].double()
    residual = target - found @ skewed[:12]
    torch.testing.assert_close(residual @ skewed[:12].T, torch.zeros(2, 12).double(), atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"num_pca_comps": 6}, r"hands_components: expected them with num_pca_comps=6, got None"),
        ({"num_pca_comps": 0}, r"num_pca_comps: expected 1 to 45, got 0"),
        (
            {"hands_mean": (torch.zeros(44), torch.zeros(45))},
            r"hands_mean: expected \(45,\) for the left hand, got \(44,\)",
        ),
        ({"hands_components": (torch.zeros(6, 45),)}, r"hands_components: expected a pair \(left, right\), got 1"),
        (
            {"num_pca_comps": 12, "hands_components": (torch.zeros(6, 45),) * 2, "flat_hand_mean": True},
            r"12 PCA coefficients need as many components, got hands_components with 6 rows",
        ),
    ],
)
def test_hand_option_errors(options: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        params.pose_to_smplx(_pose(2), **options)  # type: ignore[arg-type]


def test_hand_of_15_rotations_without_a_batch() -> None:
    """A (*, 15, 3) hand is 15 rotations even when its batch could be read as coefficients."""
    pose, _ = params.pose_from_smplx({"left_hand_pose": torch.ones(15, 3)})
    assert pose.shape == (55, 3)


# -- fixed layouts -----------------------------------------------------------------------------------------------------

LAYOUTS = [
    (53, params.pose_from_joints53, params.pose_to_joints53, params.JOINTS_53),
    (52, params.pose_from_smplh, params.pose_to_smplh, params.JOINTS_SMPLH),
    (24, params.pose_from_smpl, params.pose_to_smpl, params.JOINTS_SMPL),
]


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize(("count", "read", "write", "joints"), LAYOUTS)
def test_layout_round_trip(count, read, write, joints, batch) -> None:  # type: ignore[no-untyped-def]
    pose = _pose(*batch)
    stored = write(pose)
    assert stored.shape == (*batch, count, 3)
    for given in (stored, stored.flatten(-2)):
        back, observed = read(given)
        assert {j for j in range(55) if observed.reshape(-1, 55)[0, j]} == _joints(joints)
        assert torch.equal(back[..., list(joints), :], pose[..., list(joints), :])
        assert not back[~observed].any()
        assert torch.equal(write(back), stored)


def test_53_rule() -> None:
    """23 leading joints, two zero eyes, 30 hand joints; the eyes come out unobserved."""
    joints = _pose(2)[:, :53]
    pose, observed = params.pose_from_joints53(joints)
    assert torch.equal(pose[:, :23], joints[:, :23])
    assert torch.equal(pose[:, 25:], joints[:, 23:])
    assert not pose[:, 23:25].any()
    assert not observed[:, 23:25].any()
    assert observed[:, [*range(23), *range(25, 55)]].all()


def test_smpl_hand_joints_are_dropped() -> None:
    joints = torch.ones(2, 24, 3)
    pose, observed = params.pose_from_smpl(joints)
    assert not pose[:, 22:].any()
    assert not observed[:, 22:].any()
    assert not params.pose_to_smpl(pose)[:, 22:].any()


def test_given_masks_move_along() -> None:
    joints, observed = torch.ones(2, 53, 3), torch.ones(2, 53, dtype=torch.bool)
    observed[0, 23] = False  # the first left finger
    pose, seen = params.pose_from_joints53(joints, observed)
    assert not seen[0, 25]
    assert not pose[0, 25].any()
    assert torch.equal(seen[..., list(params.JOINTS_53)], observed)
    with pytest.raises(ValueError, match=r"observed: expected \(\*, 53\)"):
        params.pose_from_joints53(joints, observed[:, :50])


@pytest.mark.parametrize(("length", "count"), [(165, 55), (159, 53), (156, 52), (72, 22)])
def test_vectors_by_length(length: int, count: int) -> None:
    vector = params.pose_to_vector(_pose(3), length)
    assert vector.shape == (3, length)
    pose, observed = params.pose_from_vector(vector)
    assert int(observed[0].sum()) == count
    assert torch.equal(params.pose_to_vector(pose, length), vector)


@pytest.mark.parametrize("length", [3, 63, 66, 162, 168])
def test_vector_of_unknown_length_is_refused(length: int) -> None:
    with pytest.raises(
        ValueError, match=rf"expected length 165 .* got {length}; pass parts by name with pose_from_smplx"
    ):
        params.pose_from_vector(torch.zeros(2, length))


def test_shape_errors() -> None:
    with pytest.raises(ValueError, match=r"pose: expected \(\*, 55, 3\), got \(2, 53, 3\)"):
        params.pose_to_vector(torch.zeros(2, 53, 3))
    with pytest.raises(ValueError, match=r"joints: expected \(\*, 159\) or \(\*, 53, 3\), got \(2, 55, 3\)"):
        params.pose_from_joints53(torch.zeros(2, 55, 3))


# -- gradients -----------------------------------------------------------------------------------------------------------


def test_everything_is_differentiable() -> None:
    model = _hand_model()
    pose = _pose(2, dtype=torch.float64).requires_grad_()

    def there_and_back(x: Tensor) -> Tensor:
        keywords = params.pose_to_smplx(x, **model, num_pca_comps=6)
        return params.pose_from_smplx(keywords, **model, num_pca_comps=6)[0]

    assert torch.autograd.gradcheck(there_and_back, (pose,))
    for length in (165, 159, 156, 72):
        (grad,) = torch.autograd.grad(params.pose_from_vector(params.pose_to_vector(pose, length))[0].sum(), pose)
        assert set(grad.unique().tolist()) <= {0.0, 1.0}
        assert int(grad[0, :, 0].sum()) == len(params.VECTOR_LAYOUTS[length][1])
