"""Writing: the permissions of the process, several writers at once, full disks, killed writers, and JSON."""

from __future__ import annotations

import json
import math
import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from poseprior import GaussianPrior
from poseprior.cli._common import check_suffix
from poseprior.io import PoseDataset, write_poses
from poseprior.io.atomic import finite, replacing, require_writable, write_json

posix = pytest.mark.skipif(os.name != "posix", reason="permissions and locks of POSIX")


def _python(code: str, *args: object, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, args)]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)  # type: ignore[call-overload,no-any-return]


@posix
def test_a_file_that_is_replaced_keeps_its_permissions_and_links_to_it(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    file, link = tmp_path / "there" / "a.json", tmp_path / "link.json"
    file.write_text("{}")
    file.chmod(0o600)
    link.symlink_to(file)
    require_writable(link)
    write_json(link, [1])
    assert link.is_symlink() and json.loads(file.read_text()) == [1] and stat.S_IMODE(file.stat().st_mode) == 0o600
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.json", "link.json", "there"]


@posix
def test_devices_and_pipes_are_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/null")):
        for write in (require_writable, lambda p: write_json(p, 1)):
            with pytest.raises(ValueError, match=r"^path: cannot write .*a device or a pipe"):
                write(path)
        assert not path.is_file()


@posix
def test_threads_that_save_leave_no_file_open_to_all(tmp_path: Path) -> None:
    """In a process of its own, because it sets the umask."""
    code = """
        import os, stat, sys, threading
        from pathlib import Path
        from poseprior.io.atomic import replacing
        os.umask(0o027); sys.setswitchinterval(1e-6); folder = Path(sys.argv[1]); stop = False; loose = 0
        def save(k):
            for n in range(150):
                with replacing(folder / f"{k}_{n % 5}.txt") as temporary: temporary.write_text("x" * 100)
        def other():
            global loose
            n = 0
            while not stop:
                path = folder / f"other{n % 50}"; path.unlink(missing_ok=True); path.touch(); n += 1
                loose += bool(path.stat().st_mode & 0o007)
        watch = threading.Thread(target=other); watch.start()
        savers = [threading.Thread(target=save, args=(k,)) for k in range(6)]
        [t.start() for t in savers]; [t.join() for t in savers]; stop = True; watch.join()
        assert loose == 0 and os.umask(0) == 0o027
        assert {oct(p.stat().st_mode & 0o777) for p in folder.iterdir()} == {"0o640"}
        assert not [p for p in folder.iterdir() if p.name.startswith(".")]
    """
    run = _python(code, tmp_path)
    assert run.wait(60) == 0, run.communicate()[1]
    run.communicate()


@posix
def test_two_writers_of_one_target_do_not_remove_each_others_file(tmp_path: Path) -> None:
    target = tmp_path / "x.txt"
    errors: list[BaseException] = []

    def save(text: str) -> None:
        try:
            for _ in range(150):
                with replacing(target) as temporary:
                    temporary.write_text(text)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=save, args=(str(k) * 1000,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(set(target.read_text())) == 1 and [p.name for p in tmp_path.iterdir()] == ["x.txt"]


@posix
@pytest.mark.parametrize("kind", ["file", pytest.param("folder", marks=pytest.mark.slow)])
def test_the_leftovers_of_a_killed_writer_go_when_it_resumes(kind: str, tmp_path: Path) -> None:
    code = """
        import sys, time
        from pathlib import Path
        from poseprior.io.atomic import new_folder, replacing
        with (replacing if sys.argv[2] == "file" else new_folder)(Path(sys.argv[1])) as temporary:
            (temporary if sys.argv[2] == "file" else temporary / "poses.npy").write_text("half")
            print("writing", flush=True); time.sleep(60)
    """
    target = tmp_path / "x.npz"
    killed, alive = (_python(code, target, kind) for _ in range(2))
    for run in (killed, alive):
        assert run.stdout is not None and run.stdout.readline() == "writing\n"
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert len(list(tmp_path.iterdir())) == 2
    dataset = PoseDataset(torch.zeros(2, 55, 3))
    if kind == "file":
        write_poses(target, dataset)
    else:
        dataset.to_memmap(target)
    left = [p.name for p in tmp_path.iterdir()]
    alive.send_signal(signal.SIGKILL)
    alive.communicate()
    assert len(left) == 2 and "x.npz" in left, "the living writer's file stays"


@posix
@pytest.mark.parametrize(
    "kind", ["npz", *(pytest.param(k, marks=pytest.mark.slow) for k in ("checkpoint", "torch", "folder"))]
)
def test_a_full_disk_is_one_line_and_the_old_file_stays(kind: str, tmp_path: Path) -> None:
    """A limit on the size of files stands for the end of a disk: the same error of the same calls."""
    code = """
        import resource, sys, torch
        from pathlib import Path
        import poseprior
        from poseprior.io import PoseDataset, write_poses
        from poseprior.io.atomic import replacing
        folder, kind = Path(sys.argv[1]), sys.argv[2]
        data = PoseDataset(torch.randn(2000, 55, 3))
        if kind == "npz": save = lambda: write_poses(folder / "x.npz", data)
        elif kind == "folder": save = lambda: data.to_memmap(folder / "x")
        elif kind == "checkpoint": save = lambda: poseprior.GlobalFlow("all").save(folder / "x.safetensors")
        else:
            def save():
                with replacing(folder / "x.pt") as temporary: torch.save(data.poses, temporary)
        if kind != "folder": save()
        before = {p.name: p.read_bytes() for p in folder.iterdir()}
        resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))
        try: save()
        except ValueError as error: text = str(error)
        assert "cannot write" in text and "give another place" in text and "\\n" not in text, text
        assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    """
    run = _python(code, tmp_path, kind)
    assert run.wait(120) == 0, run.communicate()[1]
    run.communicate()


@posix
def test_permissions_are_those_of_new_files(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("x")
    with replacing(tmp_path / "b.safetensors") as temporary:
        save_file({"x": torch.zeros(3)}, temporary)
    (tmp_path / "c.txt").touch()
    assert len({stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}) == 1


def test_places_that_cannot_be_written_are_known_before(tmp_path: Path) -> None:
    require_writable(tmp_path / "new" / "deep" / "x.npz")
    (tmp_path / "file").touch()
    (tmp_path / "folder.npz").mkdir()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.npz"]
    for path in (tmp_path / "file" / "x.npz", tmp_path / "folder.npz", Path("/proc/nowhere/x.npz")):
        with pytest.raises(ValueError, match=r"path: cannot write .*; give another place"):
            require_writable(path)
    with pytest.raises(ValueError, match=r"--out: cannot write .*; give another place"):
        check_suffix("--out", tmp_path / "file" / "x.npz", ".npz")


def test_json_holds_no_nan(tmp_path: Path) -> None:
    value = {"a": math.nan, "b": [math.inf, 1.5, {"c": -math.inf}], "d": (1, None, "NaN"), "e": True}
    write_json(tmp_path / "x.json", value)
    text = (tmp_path / "x.json").read_text()

    def refuse(token: str) -> None:
        raise AssertionError(token)

    assert json.loads(text, parse_constant=refuse) == {
        "a": None, "b": [None, 1.5, {"c": None}], "d": [1, None, "NaN"], "e": True,
    }  # fmt: skip
    assert finite(np.float64("nan")) is None


def test_errors_of_the_callers_own_code_pass(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="mine"), replacing(tmp_path / "x.txt"):
        raise RuntimeError("mine")
    assert not list(tmp_path.iterdir())


@posix
def test_every_name_that_the_file_system_takes_can_be_written(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 250 + ".json")
    require_writable(target)
    killed = "import os, sys\nfrom poseprior.io.atomic import replacing\nwith replacing(sys.argv[1]):\n    os._exit(0)"
    _python(killed, target).communicate()
    assert len(list(tmp_path.iterdir())) == 1
    write_json(target, [1])
    assert [p.name for p in tmp_path.iterdir()] == [target.name]
    for write in (require_writable, lambda path: write_json(path, 1)):
        with pytest.raises(ValueError, match=r"^path: cannot write .*too long"):
            write(tmp_path / ("n" * 256))


@pytest.mark.parametrize("name", ["a\0.safetensors", "a\ud800.safetensors"])
def test_names_that_no_file_has_are_refused_as_the_argument(name: str, tmp_path: Path) -> None:
    for path in (tmp_path / name, str(tmp_path / name)):
        for write in (require_writable, lambda path: write_json(path, 1), GaussianPrior("body").save):
            with pytest.raises(ValueError, match=r"^path: expected a path, got [\x20-\x7e]+$"):
                write(path)
