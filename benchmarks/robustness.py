"""What survives when something goes wrong: `python benchmarks/robustness.py [NAME ...] [--times 50]`.

Each fault really happens, to a process of its own (threat model: learn_diffusion/checkpoints.py). Linux or macOS. The
table in benchmarks/results/robustness.json keeps rows that were not asked for. Exit code 1 where anything was lost.
"""

import argparse
import hashlib
import json
import multiprocessing
import random
import resource
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from unittest import mock

import hypothesis
import nbformat
import torch
from hypothesis import strategies as st

import tools
from learn_diffusion import checkpoints, recipes
from learn_diffusion.datasets import download
from learn_diffusion.datasets.digits import small_digits
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.nets import UNet
from learn_diffusion.recipes.run import run_recipe
from learn_diffusion.schedules import DDPM
from learn_diffusion.training import train
from tools import ROOT
from tools.tables import Table, markdown, write

RESULTS = ROOT / "benchmarks/results/robustness.json"
CONTEXT = multiprocessing.get_context("forkserver")  # processes that start at once: PyTorch is imported already
CONTEXT.set_forkserver_preload(
    ["learn_diffusion.recipes.run", "sklearn.datasets", "torch._dynamo", "nbclient", "hypothesis"]
)
CONTENT = random.Random(0).randbytes(50_000_000)  # of the file that is downloaded
CODE = {"os.exec", "os.fork", "os.posix_spawn", "os.system", "pickle.find_class", "socket.connect", "subprocess.Popen"}


def model() -> Denoiser:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return Denoiser(UNet(widths=(8, 16)), DDPM(), "eps")


def training(path: Path) -> Denoiser:
    return list(train(model(), small_digits()[0], 40, batch=8, checkpoint=path, checkpoint_every=2))[-1].ema


def recipe(path: Path) -> None:
    recipes.RECIPES["tiny"] = lambda work, **options: (training(work), {})
    run_recipe("tiny", path)


def notebooks(checkout: Path, path: Path) -> None:
    tools.ROOT = checkout  # in this process alone
    for argument in ("_", "--normalise"):  # run the small one, then bring all into their stored form
        sys.argv = ["notebooks", argument]
        runpy.run_module("tools.notebooks", run_name="__main__")


def limited(said: Path, limit: int, path: Path) -> None:  # no file can grow above so many bytes
    sys.stdout = None  # which may be a file, too
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        recipe(path)
        said.write_text("ok")
    except (OSError, ValueError) as error:
        said.write_text(str(error))


def run(job: Callable, *arguments: object, seconds: float | None = None) -> float:
    """Run a job in a process, to its end or until kill -9 after so many seconds; returns its seconds."""
    begin, process = time.perf_counter(), CONTEXT.Process(target=job, args=arguments)
    process.start()
    process.join(seconds)
    process.kill()
    process.join()
    if seconds is None and process.exitcode:
        raise RuntimeError(f"the process ended with {process.exitcode}")
    return time.perf_counter() - begin


def lost_model(path: Path, done: bool) -> str:
    """What is wrong with a checkpoint or its work file and, where it is done, with the result; or ""."""
    undisturbed = path.parent.with_name("undisturbed")
    try:
        for file in (path, path.with_name("a.work")):
            with suppress(FileNotFoundError):
                checkpoints.read(file)
        a, b = (checkpoints.read(file)[0].state_dict() for file in (path if done else undisturbed, undisturbed))
    except (ValueError, OSError) as error:
        return str(error)
    same = all(w.equal(b[name]) for name, w in a.items())
    return ", ".join(file.name for file in path.parent.iterdir() if done and file != path) if same else "other weights"


def lost_file(path: Path, done: bool) -> str:
    return "" if (path.read_bytes() == CONTENT if path.exists() else not done) else "wrong bytes"


def lost_notebook(checkout: Path, path: Path, done: bool) -> str:
    if done and b"stdout" not in (checkout / "notebooks" / "_.ipynb").read_bytes():
        return "_.ipynb was not executed"
    files, end = [checkout / "README.md", *checkout.glob("notebooks/*.ipynb")], (ROOT / "README.md").read_bytes()[-30:]
    return ", ".join(file.name for file in files if not file.read_bytes().endswith((end, b"\n}\n")))


def killed(job: Callable, lost: Callable, times: int, folder: Path, then: Callable = lambda path: "") -> Iterator[str]:
    """Of each trial what was lost, or "": kill -9 at a random moment, then another fault, then it runs to the end."""
    took = run(job, folder / "undisturbed")
    for i in range(times):
        (path := folder / str(i) / "a").parent.mkdir()
        run(job, path, seconds=random.uniform(0, took))
        if not (wrong := lost(path, False) or then(path)):
            run(job, path)
        yield wrong or lost(path, True)


def killed_download(times: int, folder: Path) -> Iterator[str]:
    (folder / "file").write_bytes(CONTENT)
    server = [sys.executable, "-um", "http.server", "--bind", "127.0.0.1", "--directory", str(folder), "0"]
    with subprocess.Popen(server, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        mirrors = [f"http://127.0.0.1:{process.stdout.readline().split()[5]}/file"]
        what = {"mirrors": mirrors, "sha256": hashlib.sha256(CONTENT).hexdigest()}
        try:
            yield from killed(partial(download.fetch, progress=False, **what), lost_file, times, folder)
        finally:
            process.kill()


def killed_notebooks(times: int, folder: Path) -> Iterator[str]:
    checkout = folder / "checkout"
    shutil.copytree(ROOT / "notebooks", checkout / "notebooks", ignore=shutil.ignore_patterns(".*"))
    (checkout / "book").mkdir()
    for page in ("README.md", "book/_toc.yml"):
        shutil.copy(ROOT / page, checkout / page)
    cells = [nbformat.v4.new_markdown_cell("# Why?\n\n*Time: ?.*"), nbformat.v4.new_code_cell("print(1)")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), checkout / "notebooks" / "_.ipynb")
    return killed(partial(notebooks, checkout), partial(lost_notebook, checkout), times, folder)


def refused(limits: list[int], words: str, path: Path) -> str:
    """One writer of a file is refused with these words: by a full disk, or because the other is writing it."""
    said, wrong = [path.parent.with_suffix(f".{k}") for k in range(len(limits))], ""
    processes = [CONTEXT.Process(target=limited, args=(*each, path)) for each in zip(said, limits, strict=True)]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        wrong = wrong or lost_model(path, False)
    *others, last = sorted((file.read_text() for file in said), key=len)
    wrong, clear = wrong or lost_model(path, False), words in last and set(others) <= {"ok"}
    return wrong or ("" if clear else f"said {others}, {last}")


def signed(part: str, key: str, value: object) -> bytes:  # with the right digest
    spec = checkpoints.describe(model())
    (spec[part] if key == "class" else spec[part]["arguments"])[key] = value
    hostile = {"describe": lambda model: spec, "_misfit": lambda header, weights: ""}  # save itself would refuse
    with mock.patch.multiple(checkpoints, **hostile), tempfile.TemporaryDirectory() as folder:
        checkpoints.save(Path(folder) / "a", model())
        return (Path(folder) / "a").read_bytes()


def damage(good: bytes) -> dict[str, st.SearchStrategy[bytes]]:
    bits = st.sets(st.integers(0, 8 * len(good) - 1), min_size=1, max_size=20)
    places = [("schedule", "class"), ("schedule", "T"), *(("net", key) for key in ("class", *model().net.config))]
    odd = st.sampled_from([10**6, 10**9, 10**30, -1, 1e308, "Unknown", [10**9] * 2, [8] * 10_000, {}, "x" * 10**5])
    huge = b'{"w": {"dtype": "F32", "shape": [1000000000, 1000000000], "data_offsets": [0, 4]}}'
    texts = [(n or len(text), text) for text in (huge, b"[" * 10**5, b'{"a":' * 10**5) for n in (0, 10**8, 2**63)]
    outer = st.sampled_from([n.to_bytes(8, "little") + text + bytes(4) for n, text in texts])
    return {
        "truncated": st.integers(0, len(good) - 1).map(lambda n: good[:n]),
        "flipped_bits": bits.map(lambda b: (int.from_bytes(good) ^ sum(1 << i for i in b)).to_bytes(len(good))),
        "foreign": st.binary(max_size=2000) | st.sampled_from([b"\x80\x04cos\nsystem\n", b"PK\3\4", b"\x89PNG\r\n"]),
        "hostile_header": st.builds(lambda place, value: signed(*place, value), st.sampled_from(places), odd) | outer,
    }


def look(kind: str, times: int, folder: Path) -> None:
    """Load damaged checkpoints, with a line in a log about each; a limit or a crash ends this process earlier."""
    checkpoints.save(path := folder / "a", model())
    resource.setrlimit(resource.RLIMIT_DATA, (4 << 30, 4 << 30))  # bytes
    heard: list[str] = []
    sys.addaudithook(lambda event, arguments: heard.append(event) if event in CODE else None)
    good = path.read_bytes()

    @hypothesis.settings(max_examples=times, derandomize=True, database=None, deadline=None)
    @hypothesis.given(damage(good)[kind])
    def each(content: bytes) -> None:
        path.write_bytes(content)
        heard.clear()
        signal.alarm(60)  # seconds; nobody handles it, so a hang ends the process
        try:
            checkpoints.load(path, "cpu")
            said = "" if kind == "hostile_header" or content == good else "loaded"
        except checkpoints.CheckpointError as error:
            said = f"{error}" if "memory" in str(error).lower() else ""
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        print(" ".join([*heard, said[:300]]), file=log, flush=True)

    with open(folder / "log", "w") as log:
        each()


def damaged(kind: str, times: int, folder: Path) -> Iterator[str]:
    with suppress(RuntimeError):
        run(look, kind, 100 * times, folder)
        return iter((folder / "log").read_text().splitlines())
    return iter([*(folder / "log").read_text().splitlines(), "the process crashed, or hung for a minute"])


full = partial(refused, [1000], "could not write")
both = partial(refused, [resource.RLIM_INFINITY] * 2, "another process is writing")
FAULTS: dict[str, tuple[str, Callable[[int, Path], Iterator[str]]]] = {
    "kill_training": ("kill -9 in a training: it resumes to the same weights", partial(killed, training, lost_model)),
    "kill_recipe": ("kill -9 in learn-diffusion train: the same", partial(killed, recipe, lost_model)),
    "kill_download": ("kill -9 in a download: the file is absent or right, then right", killed_download),
    "kill_notebooks": ("kill -9 in make notebooks: no notebook is broken, nor the README", killed_notebooks),
    "disk_full": ("no file can grow: an error, older files stay", partial(killed, recipe, lost_model, then=full)),
    "two_writers": ("one is refused, a reader sees whole files", partial(killed, recipe, lost_model, then=both)),
    "truncated": ("a checkpoint that is cut off is refused", partial(damaged, "truncated")),
    "flipped_bits": ("a checkpoint with up to 20 wrong bits is refused", partial(damaged, "flipped_bits")),
    "foreign": ("another file in place of a checkpoint is refused", partial(damaged, "foreign")),
    "hostile_header": ("huge sizes, deep JSON, unknown classes: no hang, no crash", partial(damaged, "hostile_header")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(FAULTS)}; all without one")
    parser.add_argument("--times", type=int, default=50, help="trials of each; a hundred times as many damaged files")
    args = parser.parse_args()
    rows = {row[0]: row for row in json.loads(RESULTS.read_text())["tables"][0]["rows"]} if RESULTS.exists() else {}
    begin = time.perf_counter()
    for name in (names := args.names or list(FAULTS)):
        with tempfile.TemporaryDirectory() as folder:
            found = list(FAULTS[name][1](args.times, Path(folder)))
        lost = [wrong for wrong in found if wrong]
        print(name, *lost[:5], sep="\n  lost: ", file=sys.stderr)
        rows[name] = [name, len(found), len(lost), FAULTS[name][0]]
        table = Table("Faults", ["fault", "tried", "lost", "what"], [rows[key] for key in FAULTS if key in rows])
        write(RESULTS, f"python benchmarks/robustness.py --times {args.times}", [table], time.perf_counter() - begin)
    print(markdown(table))
    sys.exit(any(rows[name][2] for name in names))


if __name__ == "__main__":
    main()
