"""Pictures: what is drawn where, that the user's matplotlib is left alone, and that files are whole."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib", reason="the viz extra is optional")

from poseprior import viz
from poseprior.drawing import solid_figure
from poseprior.drawing.poses import choose_panels
from poseprior.kinematics import keypoint_positions
from poseprior.rotations import random_rotvec, wrap_rotvec
from poseprior.skeleton import JOINT_SETS


def _random(n: int, joints: str = "whole_body", seed: int = 0) -> torch.Tensor:
    pose = torch.zeros(n, 55, 3)
    index = list(JOINT_SETS[joints])
    pose[:, index] = 0.4 * torch.randn(n, len(index), 3, generator=torch.Generator().manual_seed(seed))
    return pose


@pytest.mark.parametrize("joints", [None, "body", "left_hand", "hands", "whole_body", "all"])
def test_every_joint_set_is_drawn_and_saved(joints: str | None, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "poses.png"
    figure = viz.plot_poses(_random(5), joints=joints, titles=list("abcde"), columns=2, path=path, dpi=50)
    assert len(figure.axes) == 5
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert [p.name for p in path.parent.iterdir()] == ["poses.png"], "no temporary file is left"
    rows = {round(axes.get_position().y0, 3) for axes in figure.axes}
    assert len(rows) == 3


def test_panels_follow_the_joints() -> None:
    still, moving = torch.zeros(1, 55, 3).double(), _random(1).double()
    assert choose_panels(still, None) == (True, ())
    assert choose_panels(moving, None) == (True, ("right", "left"))
    assert choose_panels(moving, "body") == (True, ())
    assert choose_panels(moving, "right_hand") == (False, ("right",))
    assert choose_panels(still, "whole_body") == (True, ("right", "left"))


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (4, 4), (12, 6)])
def test_text_is_legible_where_a_page_shows_the_picture_850_pixels_wide(count: int, columns: int) -> None:
    titles = ["both knees forwards, head backwards"] + ["draw"] * (count - 1)
    figure = viz.plot_poses(_random(count), joints="body", titles=titles, columns=columns)
    figure.draw_without_rendering()
    shown = min(1.0, 850 / (96 * figure.get_figwidth()))  # a page shows 96 pixels an inch, if there is room
    assert min(text.get_fontsize() for text in figure.legends[0].get_texts()) * 96 / 72 * shown > 10
    boxes = [(axes.texts[0].get_window_extent(), axes.get_window_extent()) for axes in figure.axes]
    for text, cell in boxes:
        assert cell.x0 <= text.x0 and text.x1 <= cell.x1 and cell.y0 - 1 <= text.y0


def test_both_sides_have_their_colour_and_the_ground_its_line() -> None:
    figure = viz.plot_poses(torch.zeros(55, 3))
    figure.draw_without_rendering()
    faces = np.concatenate([c.get_facecolor() for c in figure.axes[0].collections])
    for side in ("left", "right"):
        colour = np.array([int(viz.COLOURS[side][k : k + 2], 16) / 255 for k in (1, 3, 5)])
        tint = (1 - faces[:, :3]) / (1 - colour)
        assert (np.ptp(tint, axis=1) < 1e-6).sum() > 20, side
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {"left side", "right side"}
    alone = viz.plot_poses(torch.zeros(55, 3), joints="left_hand")
    assert [text.get_text() for text in alone.legends[0].get_texts()] == ["left side"]


def test_front_view_shows_the_left_arm_on_the_right() -> None:
    view = solid_figure.camera(0.0, 8.0)
    seen = solid_figure.outlines(solid_figure.place(torch.zeros(55, 3)), view)
    assert max(o.polygon[:, 0].max() for o in seen if o.part.side == "left") > 0.75
    assert min(o.polygon[:, 0].min() for o in seen if o.part.side == "right") < -0.75
    assert sum(o.part.kind == "eye" for o in seen) == 2
    behind = solid_figure.outlines(solid_figure.place(torch.zeros(55, 3)), solid_figure.camera(180.0, 8.0))
    assert not any(o.part.kind == "eye" for o in behind)
    nearer = solid_figure.outlines(solid_figure.place(torch.zeros(55, 3)), solid_figure.camera(45.0, 8.0))
    assert nearer[-1].part.side == "left", "the three-quarter view is from the figure's left"


@pytest.mark.parametrize(("side", "first"), [("left", 25), ("right", 40)])
def test_hand_camera_sees_the_palm(side: str, first: int) -> None:
    view = solid_figure.hand_camera(side, 0.0)
    assert np.allclose(view @ view.T, np.eye(3)) and np.linalg.det(view) == pytest.approx(1.0)
    points = keypoint_positions(torch.zeros(55, 3, dtype=torch.float64)).numpy() @ view.T
    assert points[first + 3, 1] > points[20 if side == "left" else 21, 1], "fingers up"
    thumb, pinky = points[first + 12, 0], points[first + 6, 0]
    assert (thumb < pinky) == (side == "left"), "seen from the palm the left thumb is on the left"


def test_centres_are_forward_kinematics() -> None:
    pose = _random(1)[0].double()
    centres = solid_figure.place(pose)
    elbow = next(k for k, p in enumerate(solid_figure.PARTS) if [b.joint for b in p.balls] == [16, 18])
    expected = keypoint_positions(pose)[[16, 18]].numpy()
    assert np.allclose(centres[elbow], expected)


def test_hull_of_circles() -> None:
    hull = solid_figure.hull_of_circles(np.array([[0.0, 0.0], [4.0, 0.0], [1.0, 0.1]]), np.array([1.0, 0.5, 0.2]), 400)
    assert hull[:, 0].min() == pytest.approx(-1.0) and hull[:, 0].max() == pytest.approx(4.5)
    edge = np.roll(hull, -1, 0) - hull
    turn = edge[:, 0] * np.roll(edge, -1, 0)[:, 1] - edge[:, 1] * np.roll(edge, -1, 0)[:, 0]
    assert (turn > -1e-12).all()


def test_facing_the_viewer_undoes_the_heading_and_keeps_the_tilt() -> None:
    pose = torch.zeros(3, 55, 3, dtype=torch.float64)
    pose[0, 0, 1] = 2.5
    pose[1, 0] = torch.tensor([0.4, 0.0, 0.0])
    pose[2, 0, 0] = torch.pi  # upside down: no heading
    front = viz.face_the_viewer(pose)
    torch.testing.assert_close(front[0], torch.zeros_like(front[0]), atol=1e-9, rtol=0)
    torch.testing.assert_close(front[1:], pose[1:], atol=1e-6, rtol=0)
    turned = random_rotvec(16, 55, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    up = keypoint_positions(viz.face_the_viewer(turned))[..., 1]
    torch.testing.assert_close(up, keypoint_positions(turned)[..., 1])
    torch.testing.assert_close(viz.face_the_viewer(front), front)
    assert torch.equal(viz.face_the_viewer(turned)[:, 1:], turned[:, 1:]) and wrap_rotvec(turned).equal(turned)


def test_the_users_matplotlib_is_left_alone() -> None:
    code = (
        "import sys, torch, poseprior.viz as v; assert not any(m.startswith('matplotlib') for m in sys.modules);"
        "v.plot_poses(torch.zeros(1, 55, 3)); assert 'matplotlib.pyplot' not in sys.modules;"
        "import matplotlib.pyplot as p; assert not p.get_fignums()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_figure_shows_itself_in_a_notebook() -> None:
    figure = viz.plot_poses(torch.zeros(1, 55, 3))
    again = pickle.loads(pickle.dumps(figure))
    for shown in (figure, again):
        assert shown._repr_png_()[:8] == b"\x89PNG\r\n\x1a\n"


def test_missing_matplotlib_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [m for m in sys.modules if m.split(".")[0] == "matplotlib" or m == "poseprior.drawing.notebook_figure"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "poseprior\[viz\]"'):
        viz.plot_poses(torch.zeros(1, 55, 3))


def test_a_failed_save_leaves_the_old_picture(tmp_path: Path) -> None:
    path = tmp_path / "p.nonsense"
    path.write_text("old")
    with pytest.raises(ValueError, match="nonsense"):
        viz.plot_poses(torch.zeros(1, 55, 3), path=path)
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1
    viz.plot_poses(torch.zeros(1, 55, 3), path=tmp_path / "bare", dpi=40)
    assert (tmp_path / "bare").read_bytes()[1:4] == b"PNG"


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"poses: expected shape \(N, 55, 3\).*got \(2, 53, 3\)"):
        viz.plot_poses(torch.zeros(2, 53, 3))
    with pytest.raises(ValueError, match="poses: expected shape"):
        viz.plot_poses(torch.zeros(0, 55, 3))
    with pytest.raises(ValueError, match="in pose 1"):
        viz.plot_poses(np.stack([np.zeros((55, 3)), np.full((55, 3), np.nan)]))
    with pytest.raises(ValueError, match="titles: expected 1"):
        viz.plot_poses(torch.zeros(1, 55, 3), titles=["a", "b"])
    with pytest.raises(ValueError, match="columns"):
        viz.plot_poses(torch.zeros(1, 55, 3), columns=0)
