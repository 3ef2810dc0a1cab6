"""What becomes of files when something goes wrong: `python benchmarks/faults.py [NAME ...] [--times 50]`.

Each fault really happens, to processes of their own: kill -9 at a random moment, a full disk, a read-only folder,
Ctrl-C, two trainings at once, forged files. What was there before has to be whole afterwards, and what was broken off
has to go on to the same bytes. Linux or macOS; as root small disks are mounted, otherwise limits and permissions stand
in for them. The table that is printed is kept in benchmarks/results/faults.json, after each of its rows; rows of
faults that are not asked for stay as they are. Exit code 1 where anything was lost.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import http.server
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE), str(ROOT), str(ROOT / "tests")]

import forged  # noqa: E402 - beside this file

STEPS, EVERY = 40, 2
PATIENCE = 300  # seconds for one process
SHIPPED = ROOT / "data" / "digits_by_label.safetensors"
CONTEXT = multiprocessing.get_context("forkserver")  # processes that start at once: PyTorch is imported already
CONTEXT.set_forkserver_preload(["learn_diffusion.cli", "learn_diffusion.recipes.run", "sklearn.datasets"])
Trials = Iterator[str]  # of each trial: what was lost, in words; "" where it survived


# ---- what is running when it goes wrong: jobs, each in a process of its own


def toy(path: Path) -> None:
    """A training that saves its checkpoint every few steps."""
    import torch

    from learn_diffusion.datasets.digits import small_digits
    from learn_diffusion.denoiser import Denoiser
    from learn_diffusion.nets import UNet
    from learn_diffusion.schedules import Cosine
    from learn_diffusion.training import train

    torch.set_num_threads(1)
    torch.manual_seed(0)
    for _ in train(
        Denoiser(UNet(widths=(8, 16)), Cosine(), "v"),
        small_digits()[0],
        STEPS,
        batch=8,
        checkpoint=path,
        checkpoint_every=EVERY,
    ):
        pass


def tiny(steps: int = STEPS, seed: int = 0, device=None, work: Path | None = None):
    """A recipe as those in recipes.py, but seconds long."""
    from learn_diffusion import checkpoints

    toy(work)
    return checkpoints.load(work, "cpu")[0], {"steps": steps, "seed": seed, "metrics": {}}


def recipe(out: Path) -> None:
    """What `learn-diffusion train` runs: a work file, a record of the time, and the file itself."""
    from learn_diffusion import recipes
    from learn_diffusion.recipes.run import run_recipe

    recipes.RECIPES["tiny"] = tiny
    run_recipe("tiny", out)


def sampling(out: Path) -> None:
    """`learn-diffusion sample`, with large pixels: a file worth being killed over."""
    command("sample", SHIPPED, "--out", out, "--label", 3, "--n", 4, "--steps", 2, "--zoom", 40)


def command(*arguments: object) -> None:
    """A command line, in this process. Errors are raised, not printed."""
    import torch

    from learn_diffusion import cli

    torch.set_num_threads(1)
    cli.commands.main([str(argument) for argument in arguments], standalone_mode=False)


def training_by_command(out: Path, said: Path, begun: Path) -> None:
    """`learn-diffusion train` with everything as a reader meets it: what it says on stderr, and its exit code."""
    from learn_diffusion import cli, recipes

    recipes.RECIPES["tiny"] = tiny
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    begun.touch()
    cli.main(["train", "tiny", "--out", str(out)])


def notebooks_of(folder: Path, *arguments: str) -> None:
    """`make notebooks` for the notebooks and the README of a folder."""
    from tools import notebooks

    notebooks.ROOT, notebooks.NOTEBOOKS = folder, folder / "notebooks"
    sys.argv[1:] = arguments
    notebooks.main()


def fetching(path: Path, url: str, sha256: str, size: int) -> None:
    from learn_diffusion.datasets import download

    download.fetch(path, [url], sha256, size, progress=False)


# ---- processes


def begun(job: Callable, *arguments: object) -> multiprocessing.Process:
    process = CONTEXT.Process(target=job, args=arguments)
    process.start()
    return process


def run(job: Callable, *arguments: object) -> float:
    """Run a job to its end: its seconds. Raises RuntimeError where it fails."""
    start = time.perf_counter()
    process = begun(job, *arguments)
    process.join(PATIENCE)
    if process.exitcode != 0:
        process.kill()
        raise RuntimeError(f"{job.__name__} ended with {process.exitcode}")
    return time.perf_counter() - start


def kill(after: float, job: Callable, *arguments: object) -> None:
    process = begun(job, *arguments)
    process.join(after)
    process.kill()
    process.join()


def attempt(result: Path, job: Callable, *arguments: object) -> None:
    """A job whose errors are written down: "ok", or the error."""
    try:
        job(*arguments)
        said = "ok"
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    result.write_text(said)


def outcome(folder: Path, job: Callable, *arguments: object) -> str:
    run(attempt, folder / "result", job, *arguments)
    return (folder / "result").read_text()


# ---- what must hold afterwards: each says what is wrong, or ""


def sound(path: Path) -> str:
    """A checkpoint is not there, or whole."""
    from learn_diffusion import checkpoints

    try:
        checkpoints.read(path)
    except FileNotFoundError:
        pass
    except ValueError as error:
        return str(error)
    return ""


def same_bytes(path: Path, whole: Path) -> str:
    return "" if path.read_bytes() == whole.read_bytes() else f"{path.name}: other bytes than of an undisturbed run"


def same_weights(path: Path, whole: Path) -> str:
    """For files whose header holds the seconds they took."""
    from learn_diffusion import checkpoints

    (a, _, one), (b, _, _) = checkpoints.read(path), checkpoints.read(whole)
    if not 0 <= one["seconds"] < PATIENCE:
        return f"{path.name}: says that it took {one['seconds']} s"
    equal = all(v.equal(w) for v, w in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    return "" if equal else f"{path.name}: other weights than of an undisturbed run"


def alone_in(folder: Path, *expected: str) -> str:
    """Nothing half-written is left."""
    left = sorted(path.name for path in folder.iterdir())
    return "" if left == sorted(expected) else f"left in the folder: {left}"


# ---- kill -9


def killed_and_resumed(times: int, folder: Path, job: Callable, same: Callable[[Path, Path], str]) -> Trials:
    """Five kills, each at a random moment, to each run; then it is let to its end."""
    (folder / "whole").mkdir()
    whole, took = folder / "whole" / "a", 0.0
    took = run(job, whole)
    for first in range(0, times, 5):
        target = folder / str(first) / "a"
        target.parent.mkdir()
        for _ in range(min(5, times - first)):
            kill(random.uniform(0, took), job, target)
            yield sound(target) or sound(target.with_name("a.work"))
        run(job, target)
        if wrong := same(target, whole) or alone_in(target.parent, "a"):
            yield wrong


def kill_training(times: int, folder: Path) -> Trials:
    """kill -9 in a training: the checkpoint is whole after each, the end has the same bytes, nothing else is left"""
    yield from killed_and_resumed(times, folder, toy, same_bytes)


def kill_recipe(times: int, folder: Path) -> Trials:
    """kill -9 in learn-diffusion train: given again it goes on to the same weights, nothing else is left"""
    yield from killed_and_resumed(times, folder, recipe, same_weights)


def kill_sampling(times: int, folder: Path) -> Trials:
    """kill -9 in learn-diffusion sample: the picture is the old one or the new one"""
    out = folder / "x.png"
    took = run(sampling, out)
    new, old = out.read_bytes(), b"the old picture"
    for _ in range(times):
        out.write_bytes(old)
        kill(random.uniform(0, took), sampling, out)
        yield "" if out.read_bytes() in (old, new) else "a picture that is neither the old one nor the new one"


def kill_download(times: int, folder: Path) -> Trials:
    """kill -9 in a download: the file is not there or right, and the next try goes on to the right one"""
    content = random.randbytes(2_000_000)
    with slow_server(content) as url:
        what = (url, hashlib.sha256(content).hexdigest(), len(content))
        took = run(fetching, folder / "first", *what)
        for i in range(times):
            path = folder / str(i)
            kill(random.uniform(0, took), fetching, path, *what)
            broken = path.exists() and path.read_bytes() != content
            run(fetching, path, *what)
            yield "" if not broken and path.read_bytes() == content else "wrong bytes under the file's name"


@contextmanager
def slow_server(content: bytes) -> Iterator[str]:
    class Slow(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            start = int(self.headers.get("Range", "bytes=0-")[6:-1])
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.end_headers()
            with suppress(OSError):  # the reader was killed
                for at in range(start, len(content), 100_000):
                    self.wfile.write(content[at : at + 100_000])
                    time.sleep(0.02)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/file"
    finally:
        server.shutdown()
        server.server_close()


def kill_notebooks(times: int, folder: Path) -> Trials:
    """kill -9 in make notebooks, half while it runs them, half while it stores them: no notebook or README is broken"""
    import nbformat

    from tools import notebooks

    end = (ROOT / "README.md").read_text(encoding="utf-8")[-100:]
    for kind, arguments in (("run", ()), ("store", ("--normalise",))):
        course = folder / kind
        if kind == "store":
            shutil.copytree(ROOT / "notebooks", course / "notebooks", ignore=shutil.ignore_patterns(".*"))
        else:
            (course / "notebooks").mkdir(parents=True)
            cells = [nbformat.v4.new_markdown_cell("# Why?\n\n*Time: ?.*"), nbformat.v4.new_code_cell("print(1)")]
            for name in ("01", "02"):
                nbformat.write(nbformat.v4.new_notebook(cells=cells), course / "notebooks" / f"{name}.ipynb")
        shutil.copy(ROOT / "README.md", course)
        took = run(notebooks_of, course, *arguments)
        for _ in range(times // 2):
            kill(random.uniform(0, took), notebooks_of, course, *arguments)
            wrong = ""
            for path in sorted((course / "notebooks").glob("*.ipynb")):
                try:
                    nbformat.validate(nbformat.read(path, as_version=4))
                except Exception as error:
                    wrong = f"{path.name}: {error}"
            readme = (course / "README.md").read_text(encoding="utf-8")
            whole = notebooks.MARKS[1] in readme and readme[-100:] == end
            yield wrong or ("" if whole else "README.md: cut off")


# ---- disks


@contextmanager
def disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """A disk of that size, where this may mount one. Raises PermissionError where not."""
    place = folder / "disk"
    place.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", place], capture_output=True)
    if done.returncode:
        raise PermissionError(done.stderr.decode())
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def remount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", place], check=True)


def may_mount(folder: Path) -> bool:
    try:
        with disk(folder, 64):
            return True
    except (PermissionError, FileNotFoundError):
        return False


def with_small_files(most: int, job: Callable, *arguments: object) -> None:
    """A job that can write no file above so many bytes: the next best thing to a small disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    job(*arguments)


def in_turn(n: int, folder: Path) -> Iterator[tuple[int, Callable, Callable[[Path, Path], str], Path]]:
    """n trials, of a training and of a recipe in turn: (i, the job, how its files are compared, an undisturbed one)."""
    jobs = [(toy, same_bytes, folder / "whole_training"), (recipe, same_weights, folder / "whole_recipe")]
    for job, _, whole in jobs:
        run(job, whole)
    for i in range(n):
        yield i, *jobs[i % len(jobs)]


def full_disk(times: int, folder: Path) -> Trials:
    """A disk that is full at a random moment: the error names the file, and with more space it goes on exactly"""
    mounts, size = may_mount(folder), 0
    for i, job, same, whole in in_turn(times, folder):
        size = size or whole.stat().st_size  # of a training's file: it is the first in turn
        room = int(size * random.uniform(0, 2.2 if mounts else 0.99))
        if mounts:
            with disk(folder, 4 + room // 1024) as place:
                yield _filled(folder, place / "a", whole, outcome(folder, job, place / "a"), job, same)
        else:
            place = folder / str(i)
            place.mkdir()
            said = outcome(folder, with_small_files, room, job, place / "a")
            yield _filled(folder, place / "a", whole, said, job, same)


def _filled(folder: Path, target: Path, whole: Path, said: str, job: Callable, same: Callable) -> str:
    if said != "ok" and not (said.startswith("OSError: ") and target.name in said and "writ" in said):
        return f"said: {said}"
    left = [path.name for path in target.parent.iterdir() if path.suffix in (".part", ".lock")]
    if wrong := sound(target) or sound(target.with_name("a.work")) or ", ".join(left):
        return wrong
    if target.parent.name == "disk":
        remount(target.parent, "size=64m")
    run(job, target)
    return same(target, whole) or alone_in(target.parent, "a")


def read_only(times: int, folder: Path) -> Trials:
    """A folder that cannot be written: one error that names it, everything in it as it was, and later it goes on"""
    run(toy, folder / "whole")
    mounts = may_mount(folder)
    for i in range(max(3, times // 5)):
        job = (toy, recipe, sampling)[i % 3]
        name = "x.png" if job is sampling else "a"
        with disk(folder, 65536) if mounts else _chmod(folder / f"folder{i}") as place:
            kill(random.uniform(0, 3), job, place / name)
            before = {path.name: path.read_bytes() for path in place.iterdir()}
            remount(place, "ro") if mounts else place.chmod(0o555)
            said = outcome(folder, job, place / name)
            after = {path.name: path.read_bytes() for path in place.iterdir()}
            remount(place, "rw") if mounts else place.chmod(0o755)
            done = said == "ok" and job is toy and not same_bytes(place / name, folder / "whole")  # nothing to write
            named = said.startswith(("OSError: ", "PermissionError: ")) and name in said and "writ" in said
            if (named or done) and before == after:
                run(job, place / name)
                yield ""
            else:
                yield f"said: {said}; before {sorted(before)}, after {sorted(after)}"


@contextmanager
def _chmod(place: Path) -> Iterator[Path]:
    place.mkdir()
    yield place


def no_home(times: int, folder: Path) -> Trials:
    """No home folder, and nothing to write temporary files to: about, sample and train work"""
    hide = "mount --bind {0} /mnt && mount -t tmpfs -o ro tmpfs /tmp && mount -t tmpfs -o ro tmpfs /var/tmp && "
    for i in range(max(3, times // 5)):
        out = folder / f"{i}"
        begin, seen = [], out
        if may_mount(folder):
            begin = ["unshare", "--mount", "sh", "-c", hide.format(folder) + 'exec "$@"', "sh"]
            seen = Path("/mnt") / f"{i}"
        what = [
            ["about", SHIPPED],
            ["sample", SHIPPED, "--steps", "2", "--out", f"{seen}.png"],
            ["train", "digit_classifier", "--steps", "2", "--out", seen],
        ][i % 3]
        environment = {k: v for k, v in os.environ.items() if k != "HOME" and not k.startswith("XDG_")}
        environment |= {"TMPDIR": "/nowhere"} | ({"HOME": "/nowhere"} if i % 2 else {})
        done = subprocess.run(
            [*begin, sys.executable, "-m", "learn_diffusion", *what],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
        yield "" if done.returncode == 0 else f"{what[0]}: {done.stderr.strip()[-300:]}"


# ---- clocks, Ctrl-C, two at once


def with_a_mad_clock(seed: int, job: Callable, *arguments: object) -> None:
    """A job during which the clock on the wall jumps, back and forth, by up to a year."""
    dice, real = random.Random(seed), time.time
    time.time = lambda: real() + dice.uniform(-3e7, 3e7)
    job(*arguments)


def clock(times: int, folder: Path) -> Trials:
    """A clock that jumps by up to a year at each look: the same bytes, and the seconds spent are right"""
    for i, job, same, whole in in_turn(max(2, times // 5), folder):
        run(with_a_mad_clock, i, job, folder / str(i))
        yield same(folder / str(i), whole)


def interrupt(times: int, folder: Path) -> Trials:
    """Ctrl-C in learn-diffusion train: one line, exit code 130, and given again it goes on to the same weights"""
    whole = folder / "whole"
    took = run(recipe, whole)
    for i in range(times):
        target = folder / str(i) / "a"
        target.parent.mkdir()
        process = begun(training_by_command, target, folder / "said", folder / f"begun{i}")
        while not (folder / f"begun{i}").exists():
            time.sleep(0.01)
        process.join(random.uniform(0, took))
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGINT)
        process.join(PATIENCE)
        said = (folder / "said").read_text()
        clean = (process.exitcode, said[-25:]) == (130, "learn-diffusion: stopped\n") and "Traceback" not in said
        if not clean and process.exitcode != 0:
            yield f"exit code {process.exitcode}, said {said[-500:]!r}"
            continue
        run(recipe, target)
        yield same_weights(target, whole) or alone_in(target.parent, "a")


CELL = "import sys; sys.path.insert(0, {here!r})\nimport faults\nfrom pathlib import Path\nfaults.toy(Path({path!r}))"


def interrupt_cell(times: int, folder: Path) -> Trials:
    """A cell that trains, stopped by the square button and run again: it goes on to the same bytes"""
    from jupyter_client.manager import start_new_kernel

    run(toy, folder / "whole")
    for i in range(max(1, times // 10)):
        manager, client = start_new_kernel(cwd=str(folder))
        try:
            path = folder / str(i)
            cell = CELL.format(here=str(HERE), path=str(path))
            client.execute_interactive(cell.rpartition("\n")[0], timeout=PATIENCE)
            asked = client.execute(cell)
            deadline = time.monotonic() + PATIENCE
            while not path.exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(random.uniform(0, 0.5))
            manager.interrupt_kernel()
            while (reply := client.get_shell_msg(timeout=PATIENCE))["parent_header"]["msg_id"] != asked:
                pass
            stopped = reply["content"].get("ename", "finished")
            again = client.execute_interactive(cell, timeout=PATIENCE)["content"]
            if stopped not in ("KeyboardInterrupt", "finished") or again["status"] != "ok":
                yield f"stopped by {stopped}, then {again.get('evalue')}"
            else:
                yield same_bytes(path, folder / "whole")
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)


def two_trainings(times: int, folder: Path) -> Trials:
    """Two trainings of one file at the same time: one is refused with a clear error, the other is undisturbed"""
    for i, job, same, whole in in_turn(max(2, times // 2), folder):
        target, results = folder / str(i) / "a", [folder / f"said{i}_{k}" for k in "ab"]
        target.parent.mkdir()
        both = [begun(attempt, result, job, target) for result in results]
        for process in both:
            process.join(PATIENCE)
        said = sorted(result.read_text() for result in results)
        if said[1] != "ok" or not (said[0].startswith("ValueError: ") and "another process is writing" in said[0]):
            yield f"said: {said}"
        else:
            yield same(target, whole) or alone_in(target.parent, "a")


def saving(path: Path, width: int, times: int) -> None:
    from learn_diffusion import checkpoints
    from learn_diffusion.nets import MLP

    for _ in range(times):
        checkpoints.save(path, MLP(width=width))


def two_writers(times: int, folder: Path) -> Trials:
    """Two processes that write one file over and over, and a third that reads it: whole at every look"""
    from learn_diffusion import checkpoints

    path = folder / "a"
    run(saving, path, 64, 1)
    both = [begun(saving, path, width, 4 * times) for width in (64, 256)]
    for _ in range(4 * times):
        try:
            checkpoints.load(path, "cpu")
            yield ""
        except (ValueError, OSError) as error:
            yield str(error)
    for process in both:
        process.join(PATIENCE)
        if process.exitcode:
            yield "one of the writers failed"
    yield alone_in(folder, "a")


# ---- memory, and forged files


def with_little_memory(megabytes: int, batch: int) -> None:
    """Train with a batch that does not fit; then as the error says, both ways. Raises where that was wrong."""
    import re

    import torch

    from learn_diffusion import training
    from learn_diffusion.datasets.digits import small_digits
    from learn_diffusion.denoiser import Denoiser
    from learn_diffusion.nets import UNet
    from learn_diffusion.schedules import Cosine

    torch.set_num_threads(1)
    training.ENDS_PROCESS = set()  # under a limit of its own the processor refuses, as a GPU does
    training.devices.disable_malloc_trim = lambda: None  # what is free has to be free, as on a GPU
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.mallopt(-3, 1 << 17)  # M_MMAP_THRESHOLD: each tensor apart, given back at once
        libc.mallopt(-8, 1)  # M_ARENA_MAX: no reserve for each thread

    def one(batch: int, accumulate: int = 1) -> None:
        model = Denoiser(UNet(widths=(16, 32)), Cosine(), "v")
        next(training.train(model, small_digits()[0], 1, batch=batch, accumulate=accumulate, device="cpu", bf16=False))

    one(1)  # what is loaded at the first step of all is loaded now
    forged.limit_memory(megabytes << 20)
    try:
        one(batch)
        said = "nothing"
    except ValueError as error:
        said = str(error)
    advice = r"batch: \d+ does not fit into the memory of .*; (\d+) does, and so does grad_accum_steps=(\d+)"
    fits = re.fullmatch(advice, said)
    if fits is None or fits[1] == "1":  # one row always fits
        raise RuntimeError(f"{batch} in {megabytes} MB said {said}")
    one(int(fits[1]))
    one(batch, accumulate=int(fits[2]))


def out_of_memory(times: int, folder: Path) -> Trials:
    """A batch that does not fit into memory: the error names one that does, and parts that do, and they do"""
    for _ in range(max(2, times // 5)):
        said = outcome(folder, with_little_memory, random.randrange(300, 900), random.choice([16384, 30_000, 60_000]))
        yield "" if said == "ok" else said


def forgeries(times: int, folder: Path) -> Trials:
    """Mutated checkpoints, work files, records, vocabularies and pictures, most signed: each loads or is refused"""
    yield from forged.trials(100 * times, folder)


FAULTS: dict[str, Callable[[int, Path], Trials]] = {
    f.__name__: f
    for f in (
        kill_training, kill_recipe, kill_sampling, kill_download, kill_notebooks, full_disk, read_only, no_home, clock,
        interrupt, interrupt_cell, two_trainings, two_writers, out_of_memory, forgeries,
    )
}  # fmt: skip


def row(name: str, times: int, folder: Path) -> list[object]:
    """What became of the trials of one fault: name, tried, survived, lost, words."""
    folder.mkdir()
    found = list(FAULTS[name](times, folder))
    lost = [wrong for wrong in found if wrong]
    for wrong in lost[:5]:
        print(f"{name}: lost: {wrong}", file=sys.stderr)
    return [name, len(found), len(found) - len(lost), len(lost), FAULTS[name].__doc__]


def earlier(path: Path) -> list[list[object]]:
    """The rows of the table as it is kept; those of faults that are no more are left out."""
    if not path.exists():
        return []
    return [one for one in json.loads(path.read_text(encoding="utf-8"))["tables"][0]["rows"] if one[0] in FAULTS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(FAULTS)}; all without one")
    parser.add_argument("--times", type=int, default=50, help="kills of each kind; a hundred times as many forgeries")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the JSON file")
    args = parser.parse_args()
    if unknown := set(args.names) - FAULTS.keys():
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    from tools.tables import Table, markdown, write

    begin, names, path = time.perf_counter(), args.names or list(FAULTS), args.out / "faults.json"
    table = Table("Faults", ["fault", "tried", "survived", "lost", "what"])
    table.notes.append("python benchmarks/faults.py NAME --times 50 repeats a row")
    asked = f"python benchmarks/faults.py NAME --times {args.times}"  # for each of its rows
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            since = time.perf_counter()
            found = row(name, args.times, Path(folder) / name)
            table.rows = [*(other for other in earlier(path) if other[0] != name), found]
            table.rows.sort(key=lambda one: list(FAULTS).index(one[0]))
            print(f"{name}: {time.perf_counter() - since:.0f} s", file=sys.stderr, flush=True)
            write(path, asked, [table], time.perf_counter() - begin)
    print(markdown(table))
    sys.exit(any(lost for name, *_, lost, _ in table.rows if name in names))


if __name__ == "__main__":
    main()
