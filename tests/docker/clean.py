"""Run the steps of a Dockerfile in a clean folder: no container engine, but a root of its own.

Each stage is a folder in which ``/usr``, ``/lib`` and the like are the machine's, read-only, ``/usr/local``
is the interpreter that runs the tests, as in the python images, and all else is what the steps put there:
of the checkout only what ``.dockerignore`` lets through, no environment, no home. Steps run by ``chroot``
in a mount namespace, as root until ``USER`` says otherwise. Not done: apt steps (the machine's own programs
are seen), and what an engine adds at run time (cgroups, a network and processes of its own, dropped
capabilities).
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any

from scripts.check_docker import Step, expanded, let_through, stages_of

ROOT = Path(__file__).resolve().parents[2]
REMEDY = "needs to be root with mount namespaces (unshare --mount)"
_READ_ONLY = ("usr", "bin", "sbin", "lib", "lib64")
_ETC = (
    *("passwd", "group", "shadow", "gshadow", "login.defs", "nsswitch.conf", "resolv.conf", "hosts"),
    *("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "ssl", "pip.conf", "uv", "localtime", "fonts"),
)
# Where packages come from is the machine's own setting, which no Dockerfile knows.
_FROM_CALLER = (
    "PIP_",
    "UV_",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_",
)


def possible() -> bool:
    """Whether this machine lets us mount in a namespace of our own."""
    if os.getuid() != 0 or not shutil.which("unshare"):
        return False
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0


class Image:
    """What a Dockerfile's last stage ends as: a root, environment, user, folder, entry point and command."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        self.environment: dict[str, str] = {
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin:/shim",
            "HOME": "/root",
            # An interpreter built with a shared library looks for it where it was installed first.
            "LD_LIBRARY_PATH": "/usr/local/lib",
        }
        self.user = "0:0"
        self.workdir = "/"
        self.mounts: list[tuple[str, str]] = []
        self.entrypoint: list[str] = []
        self.command: list[str] = []
        self.health: list[str] = []
        for name in _READ_ONLY:
            (folder / name).mkdir(parents=True)
        for name in ("etc", "dev", "proc", "tmp", "root", "home", "opt", "run", "var/tmp"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "tmp").chmod(0o1777)
        # The python images call it python; Debian's own interpreter is python3 only.
        (folder / "shim").mkdir()
        (folder / "shim/python").symlink_to("/usr/local/bin/python3")
        for name in _ETC:
            source = Path("/etc") / name
            if source.is_dir():
                shutil.copytree(source, folder / "etc" / name, symlinks=True, ignore_dangling_symlinks=True)
            elif source.exists():
                shutil.copy(source, folder / "etc" / name)

    def argv(
        self, command: list[str], *, user: str | None = None, mounts: list[tuple[str, str]] | None = None
    ) -> list[str]:
        """Return the command line that runs ``command`` inside, to be started with ``environment``.

        Args:
            command: Program and arguments, seen from inside.
            user: ``uid:gid`` instead of the image's.
            mounts: Folders of the machine and where they are seen inside.
        """
        root = shlex.quote(str(self.root))
        script = ["set -e"]
        for name in _READ_ONLY:
            script.append(f"mount --bind /{name} {root}/{name} && mount -o remount,ro,bind {root}/{name}")
        binds = [
            (sys.base_prefix, "/usr/local"),
            ("/dev", "/dev"),
            ("/proc", "/proc"),
            *self.mounts,
            *(mounts or []),
        ]
        for source, target in binds:
            if target != "/usr/local":
                script.append(f"mkdir -p {root}{shlex.quote(target)}")
            script.append(f"mount --rbind {shlex.quote(source)} {root}{shlex.quote(target)}")
        uid, _, gid = (user or self.user).partition(":")
        chroot = [
            *("chroot", f"--userspec={uid}:{gid}", "--groups=", str(self.root)),
            *("/bin/sh", "-c", f'cd {shlex.quote(self.workdir)} && exec "$@"', "sh"),
        ]
        script.append('exec "$@"')
        return ["unshare", "--mount", "/bin/sh", "-c", "\n".join(script), "sh", *chroot, *command]

    def run(self, command: list[str], **given: Any) -> subprocess.CompletedProcess[str]:
        """Run a command inside to its end."""
        environment = self.environment | given.pop("environment", {})
        return subprocess.run(
            self.argv(command, **given),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )


def build(dockerfile: Path, folder: Path, arguments: dict[str, str], cache: Path) -> Image:
    """Run all steps of a Dockerfile and return the last stage.

    The cache stays mounted, so that packages can be links into it instead of gigabytes of copies.

    Args:
        dockerfile: The file; its build context is the checkout.
        folder: An empty folder for the stages.
        arguments: Build arguments; those named UV_* override the file's settings of uv, too.
        cache: What cache mounts show.

    Raises:
        RuntimeError: A step failed; the message holds the step and its words.
    """
    context = folder / "context"
    _copy_context(context)
    built: dict[str, Image] = {}
    image = None
    for number, steps in enumerate(stages_of(dockerfile)):
        image = Image(folder / f"stage-{number}")
        image.mounts = [(str(cache), "/root/.cache"), *((path, path) for path in _local_packages())]
        _, _, alias = steps[0].text.partition(" AS ")
        built[alias or str(number)] = image
        values: dict[str, str] = {}
        for step in steps[1:]:
            _carry_out(step, image, values, arguments, context, built, cache)
    assert image is not None
    return image


def _copy_context(context: Path) -> None:
    ignore = (ROOT / ".dockerignore").read_text()
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "-z"], cwd=ROOT, check=True, capture_output=True
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        source = ROOT / name
        if (
            name.startswith((".venv/", "out/"))
            or not source.is_file()
            or not let_through(PurePosixPath(name), ignore)
        ):
            continue
        target = context / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def _carry_out(
    step: Step,
    image: Image,
    values: dict[str, str],
    arguments: dict[str, str],
    context: Path,
    built: dict[str, Image],
    cache: Path,
) -> None:
    if step.name == "ARG":
        name, _, default = step.text.partition("=")
        values[name] = arguments.get(name, default)
    elif step.name == "ENV":
        for word in shlex.split(step.text):
            name, _, value = word.partition("=")
            image.environment[name] = value.replace("$PATH", image.environment["PATH"])
        image.environment |= {name: value for name, value in arguments.items() if name.startswith("UV_")}
    elif step.name == "WORKDIR":
        image.workdir = step.text
        (image.root / step.text.lstrip("/")).mkdir(parents=True, exist_ok=True)
    elif step.name == "USER":
        image.user = step.text
        name = next(
            line for line in (image.root / "etc/passwd").read_text().splitlines() if f":{step.text}:" in line
        )
        image.environment["HOME"] = name.split(":")[5]
    elif step.name == "COPY":
        _copy(step, image, built[step.options["from"]].root if "from" in step.options else context)
    elif step.name == "ENTRYPOINT":
        image.entrypoint = step.words
    elif step.name == "CMD":
        image.command = step.words
    elif step.name == "HEALTHCHECK":
        image.health = json.loads(step.text[step.text.index("CMD") + 3 :])
    elif step.name == "RUN" and "apt-get" not in step.text:
        registries = {name: value for name, value in os.environ.items() if name.startswith(_FROM_CALLER)}
        result = image.run(
            ["/bin/sh", "-c", expanded(step.text, values)],
            user="0:0",
            environment=registries | values,
        )
        if result.returncode:
            raise RuntimeError(f"RUN {step.text}\nended with {result.returncode}:\n{result.stdout[-6000:]}")


def _copy(step: Step, image: Image, source: Path) -> None:
    *names, target = step.words
    into = image.root / (PurePosixPath(image.workdir) / target).as_posix().lstrip("/")
    for name in names:
        origin = source / name.lstrip("/") if name != "." else source
        if "from" in step.options and not into.exists():
            # Moved, not copied: a hundred thousand files, and no later stage asks for them.
            into.parent.mkdir(parents=True, exist_ok=True)
            origin.rename(into)
        elif origin.is_dir():
            shutil.copytree(origin, into, symlinks=True, dirs_exist_ok=True)
        else:
            place = into / origin.name if target.endswith("/") or into.is_dir() or len(names) > 1 else into
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(origin, place)


def _local_packages() -> list[str]:
    """Folders of packages on this machine that the caller's pip looks in."""
    return [path for path in os.environ.get("PIP_FIND_LINKS", "").split() if Path(path).is_dir()]
