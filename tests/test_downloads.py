"""Downloads from a server on this machine whose mirrors refuse, truncate, stall, redirect and send wrong bytes."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import struct
import subprocess
import sys
import tarfile
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch

from learn_diffusion.datasets import benchmarks, download
from learn_diffusion.datasets.benchmarks import cifar10, fashion_mnist, mnist
from learn_diffusion.datasets.download import DownloadError, fetch

CONTENT = np.random.RandomState(0).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Mirror(BaseHTTPRequestHandler):
    """Answers /BEHAVIOUR/FILE; the files are those in server.files."""

    def do_GET(self):
        _, behaviour, name = self.path.split("/", 2)
        self.server.log.append(behaviour)
        content = self.server.files[name]
        status, headers, body = {
            "404": (404, {}, b""),
            "redirect": (302, {"Location": f"/good/{name}"}, b""),
            "loop": (302, {"Location": self.path}, b""),
            "file": (302, {"Location": "file:///etc/hostname"}, b""),
            "truncated": (200, {"Content-Length": len(content)}, content[:100_000]),
            "truncated-silently": (200, {}, content[:100_000]),
            "wrong": (200, {}, bytes(len(content))),
            "login-page": (200, {}, b"<html>Please log in to this network.</html>"),
        }.get(behaviour, (200, {}, content))
        self.send_response(status)
        if behaviour == "compresses" and "gzip" in self.headers.get("Accept-Encoding", ""):
            headers, body = {"Content-Encoding": "gzip"}, gzip.compress(body)
        for key, value in headers.items():
            self.send_header(key, str(value))
        self.end_headers()
        for i in range(0, len(body), 50_000):
            self.wfile.write(body[i : i + 50_000])
            self.server.done.wait({"stalls": 60, "slow": 0.1}.get(behaviour, 0))

    def handle(self):
        with suppress(OSError):  # the client hung up
            super().handle()

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    """The server; its address is server.at."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    server.files, server.log, server.done = {"file.bin": CONTENT}, [], threading.Event()
    server.at = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.done.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def get(server, tmp_path):
    """get("404", "good") fetches from mirrors that behave so, and returns the bytes."""

    def get(*behaviours, timeout=20.0):
        mirrors = [f"{server.at}/{behaviour}/file.bin" for behaviour in behaviours]
        return fetch(tmp_path / "file.bin", mirrors, SHA256, timeout, progress=False).read_bytes()

    return get


def left(folder):
    """The names in the folder; the lock is an empty file that stays."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_a_file_is_fetched_once(get, server, tmp_path):
    assert get("good") == CONTENT
    assert get("good") == CONTENT
    assert server.log == ["good"]
    assert left(tmp_path) == ["file.bin"]


FAIL = ("404", "loop", "file", "truncated", "truncated-silently", "stalls", "wrong", "login-page")


@pytest.mark.parametrize("bad", FAIL)
def test_if_a_mirror_fails_the_next_is_tried(bad, get, server, tmp_path):
    timeout = 3.0 if bad == "stalls" else 20.0
    with pytest.raises(DownloadError, match=rf"{server.at}/{bad}/file.bin: (HTTP 404|wrong SHA-256|\w+)"):
        get(bad, timeout=timeout)
    assert left(tmp_path) == []
    assert get(bad, "good", timeout=timeout) == CONTENT
    assert server.log[-1] == "good"
    assert left(tmp_path) == ["file.bin"]


@pytest.mark.parametrize("mirror", ["redirect", "compresses"])
def test_these_mirrors_do_not_fail(mirror, get):
    assert get(mirror) == CONTENT


def test_a_wrong_file_in_the_cache_is_replaced_and_never_used(get, tmp_path):
    (tmp_path / "file.bin").write_bytes(CONTENT[:-1])
    with pytest.raises(DownloadError):
        get("404")
    assert get("good") == CONTENT


def test_a_correct_file_needs_neither_network_nor_write_access(tmp_path):
    (tmp_path / "file.bin").write_bytes(CONTENT)
    tmp_path.chmod(0o500)
    try:
        assert fetch(tmp_path / "file.bin", [], SHA256) == tmp_path / "file.bin"
    finally:
        tmp_path.chmod(0o700)
    assert [path.name for path in tmp_path.iterdir()] == ["file.bin"]


def test_without_a_network_the_error_names_every_mirror_and_what_works(server, tmp_path):
    server.shutdown()
    server.server_close()
    mirrors = [f"{server.at}/{name}/file.bin" for name in ("one", "two")]
    with pytest.raises(DownloadError) as error:
        fetch(tmp_path / "file.bin", mirrors, SHA256)
    for needed in (*(f"{url}: ConnectionError" for url in mirrors), "digits()", str(tmp_path / "file.bin"), SHA256):
        assert needed in str(error.value)


def start(server, folder):
    """A slow download in a process of its own, which does not wait for torch."""
    code = (
        f"import runpy, pathlib; fetch = runpy.run_path({download.__file__!r})['fetch']\n"
        f"fetch(pathlib.Path({str(folder)!r}) / 'file.bin', ['{server.at}/slow/file.bin'], {SHA256!r})"
    )
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)


def test_a_killed_download_leaves_nothing_under_the_final_name(server, tmp_path, get):
    process = start(server, tmp_path)
    while process.poll() is None and not any(path.stat().st_size for path in tmp_path.iterdir()):
        time.sleep(0.002)
    process.kill()
    process.communicate()
    assert not (tmp_path / "file.bin").exists()
    assert get("good") == CONTENT


def test_two_processes_fetch_it_once(server, tmp_path):
    processes = [start(server, tmp_path) for _ in range(2)]
    for process in processes:
        assert process.wait(60) == 0, process.stderr.read()
        process.stderr.close()
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.log == ["slow"]


def test_the_cache_can_be_another_folder(monkeypatch):
    monkeypatch.delenv(download.CACHE, raising=False)
    assert "learn_diffusion" in download.cache().parts
    monkeypatch.setenv(download.CACHE, "~/somewhere")
    assert download.cache() == download.Path.home() / "somewhere"


# --- the data sets, in small ------------------------------------------------------------------------------------------


@pytest.fixture
def source(server, monkeypatch, tmp_path):
    """source(name, {file: content}) puts files behind the server and into the registry."""
    monkeypatch.setenv(download.CACHE, str(tmp_path))

    def source(name, files):
        server.files |= files
        sums = {file: hashlib.sha256(content).hexdigest() for file, content in files.items()}
        mirrors = (f"{server.at}/404/", f"{server.at}/good/")
        monkeypatch.setitem(benchmarks.SOURCES, name, benchmarks.Source(mirrors, sums))

    return source


@pytest.mark.parametrize(("load", "name"), [(mnist, "mnist"), (fashion_mnist, "fashion_mnist")])
@pytest.mark.parametrize(("split", "prefix"), [("train", "train"), ("held_out", "t10k")])
def test_mnist_and_fashion_mnist(load, name, split, prefix, source):
    pictures = np.random.RandomState(1).randint(0, 256, (7, 28, 28), np.uint8)
    pictures[0, 0, :3] = 0, 255, 51
    idx = lambda a: gzip.compress(struct.pack(f">{1 + a.ndim}I", 0x800 + a.ndim, *a.shape) + a.tobytes())  # noqa: E731
    wanted = np.arange(7, dtype=np.uint8) + 3
    source(name, {f"{prefix}-images-idx3-ubyte.gz": idx(pictures), f"{prefix}-labels-idx1-ubyte.gz": idx(wanted)})
    images, labels = load(split)
    assert images.shape == (7, 1, 28, 28)
    assert images.dtype == torch.float32
    assert images[0, 0, 0, :3].tolist() == pytest.approx([-1, 1, -0.6])
    assert torch.equal(((images + 1) * 127.5).round().byte(), torch.tensor(pictures)[:, None])
    assert labels.dtype == torch.int64
    assert labels.tolist() == wanted.tolist()


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_cifar10(split, source):
    rows = np.random.RandomState(2).randint(0, 256, (12, 3073), np.uint8)
    rows[:, 0] = np.arange(12) % 10
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for i, name in enumerate([f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]):
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = 2 * 3073
            archive.addfile(info, io.BytesIO(rows[2 * i : 2 * i + 2].tobytes()))
    source("cifar10", {"cifar-10-binary.tar.gz": file.getvalue()})
    images, labels = cifar10(split)
    mine = rows[:10] if split == "train" else rows[10:]
    assert labels.tolist() == mine[:, 0].tolist()
    planes = torch.tensor(mine[:, 1:]).reshape(-1, 3, 32, 32)  # red, green and blue, one after the other
    torch.testing.assert_close(images, planes.float() / 127.5 - 1)


@pytest.mark.parametrize("load", [mnist, fashion_mnist, cifar10])
def test_a_split_by_another_name_is_refused(load):
    with pytest.raises(ValueError, match="split: expected one of 'train', 'held_out', got 'test'"):
        load("test")


def test_the_registry_is_well_formed():
    for mirrors, files in benchmarks.SOURCES.values():
        assert len(mirrors) >= 2
        assert all(re.fullmatch(r"https?://[\w./~-]+/", mirror) for mirror in mirrors)
        assert mirrors[0].startswith("https:")
        assert all(re.fullmatch("[0-9a-f]{64}", sha256) for sha256 in files.values())
