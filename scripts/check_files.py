"""Check what ruff and mypy do not: file sizes, module lengths, and hosts that only exist for us.

    python scripts/check_files.py [FILE ...]    without FILE: every file that git tracks or would track

Prints one line per finding and exits 1 when there is one.
"""

from __future__ import annotations

import ipaddress
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
MAX_BYTES = 1_000_000
MODELS = "demo/models/"
MAX_MODELS_BYTES = 9 * 1024 * 1024
MAX_MODULE_LINES = 400
EXEMPT = "host ok"  # in a comment on the line itself, for tests that need a private address

# Private hosts and package mirrors slip in with lock files and pasted logs; only hosts that every reader can
# reach (or that mean "this machine" or "an example") are let through. A new public host is added here.
PUBLIC_HOSTS = {
    "arxiv.org",
    "doi.org",
    "git-lfs.github.com",
    "github.com",
    "huggingface.co",
    "keepachangelog.com",
    "openaccess.thecvf.com",
    "semver.org",
    "www.apache.org",
    "www.w3.org",
    "localhost",
}
EXAMPLE_SUFFIXES = (
    ".example",
    ".invalid",
    ".test",
    ".localhost",
    "example.com",
    "example.org",
    "example.net",
)
URL = re.compile(r"\b(?:https?|wss?|ftp|git|ssh)://[^\s\"'`<>()\[\]{}|\\]+", re.IGNORECASE)
INTERNAL_NAME = re.compile(r"\b[a-z0-9][a-z0-9.-]*\.(?:corp|intra|intranet|lan)\b", re.IGNORECASE)
IPV4 = re.compile(r"(?<![\d.])(?<!==)(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")
INDEX_OPTION = re.compile(r"--(?:extra-)?index-url|--find-links|^-i\s|^-f\s", re.MULTILINE)


def main(arguments: list[str]) -> int:
    """Check the files named (or all of them) and print the findings.

    Returns:
        0 when nothing was found, 1 otherwise.
    """
    files = [Path(argument).resolve() for argument in arguments] or list(project_files())
    findings = [finding for path in files if path.is_file() for finding in check_file(path)]
    if not arguments:
        findings += check_models(ROOT / MODELS)
    print("\n".join(findings) if findings else f"{len(files)} files checked: sizes and hosts are fine")
    return 1 if findings else 0


def project_files() -> Iterator[Path]:
    """Yield every file of the project that git tracks or would track."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout.decode()
    yield from (ROOT / name for name in sorted(set(listed.split("\0"))) if name)


def check_file(path: Path) -> Iterator[str]:
    """Yield one sentence for each thing that is wrong with the file."""
    name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)
    size = path.stat().st_size
    if size > MAX_BYTES and not name.startswith(MODELS):
        yield f"{name}: {size:,} bytes; at most {MAX_BYTES:,} outside {MODELS}"
        return
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError:
        return
    lines = text.count("\n")
    if path.suffix == ".py" and lines > MAX_MODULE_LINES:
        yield f"{name}: {lines} lines; at most {MAX_MODULE_LINES}, split it by what its parts do"
    if name.startswith("requirements/") and INDEX_OPTION.search(text):
        yield f"{name}: names a package index; it belongs into the user's own configuration"
    if name.startswith(MODELS):
        return
    for number, line in enumerate(text.splitlines(), 1):
        if EXEMPT in line:
            continue
        for host in dict.fromkeys(private_hosts(line)):
            remedy = f"use a public one, or add it to PUBLIC_HOSTS in {Path(__file__).name}"
            yield f"{name}:{number}: host {host}: {remedy}"


def private_hosts(line: str) -> Iterator[str]:
    """Yield the hosts in a line of text that not every reader can reach.

    Args:
        line: any text, with any number of URLs, host names and addresses in it.
    """
    for match in URL.finditer(line):
        try:
            host = (urlsplit(match.group()).hostname or "").rstrip(".,;:")
        except ValueError:
            continue
        if (
            "$" in host
            or "%" in host
            or "." not in host
            or host in PUBLIC_HOSTS
            or host.endswith(EXAMPLE_SUFFIXES)
        ):
            continue
        if not _is_address(host):
            yield host
    yield from (match.group() for match in INTERNAL_NAME.finditer(line))
    for match in IPV4.finditer(line):
        if _is_private_address(match.group()):
            yield match.group()


def check_models(folder: Path) -> Iterator[str]:
    """Yield a sentence when the shipped models are larger together than a clone should carry."""
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if size > MAX_MODELS_BYTES:
        yield f"{MODELS}: {size:,} bytes together; at most {MAX_MODELS_BYTES:,}"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_private_address(text: str) -> bool:
    if not _is_address(text):
        return False
    address = ipaddress.ip_address(text)
    return address.is_private and not address.is_loopback and not address.is_unspecified


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
