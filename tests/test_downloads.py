"""Downloads, from a server on this machine that truncates, stalls, refuses, redirects, lies and never ends."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

import numpy as np
import pytest
import torch

from learn_diffusion.datasets import download, famous
from learn_diffusion.datasets.download import DownloadError, fetch
from learn_diffusion.datasets.famous import cifar10, fashion_mnist, mnist

CONTENT = np.random.RandomState(0).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Mirror(BaseHTTPRequestHandler):
    """Answers /BEHAVIOUR/FILE with what server.files holds under FILE, honest or not."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        _, behaviour, name = self.path.split("/", 2)
        content, self.begin = self.server.files[name], 0
        if (asked := self.headers.get("Range")) and behaviour != "no-range":
            self.begin = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
        self.server.log.append((behaviour, self.begin))
        self.close_connection = True
        getattr(self, "answer_" + behaviour.replace("-", "_"))(content)

    def head(self, status, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def whole(self, content, announced=None):
        """The head of a good answer."""
        size = announced or len(content)
        ranged = {"Content_Range": f"bytes {self.begin}-{size - 1}/{size}"} if self.begin else {}
        self.head(206 if self.begin else 200, Content_Length=size - self.begin, **ranged)

    def answer_good(self, content):
        self.whole(content)
        self.wfile.write(content[self.begin :])

    answer_no_range = answer_good

    def answer_slow(self, content):
        self.whole(content)
        for i in range(self.begin, len(content), 10_000):
            self.wfile.write(content[i : i + 10_000])
            time.sleep(0.02)

    def answer_truncated(self, content):
        self.whole(content)
        self.wfile.write(content[self.begin : self.begin + 100_000])

    def answer_truncated_silently(self, content):
        self.head(200)  # no length: the end of the connection is the end of the body
        self.wfile.write(content[:100_000])

    def answer_truncated_lie(self, content):
        self.whole(content)
        self.wfile.write(bytes(100_000))

    def answer_stall(self, content):
        self.whole(content)
        self.wfile.write(content[self.begin : self.begin + 50_000])
        self.wfile.flush()
        self.server.done.wait(20)

    def answer_mute(self, content):
        self.server.done.wait(20)

    def answer_trickle(self, content):
        self.whole(content)
        for i in count(self.begin):
            self.wfile.write(content[i : i + 1])
            if self.server.done.wait(0.02):
                return

    def answer_403(self, content):
        self.head(403, Content_Length=0)

    def answer_404(self, content):
        self.head(404, Content_Length=0)

    def answer_500(self, content):
        self.head(500, Content_Length=0)

    def answer_redirect(self, content):
        self.head(302, Location=f"/good/{self.path.rsplit('/', 1)[1]}", Content_Length=0)

    def answer_round(self, content):
        self.head(302, Location=self.path, Content_Length=0)

    def answer_to_a_file(self, content):
        self.head(302, Location="file:///etc/passwd", Content_Length=0)

    def answer_wrong(self, content):
        self.whole(content)
        self.wfile.write(bytes(len(content) - self.begin))

    def answer_page(self, content):
        page = b"<html>Please log in to this network.</html>"
        self.head(200, Content_Length=len(page))
        self.wfile.write(page)

    def answer_other_part(self, content):
        self.head(206, Content_Range=f"bytes 7-{len(content) - 1}/{len(content)}", Content_Length=len(content) - 7)
        self.wfile.write(content[7:])

    def answer_zipped(self, content):
        zipped = gzip.compress(content, 0)
        self.head(200, Content_Encoding="gzip", Content_Length=len(zipped))
        self.wfile.write(zipped)

    def answer_endless(self, content):
        self.head(200)
        self.pour()

    def answer_endless_redirect(self, content):
        self.head(302, Location=f"/good/{self.path.rsplit('/', 1)[1]}")
        self.pour()

    def pour(self):
        for _ in range(200):  # 200 MB: whoever reads it to the end fails the test
            self.wfile.write(bytes(1_000_000))
        self.server.log.append(("read to the end", 0))

    def handle(self):
        with suppress(OSError):  # the reader went away, as it should
            super().handle()

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    """The server; its address is server.at."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    server.daemon_threads = True
    server.files, server.log, server.done = {"file.bin": CONTENT}, [], threading.Event()
    server.at = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.done.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def get(server, tmp_path):
    """get("403", "good") fetches from mirrors that behave so, and returns what it got."""

    def get(*behaviours, timeout=5.0):
        mirrors = [f"{server.at}/{behaviour}/file.bin" for behaviour in behaviours]
        return fetch(tmp_path / "file.bin", mirrors, SHA256, len(CONTENT), timeout, progress=False).read_bytes()

    return get


def left(folder):
    """The names in the folder; the lock is an empty file that stays."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_a_file_is_fetched_once(get, server, tmp_path):
    assert get("good") == CONTENT
    assert get("good") == CONTENT
    assert server.log == [("good", 0)]
    assert left(tmp_path) == ["file.bin"]


@pytest.mark.parametrize("bad", ["403", "404", "500", "wrong", "page", "round", "to-a-file", "other-part", "zipped"])
def test_where_one_mirror_fails_the_next_is_asked(bad, get, server, tmp_path):
    assert get(bad, "good") == CONTENT
    assert server.log[0] == (bad, 0)
    assert server.log[-1] == ("good", 0)
    assert left(tmp_path) == ["file.bin"]


def test_redirects_are_followed(get, server):
    assert get("redirect") == CONTENT
    assert server.log == [("redirect", 0), ("good", 0)]


@pytest.mark.parametrize("bad", ["truncated", "truncated-silently"])
def test_a_broken_download_goes_on_where_it_stopped(bad, get, server, tmp_path):
    assert get(bad, "good") == CONTENT
    assert server.log == [(bad, 0), ("good", 100_000)]
    assert left(tmp_path) == ["file.bin"]


def test_it_goes_on_in_the_next_call_too(get, server, tmp_path):
    with pytest.raises(DownloadError, match="broke off after 200000 of 300000 bytes"):
        get("truncated")
    assert left(tmp_path) == ["file.bin.part"]
    assert get("truncated") == CONTENT
    assert server.log == [("truncated", begin) for begin in (0, 100_000, 200_000)]


def test_a_server_that_knows_no_ranges_begins_again(get, server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:1000])
    assert get("no-range") == CONTENT
    assert server.log == [("no-range", 0)]


def test_a_complete_part_needs_no_network(get, server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    assert get("404") == CONTENT
    assert server.log == []


@pytest.mark.parametrize("part", [bytes(1000), bytes(len(CONTENT)), CONTENT + b"more"])
def test_a_wrong_part_is_thrown_away(part, get, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(part)
    assert get("good") == CONTENT
    assert left(tmp_path) == ["file.bin"]


def test_a_lie_that_broke_off_does_not_spoil_an_honest_mirror(get, server):
    assert get("truncated-lie", "good") == CONTENT
    assert server.log == [("truncated-lie", 0), ("good", 100_000), ("truncated-lie", 0), ("good", 0)]


@pytest.mark.parametrize("bad", ["stall", "mute", "trickle"])
def test_a_server_that_stalls_is_given_up(bad, get, server):
    start = time.monotonic()
    assert get(bad, "good", timeout=0.4) == CONTENT
    assert time.monotonic() - start < 5
    if bad == "stall":
        assert server.log[-1] == ("good", 50_000)


def test_a_slow_server_is_not_given_up(get):
    """It takes longer than the time-out as a whole, but never stops."""
    assert get("slow", timeout=0.3) == CONTENT


@pytest.mark.parametrize("endless", ["endless", "endless-redirect"])
def test_a_body_without_end_is_not_read(endless, get, server, tmp_path):
    if endless == "endless":
        with pytest.raises(DownloadError, match="sent more than 300000 bytes"):
            get(endless)
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) == 0
    assert get(endless, "good") == CONTENT
    assert "read to the end" not in [behaviour for behaviour, _ in server.log]


@pytest.mark.parametrize("address", ["file:///etc/hostname", "ftp://127.0.0.1/file.bin", "file.bin", "gopher://x/y"])
def test_nothing_but_http_is_spoken(address, tmp_path):
    with pytest.raises(DownloadError, match="InvalidSchema|MissingSchema"):
        fetch(tmp_path / "file.bin", [address], SHA256, len(CONTENT))


def test_a_file_placed_by_hand_needs_no_network(tmp_path):
    (tmp_path / "file.bin").write_bytes(CONTENT)
    tmp_path.chmod(0o500)  # as an instructor's shared folder may be
    try:
        assert fetch(tmp_path / "file.bin", [], SHA256, len(CONTENT)) == tmp_path / "file.bin"
    finally:
        tmp_path.chmod(0o700)
    assert left(tmp_path) == ["file.bin"]


def test_a_wrong_file_in_the_cache_is_never_used(get, tmp_path):
    (tmp_path / "file.bin").write_bytes(b"half a fi")
    with pytest.raises(DownloadError, match="the file there has wrong bytes"):
        get("404")
    assert get("good") == CONTENT


def test_without_network_one_line_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]  # nobody listens there once it is closed
    with pytest.raises(DownloadError) as error:
        fetch(tmp_path / "file.bin", [f"http://127.0.0.1:{port}/file.bin"], SHA256, len(CONTENT))
    message = str(error.value)
    assert "\n" not in message
    assert f"127.0.0.1:{port}: no connection" in message
    assert "small_digits() needs no network" in message
    assert f"place it as {tmp_path / 'file.bin'}" in message
    assert SHA256 in message
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__ or error.value.__context__ is None


def test_every_reason_is_named(get):
    with pytest.raises(DownloadError, match=r"127.0.0.1:\d+: wrong bytes"):
        get("403", "wrong")


def test_a_folder_that_cannot_be_written_is_named(server, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match=r"x.bin: could not be written"):
        fetch(tmp_path / "file" / "x.bin", [f"{server.at}/good/file.bin"], SHA256, len(CONTENT))


def test_a_full_disk_is_named(get, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download.os, "replace", full)
    with pytest.raises(OSError, match=r"file.bin: could not be written \(No space left on device\)") as error:
        get("good")
    assert error.value.errno == 28


def start(server, folder, behaviour="slow"):
    """The same download in a process of its own."""
    address = f"{server.at}/{behaviour}/file.bin"
    code = (
        "from pathlib import Path; from learn_diffusion.datasets.download import fetch\n"
        f"fetch(Path({str(folder)!r}) / 'file.bin', [{address!r}], {SHA256!r}, {len(CONTENT)})"
    )
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)


def test_killed_at_any_moment_it_goes_on(server, tmp_path, get):
    """Under the final name there is nothing, or the whole file."""
    begun, size = 0, 0
    for least in (1, 100_000, 200_000):  # bytes that have arrived when it is killed
        process = start(server, tmp_path)
        part = tmp_path / "file.bin.part"
        while process.poll() is None and not (part.exists() and part.stat().st_size >= least):
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
        process.communicate()
        assert left(tmp_path) == ["file.bin.part"]
        assert server.log[begun] == ("slow", size)  # it went on with what there was
        begun, size = len(server.log), part.stat().st_size
        assert CONTENT.startswith(part.read_bytes())
    assert get("good") == CONTENT
    assert server.log[-1] == ("good", size)
    assert left(tmp_path) == ["file.bin"]


def test_two_processes_fetch_it_once(server, tmp_path):
    processes = [start(server, tmp_path) for _ in range(2)]
    for process in processes:
        assert process.wait(60) == 0, process.stderr.read()
        process.stderr.close()
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.log == [("slow", 0)]


def test_the_cache_is_the_users_own_or_the_one_that_is_named(monkeypatch, tmp_path):
    monkeypatch.delenv(download.CACHE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # Linux; elsewhere the system's own folder
    assert download.cache().is_absolute()
    assert "learn_diffusion" in download.cache().parts
    monkeypatch.setenv(download.CACHE, "~/somewhere")
    assert download.cache() == download.Path.home() / "somewhere"


# --- the famous data sets, in small -----------------------------------------------------------------------------------


def idx(array):
    return gzip.compress(struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes())


def tar(members):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


PICTURES = np.random.RandomState(1).randint(0, 256, (7, 28, 28), np.uint8)
PICTURES[0, 0, :3] = 0, 255, 51
LABELS = np.arange(7, dtype=np.uint8) + 3


@pytest.fixture
def source(server, monkeypatch, tmp_path):
    """source(name, file, content) puts a file behind the server, and into the registry."""
    monkeypatch.setenv(download.CACHE, str(tmp_path))

    def source(name, file, content):
        server.files[file] = content
        known = famous.SOURCES[name].files if famous.SOURCES[name].mirrors[0].startswith(server.at) else {}
        known = known | {file: (hashlib.sha256(content).hexdigest(), len(content))}
        monkeypatch.setitem(famous.SOURCES, name, famous.Source((f"{server.at}/404/", f"{server.at}/good/"), known))

    return source


@pytest.mark.parametrize(("load", "name"), [(mnist, "mnist"), (fashion_mnist, "fashion_mnist")])
@pytest.mark.parametrize(("split", "prefix"), [("train", "train"), ("held_out", "t10k")])
def test_mnist_and_fashion_mnist(load, name, split, prefix, source, server, tmp_path):
    source(name, f"{prefix}-images-idx3-ubyte.gz", idx(PICTURES))
    source(name, f"{prefix}-labels-idx1-ubyte.gz", idx(LABELS))
    images, labels = load(split)
    assert images.shape == (7, 1, 28, 28)
    assert images.dtype == torch.float32
    assert images[0, 0, 0, :3].tolist() == pytest.approx([-1, 1, -0.6])
    assert torch.equal(((images + 1) * 127.5).round().byte(), torch.tensor(PICTURES)[:, None])
    assert labels.dtype == torch.int64
    assert labels.tolist() == LABELS.tolist()
    asked = len(server.log)
    assert torch.equal(load(split)[0], images)
    assert len(server.log) == asked  # from the cache
    assert left(tmp_path / name) == [f"{prefix}-images-idx3-ubyte.gz", f"{prefix}-labels-idx1-ubyte.gz"]


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_cifar10(split, source, monkeypatch):
    monkeypatch.setattr(famous, "ROWS", 2)
    rows = np.random.RandomState(2).randint(0, 256, (12, famous.ROW), np.uint8)
    rows[:, 0] = np.arange(12) % 10
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
    batches = {name: rows[2 * i : 2 * i + 2].tobytes() for i, name in enumerate(names)}
    source("cifar10", "cifar-10-binary.tar.gz", tar({"readme.html": b"..."} | batches))
    images, labels = cifar10(split)
    mine = rows[:10] if split == "train" else rows[10:]
    assert labels.tolist() == mine[:, 0].tolist()
    assert images.shape == (len(mine), 3, 32, 32)
    red, green = mine[1, 1:1025].reshape(32, 32), mine[1, 1025:2049].reshape(32, 32)  # one plane after the other
    for channel, plane in enumerate((red, green)):
        torch.testing.assert_close(images[1, channel], torch.tensor(plane).float() / 127.5 - 1)


@pytest.mark.parametrize("load", [mnist, fashion_mnist, cifar10])
def test_a_split_by_another_name_is_refused(load):
    with pytest.raises(ValueError, match="split: expected one of 'train', 'held_out', got 'test'"):
        load("test")


BAD_IDX = {
    "no gzip": b"plain bytes",
    "one byte": b"\x1f",
    "truncated": idx(PICTURES)[:-100],
    "altered": idx(PICTURES)[:2000] + bytes(50) + idx(PICTURES)[2050:],
    "labels instead of pictures": idx(LABELS),
    "numbers that are no bytes": gzip.compress(struct.pack(">4I", 0xD03, 1, 1, 1) + bytes(4)),
    "a cut header": gzip.compress(struct.pack(">2I", 0x803, 1)),
    "too short": gzip.compress(struct.pack(">4I", 0x803, 7, 28, 28) + bytes(100)),
    "too long": gzip.compress(struct.pack(">4I", 0x803, 7, 28, 28) + bytes(7 * 28 * 28 + 1)),
    "a giant": gzip.compress(struct.pack(">4I", 0x803, *3 * [2**32 - 1])),
}


@pytest.mark.parametrize("case", BAD_IDX)
def test_a_bad_idx_file_is_named(case, source):
    """Its SHA-256 is right: even a file that was meant is not believed."""
    source("mnist", "train-images-idx3-ubyte.gz", BAD_IDX[case])
    source("mnist", "train-labels-idx1-ubyte.gz", idx(LABELS))
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte.gz: expected"):
        mnist()


@pytest.mark.parametrize(("labels", "message"), [(LABELS[:5], "a label for each of 7"), (LABELS + 7, "from 0 to 9")])
def test_labels_that_do_not_fit_are_refused(labels, message, source):
    source("mnist", "train-images-idx3-ubyte.gz", idx(PICTURES))
    source("mnist", "train-labels-idx1-ubyte.gz", idx(labels))
    with pytest.raises(ValueError, match=f"train-labels-idx1-ubyte.gz: expected .*{message}"):
        mnist()


BAD_TAR = {
    "no archive": b"plain bytes",
    "one byte": b"\x1f",
    "a batch is missing": tar({f"data_batch_{i}.bin": bytes(2 * famous.ROW) for i in range(1, 5)}),
    "a short batch": tar({f"data_batch_{i}.bin": bytes(2 * famous.ROW - (i == 3)) for i in range(1, 6)}),
    "truncated": tar({f"data_batch_{i}.bin": CONTENT[: 2 * famous.ROW] for i in range(1, 6)})[:5000],
}


@pytest.mark.parametrize("case", BAD_TAR)
def test_a_bad_cifar_archive_is_named(case, source, monkeypatch):
    monkeypatch.setattr(famous, "ROWS", 2)
    source("cifar10", "cifar-10-binary.tar.gz", BAD_TAR[case])
    with pytest.raises(ValueError, match=r"cifar-10-binary.tar.gz: expected the binary version"):
        cifar10()


def test_the_registry_is_well_formed():
    for mirrors, files in famous.SOURCES.values():
        assert len(mirrors) >= 2
        assert all(re.fullmatch(r"https?://[\w./~-]+/", mirror) for mirror in mirrors)
        assert mirrors[0].startswith("https:")
        assert all(re.fullmatch("[0-9a-f]{64}", sha256) and size > 0 for sha256, size in files.values())


def test_importing_the_data_sets_loads_nothing_that_downloads():
    code = (
        "import sys, learn_diffusion.datasets; print([m for m in ('pooch', 'requests', 'urllib3') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
