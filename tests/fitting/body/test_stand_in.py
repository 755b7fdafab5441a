"""The stand-in body: smplx loads it, its joints are the library's skeleton, its keypoints sit where they should."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from poseprior.fitting import stand_in_body
from poseprior.kinematics import END_NAMES, NUM_JOINTS, joint_positions, keypoint_positions
from poseprior.skeleton import JOINT_NAMES, MIRROR

smplx = pytest.importorskip("smplx")
NAMES: tuple[str, ...] = tuple(pytest.importorskip("smplx.joint_names").JOINT_NAMES)


@pytest.fixture(scope="module")
def arrays(body_folder: Path) -> dict[str, np.ndarray]:
    with np.load(body_folder / "smplx" / "SMPLX_NEUTRAL.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files if name != "posedirs"}


@pytest.fixture(scope="module")
def joints(make_model: Callable[..., nn.Module]) -> dict[str, Tensor]:
    """The 144 keypoints of the rest pose by name."""
    model = make_model(use_face_contour=True)
    with torch.no_grad():
        points = model().joints[0]
    assert len(points) == 144
    return dict(zip(NAMES, points, strict=False))


@pytest.mark.parametrize(("pca", "flat", "contour"), list(itertools.product((False, True), repeat=3)))
def test_smplx_loads_it_silently(
    body_folder: Path, capsys: pytest.CaptureFixture[str], pca: bool, flat: bool, contour: bool
) -> None:
    model = smplx.create(
        body_folder, model_type="smplx", use_pca=pca, flat_hand_mean=flat, use_face_contour=contour, num_betas=10,
        num_expression_coeffs=10, num_pca_comps=12,
    )  # fmt: skip
    assert capsys.readouterr().out == ""
    output = model()
    assert output.vertices.shape == (1, 10475, 3)
    assert output.joints.shape == (1, 144 if contour else 127, 3)
    assert torch.isfinite(output.vertices).all()


def test_rest_joints_are_the_library_skeleton(arrays: dict[str, np.ndarray]) -> None:
    expected = joint_positions(torch.zeros(NUM_JOINTS, 3)).numpy()
    regressed = arrays["J_regressor"].astype(np.float64) @ arrays["v_template"]
    np.testing.assert_allclose(regressed, expected, atol=2e-6)
    np.testing.assert_allclose(arrays["J_regressor"].sum(1), 1.0, atol=1e-5)


def test_posed_joints_follow_forward_kinematics(model: nn.Module, people: Tensor) -> None:
    pose = people.clone()
    pose[:, 0] = 0.0
    with torch.no_grad():
        posed = model(body_pose=pose[:, 1:22].reshape(len(pose), -1), betas=torch.zeros(len(pose), 10),
                      left_hand_pose=pose[:, 25:40].reshape(len(pose), -1), right_hand_pose=pose[:, 40:].reshape(len(pose), -1),
                      global_orient=pose[:, 0], expression=torch.zeros(len(pose), 10), jaw_pose=pose[:, 22],
                      leye_pose=pose[:, 23], reye_pose=pose[:, 24])  # fmt: skip
    torch.testing.assert_close(posed.joints[:, :55], joint_positions(pose), atol=1e-5, rtol=0)
    faces = np.asarray(model.faces).astype(np.int64)
    edges = posed.vertices[:, torch.from_numpy(faces)]
    assert (edges[:, :, 0] - edges[:, :, 1]).norm(dim=-1).max() < 0.12  # nothing tears


def test_left_and_right_are_exact_mirror_images(arrays: dict[str, np.ndarray]) -> None:
    v, w = arrays["v_template"], arrays["weights"]
    flipped = v * np.array([-1, 1, 1], dtype=np.float32)
    np.testing.assert_array_equal(
        np.sort((v + np.float32(0)).view("f4,f4,f4").ravel()),
        np.sort((flipped + np.float32(0)).view("f4,f4,f4").ravel()),
    )
    rows = {tuple(p) + tuple(q): True for p, q in zip(v + np.float32(0), w, strict=True)}
    order = list(MIRROR)
    assert all(tuple(p) + tuple(q[order]) in rows for p, q in zip(flipped + np.float32(0), w, strict=True))
    regressed = arrays["J_regressor"].astype(np.float64) @ v
    np.testing.assert_allclose(regressed[order] * [-1, 1, 1], regressed, atol=1e-6)
    for name in ("hands_mean", "hands_components"):
        flip = np.tile(np.array([1, -1, -1], dtype=np.float32), 15)
        np.testing.assert_array_equal(arrays[name + "r"], arrays[name + "l"] * flip)


def test_weights_are_convex_and_every_joint_moves_something(arrays: dict[str, np.ndarray]) -> None:
    weights = arrays["weights"]
    assert weights.min() >= 0
    np.testing.assert_allclose(weights.sum(1), 1.0, atol=1e-6)
    assert (weights.max(0) > 0.5).all(), [JOINT_NAMES[j] for j in np.flatnonzero(weights.max(0) <= 0.5)]


def test_size_of_the_body(arrays: dict[str, np.ndarray]) -> None:
    trimesh = pytest.importorskip("trimesh")
    height = np.ptp(arrays["v_template"][:, 1])
    assert 1.6 < height < 1.8
    pieces = trimesh.Trimesh(arrays["v_template"], arrays["f"], process=False).split(only_watertight=True)
    assert len(pieces) == 24  # every part is closed ...
    assert all(piece.volume > 0 for piece in pieces)  # ... and looks outwards
    assert 0.05 < sum(piece.volume for piece in pieces) < 0.10  # overlaps counted twice; a person is 0.07


def test_face_and_feet(joints: dict[str, Tensor]) -> None:
    nose, left, right = joints["nose"], joints["left_eye"], joints["right_eye"]
    assert abs(float(nose[0])) < 1e-6 and nose[2] > left[2] + 0.01 and nose[1] < left[1]
    assert left[0] > 0.02 and joints["left_ear"][0] > left[0] + 0.02 and joints["right_ear"][0] < right[0] - 0.02
    assert joints["left_ear"][2] < nose[2] - 0.08
    for side, sign in (("left", 1), ("right", -1)):
        ankle, big, small = joints[f"{side}_ankle"], joints[f"{side}_big_toe"], joints[f"{side}_small_toe"]
        heel = joints[f"{side}_heel"]
        assert big[2] > ankle[2] + 0.12 and small[2] > ankle[2] + 0.10 and heel[2] < ankle[2]
        assert sign * (small[0] - big[0]) > 0.03 and heel[1] < ankle[1] - 0.04


def test_fingertips_lie_beyond_the_last_joints(joints: dict[str, Tensor]) -> None:
    ends = keypoint_positions(torch.zeros(NUM_JOINTS, 3))[NUM_JOINTS:]
    for side in ("left", "right"):
        for finger in ("thumb", "index", "middle", "ring", "pinky"):
            tip = joints[f"{side}_{finger}"]
            torch.testing.assert_close(tip, ends[END_NAMES.index(f"{side}_{finger}_tip")], atol=3e-3, rtol=0)
        across = [float(joints[f"{side}_{finger}"][2]) for finger in ("thumb", "index", "middle", "ring", "pinky")]
        assert across == sorted(across, reverse=True)  # the thumb is in front, palms down


def test_landmarks_are_in_the_68_point_order(make_model: Callable[..., nn.Module], joints: dict[str, Tensor]) -> None:
    model = make_model(use_face_contour=True)
    with torch.no_grad():
        points = model().joints[0, 76:]
    marks = {17 + k: p for k, p in enumerate(points[:51])} | dict(enumerate(points[51:]))
    mirror = {17 + k: 26 - k for k in range(10)} | {31: 35, 32: 34, 33: 33, 48: 54, 49: 53, 50: 52, 51: 51}
    mirror |= {36: 45, 37: 44, 38: 43, 39: 42, 40: 47, 41: 46, 55: 59, 56: 58, 60: 64, 61: 63, 65: 67}
    mirror |= {k: 16 - k for k in range(17)}
    for k, other in mirror.items():
        torch.testing.assert_close(marks[k] * torch.tensor([-1.0, 1.0, 1.0]), marks[other], atol=1e-3, rtol=0)
    row = [marks[k] for k in range(17, 27)]
    assert all(b[0] > a[0] for a, b in itertools.pairwise(row))  # brows from the right to the left
    assert all(b[1] < a[1] for a, b in itertools.pairwise([marks[k] for k in (19, 27, 28, 29, 30, 33, 51, 57, 8)]))
    assert max(float(p[2]) for p in marks.values()) == pytest.approx(float(marks[30][2]), abs=6e-3)  # the nose tip
    for eye, corners in (("right_eye", range(36, 42)), ("left_eye", range(42, 48))):
        centre = torch.stack([marks[k] for k in corners]).mean(0)
        assert (centre - joints[eye]).norm() < 0.014
    assert marks[0][0] < -0.05 and marks[16][0] > 0.05 and abs(float(marks[8][0])) < 1e-4
    assert all(p[2] > joints["head"][2] - 0.02 for p in marks.values())


def test_contour_of_the_far_side_moves_to_the_nose(make_model: Callable[..., nn.Module]) -> None:
    model = make_model(use_face_contour=True)
    turned = {}
    for angle in (0.5, -0.5):
        pose = torch.zeros(1, 63)
        pose[0, 11 * 3 + 1] = angle  # the neck, to its left when positive; smplx does not look at the head joint
        with torch.no_grad():
            joints = model(body_pose=pose).joints[0]
        c, n = np.cos(angle), np.sin(angle)
        rotation = torch.tensor([[c, 0.0, n], [0.0, 1.0, 0.0], [-n, 0.0, c]], dtype=torch.float32)
        turned[angle] = (joints[127:] - joints[15]) @ rotation  # in the head's frame
    width = {angle: points[:, 0].abs() for angle, points in turned.items()}
    assert width[0.5][15] < width[0.5][1] - 0.002
    torch.testing.assert_close(width[0.5].flip(0), width[-0.5], atol=1e-3, rtol=0)


def test_shape_coefficients_change_people_plausibly(model: nn.Module) -> None:
    with torch.no_grad():
        taller = model(betas=torch.eye(10)[:1]).vertices[0]
        mean = model(betas=torch.zeros(1, 10)).vertices[0]
        betas = torch.randn(64, 10, generator=torch.Generator().manual_seed(0))
        heights = torch.stack([model(betas=b[None]).vertices[0, :, 1].aminmax().max -
                               model(betas=b[None]).vertices[0, :, 1].aminmax().min for b in betas])  # fmt: skip

    def height(vertices: Tensor) -> float:
        return float(vertices[:, 1].max() - vertices[:, 1].min())

    assert 0.03 < height(taller) - height(mean) < 0.09
    assert 0.04 < float(heights.std()) < 0.10
    assert float(heights.min()) > 1.4 and float(heights.max()) < 2.05


def test_regressed_joints_stay_inside_other_bodies(arrays: dict[str, np.ndarray]) -> None:
    from poseprior.fitting.body.stand_in_shape import SHAPE_NAMES, figure

    rng = np.random.default_rng(0)
    for shape in rng.normal(size=(20, len(SHAPE_NAMES))):
        v = arrays["v_template"] + arrays["shapedirs"][:, :, : len(SHAPE_NAMES)] @ shape
        expected = figure(shape).keypoints[:NUM_JOINTS]
        assert np.linalg.norm(arrays["J_regressor"] @ v - expected, axis=1).max() < 0.012


def test_expressions_move_the_face_only(arrays: dict[str, np.ndarray]) -> None:
    expression = arrays["shapedirs"][:, :, 300:310]
    size = np.linalg.norm(expression, axis=1)
    assert (size.max(0) > 0.002).all() and size.max() < 0.02
    moving = size.max(1) > 1e-4
    head = arrays["weights"][:, [JOINT_NAMES.index("head"), JOINT_NAMES.index("jaw")]].sum(1)
    assert (head[moving] > 0.99).all()
    assert not arrays["shapedirs"][:, :, 10:300].any() and not arrays["shapedirs"][:, :, 310:].any()


def test_hand_components_are_orthonormal_and_the_first_makes_a_fist(model: nn.Module, body_folder: Path) -> None:
    hand = smplx.create(body_folder, "smplx", use_pca=True, num_pca_comps=45, flat_hand_mean=True)
    for components in (hand.np_left_hand_components, hand.np_right_hand_components):
        np.testing.assert_allclose(components @ components.T, np.eye(45), atol=1e-6)
    fist = torch.zeros(1, 45)
    fist[0, 0] = 4.0
    with torch.no_grad():
        open_hand, closed = hand().joints[0], hand(left_hand_pose=fist, right_hand_pose=fist).joints[0]
    for side in ("left", "right"):
        wrist = NAMES.index(f"{side}_wrist")
        for finger in ("index", "middle", "ring", "pinky"):
            tip = NAMES.index(f"{side}_{finger}")
            reach = (open_hand[tip] - open_hand[wrist]).norm(), (closed[tip] - closed[wrist]).norm()
            assert reach[1] < 0.75 * reach[0]
            assert closed[tip, 1] < open_hand[tip, 1]  # towards the palm, which looks down
    torch.testing.assert_close(closed[20] * torch.tensor([-1.0, 1, 1]), closed[21], atol=1e-5, rtol=0)


def test_relaxed_hand_is_gently_curled(make_model: Callable[..., nn.Module]) -> None:
    with torch.no_grad():
        flat, relaxed = make_model()().joints[0], make_model(flat_hand_mean=False)().joints[0]
    for side in ("left", "right"):
        tip = NAMES.index(f"{side}_middle")
        assert -0.07 < relaxed[tip, 1] - flat[tip, 1] < -0.02


def test_fewer_betas_and_the_same_file_every_time(tmp_path: Path) -> None:
    stand_in_body(tmp_path / "a", num_betas=2)
    with np.load(tmp_path / "a" / "smplx" / "SMPLX_NEUTRAL.npz", allow_pickle=False) as file:
        used = file["shapedirs"].any(axis=(0, 1))
    assert used[:10].tolist() == [True] * 2 + [False] * 8 and used[300:310].all()
    stand_in_body(tmp_path / "a", num_betas=2)  # our own file may be written again
    assert [path.name for path in (tmp_path / "a" / "smplx").iterdir()] == ["SMPLX_NEUTRAL.npz"]


@pytest.mark.parametrize("content", ["npz", "text", "pickle"])
def test_a_body_that_is_not_ours_is_never_overwritten(tmp_path: Path, content: str) -> None:
    path = tmp_path / "smplx" / "SMPLX_NEUTRAL.npz"
    path.parent.mkdir()
    if content == "text":
        path.write_text("mine")
    else:
        value = np.zeros(3) if content == "npz" else np.array([{"a": 1}], dtype=object)
        np.savez(path, v_template=value)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"folder: .* choose another folder"):
        stand_in_body(tmp_path)
    assert path.read_bytes() == before


def test_a_failed_write_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(file: object, **arrays: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(ValueError, match=r"cannot write .*disk full"):
        stand_in_body(tmp_path)
    assert list((tmp_path / "smplx").iterdir()) == []


@pytest.mark.parametrize("value", [-1, 11, 2.5, True])
def test_num_betas_out_of_range(tmp_path: Path, value: int) -> None:
    with pytest.raises(ValueError, match="num_betas: expected 0 to 10"):
        stand_in_body(tmp_path, num_betas=value)
