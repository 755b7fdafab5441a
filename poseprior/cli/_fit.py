"""`poseprior fit`: keypoints in, SMPL-X parameters out."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tqdm import tqdm

from .._checks import check_number
from ._common import check_suffix, load_prior, require_package, said_of
from ._over_files import FitFile, over_files

if TYPE_CHECKING:  # torch is imported where it is used, so that --help needs none
    from torch import Tensor, nn

    from ..fitting import BodyFit, Camera, EnergyTerm, FitBodyConfig, Target
    from ..fitting.coordinates import PointsUp
    from ..io.keypoints import KeypointFile
    from ..prior import PosePrior


_CHUNK = 64
_FINGERS, _HAND_PRIOR = range(25, 55), "hand-mixture"


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Fit SMPL-X bodies to the keypoints of one person, with a prior."""

    keypoints: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="KEYPOINTS")]
    """An .npz (keypoints or keypoints3d, layout, focal_length, ...), a detector's .json, or a folder of .json files."""
    out: Path
    """The .npz to write: parameters for smplx, and the keys that AMASS readers take."""
    prior: str = "body-mixture"
    """A shipped prior's name (poseprior list), a .safetensors file, a run folder, hf://owner/repo/file, or none."""
    hand_prior: str | None = None
    """Judges fingers that are seen, where the prior does not know them; as --prior, or none. Default: hand-mixture."""
    model: Path | None = None
    """Folder for smplx.create (models/smplx/SMPLX_NEUTRAL.npz: models); the licence-free stand-in body if not given."""
    gender: str = "neutral"
    """Of the model."""
    layout: str | None = None
    """Order of the points, for files that do not say: coco_wholebody, openpose_25, halpe_136, mediapipe_33, smplx_55, ...; or
    a .json with your own table of point to joint."""
    units: str | None = None
    """Of the coordinates: pixels, normalised, normalised_centred, normalised_centred_by_width (with --image-size); m, cm or mm;
    recognised if not given."""
    focal: float | None = None
    """Focal length, pixels, where the file has none; the image's diagonal if not given."""
    center: tuple[float, float] | None = None
    """Principal point, pixels; the image's middle if not given."""
    image_size: tuple[float, float] | None = None
    """Width and height, pixels."""
    sigma: float | None = None
    """Noise to expect: pixels (default 5) or metres (default 0.02)."""
    person: int | None = None
    """Which of the people: the number of a track where the file has them, else the place in each frame; who was seen most if
    not given."""
    smooth: float | None = None
    """Fit the frames as one sequence of one person; standard deviation of accelerations, radians a frame squared."""
    fps: float = 30.0
    """Frames a second, written to the file."""
    iterations: int = 100
    """Most steps of the last stage."""
    png: Path | None = None
    """Draw up to 12 frames here, keypoints over the body."""
    html: Path | None = None
    """Write a scene of the bodies to turn in a browser."""
    up: Literal["y", "z"] | None = None
    """Turn the bodies so that this axis points up: z for AMASS readers, y as in SMPL-X at rest. As fitted if not given: for 2D
    keypoints the camera's coordinates, y down. The file says which."""
    points_up: Literal["y", "z", "-y", "-z"] | None = None
    """Which axis points up in the coordinates of 3D keypoints; that along which the people stand if not given."""
    device: str = "cpu"
    """Where to compute."""
    workers: int | None = None
    """Over every .npz and .json file of a folder and every folder of frames in it, in so many processes: a result for each in
    the folder --out. Run again to go on."""

    def run(self) -> None:
        if self.workers is not None:
            inputs = (".npz", ".json")  # a plain Fit, since the parser's subclass cannot be sent to a process
            return over_files(
                FitFile(Fit(**vars(self))),
                self.keypoints,
                self.out,
                self.workers,
                suffixes=inputs,
                png=self.png,
                html=self.html,
            )
        from ..fitting import FitBodyConfig
        from ..io.fitted import GENDERS
        from ..io.keypoints import read_keypoints
        from ..viz import fit_scene, plot_fit

        require_package("fit", "smplx", "fitting")
        for flag, path, suffix in (("out", self.out, ".npz"), ("png", self.png, ".png"), ("html", self.html, ".html")):
            check_suffix(f"--{flag}", path, suffix)
        if self.out.exists() and self.keypoints.exists() and self.out.samefile(self.keypoints):
            raise ValueError(f"--out: expected another file than the keypoints, got {self.out}; choose another name.")
        check_number("--fps", self.fps, above=0.0)
        if self.gender not in GENDERS:
            raise ValueError(f"--gender: expected one of {', '.join(GENDERS)}, got {self.gender!r}.")
        if self.model is None and self.gender != "neutral":
            raise ValueError(
                f"--gender: expected neutral for the stand-in body, got {self.gender}; give the folder of your own model files "
                "with --model."
            )
        with said_of("--smooth", "smooth_sigma"):
            config = FitBodyConfig(iterations=self.iterations, smooth_sigma=self.smooth)
        with said_of("KEYPOINTS"):
            found = read_keypoints(
                self.keypoints, layout=self.layout, person=self.person, units=self.units, image_size=self.image_size
            )
        for note in found.notes:
            print(f"note: {note}")
        target = self._target(found)
        points_up = self._points_up(target)
        prior = self._load(self.prior, "--prior")
        fingers = self._finger_terms(target, prior)
        started = time.monotonic()
        model = self._model()
        fit = _fit_in_chunks(model, target, prior, fingers, config)
        fit.save(self.out, up=self.up, points_up=points_up, gender=self.gender, fps=self.fps, frame_names=found.names)
        self._summary(fit, time.monotonic() - started)
        print(f"results: {self.out}")
        if self.png is not None:
            plot_fit(model, fit, target, path=self.png)
            print(f"picture: {self.png}")
        if self.html is not None:
            fit_scene(model, fit, self.html)
            print(f"scene: {self.html}")

    def _points_up(self, target: Target) -> PointsUp | None:
        """The axis that points up in the coordinates of the points; None for a camera's, and where nothing is turned."""
        from ..fitting.coordinates import check_up, coordinates_of, upright_axis

        found = self.points_up
        if found is None and self.up is not None and (found := upright_axis(target)) is not None:
            print(f"note: the people stand along {found} of the points, which is taken as up (--points-up)")
        check_up(self.up, found, coordinates_of([target]))
        return found

    def _load(self, name: str, flag: str) -> PosePrior | None:
        return None if name == "none" else load_prior(name, self.device, flag=flag)

    def _finger_terms(self, target: Target, prior: PosePrior | None) -> list[EnergyTerm]:
        """The hand prior's term, where fingers were seen and `prior` does not judge them."""
        from ..fitting import PosePriorTerm

        seen = any(bool(target.confidence[:, k].any()) for k, part in enumerate(target.parts) if "hand" in part)
        judged = prior is not None and any(j in _FINGERS for j in prior.joints)
        if (prior is None or judged) and self.hand_prior not in (None, "none"):
            why = "no prior is used" if prior is None else f"{self.prior} knows fingers itself"
            raise ValueError(f"--hand-prior: {why}, so {self.hand_prior} would not be used; leave it out.")
        if not seen and self.hand_prior not in (None, "none"):
            print("note: no finger is seen: --hand-prior is not used")
        if not seen or prior is None or judged:
            return []
        name = self.hand_prior or _HAND_PRIOR
        hands = self._load(name, "--hand-prior")
        if hands is None:
            return []
        twice = set(hands.joints) & set(prior.joints)
        if twice or not set(hands.joints) & set(_FINGERS):
            raise ValueError(
                f"--hand-prior: expected a prior of fingers alone beside --prior {self.prior}, got {name}; take "
                "hand-mixture, or none, or one prior of both (--prior whole-body)."
            )
        print(f"fingers are seen: {name} judges them (--hand-prior)")
        return [PosePriorTerm(hands, reduction="sum", name="hand_prior")]

    def _target(self, found: KeypointFile) -> Target:
        from ..fitting import Joints3D, Keypoints2D

        if found.points.shape[-1] == 3:
            for flag, given in (("focal", self.focal), ("center", self.center)):
                if given is not None:
                    raise ValueError(f"--{flag}: expected none for 3D keypoints, which no camera sees; leave it out.")
            return Joints3D(
                found.points,
                layout=found.layout,
                confidence=found.confidence,
                sigma=0.02 if self.sigma is None else self.sigma,
                name="keypoints",
            )
        return Keypoints2D(
            found.points, camera=self._camera(found), layout=found.layout, confidence=found.confidence,
            sigma=5.0 if self.sigma is None else self.sigma,
        )  # fmt: skip

    def _camera(self, found: KeypointFile) -> Camera:
        """From the options, else the file, else a guess from the image's size."""
        import torch

        from ..fitting import Camera
        from ..fitting.camera_checks import image_notes

        focal: Any = self.focal if self.focal is not None else found.focal
        center = self.center or found.center
        size = self.image_size or found.image_size
        if size is not None:
            for side in size:
                check_number("--image-size", side, above=0.0)
            guess = Camera.of_image(*size)
            if focal is None:
                print(f"no focal length given: taking the image's diagonal, {float(guess.focal[0]):.0f} px")
            focal = guess.focal if focal is None else focal
            center = center or (0.5 * size[0], 0.5 * size[1])
        if focal is None or center is None:
            missing = "focal length" if focal is None else "principal point"
            raise ValueError(
                f"--focal, --center: expected a camera for 2D keypoints, got no {missing} in options or file; pass "
                "--image-size W H (then both are guessed), or --focal and --center."
            )
        camera = Camera(torch.as_tensor(focal, dtype=torch.float64), center)
        if size is not None:
            fix = "pass --image-size W H" if self.image_size else "correct the size that the file says"
            for note in image_notes(found.points, found.confidence, camera, size, fix):
                print(f"note: {note}")
        return camera

    def _model(self) -> nn.Module:
        from ..devices import usable_device
        from ..fitting.body.smplx_model import load_smplx

        if self.model is None:
            print("no --model given: fitting the licence-free stand-in body (docs/stand_in_body.md)")
        return load_smplx(self.model, gender=self.gender, argument="--model").to(usable_device(self.device))

    def _summary(self, fit: BodyFit, seconds: float) -> None:
        frames = len(fit.pose)
        print(f"{frames} frames in {seconds:.1f} s, prior {self.prior}")
        print(f"  {fit.summary()}")
        for name, value in fit.energies.items():
            print(f"  {name:<12} {float(value.median()):9.2f} nats (median)")
        empty = int((fit.num_observed == 0).sum())
        if empty:
            filled = "the prior's own" if self.smooth is None else "bridged from the frames beside them"
            print(f"  {empty} frames had no keypoint: their pose is {filled}, and unobserved in the file")


def _fit_in_chunks(
    model: nn.Module, target: Target, prior: PosePrior | None, terms: list[EnergyTerm], config: FitBodyConfig
) -> BodyFit:
    """All frames; a sequence at once, single frames in chunks that bound the memory."""
    from ..fitting import fit_body

    if config.smooth_sigma is not None or target.num_frames <= _CHUNK:
        return fit_body(model, target, prior=prior, terms=terms, config=config, progress=True)
    fits = []
    for rows in tqdm(_chunks((target.confidence > 0).any(-1).cpu()), desc="frames", unit=f"{_CHUNK} frames"):
        fits.append(fit_body(model, target.select(rows), prior=prior, terms=terms, config=config))
    return _joined(fits)


def _chunks(seen: Tensor) -> list[Tensor]:
    """Frames (F,) in pieces; one in which nobody is seen goes with the piece before it (at the start, after it)."""
    import torch

    pieces: list[Tensor] = []
    for rows in torch.arange(len(seen)).split(_CHUNK):
        if pieces and not (bool(seen[rows].any()) and bool(seen[pieces[-1]].any())):
            pieces[-1] = torch.cat((pieces[-1], rows))
        else:
            pieces.append(rows)
    return pieces


def _joined(fits: list[BodyFit]) -> BodyFit:
    import torch

    def cat(values: list[Tensor | None], dim: int = 0) -> Any:
        return None if values[0] is None else torch.cat([v for v in values if v is not None], dim)

    first = fits[0]
    names = ("pose", "transl", "betas", "expression", "hands", "latent")
    state = replace(first.state, **{n: cat([getattr(f.state, n) for f in fits], 1) for n in names})
    keys = [name for name in first.energies if all(name in f.energies for f in fits)]
    return replace(
        first, state=state, energies={name: cat([f.energies[name] for f in fits]) for name in keys},
        converged=cat([f.converged for f in fits]), steps=max(f.steps for f in fits),
        weights=cat([f.weights for f in fits], 1), num_observed=cat([f.num_observed for f in fits]),
        num_outliers=cat([f.num_outliers for f in fits]), pelvis=cat([f.pelvis for f in fits]),
        measured=cat([f.measured for f in fits]),
    )  # fmt: skip
