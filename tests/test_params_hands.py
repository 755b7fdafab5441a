"""Hands: PCA coefficients, relative to a mean, and what is refused; gradients through all layouts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from poseprior import params
from poseprior.rotations import random_rotvec

BATCHES = [(), (4,), (2, 3), (1,)]


def _pose(*batch: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return random_rotvec(*batch, 55, generator=torch.Generator().manual_seed(0), dtype=dtype)


def _hand_model(rows: int = 45) -> dict[str, tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)

    def one() -> Tensor:
        return torch.linalg.qr(torch.randn(45, 45, generator=generator, dtype=torch.float64))[0][:rows]

    mean = (torch.randn(45, generator=generator) * 0.2, torch.randn(45, generator=generator) * 0.2)
    return {"hands_components": (one(), one()), "hands_mean": mean}


# -- hands -----------------------------------------------------------------------------------------------------------


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


def test_three_coefficients_of_fifteen_hands_must_be_said() -> None:
    """(15, 3) with components is one hand's rotations or 15 hands' coefficients: neither is guessed."""
    model, value = _hand_model(), {"left_hand_pose": torch.ones(15, 3)}
    with pytest.raises(ValueError, match=r"left_hand_pose: \(15, 3\) is either.*pass num_pca_comps=3"):
        params.pose_from_smplx(value, **model)
    assert params.pose_from_smplx(value, **model, num_pca_comps=3)[0].shape == (15, 55, 3)
    assert params.pose_from_smplx(value)[0].shape == (55, 3)


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
    same, _ = params.pose_from_smplx({"left_hand_pose": hand}, flat_hand_mean=True)
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
        ({"num_pca_comps": 0}, r"num_pca_comps: expected a whole number of 1 or more and at most 45, got 0"),
        ({"num_pca_comps": 6.0}, r"num_pca_comps: expected a whole number .* got 6.0"),
        ({"flat_hand_mean": 1}, r"flat_hand_mean: expected True or False, got 1"),
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


# -- gradients -------------------------------------------------------------------------------------------------------


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
