"""`BodyPoints`: the joints and vertices of an SMPL-X body that a fit measures, without its mesh."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import final

import torch
from torch import Tensor, nn

from ... import skeleton
from ...rotations import rotvec_to_rotmat
from .face_contour import FaceContour
from .hand_convention import require_smplx
from .skinning import Tree, joint_frames, posed_points, turn_axes

_NECK = 12


@final
class BodyPoints:
    """Chosen rows of `smplx`'s `output.joints` and `output.vertices`, to float rounding, at a small part of the mesh's cost.

    Kinematic joints need no vertex at all. Vertices, and the joints that smplx takes from vertices or face landmarks, need
    their own rows of the template, the blend shapes and the skinning weights.

    Args:
        model: SMPL-X model of the smplx package. Its buffers are copied: the model may change or move afterwards.
        joints: indices into `output.joints`: 0-54 kinematic, then the model's vertex joints, 51 face landmarks, and 17
            contour landmarks if the model was made with `use_face_contour`.
        vertices: indices into `output.vertices`.

    Raises:
        ValueError: a model that is not SMPL-X, or an index out of range.
    """

    def __init__(self, model: nn.Module, *, joints: Sequence[int] = (), vertices: Sequence[int] = ()) -> None:
        require_smplx(model)
        buffers = {name: value.detach() for name, value in model.named_buffers()}
        template = buffers["v_template"]
        parents = [int(p) for p in buffers["parents"].tolist()]
        if tuple(max(p, -1) for p in parents) != skeleton.PARENTS:
            raise ValueError(f"model: expected the SMPL-X tree of 55 joints, got parents {parents[:8]}...")
        extra = _vertex_joints(model)
        faces = buffers["faces_tensor"]
        corners = faces[buffers["lmk_faces_idx"]]
        contour = bool(getattr(model, "use_face_contour", False))
        static = skeleton.NUM_JOINTS + len(extra) + len(corners)
        limit = static + (17 if contour else 0)
        for name, chosen, most in (("joints", joints, limit), ("vertices", vertices, len(template))):
            bad = [int(k) for k in chosen if not 0 <= int(k) < most]
            if bad:
                hint = "; contour landmarks need use_face_contour=True" if name == "joints" else ""
                raise ValueError(f"{name}: expected indices from 0 to {most - 1}, got {bad[:5]}{hint}.")
        sliding = [int(j) - static for j in joints if int(j) >= static]
        self._contour = FaceContour(buffers, sliding) if sliding else None
        rows = self._rows(model, joints, vertices, extra, corners, buffers)
        self._select(joints, vertices, extra, corners, buffers, rows, static)
        self._take_buffers(model, buffers, rows, joints)
        self.carried = self._carried()
        self._wider: BodyPoints | None = None

    def __call__(
        self,
        pose: Tensor,
        *,
        betas: Tensor | None = None,
        expression: Tensor | None = None,
        transl: Tensor | None = None,
    ) -> Tensor:
        """Positions (B, K, 3) in metres, the chosen joints first.

        Args:
            pose: (B, 55, 3) rotvecs, radians: final rotations, hands on the flat hand (the model's mean hand and PCA
                are not applied).
            betas, expression: (B or 1, n) coefficients; None is zero.
            transl: (B or 1, 3) metres; None is zero.

        Computed in the wider of the dtypes of the pose and the model: float64 poses give float64 points.

        Raises:
            ValueError: an argument of another shape.
        """
        if pose.dim() != 3 or pose.shape[1:] != (skeleton.NUM_JOINTS, 3):
            raise ValueError(
                f"pose: expected (B, {skeleton.NUM_JOINTS}, 3) rotvecs, got {tuple(pose.shape)}; "
                "convert other layouts with poseprior.params."
            )
        batch, dtype = len(pose), torch.promote_types(pose.dtype, self.template.dtype)
        counts = (self._num_betas, self._num_expression, 3)
        for name, value, count in zip(
            ("betas", "expression", "transl"), (betas, expression, transl), counts, strict=True
        ):
            if value is not None and (
                value.dim() != 2 or value.shape[1] != count or (len(value) != 1 and len(value) != batch)
            ):
                raise ValueError(f"{name}: expected ({batch} or 1, {count}) here, got {tuple(value.shape)}.")
        if dtype != self.template.dtype:
            return self._in(dtype)(pose, betas=betas, expression=expression, transl=transl)
        pose = pose.to(self.template)
        local = pose if self._all_joints else pose.index_select(1, self._joints)
        rest, vertices = self._shaped(pose, betas, expression)
        if self._pose_basis is not None:
            vertices = vertices + self._corrections(pose)
        positions, skinned = posed_points(local, rest, vertices, self.weights, self.tree)
        both = torch.cat((positions, skinned), 1) if len(self.template) else positions
        points = both.index_select(1, self._picked) if self._picked is not None else self._selector @ both
        if self._contour is not None:
            both = torch.cat((points, self._contour.points(skinned, pose)), 1)
            points = both.index_select(1, self._order)
        return points if transl is None else points + transl.to(points)[:, None]

    def turns(
        self,
        pose: Tensor,
        *,
        betas: Tensor | None = None,
        expression: Tensor | None = None,
        transl: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Axes about which the points turn when the components of a joint's rotvec grow.

        A point moves at carried * axis x (point - position) metres per radian, to first order, where `carried` (K, C) is the
        part of each point that each of the C joints of `chain` carries. That is exact for joints. For vertices it leaves out
        pose-dependent corrections and the bends where weights blend: good enough for a preconditioner.

        Args: as of the call, of the model's dtype.

        Returns:
            Axes (B, C, 3, 3), a row for each component of a joint's rotvec (for the root: of a turn about its own axes), and
            positions (B, C, 3) of the joints, metres.
        """
        pose = pose.to(self.template)
        axes, position = turn_axes(pose[:, self._joints], self._shaped(pose, betas, expression)[0], self.tree)
        return axes, position if transl is None else position + transl.to(position)[:, None]

    def frames(
        self, pose: Tensor, *, betas: Tensor | None = None, expression: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Rotations (B, C, 3, 3) to the world and positions (B, C, 3), metres, of the joints in `chain`; args as of the call."""
        pose = pose.to(self.template)
        return joint_frames(pose[:, self._joints], self._shaped(pose, betas, expression)[0], self.tree)

    @property
    def chain(self) -> tuple[int, ...]:
        """(C,) SMPL-X indices of the joints that carry the points."""
        return tuple(self._chain)

    def _shaped(self, pose: Tensor, betas: Tensor | None, expression: Tensor | None) -> tuple[Tensor, Tensor]:
        """Joints (B, C, 3) and vertices (B, N, 3) of the body's shape, in the rest pose."""
        rest, vertices = self.rest_joints.expand(len(pose), -1, -1), self.template.expand(len(pose), -1, -1)
        shape = _coefficients(betas, expression, self._num_betas, self._num_expression, pose)
        if shape is not None:
            change = (shape @ self._shape_basis).unflatten(-1, (-1, 3))
            rest = rest + change[:, : len(self._joints)]
            if len(self.template):
                vertices = vertices + change[:, len(self._joints) :]
        return rest, vertices

    # ------------------------------------------------------------------ set-up

    def _rows(
        self, model: nn.Module, joints: Sequence[int], vertices: Sequence[int], extra: list[int], corners: Tensor,
        buffers: dict[str, Tensor],
    ) -> list[int]:  # fmt: skip
        """Vertices of the mesh that the points need."""
        wanted = {int(v) for v in vertices}
        first = skeleton.NUM_JOINTS
        for joint in joints:
            if first <= joint < first + len(extra):
                wanted.add(extra[joint - first])
            elif first + len(extra) <= joint < first + len(extra) + len(corners):
                wanted.update(corners[joint - first - len(extra)].tolist())
        if self._contour is not None:
            wanted.update(self._contour.faces.flatten().tolist())
        return sorted(wanted)

    def _select(
        self, joints: Sequence[int], vertices: Sequence[int], extra: list[int], corners: Tensor,
        buffers: dict[str, Tensor], rows: list[int], static: int,
    ) -> None:  # fmt: skip
        """How the points follow from the chain's joints and the vertices: an index; a matrix if some are on faces."""
        weights = buffers["lbs_weights"]
        used = {0, *(int(j) for j in joints if j < skeleton.NUM_JOINTS)}
        if rows:
            used |= set((weights[rows] != 0).any(0).nonzero()[:, 0].tolist())
        if self._contour is not None:
            used.add(_NECK)
        for joint in sorted(used):
            while joint > 0:
                joint = skeleton.PARENTS[joint]
                used.add(joint)
        chain = sorted(used)
        place = {j: k for k, j in enumerate(chain)}
        row = {v: len(chain) + k for k, v in enumerate(rows)}
        first = skeleton.NUM_JOINTS
        mixes: list[list[tuple[int, float]]] = []
        bary = buffers["lmk_bary_coords"]
        for joint in (int(j) for j in joints if j < static):
            if joint < first:
                mixes.append([(place[joint], 1.0)])
            elif joint < first + len(extra):
                mixes.append([(row[extra[joint - first]], 1.0)])
            else:
                face = joint - first - len(extra)
                mixes.append([(row[v], float(w)) for v, w in zip(corners[face].tolist(), bary[face], strict=True)])
        self._num_static = len(mixes)
        mixes += [[(row[int(v)], 1.0)] for v in vertices]
        like = buffers["v_template"]
        if self._contour is not None:
            statics = iter(range(self._num_static))
            contours = iter(range(len(mixes), len(mixes) + self._contour.faces.shape[1]))
            order = [next(contours) if int(j) >= static else next(statics) for j in joints]
            order += list(range(self._num_static, len(mixes)))
            self._order = torch.tensor(order, device=like.device)
            self._contour.among(rows, len(like))
        self._picked: Tensor | None = None
        if all(len(mix) == 1 for mix in mixes):
            self._picked = torch.tensor([mix[0][0] for mix in mixes], dtype=torch.long, device=like.device)
        else:
            self._selector = like.new_zeros(len(mixes), len(chain) + len(rows))
            for k, mix in enumerate(mixes):
                for column, share in mix:
                    self._selector[k, column] += share
        self._chain = chain

    def _take_buffers(
        self, model: nn.Module, buffers: dict[str, Tensor], rows: list[int], joints: Sequence[int]
    ) -> None:
        """Template, blend shapes and weights of the needed joints and vertices."""
        template, regressor = buffers["v_template"], buffers["J_regressor"][self._chain]
        shapes = torch.cat((buffers["shapedirs"], buffers["expr_dirs"]), -1)
        self._num_betas, self._num_expression = buffers["shapedirs"].shape[-1], buffers["expr_dirs"].shape[-1]
        self._joints = torch.tensor(self._chain, device=template.device)
        self._all_joints = self._chain == list(range(skeleton.NUM_JOINTS))
        self.rest_joints = regressor @ template
        self.template = template[rows]
        basis = torch.cat((torch.einsum("jv,vcn->jcn", regressor, shapes), shapes[rows]))
        self._shape_basis = basis.flatten(0, 1).T.contiguous()
        self.weights = buffers["lbs_weights"][rows][:, self._chain].contiguous()
        parents = [skeleton.PARENTS[j] for j in self._chain]
        self.tree = Tree.of([-1 if p < 0 else self._chain.index(p) for p in parents], template)
        self._pose_basis: Tensor | None = None
        if rows:
            poses = buffers["posedirs"].unflatten(-1, (-1, 3))[:, rows]
            if bool(poses.any()):
                self._pose_basis = poses.flatten(1).contiguous()

    def _carried(self) -> Tensor:
        """(K, C) the part of each point that each joint of the chain carries; contour landmarks as with the head straight."""
        every = torch.cat((self.tree.below.mT, self.weights @ self.tree.below.mT))
        points = every[self._picked] if self._picked is not None else self._selector @ every
        if self._contour is None:
            return points
        contour = every[len(self._chain) + self._contour.rows[0]].mean(1)
        return torch.cat((points, contour))[self._order]

    # ------------------------------------------------------------------ rarely needed parts

    def _in(self, dtype: torch.dtype) -> BodyPoints:
        """The same points with buffers of another dtype, kept for the next call."""
        if self._wider is None or self._wider.template.dtype != dtype:
            wider = copy.copy(self)
            for name, value in vars(self).items():
                if isinstance(value, Tensor) and value.is_floating_point():
                    setattr(wider, name, value.to(dtype))
            wider._contour = None if self._contour is None else self._contour.to(dtype)
            wider.tree = replace(self.tree, below=self.tree.below.to(dtype), is_root=self.tree.is_root.to(dtype))
            self._wider = wider
        return self._wider

    def _corrections(self, pose: Tensor) -> Tensor:
        """(B, N, 3) pose-dependent corrections of the vertices, linear in Exp(pose_j) - I."""
        assert self._pose_basis is not None
        turn = rotvec_to_rotmat(pose[:, 1:]) - torch.eye(3, dtype=pose.dtype, device=pose.device)
        return (turn.flatten(1) @ self._pose_basis).unflatten(-1, (-1, 3))


def _vertex_joints(model: nn.Module) -> list[int]:
    selector = getattr(model, "vertex_joint_selector", None)
    index = getattr(selector, "extra_joints_idxs", None)
    if not isinstance(index, Tensor):
        raise ValueError("model: expected smplx's vertex_joint_selector, got none; use smplx 0.1.28 or later.")
    if getattr(model, "joint_mapper", None) is not None:
        raise ValueError("model: expected no joint_mapper, got one; create the model without it, and name a layout.")
    return [int(v) for v in index.tolist()]


def _coefficients(
    betas: Tensor | None, expression: Tensor | None, num_betas: int, num_expression: int, like: Tensor
) -> Tensor | None:
    """(B or 1, nb + ne), zeros where one of them is None; None if both are."""
    if betas is None and expression is None:
        return None
    rows = max(1 if v is None else len(v) for v in (betas, expression))
    first = like.new_zeros(1, num_betas) if betas is None else betas.to(like)
    second = like.new_zeros(1, num_expression) if expression is None else expression.to(like)
    return torch.cat((first.expand(rows, -1), second.expand(rows, -1)), -1)
