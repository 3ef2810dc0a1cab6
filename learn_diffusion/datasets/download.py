"""Download a file of known SHA-256 into a cache, from the first mirror that delivers it.

Pooch does the work: it writes to a temporary file, checks it, and only then moves it to its name.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

CACHE = "LEARN_DIFFUSION_CACHE"  # environment variable: another cache folder


class DownloadError(OSError):
    """No mirror delivered the file. The message says why for each mirror, and what works without a network."""


def cache() -> Path:
    """The folder of downloaded files: LEARN_DIFFUSION_CACHE, or the user's cache folder."""
    import pooch  # slow to import, and needed by few

    return Path(os.path.expanduser(os.environ.get(CACHE) or pooch.os_cache("learn_diffusion"))).absolute()


def fetch(path: Path, mirrors: Sequence[str], sha256: str, timeout: float = 20.0, progress: bool = True) -> Path:
    """Return path, downloaded first unless it already has this SHA-256.

    mirrors   addresses (http or https) of the same file, tried in this order
    timeout   seconds without a byte, after which the next mirror is tried
    progress  show a tqdm bar

    A correct file needs no network and no write access; a wrong one is replaced, never returned. Processes that want
    the same file wait for each other. Raises DownloadError, or OSError if the file cannot be written.
    """
    import pooch
    import requests
    from filelock import FileLock

    if path.is_file() and pooch.file_hash(str(path)) == sha256:
        return path
    pooch.get_logger().setLevel("WARNING")
    path.parent.mkdir(parents=True, exist_ok=True)
    # identity: a server that compresses on the fly would have its answer decompressed, a .gz file included
    settings = {"timeout": timeout, "chunk_size": 1 << 16, "headers": {"Accept-Encoding": "identity"}}
    reasons = []
    with FileLock(path.with_name(path.name + ".lock")):
        for url in mirrors:
            downloader = pooch.HTTPDownloader(progressbar=progress, **settings)
            try:
                return Path(pooch.retrieve(url, sha256, path.name, path.parent, downloader=downloader))
            except requests.HTTPError as error:
                reasons.append(f"{url}: HTTP {error.response.status_code}")
            except (requests.ConnectionError, requests.Timeout) as error:  # its text names the address three times
                reasons.append(f"{url}: {type(error).__name__}")
            except ValueError as error:  # pooch's of the hash; of requests and urllib3 for proxies they cannot use
                wrong = "SHA256 hash of downloaded file" in str(error)
                reasons.append(f"{url}: {'wrong SHA-256' if wrong else f'{type(error).__name__}: {error}'}")
            except requests.RequestException as error:
                reasons.append(f"{url}: {type(error).__name__}: {error}")
    raise DownloadError(
        f"{path.name}: no mirror has it ({'; '.join(reasons)}). Without a network use small_digits(), or download "
        f"the file elsewhere and save it as {path} (SHA-256 {sha256})"
    )
