"""Debian packages without installing them, for tests/vm/run and benches/compare.

Packages(cache).unpacked(NAME) downloads with apt-get, unpacks with dpkg -x, and
keeps the result; no root is needed. Read next: run.
"""

import contextlib
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

SOURCE_TREE = pathlib.Path(__file__).resolve().parent.parent.parent
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Failure(Exception):
    """Something this script needs is missing or broken; the text says what."""


def cache_directory(given=None):
    """--cache, $GLASSBOX_VM_CACHE, or vm/ in cargo's target directory."""
    target = os.environ.get("CARGO_TARGET_DIR") or SOURCE_TREE / "target"
    cache = pathlib.Path(given or os.environ.get("GLASSBOX_VM_CACHE") or pathlib.Path(target, "vm")).resolve()
    cache.mkdir(parents=True, exist_ok=True)
    return cache


def host_environment():
    """Our environment, in which an ordinary user finds mke2fs and its like too."""
    return os.environ | {"PATH": os.environ.get("PATH", "") + ":" + SEARCH_PATH, "LC_ALL": "C"}


def require(program, package):
    if not shutil.which(program, path=host_environment()["PATH"]):
        raise Failure(f"{program} is missing: apt-get install {package}")


def read_command(*command, **more):
    """stdout of a command; its stderr is the message if it fails."""
    more.setdefault("env", host_environment())
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, **more)
    if done.returncode:
        raise Failure(f"{shlex.join(map(str, command))}: exit status {done.returncode}\n{done.stderr.strip()}")
    return done.stdout


class Packages:
    """Debian packages, downloaded once and unpacked in the cache, never installed."""

    def __init__(self, cache):
        self.cache = cache
        self.candidates = {}  # name → version

    def candidate(self, *names):
        """The first one's version that apt would install. All are asked for at once, once: each
        start of apt reads its lists anew, a second's work."""
        if missing := [name for name in names if name not in self.candidates]:
            policy = read_command("apt-cache", "policy", *missing)
            self.candidates |= re.findall(r"^(\S+):\n.*\n  Candidate: (\S+)", policy, re.M)
        if self.candidates.get(names[0], "(none)") == "(none)":
            raise Failure(f"apt knows no package {names[0]}: run apt-get update once")
        return self.candidates[names[0]]

    def unpacked(self, name):
        """Directory with the unpacked package of that name, at apt's candidate version."""
        candidate = self.candidate(name)
        version = candidate.replace(":", "%3a")
        tree = self.cache / f"{name}_{version}"
        if not tree.exists():
            with tempfile.TemporaryDirectory(dir=self.cache) as work:
                print(f"downloading Debian package {name} {candidate}", file=sys.stderr)
                # _apt, the user that apt downloads as, cannot write here.
                sandbox = ["-o", "APT::Sandbox::User=root"] if os.geteuid() == 0 else []
                read_command("apt-get", *sandbox, "-qq", "download", f"{name}={candidate}", cwd=work)
                (deb,) = pathlib.Path(work).glob("*.deb")
                read_command("dpkg", "-x", deb, f"{work}/tree")
                # A rename is atomic: the cache never has half a package.
                with contextlib.suppress(FileExistsError, OSError):
                    os.rename(f"{work}/tree", tree)
        return tree

    def file(self, name, path):
        found = self.unpacked(name) / path
        if not found.exists():
            raise Failure(f"package {name} has no file {path}")
        return found

    def with_dependencies(self, *names):
        """The packages and those of their dependencies that the host has not installed."""
        if not names:
            return []
        plan = read_command("apt-get", "-s", "--no-install-recommends", "install", *names)
        wanted = sorted({*names, *re.findall(r"^Inst (\S+)", plan, re.M)})
        self.candidate(*wanted)
        return wanted
