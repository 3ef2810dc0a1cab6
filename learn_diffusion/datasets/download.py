"""Fetch one file of known content into a cache: from several mirrors, resumed, checked, whole or not at all.

Pooch looks into the cache, compares SHA-256 and moves the finished file to its place. What it lacks is added here:
going on where a broken download stopped, giving up on a server that stalls, never taking more bytes than the file has.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

CACHE = "LEARN_DIFFUSION_CACHE"  # the environment variable that names another folder
TIMEOUT = 20.0  # seconds
SLOWEST = 1000  # bytes a second, on average over TIMEOUT: less is a stall
BLOCK = 1 << 16


class DownloadError(OSError):
    """A file that no mirror gave; the message names every reason, the offline default, and where to place the file."""


def cache() -> Path:
    """The folder of downloaded files: what LEARN_DIFFUSION_CACHE names, or the user's own cache folder."""
    import pooch  # requests, which it imports, takes a while: only those who want files wait for it

    return Path(os.environ.get(CACHE) or pooch.os_cache("learn_diffusion")).expanduser().absolute()


def fetch(
    path: Path, mirrors: Sequence[str], sha256: str, size: int, timeout: float = TIMEOUT, progress: bool = True
) -> Path:
    """The file at path, with exactly `size` bytes of this SHA-256, downloaded if it is not there yet.

    mirrors   addresses (http or https) of the same file, the best one first; they may redirect. Each is tried twice
    timeout   seconds without an answer, or with next to nothing, after which a server counts as stalled
    progress  show a tqdm bar

    A file that is there and right is used without any network. A wrong one is never used: it is downloaded again. What
    a broken download leaves, path + ".part", is where the next one goes on, in this process or another. Processes that
    want the same file wait for each other. Raises DownloadError, or OSError where the file cannot be written.
    """
    import pooch
    import requests
    from filelock import FileLock

    if path.is_file() and pooch.file_hash(str(path)) == sha256:
        return path
    pooch.get_logger().setLevel("WARNING")  # the bar says what it would say
    part, reasons, resume = path.with_name(path.name + ".part"), {}, True
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(path.name + ".lock")):
            for url in [*mirrors, *mirrors]:
                if not resume:
                    part.unlink(missing_ok=True)
                download = partial(_download, part=part, size=size, timeout=timeout, progress=progress)
                try:
                    return Path(pooch.retrieve(url, sha256, path.name, path.parent, downloader=download))
                except requests.RequestException as error:
                    reasons[urlsplit(url).netloc or url] = _said(error)
                except ValueError:  # from pooch
                    reasons[urlsplit(url).netloc or url] = "wrong bytes"
                    resume = False  # two mirrors may have made them together: from now on each begins anew
    except OSError as error:
        raise OSError(error.errno, f"{path}: could not be written ({error.strerror or error})") from error
    why = ", ".join(f"{host}: {reason}" for host, reason in reasons.items())
    there = " (the file there has wrong bytes)" if path.exists() else ""
    raise DownloadError(
        f"{path.name}: no mirror gave it ({why}); small_digits() needs no network, or get the file elsewhere "
        f"(SHA-256 {sha256}) and place it as {path}{there}"
    )


def _said(error: Exception) -> str:
    """Why a mirror failed, in a few words: requests would name the address three times."""
    import requests

    if isinstance(error, requests.HTTPError):
        return f"answered {error.response.status_code}"
    if isinstance(error, requests.Timeout):
        return "stalled"
    if type(error) is requests.ConnectionError:
        return "no connection"
    return str(error) if type(error) is requests.RequestException else type(error).__name__  # such as SSLError


def _download(url: str, output: str, pooch: Any, *, part: Path, size: int, timeout: float, progress: bool) -> None:
    """Pooch's downloader: complete part from url, and hand it over as output. Raises requests.RequestException."""
    import requests
    from tqdm.auto import tqdm
    from urllib3.exceptions import HTTPError, ReadTimeoutError

    Path(output).unlink()  # pooch's empty file, which a killed process would leave behind
    have = part.stat().st_size if part.exists() else 0
    have = have if have <= size else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    unread = {"response": lambda answer, **_: answer.close() if answer.is_redirect else None}  # it may have no end
    if have < size:
        with requests.get(url, headers=headers, stream=True, timeout=timeout, hooks=unread) as answer:
            answer.raise_for_status()
            have = _begins(answer, have, size)
            shown = {"desc": part.stem, "unit": "B", "unit_scale": True, "disable": not progress}
            with open(part, "ab" if have else "wb") as file, tqdm(total=size, initial=have, **shown) as bar:
                try:
                    for block in _blocks(answer, timeout):
                        if have + len(block) > size:
                            file.truncate(0)
                            raise requests.RequestException(f"sent more than {size} bytes")
                        file.write(block)
                        have += len(block)
                        bar.update(len(block))
                except ReadTimeoutError:
                    raise requests.Timeout from None
                except HTTPError:
                    pass  # the connection broke: how much is missing is said below
    if have < size:
        raise requests.RequestException(f"broke off after {have} of {size} bytes")
    os.replace(part, output)


def _begins(answer: Any, have: int, size: int) -> int:
    """The byte of the file that an answer begins with. Raises where it announces a file of another size."""
    import requests

    begin, whole = 0, answer.headers.get("Content-Length", "")
    if answer.status_code == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
        begin, whole = (int(found[1]), found[2]) if found else (-1, "")
    if begin not in (0, have) or (whole.isdigit() and int(whole) != size):
        raise requests.RequestException(f"has another file, not one of {size} bytes")
    return begin


def _blocks(answer: Any, timeout: float) -> Iterator[bytes]:
    """The body as it arrives and as it was sent, not decompressed. Raises requests.Timeout where it only trickles."""
    import requests

    since, got = monotonic(), 0
    while block := answer.raw.read1(BLOCK, decode_content=False):
        yield block
        got += len(block)
        if (passed := monotonic() - since) > timeout:
            if got < SLOWEST * passed:
                raise requests.Timeout
            since, got = monotonic(), 0
