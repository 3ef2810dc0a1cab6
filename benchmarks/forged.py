"""Files that somebody forged: mutations of good ones, and a judge who opens them under limits of time and memory.

Checkpoints, work files and records of the time are forged, and pictures such as a reader has in a folder. Most
mutations are signed again, with the right SHA-256 or, in a PNG, the right CRC: a checksum guards against accidents, so
what stands behind it has to bear a forger too. Forgery number i is the same in every run. Used by benchmarks/faults.py.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import random
import resource
import signal
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SECONDS, MEMORY = 5, 1 << 30  # more than this is a fault, for one file
PICTURES = "png", "jpeg", "webp"
CODE = {  # what Python tells its auditors when a program does more than read
    "compile", "exec", "os.exec", "os.fork", "os.posix_spawn", "os.system", "pickle.find_class", "socket.connect",
    "subprocess.Popen", "ctypes.dlopen", "marshal.loads",
}  # fmt: skip
HOSTILE: list[Any] = [
    None, True, False, -1, 0, 1, 2, 3, 7, 10**6, 10**9, 10**30, -(10**18), 0.5, 1e308, float("nan"), float("inf"), "",
    "UNet", "MLP", "Denoiser", "Cosine", "v", "x" * 100_000, "\0", "../../etc/passwd", "os.system",
    "__import__('os').system('exit')", "<img src=x onerror=alert(1)>", "\x1b[2J", "\ud800", [], {}, [[]], [0] * 1000,
    ["a"] * 20_000, [None, 3, "cat"], {"class": "Denoiser"}, {"class": "UNet", "arguments": {}}, [10**9] * 2,
    [1] * 400,
]  # fmt: skip


def models() -> dict[str, Any]:
    """A small model of each kind."""
    from learn_diffusion.denoiser import Denoiser
    from learn_diffusion.nets import MLP, Classifier, Generator, UNet
    from learn_diffusion.schedules import DDPM, EDM, Cosine

    words = UNet(channels=1, widths=(8, 8), words=["a", "cat", "dog", "moon", "on", "the"], text=8)
    return {
        "labels": Denoiser(UNet(widths=(8, 8), classes=3), DDPM(), "eps"),
        "words": Denoiser(words, Cosine(), "v"),
        "points": Denoiser(MLP(width=8, blocks=2), EDM(), "edm"),
        "reader": Classifier(width=8),
        "generator": Generator(widths=(8, 8), latent=4),
    }


def trained(path: Path) -> Any:
    """The next step of a training that goes on from path, if that is there."""
    import torch

    from learn_diffusion.training import train

    torch.manual_seed(0)
    data = torch.linspace(-1, 1, 16).reshape(8, 2)
    return next(train(models()["points"], data, 9, batch=4, checkpoint=path, checkpoint_every=1, device="cpu"))


def pictures() -> dict[str, bytes]:
    """A small picture in each format, turned by a camera: what it says of itself (EXIF) can be forged too."""
    from PIL import Image

    image, exif, files = Image.frombytes("RGB", (48, 32), random.Random(0).randbytes(48 * 32 * 3)), Image.Exif(), {}
    exif[0x0112] = 6
    for kind in PICTURES:
        image.save(file := io.BytesIO(), kind, exif=exif)
        files[kind] = file.getvalue()
    return files


def originals(folder: Path) -> dict[str, bytes]:
    """Good files: of each kind of model, a work file, a record of the time that was spent, and pictures."""
    from learn_diffusion import checkpoints

    for name, model in models().items():
        checkpoints.save(folder / name, model, data_shape=[1, 8, 8], seconds=1.0, metrics={"frechet": 0.5})
    trained(folder / "work")
    for name, content in pictures().items():
        (folder / name).write_bytes(content)
    return contents(folder)


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder, in the order of their names: forgeries are numbered by it."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# ---- forging


def forged(good: dict[str, bytes], i: int) -> tuple[str, bytes]:
    """(kind, content) of forgery number i."""
    dice = random.Random(i)
    kind = dice.choice([*good, "work", "words"])  # these two more often
    content = good[kind]
    for _ in range(dice.choice([1, 1, 1, 2, 4])):
        if kind == "record":
            forge = dice.choice([_bytes, _json])
        elif kind in PICTURES:
            forge = dice.choice([_bytes, _chunk]) if kind == "png" else _bytes
        else:
            forge = dice.choice([_bytes, _outer, _header, _header, _header, _tensors, _tensors])
        try:
            content = forge(dice, content)
        except Exception:
            content = _bytes(dice, content)  # what an earlier mutation broke cannot be forged with skill
    return kind, content


def _bytes(dice: random.Random, content: bytes) -> bytes:
    """Anywhere, without looking: flipped, cut off, doubled, blanked."""
    if not content:
        return b"{"
    at, n = dice.randrange(len(content)), dice.choice([1, 8, 100, 5000])
    head = content[: min(2000, len(content))]
    ways: list[Callable[[], bytes]] = [
        lambda: content[:at],
        lambda: content[:at] + dice.randbytes(n) + content[at:],
        lambda: content[:at] + dice.randbytes(n) + content[at + n :],
        lambda: content[:at] + bytes(n) + content[at + n :],
        lambda: content[:at] + content[at : at + n] * 3 + content[at + n :],
        lambda: content[: at % len(head)] + dice.randbytes(1) + content[at % len(head) + 1 :],
        lambda: dice.choice([2**63, 2**32, 10**8, 0, 1]).to_bytes(8, "little") + content[8:],
    ]
    return dice.choice(ways)()


def _chunk(dice: random.Random, content: bytes) -> bytes:
    """In one chunk of a PNG: other sides, up to some that would take all memory, or anything without looking."""
    places, at = [], 8
    while at < len(content):
        places.append((at, int.from_bytes(content[at : at + 4], "big")))
        at += 12 + places[-1][1]
    at, n = dice.choice(places)
    kind, inside = content[at + 4 : at + 8], content[at + 8 : at + 8 + n]
    if kind == b"IHDR" and dice.random() < 0.5:
        sides = [dice.choice([0, 1, 7999, 8000, 10**5, 2**31 - 1]).to_bytes(4, "big") for _ in range(2)]
        inside = b"".join(sides) + inside[8:]
    else:
        inside = _bytes(dice, inside)
    crc = zlib.crc32(kind + inside).to_bytes(4, "big")
    return content[:at] + len(inside).to_bytes(4, "big") + kind + inside + crc + content[at + 12 + n :]


def _json(dice: random.Random, content: bytes) -> bytes:
    return _text(dice, json.loads(content)).encode("utf-8", "surrogatepass")


def _outer(dice: random.Random, content: bytes) -> bytes:
    """In the header of safetensors itself: types, shapes, places."""
    n = int.from_bytes(content[:8], "little")
    header = _text(dice, json.loads(content[8 : 8 + n])).encode("utf-8", "surrogatepass")
    return len(header).to_bytes(8, "little") + header + content[8 + n :]


def _header(dice: random.Random, content: bytes) -> bytes:
    """In our own header: what model it is, what is said about it."""
    header, tensors = _opened(content)
    return _signed(_text(dice, header), tensors)


def _tensors(dice: random.Random, content: bytes) -> bytes:
    """A tensor that is lost, renamed, reshaped, of another type, or holds other numbers."""
    import torch

    header, tensors = _opened(content)
    name = dice.choice(sorted(tensors))
    w = tensors.pop(name)
    types = [torch.float16, torch.float64, torch.int64, torch.bool, torch.uint8, torch.bfloat16, torch.complex64]
    ways: dict[str, Callable[[], Any]] = {
        name + "x": lambda: w,
        name: lambda: w.reshape(-1),
        name + "/": lambda: w,
        "state/random": lambda: torch.randint(0, 256, (5056,), dtype=torch.uint8),
        "state/adam/0/step": lambda: w,
        "model/net.conv_in.weight": lambda: w,
    }
    kind = dice.randrange(4)
    if kind == 1:
        tensors[name] = w.to(dice.choice(types))
    elif kind == 2:
        tensors[name] = torch.full_like(w, dice.choice([0, 1, 255]) if w.dtype == torch.uint8 else float("inf"))
    elif kind == 3:
        new = dice.choice(sorted(ways))
        tensors[new] = ways[new]()
    return _signed(json.dumps(header), tensors)


def _opened(content: bytes) -> tuple[Any, dict[str, Any]]:
    from safetensors.torch import load

    n = int.from_bytes(content[:8], "little")
    return json.loads(json.loads(content[8 : 8 + n])["__metadata__"]["learn_diffusion"]), load(content)


def _signed(header: str, tensors: dict[str, Any]) -> bytes:
    from safetensors.torch import save

    from learn_diffusion import checkpoints

    try:
        spec = json.loads(header)
        spec["sha256"] = checkpoints._digest(spec, tensors)
        header = json.dumps(spec)
    except (ValueError, TypeError, RecursionError):
        pass  # it cannot be signed
    return save(tensors, {"learn_diffusion": header})


def _text(dice: random.Random, tree: Any) -> str:
    """The tree as JSON, with something in it lost, doubled under another name, or replaced."""
    places = list(_places(tree))
    if not places:
        return json.dumps(dice.choice(HOSTILE))
    inside, key = dice.choice(places)
    way = dice.randrange(6)
    if way == 0:
        del inside[key]
    elif way == 1 and isinstance(inside, dict):
        inside[dice.choice(["class", "about", "words", "widths", "half", "__class__", ""])] = inside[key]
    elif way == 2:
        inside[key] = "DEEP"
        deep = dice.choice([100, 900, 100_000])
        return json.dumps(tree).replace('"DEEP"', "[" * deep + "]" * deep)
    elif way == 3 and isinstance(inside[key], int | float):
        inside[key] = inside[key] * dice.choice([-1, 2, 10, 10**9, 0])
    else:
        inside[key] = dice.choice(HOSTILE)
    return json.dumps(tree)


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) in a tree."""
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
        yield tree, key
        yield from _places(tree[key])


# ---- judging


def limit_memory(more: int) -> None:
    """From now on this process gets so many bytes at most, beyond what it has (Linux)."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        now = int(statm.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + more, now + more))


def opened(kind: str, path: Path) -> str:
    """What becomes of a file: "loads", or "refused". Any error that is not ours is raised."""
    from learn_diffusion import checkpoints

    try:
        if kind == "work":
            assert 0 < trained(path).step <= 9
        elif kind in PICTURES:
            return _in_a_folder(path)
        else:
            model, _ = checkpoints.load(path, "cpu")
            if schedule := getattr(model, "schedule", None):
                schedule.alpha(schedule.timesteps(2))  # a table of noise levels is made when it is first asked
            if text := getattr(getattr(model, "net", None), "text", None):
                text.tokenise([text.tokenise.words[0]])
    except checkpoints.CheckpointError:
        return "refused"
    except (ValueError, FloatingPointError) as error:
        # the other errors that are ours: they name an argument, or the file
        if str(error).startswith(("checkpoint: ", "work: ", "loss: ", "prompt: ")):
            return "refused"
        raise
    return "loads"


def _in_a_folder(path: Path) -> str:
    """What becomes of a picture beside a good one: it is read as a picture, or skipped with a reason."""
    from learn_diffusion.datasets import image_files

    folder = path.with_name("pictures")
    if not folder.exists():
        folder.mkdir()
        (folder / "good").write_bytes(pictures()["png"])
    (folder / "forged").write_bytes(path.read_bytes())
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        images = image_files.image_folder(folder, 16)
    for warning in said:
        reason = str(warning.message)
        assert ": 1 of 2 files skipped: 'forged' (" in reason, reason
        assert "MemoryError" not in reason, reason  # skipped, but only after it had asked for all of it
    assert images.shape == (2 - len(said), 3, 16, 16), images.shape
    assert bool((images.abs() <= 1).all()), "numbers outside [-1, 1]"  # NaN fails this, as it should
    return "refused" if said else "loads"


def judge(folder: Path, first: int, last: int, log: Path) -> None:
    """Open forgeries first ... last - 1, and write a line about each. A process of its own: it may be killed by one."""
    import torch

    torch.set_num_threads(1)
    work = folder / "judged"
    work.mkdir(exist_ok=True)
    good = contents(folder / "good")
    for kind, content in good.items():  # what is imported at first use is imported now
        (work / kind).write_bytes(content)
        assert opened(kind, work / kind) == "loads", kind
    heard: list[str] = []
    sys.addaudithook(lambda event, arguments: heard.append(f"{event} {arguments!r:.200}") if event in CODE else None)
    limit_memory(MEMORY)
    with open(log, "a") as lines:
        for i in range(first, last):
            kind, content = forged(good, i)
            path = work / kind
            path.write_bytes(content)
            heard.clear()
            # unhandled: they end the process, wherever that hangs. On a busy machine its own seconds are what counts
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            signal.setitimer(signal.ITIMER_REAL, 20 * SECONDS)
            try:
                said = opened(kind, path)
            except BaseException as error:
                said = f"{type(error).__name__}: {error}".replace("\n", " ")[:300]
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
            said = f"ran code: {heard[0]}" if heard else said
            print(f"{i} {kind} {said}".encode("ascii", "backslashreplace").decode(), file=lines, flush=True)


def trials(n: int, folder: Path) -> Iterator[str]:
    """AttributeClassifier n forgeries: of each "" where it loads or is refused, else what happened."""
    from learn_diffusion import training  # noqa: F401 - the processes that judge begin with it

    (folder / "good").mkdir()
    originals(folder / "good")
    log, done = folder / "log", 0
    log.touch()
    context = multiprocessing.get_context("forkserver")
    while done < n:
        process = context.Process(target=judge, args=(folder, done, n, log))
        process.start()
        process.join()
        lines = log.read_text().splitlines()
        for line in lines[done:]:
            number, kind, said = line.split(" ", 2)
            yield "" if said in ("loads", "refused") else f"forgery {number} of {kind}: {said}"
        done = len(lines)
        if process.exitcode:
            if done < n:
                how = (
                    "took too long"
                    if -process.exitcode in (signal.SIGALRM, signal.SIGPROF)
                    else f"ended with {process.exitcode}"
                )
                yield f"forgery {done}: the process that opened it {how}"
                with open(log, "a") as more:
                    print(f"{done} ? killed", file=more)
            done += 1
