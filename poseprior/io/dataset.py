"""`PoseDataset`: poses, what was observed of them, and whose they are. In memory or memory-mapped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, final, overload

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .. import skeleton
from .._shown import evenly_spaced, html_page
from . import _memmap
from ._dataset import columns, storage, thinning
from ._dataset.dataset_rows import DatasetRows


@final
class PoseDataset(DatasetRows):
    """N poses with their observed masks, and optionally subject, sequence, frame number, frame rate and rig of each row.

    Args:
        poses: (N, 55, 3) rotvecs in SMPL-X order, radians: tensor, array or `np.memmap`. A memmap stays on disk until a
            batch is taken, and is pickled as its path; anything else is held in memory as float32, uncopied where
            possible.
        observed: (N, 55) bool, what was really measured; None for everything. What is not observed reads as zero.
        subject: (N,) names (or one name for all rows) of the people, the unit of honest splits.
        sequence: (N,) names (or one name) of the recordings.
        fps: frames per second at which `frame` counts; one number or (N,), nan where unknown.
        frame: (N,) frame numbers within the sequence.
        rig: (N,) names (or one name) of the capture rig or fitting method, whose conventions the rows share.
        imputed: (N, 55) bool, where a value comes from a rule and not from the recording (how a chain shares its
            rotation among its joints, say); None where nobody said.
        context: (N, C) floats, what goes with each pose: an image feature, shape coefficients, a one-hot class. A
            conditional prior of `context_dim` C is trained with it. A memmap stays on disk.

    Raises:
        ValueError: wrong shape or type, or a rotvec that is not finite or beyond 1e15 radians on an observed joint (the message
            names the rows).

    >>> import torch
    >>> dataset = PoseDataset(torch.zeros(4, 55, 3), subject=["ann", "ann", "bob", "bob"])
    >>> len(dataset), dataset.subjects, dataset.batch(torch.tensor([0, 2]))[0].shape
    (4, ('ann', 'bob'), torch.Size([2, 55, 3]))
    """

    def __init__(
        self,
        poses: Tensor | NDArray[Any],
        observed: Tensor | NDArray[Any] | None = None,
        *,
        subject: columns.Labels = None,
        sequence: columns.Labels = None,
        fps: columns.Rates = None,
        frame: Sequence[int] | Tensor | NDArray[Any] | None = None,
        rig: columns.Labels = None,
        imputed: Tensor | NDArray[Any] | None = None,
        context: Tensor | NDArray[Any] | None = None,
    ) -> None:
        store = storage.PoseStore.checked(poses, observed, imputed, context)
        self._set(store, columns.Columns.checked(len(store), subject, sequence, fps, frame, rig))

    def __repr__(self) -> str:
        return (
            f"PoseDataset({len(self)} poses, {len(self.observed_joints)} joints observed, "
            f"{self.num_subjects or 'unnamed'} subjects"
            f"{f', context of {self.context_dim}' if self.context_dim else ''}"
            f"{', memory-mapped' if self._store.mapped else ''}"
            f"{self._columns.said()})"
        )

    def _repr_html_(self) -> str:
        joints = self.observed_joints
        return html_page(repr(self), self.batch(evenly_spaced(len(self)))[0] if joints else None, joints)

    # -- other data sets made from this one --------------------------------------------------------------------------

    def select(self, rows: Tensor | NDArray[Any] | Sequence[int] | Sequence[bool]) -> PoseDataset:
        """The rows of a bool mask (N,) or of indices, in the order given. A memory-mapped set stays mapped."""
        index = columns.row_indices(rows, len(self), "rows")
        if len(index) == 0:
            raise ValueError(
                f"rows: expected at least one of the {len(self)} rows, got none; a PoseDataset is never empty."
            )
        return self._with(self._store.select(index), self._columns.take(index))

    def random_subset(self, n: int, *, seed: int) -> PoseDataset:
        """`n` distinct rows drawn uniformly, in their original order; all of them when `n` >= len."""
        if n < 1:
            raise ValueError(f"n: expected at least 1 row, got {n}.")
        return self.select(np.sort(np.random.default_rng(seed).permutation(len(self))[:n]))

    @overload
    def split_by_subject(
        self, parts: Mapping[str, float | Sequence[str]], *, seed: int = 0
    ) -> dict[str, PoseDataset]: ...
    @overload
    def split_by_subject(self, parts: Sequence[float | Sequence[str]], *, seed: int = 0) -> tuple[PoseDataset, ...]: ...
    def split_by_subject(self, parts: Any, *, seed: int = 0) -> Any:
        """Parts that share no subject.

        Args:
            parts: fractions of the rows, `{"train": 0.8, "val": 0.2}` or `(0.8, 0.2)`, met as nearly as whole subjects
                allow; or the subject names of each part, `{"train": ["a", "b"], "val": ["c"]}`.
            seed: which subjects go where, with fractions.

        Returns:
            A dict for a dict, a tuple for a sequence, in the same order. Rows keep their order.

        Raises:
            ValueError: no subjects, fewer subjects than parts, an unknown name, or a name in two parts.
        """
        keys = list(parts) if isinstance(parts, Mapping) else list(range(len(parts)))
        values = [parts[k] for k in keys]
        person = self._columns.subject
        groups = columns.subject_parts(person, values, seed)
        made = [self.select(np.isin(person.values, names)[person.codes]) for names in groups if person is not None]
        return dict(zip(keys, made, strict=True)) if isinstance(parts, Mapping) else tuple(made)

    def with_names(
        self, *, subject: columns.Labels = None, sequence: columns.Labels = None, rig: columns.Labels = None
    ) -> PoseDataset:
        """The same rows under other names of people, recordings or rigs: (N,) each, or one for all; None keeps them."""
        given = {"subject": subject, "sequence": sequence, "rig": rig}
        made: dict[str, Any] = {name: columns.labels(v, len(self), name) for name, v in given.items() if v is not None}
        return self._with(self._store, replace(self._columns, **made))

    def without_context(self) -> PoseDataset:
        """The same rows without their context."""
        return self._with(self._store.without_context(), self._columns) if self.context_dim else self

    def subsample(self, fps: float, *, seed: int = 0) -> PoseDataset:
        """At most `fps` frames per second of every sequence.

        Time is cut into bins of 1/fps whose phase is drawn per sequence from `seed` and its name, and the first frame
        of each bin stays: gaps do not matter, and a second call with the same arguments changes nothing. `fps` and
        `frame` of the result still count at the recorded rate. Rows whose rate is unknown (nan) all stay.
        """
        groups = columns.groups(self._columns.subject, self._columns.sequence, self.frame, len(self))
        return self.select(thinning.subsample(groups, self.frame, self.fps, fps, seed))

    def thin(self, threshold_deg: float = 1.5, *, joints: Sequence[int] | None = None) -> PoseDataset:
        """Without near-duplicates: a frame stays when a joint turned more than the threshold since the last one kept.

        Args:
            threshold_deg: geodesic angle, degrees.
            joints: joints to compare, default all. Of these the ones observed in both frames count; frames that share
                none both stay.

        Rows are taken per sequence, in `frame` order when there is one. The first frame of a sequence always stays.
        """
        groups = columns.groups(self._columns.subject, self._columns.sequence, self.frame, len(self))
        return self.select(thinning.thin(self._store, groups, threshold_deg, joints))

    def mirrored(self) -> PoseDataset:
        """This set, then its left/right mirror image (poses and masks), whose sequences end in ':mirror'.

        The context of a reflection is that of its pose.
        """
        poses, observed = self.all_poses()
        imputed = None if self.imputed is None else skeleton.mirror_observed(self.imputed).numpy()
        reflected = storage.PoseStore.trusted(
            skeleton.mirror(poses).numpy() + np.float32(0), skeleton.mirror_observed(observed).numpy(), imputed,
            self._store.context(),
        )  # + 0 turns the -0 of unobserved joints into 0  # fmt: skip
        labels = self._columns
        if labels.sequence is not None:
            labels = replace(labels, sequence=labels.sequence.renamed(lambda name: f"{name}:mirror"))
        return PoseDataset.concat([self, self._with(reflected, labels)])

    @classmethod
    def concat(cls, datasets: Sequence[PoseDataset]) -> PoseDataset:
        """All rows in order, in memory.

        Equal names stand for one person, recording or rig: rename those that do not with `with_names`. Where only some name
        their subject, sequence or rig, the rest become 'unknown'; where only some have `imputed`, the rest count as recorded.
        All have a context of one length, or none has any.
        """
        if not datasets:
            raise ValueError("datasets: expected at least one PoseDataset, got an empty sequence.")
        if others := [type(d).__name__ for d in datasets if not isinstance(d, PoseDataset)]:
            raise ValueError(f"datasets: expected PoseDatasets, got {others[0]} among them.")
        store = storage.PoseStore.join([d._store for d in datasets])
        return cls._with(store, columns.join([(len(d), d._columns) for d in datasets]))

    # -- on disk -----------------------------------------------------------------------------------------------------

    def to_memmap(self, folder: str | Path) -> Path:
        """Write as plain `.npy` files in a new folder, beside it and then renamed; `from_memmap` maps them."""
        return _memmap.write_folder(Path(folder), self._store, self._columns.present())

    @classmethod
    def from_memmap(cls, folder: str | Path) -> PoseDataset:
        """Map what `to_memmap` wrote. Poses, masks and context stay on disk; they were checked when they were written."""
        store, stored = _memmap.read_folder(Path(folder))
        return cls._with(store, columns.Columns.stored(stored))

    @classmethod
    def _with(cls, store: storage.PoseStore, labels: columns.Columns) -> PoseDataset:
        """From parts that are known to be right."""
        made = cls.__new__(cls)
        made._set(store, labels)
        return made

    def _set(self, store: storage.PoseStore, labels: columns.Columns) -> None:
        self._store, self._columns = store, labels

    def _noted(self, ignored: tuple[str, ...], notes: tuple[str, ...]) -> PoseDataset:
        """With what a reader of the files wants to say."""
        return self._with(self._store, replace(self._columns, ignored=ignored, notes=notes))


def as_dataset(poses: PoseDataset | Tensor, argument: str) -> PoseDataset:
    """A data set of what a user gave as `argument`: one already, or a (N, 55, 3) tensor; never empty."""
    if isinstance(poses, PoseDataset):
        dataset = poses
    elif isinstance(poses, Tensor):
        try:
            dataset = PoseDataset(poses)
        except ValueError as error:
            raise ValueError(f"{argument}{str(error).removeprefix('poses')}") from None
    else:
        raise ValueError(
            f"{argument}: expected a PoseDataset or a (N, 55, 3) tensor, got {type(poses).__name__}; "
            "poseprior.io.read_poses reads files."
        )
    if len(dataset) == 0:
        raise ValueError(f"{argument}: expected at least one pose, got none.")
    return dataset
