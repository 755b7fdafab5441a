"""`ProductPrior`: independent parts (body, hands, jaw) as one whole-body prior."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from .. import skeleton
from .._checks import check_wholes, quoted
from .._tracing import is_traced
from ..prior import PosePrior
from ..trainable import TrainingPoses
from .shared.mirror import GroupView
from .shared.nested import nested_prior


@final
class ProductPrior(PosePrior):
    """p(pose) = product over parts of p_part(its joints): for parts that no data set shows together.

    The product marginalises and completes as its parts can, and a part none of whose joints is observed drops out. `fit`
    trains all parts on one data set in one loop. It leaves parts that are already fitted as they are, as long as some
    part is not; a product whose parts are all fitted is trained further as a whole.
    `metadata["parts"]` of a saved product holds the metadata of its parts, licences included.

    Args:
        parts: priors over disjoint joints.
        mirrored: indices of parts that also serve the other side, with the same weights, through the left/right mirror:
            a left-hand part listed here makes the product model both hands.

    Raises:
        ValueError: no parts, overlapping joints, a conditional part, or an index of no part.

    >>> from poseprior import GaussianPrior
    >>> prior = ProductPrior([GaussianPrior("body"), GaussianPrior("left_hand")], mirrored=[1])
    >>> len(prior.joints), prior.num_parameters
    (51, 216)
    """

    default_fit: ClassVar[Mapping[str, Any]] = MappingProxyType({"max_steps": 0})

    def __init__(self, parts: Sequence[PosePrior | Mapping[str, Any]], *, mirrored: Sequence[int] = ()) -> None:
        if not isinstance(parts, list | tuple | nn.ModuleList) or not len(parts):
            raise ValueError(f"parts: expected at least one prior, in a list, got {quoted(parts)}.")
        if len(parts) > skeleton.NUM_JOINTS:
            raise ValueError(
                f"parts: expected at most {skeleton.NUM_JOINTS} priors, one for each joint, got {len(parts)}; their joints "
                "are disjoint."
            )
        built = [nested_prior("parts", part) for part in parts]
        mirrored = check_wholes("mirrored", mirrored)
        if any(k >= len(built) for k in mirrored) or len(set(mirrored)) != len(mirrored):
            raise ValueError(f"mirrored: expected distinct indices of the {len(built)} parts, got {quoted(mirrored)}.")
        shown = [*((k, False) for k in range(len(built))), *((k, True) for k in mirrored)]
        owned = [j for k, flip in shown for j in _joints_of_view(built[k], flip)]
        twice = sorted({j for j in owned if owned.count(j) > 1})
        if twice:
            names = ", ".join(skeleton.JOINT_NAMES[j] for j in twice)
            raise ValueError(
                f"parts: expected disjoint joints, but {names} belong to more than one part or mirror view."
            )
        for part in built:
            if part.context_dim:
                raise ValueError(f"parts: {type(part).__name__} takes a context, which a product does not pass on.")
        super().__init__(sorted(owned))
        self.mirrored = tuple(mirrored)
        self.parts = nn.ModuleList(built)
        self.fitted = all(part.fitted for part in built)
        self._came_fitted = [part.fitted for part in built]
        self.can_marginalise = all(part.can_marginalise for part in built)
        self.closed_form = all(part.closed_form for part in built)
        if any(part.log_prob_kind == "lower_bound" for part in built):
            self.log_prob_kind = "lower_bound"
        self._views = [
            GroupView(k, [self.joints.index(j) for j in _joints_of_view(built[k], flip)], flip) for k, flip in shown
        ]

    def _own_parts(self) -> list[PosePrior]:
        """The parts, each once."""
        return [part for part in self.parts if isinstance(part, PosePrior)]

    def _each(self) -> Iterator[tuple[PosePrior, GroupView]]:
        """Every view of a part, direct or through the mirror, and how the product's joints reach the part."""
        parts = self._own_parts()
        for view in self._views:
            yield parts[view.network], view

    def get_config(self) -> dict[str, Any]:
        parts = [{"class": type(part).__name__, "config": part.get_config()} for part in self._own_parts()]
        return {"parts": parts, "mirrored": list(self.mirrored)}

    def _fitted_config(self, train: TrainingPoses) -> dict[str, Any]:
        parts = [
            # Parts that were fitted on their own stay as they are; a product that was fitted is fitted again as a whole.
            part
            if part.fitted and not self.fitted
            else {"class": type(part).__name__, "config": part._fitted_config(train)}
            for part in self._own_parts()
        ]
        return {"parts": parts, "mirrored": list(self.mirrored)}

    def _initialise(self, train: TrainingPoses) -> None:
        for part in self._own_parts():
            if not part.fitted:
                part._initialise(train)
                part.fitted = True

    def _thaw(self) -> None:
        # `start_from` has rebuilt the product: `_came_fitted` says which of its parts were fitted before.
        super()._thaw()
        for part, came_fitted in zip(self._own_parts(), self._came_fitted, strict=True):
            part.requires_grad_(self.fitted or not came_fitted)

    def _settle(self) -> None:
        super()._settle()
        for part in self._own_parts():
            part._settle()

    def _stored_metadata(self) -> dict[str, Any]:
        stored = [part._stored_metadata() for part in self._own_parts()]
        return {**self.metadata, "parts": stored} if any(stored) or "parts" in self.metadata else self.metadata

    def _restore_metadata(self, stored: dict[str, Any]) -> None:
        self.metadata = {key: value for key, value in stored.items() if key != "parts"}
        own = self._own_parts()
        notes = stored.get("parts", [{}] * len(own))
        if not isinstance(notes, list) or len(notes) != len(own) or not all(isinstance(note, dict) for note in notes):
            raise ValueError(f"metadata: expected one mapping for each of {len(own)} parts, got {quoted(notes)}.")
        for part, note in zip(own, notes, strict=True):
            part._restore_metadata(note)

    def training_loss(self, rotvec: Tensor, observed: Tensor, context: Tensor | None, step: int) -> Tensor:
        total = rotvec.new_zeros(())
        for part, view in self._each():
            part_rotvec, seen = view.rows(rotvec, observed)
            rows = seen.any(1)
            if bool(rows.any()):
                loss = part.training_loss(part_rotvec[rows], seen[rows], None, step)
                total = total + loss * rows.sum() / len(rows)
        return total

    def _check_weights(self) -> None:
        for part in self._own_parts():
            part._check_weights()

    def can_score(self, observed: Tensor) -> Tensor:
        """As `PosePrior.can_score`: every part scores what it sees, or sees nothing."""
        seen = observed[..., list(self.joints)]
        usable = torch.ones_like(seen[..., 0])
        for part, view in self._each():
            own = torch.zeros_like(observed)
            own[..., list(part.joints)] = seen[..., view.places]
            usable = usable & (part.can_score(own) | ~seen[..., view.places].any(-1))
        return usable

    def _refuse_partial(self, seen: Tensor) -> None:
        for part, view in self._each():
            if not part.can_marginalise:
                own = seen[:, view.places]
                part._refuse_partial(own[own.any(1)])

    def _log_prob(self, rotvec: Tensor, observed: Tensor, context: Tensor | None) -> Tensor:
        total = (0.0 * rotvec).sum((1, 2))  # of the pose, so that a mask without joints has a gradient too
        for part, view in self._each():
            part_rotvec, seen = view.rows(rotvec, observed)
            rows = seen.any(1)
            if is_traced():
                value = part._log_prob(part_rotvec, seen, None)
                total = total + torch.where(rows, value, torch.zeros_like(value))
            elif bool(rows.all()):
                total = total + part._log_prob(part_rotvec, seen, None)
            elif bool(rows.any()):
                where = rows.nonzero()[:, 0]
                total = total.index_add(0, where, part._log_prob(part_rotvec[where], seen[where], None))
        return total

    def _log_prob_whole(self, rotvec: Tensor, context: Tensor | None) -> Tensor:
        values = [part._log_prob_whole(view.poses(rotvec), None) for part, view in self._each()]
        return torch.stack(values).sum(0)

    def _sample(self, num: int, generator: torch.Generator | None, context: Tensor | None) -> Tensor:
        result = torch.zeros(num, len(self.joints), 3, dtype=self.dtype, device=self.device)
        for part, view in self._each():
            result[:, view.places] = view.reflect(part._sample(num, generator, None))
        return result

    def _complete(
        self,
        rotvec: Tensor,
        observed: Tensor,
        num_samples: int,
        generator: torch.Generator | None,
        context: Tensor | None,
    ) -> Tensor:
        result = rotvec.expand(num_samples, *rotvec.shape).clone()
        for part, view in self._each():
            part_rotvec, seen = view.rows(rotvec, observed)
            if bool(seen.all()):
                continue
            if not bool(seen.any()):  # a plain draw, which every part can make
                drawn = part._sample(num_samples * len(rotvec), generator, None).unflatten(0, (num_samples, -1))
            else:
                drawn = part._complete(part_rotvec, seen, num_samples, generator, None)
            result[:, :, view.places] = view.reflect(drawn)
        return result


def _joints_of_view(part: PosePrior, flip: bool) -> list[int]:
    """The joints that a part models, or those on the other side: in the part's order."""
    return [skeleton.MIRROR[j] for j in part.joints] if flip else list(part.joints)
