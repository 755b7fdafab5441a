"""Files that are damaged or made to harm: one ValueError each, at once, and without much memory."""

from __future__ import annotations

import json
import os
import random
import resource
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from bounds import bounded
from safetensors.torch import load_file, save_file

import poseprior
from poseprior import (
    BodyVAE,
    GaussianMixturePrior,
    GaussianPrior,
    GlobalFlow,
    JointFlow,
    OrderAgnosticPrior,
    PosePrior,
    ProductPrior,
    checkpoint,
)

_JOINTS = (16, 18, 20)
_MAKERS: dict[str, Callable[[], PosePrior]] = {
    "gaussian": lambda: GaussianPrior(_JOINTS),
    "gaussian-full": lambda: GaussianPrior(_JOINTS, covariance="full"),
    "mixture": lambda: GaussianMixturePrior(_JOINTS, num_components=2),
    "joint-flow": lambda: JointFlow(_JOINTS, hidden=4, num_components=2),
    "joint-flow-published": lambda: JointFlow.published(_JOINTS),
    "global-flow": lambda: GlobalFlow(_JOINTS, hidden=4),
    "global-flow-published": lambda: GlobalFlow.published(_JOINTS),
    "order-agnostic": lambda: OrderAgnosticPrior(_JOINTS, hidden=4, num_components=2, num_orders=2),
    "vae": lambda: BodyVAE(_JOINTS, latent_dim=2, hidden=4, flow_layers=2, flow_hidden=4),
    "product": lambda: ProductPrior([GaussianPrior(_JOINTS), GaussianPrior((25, 26))], mirrored=[1]),
}


@contextmanager
def _bounds() -> Iterator[None]:
    """At most 3 GB of memory beyond what there is now, and 5 s of work."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (3 << 30), hard))
    work, wall = time.process_time(), time.monotonic()
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert time.process_time() - work < 5.0
    assert time.monotonic() - wall < 60.0  # others may use the machine, too


@pytest.fixture
def in_bounds() -> Iterator[None]:
    with _bounds():
        yield


@pytest.fixture(params=_MAKERS)
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "prior.safetensors"
    _MAKERS[request.param]().save(path)
    return path


@pytest.fixture
def gaussian(tmp_path: Path) -> Path:
    path = tmp_path / "prior.safetensors"
    GaussianPrior(_JOINTS).save(path)
    return path


def _parts(path: Path) -> tuple[dict[str, Any], bytes]:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return _head(content), content[8 + length :]


def _head(content: bytes) -> dict[str, Any]:
    (length,) = struct.unpack("<Q", content[:8])
    head: dict[str, Any] = json.loads(content[8 : 8 + length])
    return head


def _join(path: Path, head: dict[str, Any] | str, rest: bytes) -> None:
    text = (head if isinstance(head, str) else json.dumps(head)).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + rest)


def _with_metadata(path: Path, text: str | None = None, **changes: Any) -> None:
    head, rest = _parts(path)
    meta = {**json.loads(head["__metadata__"]["poseprior"]), **changes}
    if "digest" not in changes:
        meta.pop("digest", None)
    head["__metadata__"]["poseprior"] = json.dumps(meta) if text is None else text
    _join(path, head, rest)


def _with_tensors(path: Path, **changes: torch.Tensor) -> None:
    head, _ = _parts(path)
    meta = json.loads(head["__metadata__"]["poseprior"])
    meta.pop("digest", None)
    tensors = {**load_file(path), **{name.replace("__", "."): value for name, value in changes.items()}}
    save_file(tensors, path, metadata={"poseprior": json.dumps(meta)})


def _outcome(path: Path) -> str | None:
    """The one error that reading a file ends in, None if it loads; anything else is raised."""
    try:
        poseprior.load(path)
    except ValueError as error:
        return str(error)
    return None


# ---------------------------------------------------------------------- what is no file


def test_pipes_devices_and_folders_are_refused_at_once(tmp_path: Path, in_bounds: None) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    for path in (tmp_path / "pipe.safetensors", Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(ValueError, match=r"path: expected a .safetensors file, .* is a pipe, a device or a socket"):
            checkpoint.read(path)
    with pytest.raises(ValueError, match=r"is a folder without prior\.safetensors"):
        checkpoint.read(tmp_path)
    with pytest.raises(ValueError, match=r"path: cannot read .*File name too long"):
        checkpoint.read(tmp_path / ("x" * 4000))
    with pytest.raises(ValueError, match="path: no file at"):
        checkpoint.read(tmp_path / "a\0b")


# ---------------------------------------------------------------------- heads


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "is not JSON .*nested too deeply"),
        ('{"a":' * 100_000, "is not JSON .*nested too deeply"),
        ("{", "is not JSON"),
        ('{"format_version": NaN}', "is not JSON .*it holds NaN"),
        ('{"format_version": 1, "x": 1e999}', "is not JSON .*beyond double precision"),
        ('{"format_version": ' + "9" * 5000 + "}", "is not JSON"),
        ('{"format_version": true}', "names no format_version"),
        ('{"format_version": 1e0}', "names no format_version"),
        ("[]", "names no format_version"),
        ('{"format_version": 1}', "lacks class, config, joints"),
        ('{"format_version": 999999999999999999999}', "this poseprior reads up to 1; update"),
    ],
)
def test_odd_metadata_is_refused(gaussian: Path, text: str, message: str, in_bounds: None) -> None:
    _with_metadata(gaussian, text)
    with pytest.raises(ValueError, match=message) as caught:
        poseprior.load(gaussian)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("size", [20_000_000, 90_000_000])
def test_megabytes_of_metadata_are_refused(gaussian: Path, size: int) -> None:
    _with_metadata(gaussian, note="x" * size)
    with _bounds(), pytest.raises(ValueError, match=r"the header of .* has .* bytes, expected at most 16,777,216"):
        poseprior.load(gaussian)


def test_metadata_that_could_not_be_read_again_are_not_written(tmp_path: Path) -> None:
    prior = GaussianPrior(_JOINTS)
    prior.metadata["note"] = "x" * 9_000_000
    with pytest.raises(ValueError, match="metadata: expected at most 8,388,608 characters of JSON"):
        prior.save(tmp_path / "x.safetensors")
    prior.metadata = {"licence": None}
    with pytest.raises(ValueError, match="metadata: expected a string for 'licence', got None"):
        prior.save(tmp_path / "x.safetensors")
    prior.metadata = {"note": [float("inf")]}
    with pytest.raises(ValueError, match="metadata: expected JSON-able values without NaN"):
        prior.save(tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("class", {}), ("class", None), ("class", ["GaussianPrior"]), ("config", None), ("config", []), ("config", "x"),
        ("joints", {}), ("joints", "left_elbow"), ("licence", 3), ("digest", 3),
    ],
)  # fmt: skip
def test_metadata_of_other_types_are_refused(gaussian: Path, key: str, value: object) -> None:
    _with_metadata(gaussian, **{key: value})
    with pytest.raises(ValueError, match=f"path: '{key}' in the metadata of .* the file is damaged"):
        poseprior.load(gaussian)


def test_joints_have_to_be_those_of_the_options(gaussian: Path) -> None:
    for joints in ([], ["left_elbow"], [16, 18, 20], [{}] * 3, [[]]):
        _with_metadata(gaussian, joints=joints)
        with pytest.raises(ValueError, match=r"say that it models .* the file is damaged"):
            poseprior.load(gaussian)


def test_names_from_files_are_escaped(gaussian: Path) -> None:
    _with_metadata(gaussian, **{"class": "\x1b[2J\u202eevil\n" + "x" * 5000})
    with pytest.raises(ValueError) as caught:
        poseprior.load(gaussian)
    assert "\\x1b[2J\\u202eevil" in str(caught.value)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 1000
    GaussianPrior(_JOINTS).save(gaussian)
    _with_tensors(gaussian, **{"\x1b]0;evil\x07": torch.zeros(1)})
    with pytest.raises(ValueError, match="unexpected: '") as caught:
        poseprior.load(gaussian)
    assert str(caught.value).isprintable()


# ---------------------------------------------------------------------- tensors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.to(torch.complex64), "has dtype 'C64'"),
        (lambda t: t.to(torch.float8_e4m3fn), "has dtype 'F8_E4M3'"),
        (lambda t: t.reshape((1,) * 60 + tuple(t.shape)), "and 62 dimensions; .* at most 8 dimensions"),
        (lambda t: t.to(torch.int64), r"of another type: chart.mean \(expected torch.float32, got torch.int64\)"),
        (lambda t: t > 0, r"of another type: chart.mean \(expected torch.float32, got torch.bool\)"),
        (lambda t: t / 0.0, "not finite: chart.mean"),
        (lambda t: t[None], r"misshapen: chart.mean \(expected \(3, 3\), got \(1, 3, 3\)\)"),
        (lambda t: t[:0], r"misshapen: chart.mean \(expected \(3, 3\), got \(0, 3\)\)"),
    ],
)
def test_tensors_of_other_kinds_are_refused(
    gaussian: Path, change: Callable[[torch.Tensor], torch.Tensor], message: str, in_bounds: None
) -> None:
    _with_tensors(gaussian, chart__mean=change(load_file(gaussian)["chart.mean"]))
    with pytest.raises(ValueError, match=message):
        poseprior.load(gaussian)


def test_half_precision_is_a_smaller_file(gaussian: Path) -> None:
    tensors = {name.replace(".", "__"): tensor.to(torch.bfloat16) for name, tensor in load_file(gaussian).items()}
    _with_tensors(gaussian, **tensors)
    assert poseprior.load(gaussian).dtype == torch.float32


@pytest.mark.parametrize(
    ("maker", "changes"),
    [
        ("gaussian", {"chart.scale": 0.0}), ("gaussian", {"log_scale": 1e30}), ("gaussian", {"log_scale": -1e30}),
        ("gaussian", {"chart.mean": 1e38}), ("gaussian-full", {"": 0.0}), ("mixture", {"": 0.0}),
        ("joint-flow", {"conditionals.log_diagonal": 1e30}),
        ("global-flow", {"flow.whitening.log_diagonal": 1e30}), ("global-flow", {"flow.tails.log_nu": -1e30}),
        ("global-flow-published", {"flow.blocks.0.first.log_scale": 1e30}),
        ("order-agnostic", {"groups.parts.0.base.covariance": 0.0}),
        ("order-agnostic", {"groups.parts.0.base.covariance": -1.0}),
        ("vae", {"": 1e30}), ("product", {"parts.1.chart.scale": 0.0}),
    ],
)  # fmt: skip
def test_weights_that_cannot_be_used_are_refused(tmp_path: Path, maker: str, changes: dict[str, float]) -> None:
    path = tmp_path / "prior.safetensors"
    _MAKERS[maker]().save(path)
    tensors = load_file(path)
    for name, value in changes.items():
        chosen = [n for n in tensors if n.startswith(name) and tensors[n].is_floating_point()]
        assert chosen
        _with_tensors(path, **{n: torch.full_like(tensors[n], value) for n in chosen})
    with pytest.raises(ValueError, match=r"path: .* (holds weights that|the tensors of)"):
        poseprior.load(path)


@pytest.mark.parametrize("fill", [10**12, -1, 0])
def test_permutations_are_permutations(tmp_path: Path, fill: int) -> None:
    path = tmp_path / "prior.safetensors"
    GlobalFlow.published(_JOINTS).save(path)
    name = "flow.blocks.0.permutation"
    _with_tensors(path, **{name: torch.full_like(load_file(path)[name], fill)})
    with pytest.raises(ValueError, match=f"not a permutation: {name}"):
        poseprior.load(path)


# ---------------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("maker", "options"),
    [
        ("gaussian-full", {"covariance": "full", "joints": list(range(55)), "groups": None}),
        ("mixture", {"num_components": 1024}), ("joint-flow", {"hidden": 2048}), ("joint-flow", {"num_components": 256}),
        ("global-flow", {"hidden": 4096, "layers": 16}), ("global-flow", {"couplings": 32, "hidden": 4096}),
        ("global-flow", {"context_dim": 65536, "hidden": 4096}), ("order-agnostic", {"hidden": 2048, "layers": 16}),
        ("vae", {"hidden": 4096, "depth": 32}), ("vae", {"latent_dim": 1024, "flow_hidden": 4096, "flow_layers": 32}),
        ("joint-flow", {"hidden": 10**9}), ("global-flow", {"couplings": 10**9}), ("vae", {"hidden": 10**9}),
        ("global-flow-published", {"context_dim": 10**9}), ("order-agnostic", {"num_orders": 10**9}),
        ("mixture", {"num_components": 10**9}),
    ],
)  # fmt: skip
def test_nothing_larger_than_the_file_explains_is_made(
    tmp_path: Path, maker: str, options: dict[str, Any], in_bounds: None
) -> None:
    path = tmp_path / "prior.safetensors"
    _MAKERS[maker]().save(path)
    config = checkpoint.read_metadata(path)["config"]
    _with_metadata(path, config={**config, **options})
    with pytest.raises(ValueError, match="path: "):
        poseprior.load(path)


def test_products_of_products_without_end_are_refused(gaussian: Path, in_bounds: None) -> None:
    _, meta = checkpoint.read(gaussian)
    config, name = meta["config"], "GaussianPrior"
    for _ in range(200):
        config, name = {"parts": [{"class": name, "config": config}], "mirrored": []}, "ProductPrior"
    _with_metadata(gaussian, **{"class": name, "config": config})
    with pytest.raises(ValueError, match="path: ") as caught:
        poseprior.load(gaussian)
    assert len(str(caught.value)) < 3000


def test_notes_of_parts_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "prior.safetensors"
    product = _MAKERS["product"]()
    product.metadata["parts"] = "mine"
    product.save(path)
    assert poseprior.load(path).metadata.get("parts") is None
    for notes in ({}, [], [{}], [{}, 3], "ab", 3, [{}, {}, {}]):
        _with_metadata(path, parts=notes)
        with pytest.raises(ValueError, match="metadata: expected one mapping for each of 2 parts"):
            poseprior.load(path)


# ---------------------------------------------------------------------- the digest


def test_every_flipped_bit_is_found(saved: Path) -> None:
    whole = saved.read_bytes()
    generator = random.Random(0)
    for _ in range(60):
        place, bit = generator.randrange(len(whole)), generator.randrange(8)
        saved.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
        if _outcome(saved) is None:  # a blank that became another one
            head = _head(saved.read_bytes())
            assert head == _head(whole)


def test_files_without_digest_load_and_those_of_another_are_named(gaussian: Path) -> None:
    _with_metadata(gaussian)
    assert "digest" not in checkpoint.read_metadata(gaussian)
    poseprior.load(gaussian)
    _with_metadata(gaussian, digest="sha256:0")
    with pytest.raises(ValueError, match=r"does not match the digest .* damaged or was edited, copy it again"):
        poseprior.load(gaussian)


def test_the_digest_is_of_what_a_reader_has(tmp_path: Path) -> None:
    """Keys that are no strings, tuples and the order of entries change nothing; a saved copy has the same digest."""
    prior = GaussianPrior(_JOINTS)
    prior.metadata = {"steps": {10: "b", 9: "a", True: (1, 2.5)}, "name": "\u00e9\ud800"}
    prior.save(tmp_path / "a.safetensors")
    again = poseprior.load(tmp_path / "a.safetensors")
    assert "digest" not in again.metadata
    again.save(tmp_path / "b.safetensors")
    digests = [checkpoint.read_metadata(tmp_path / f"{n}.safetensors")["digest"] for n in "ab"]
    assert digests[0] == digests[1] and digests[0].startswith("sha256:")


# ---------------------------------------------------------------------- writing


def test_a_full_disk_is_one_line_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "prior.safetensors"
    GaussianPrior(_JOINTS).save(path)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(ValueError, match=r"path: cannot write .*; give another place") as caught:
            JointFlow("body").save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["prior.safetensors"]


# ---------------------------------------------------------------------- random damage


def _damage(content: bytes, generator: random.Random) -> bytes:
    """Bytes changed, cut, repeated or inserted; or one value of the metadata replaced."""
    (length,) = struct.unpack("<Q", content[:8])
    head = json.loads(content[8 : 8 + length])
    kind = generator.randrange(3)
    if kind == 0:
        changed = bytearray(content)
        for _ in range(generator.randint(1, 8)):
            changed[generator.randrange(len(changed))] = generator.randrange(256)
        return bytes(changed)
    if kind == 1:
        a, b = sorted(generator.randrange(len(content)) for _ in range(2))
        return generator.choice((content[:a], content[:a] + content[b:], content[:b] + content[a:]))
    meta = json.loads(head["__metadata__"]["poseprior"])
    meta.pop("digest", None)
    target = generator.choice([meta, meta["config"]])
    odd = [None, True, -1, 0, 1, 10**9, 10**30, 0.5, -1e308, "", "x", [], [[]], {}, [1], ["a"], {"a": 1}, [[[0]]]]
    target[generator.choice(list(target))] = generator.choice(odd)
    head["__metadata__"]["poseprior"] = json.dumps(meta)
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


@pytest.mark.parametrize("count", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_damaged_files_load_or_are_one_error(saved: Path, count: int) -> None:
    whole = saved.read_bytes()
    generator = random.Random(count)
    for _ in range(count):
        saved.write_bytes(_damage(whole, generator))
        with bounded():
            assert len(_outcome(saved) or "") < 10_000


# ---------------------------------------------------------------------- weights and parts


@pytest.mark.parametrize("value", [1e30, -1e15])
def test_weights_that_overflow_are_refused(saved: Path, value: float) -> None:
    whole = load_file(saved)
    for name, tensor in list(whole.items())[:3]:
        if tensor.is_floating_point() and tensor.numel():
            changed = tensor.clone()
            changed.view(-1)[0] = value
            save_file({**whole, name: changed}, saved, metadata=_without_digest(saved))
            with pytest.raises(ValueError, match=rf"path: .*cannot use.*numbers beyond 1e\+12 in {name}"):
                poseprior.load(saved)


def _without_digest(path: Path) -> dict[str, str]:
    meta = json.loads(_parts(path)[0]["__metadata__"]["poseprior"])
    meta.pop("digest", None)
    return {"poseprior": json.dumps(meta)}


@pytest.mark.parametrize("metadata", [[1], None, "x"])
def test_metadata_that_are_no_mapping(metadata: Any, tmp_path: Path) -> None:
    prior = GaussianPrior(_JOINTS)
    prior.metadata = metadata
    with pytest.raises(ValueError, match="metadata: expected a mapping"):
        prior.save(tmp_path / "prior.safetensors")


def test_a_factor_that_cannot_draw_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "prior.safetensors"
    tensors, meta = checkpoint.read(Path(poseprior.__file__).parent / "pretrained" / "body-gaussian.safetensors")
    tensors["factors.parts.0.lower"].view(-1)[5] = 1e4
    meta.pop("digest")
    save_file(tensors, path, metadata={"poseprior": json.dumps(meta)})
    with pytest.raises(ValueError, match="holds weights that GaussianPrior cannot use"):
        poseprior.load(path)


def test_many_parts_are_refused_at_once(gaussian: Path) -> None:
    part = {"class": "GaussianPrior", "config": {"joints": [5]}}
    _with_metadata(gaussian, **{"class": "ProductPrior", "config": {"parts": [part] * 60_000, "mirrored": []}})
    with bounded(), pytest.raises(ValueError, match="more than 64 priors"):
        poseprior.load(gaussian)
    with pytest.raises(ValueError, match="parts: expected at most 55 priors"):
        ProductPrior([part] * 60)


def test_deep_nests_are_refused_at_once(gaussian: Path) -> None:
    nest: dict[str, Any] = {"class": "GaussianPrior", "config": checkpoint.read_metadata(gaussian)["config"]}
    for _ in range(40):
        empty: dict[str, Any] = {name: {} for name in ("parent_frame", "child_frame", "spread", "centre")}
        nest = {"class": "AdaptedPrior", "config": {"prior": nest, **empty}}
    _with_metadata(gaussian, **nest)
    with bounded(), pytest.raises(ValueError, match="nested more than 8 deep"):
        poseprior.load(gaussian)


def test_many_tensors_are_refused_at_once(gaussian: Path) -> None:
    _with_tensors(gaussian, **{f"x{k}": torch.zeros(1) for k in range(20_000)})
    with bounded(), pytest.raises(ValueError, match=r"holds 20,0.. tensors, expected at most 10,000"):
        poseprior.load(gaussian)
