#!/usr/bin/env python3
"""Compares `glassbox registry serve` with Debian's docker-registry on loopback, as ratios.

usage: benches/serving.py [--rounds N] [--size MIB] [--tags N] GLASSBOX

  upload    four blobs at once, each in one PUT    against docker-registry    aim: at most 1
  download  the same four at once                  against docker-registry    aim: at most 1
  memory    peak resident while doing that         against docker-registry    aim: at most 1
  tags      10,000 tags listed, ten times          memory before and after    aim: no more (1.1)

GLASSBOX is a release build. The exit status is 0 if every aim was met, 1 if one was missed.

How it measures. In each round each server starts on an empty directory, takes the blobs, gives them
out and ends; who begins alternates. What a turn left in memory is written before the next one. A
figure is the median of its rounds, a ratio the quotient of two medians. The client is this program,
forked, with sendfile(2) one way and recv(2) the other; it verifies lengths. Ours flushes what it
acknowledges to the disk, docker-registry does not.

Read next: benches/registries.py.
"""

import argparse
import contextlib
import hashlib
import http.client
import json
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

AT_ONCE = 4
PEER = "docker-registry"
CONFIGURATION = """\
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: DATA}, delete: {enabled: true}}
http: {addr: "127.0.0.1:PORT", secret: none}
"""
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def main():
    parser = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=256, metavar="MIB", help="of each blob")
    parser.add_argument("--tags", type=int, default=10_000)
    parser.add_argument("glassbox", metavar="GLASSBOX")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="serving.", dir=os.environ.get("TMPDIR", "/var/tmp")) as work:
        bench = Bench(pathlib.Path(work), pathlib.Path(args.glassbox).resolve(), args.size)
        for number in range(args.rounds):
            for name in ["glassbox", PEER][:: 1 if number % 2 == 0 else -1]:
                bench.transfer(name)
        bench.listing(args.tags)
        return bench.report()


class Bench:
    """The blobs, the two servers, and what was measured."""

    def __init__(self, work, glassbox, size):
        self.work = work
        self.glassbox = glassbox
        self.size = size << 20
        self.blobs = [self.blob(number) for number in range(AT_ONCE)]
        self.figures = {}  # (figure, contender) → one number a round

    def blob(self, number):
        """A file that no file system makes smaller, and its digest."""
        path, digest = self.work / f"blob-{number}", hashlib.sha256()
        with open(path, "wb") as file:
            for _ in range(0, self.size, 1 << 20):
                piece = os.urandom(1 << 20)
                digest.update(piece)
                file.write(piece)
        return path, "sha256:" + digest.hexdigest()

    @contextlib.contextmanager
    def server(self, name, data):
        """A server on this directory: its port and its process."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        if name == "glassbox":
            command = [self.glassbox, "registry", "serve", "--listen", f"127.0.0.1:{port}", "--data", data, "--log-format", "none"]
        else:
            configuration = self.work / "registry.yml"
            configuration.write_text(CONFIGURATION.replace("DATA", str(data)).replace("PORT", str(port)))
            command = [PEER, "serve", configuration]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("REGISTRY_")}
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   env=environment | {"OTEL_TRACES_EXPORTER": "none"})
        try:
            until = time.monotonic() + 30
            while True:
                with contextlib.suppress(OSError):
                    assert ask(port, "GET", "/v2/").status == 200
                    break
                if process.poll() is not None or time.monotonic() > until:
                    raise SystemExit(f"{name} does not start")
                time.sleep(0.02)
            yield port, process.pid
        finally:
            process.terminate()
            process.wait()

    def note(self, figure, name, value):
        self.figures.setdefault((figure, name), []).append(value)

    def transfer(self, name):
        data = self.work / "data"
        shutil.rmtree(data, ignore_errors=True)
        os.sync()
        with self.server(name, data) as (port, pid):
            for figure, work in [("upload", upload), ("download", download)]:
                begin = time.perf_counter()
                children = [os.fork() or run(work, port, *blob, self.size) for blob in self.blobs]
                ends = [os.waitpid(child, 0)[1] for child in children]
                self.note(figure, name, time.perf_counter() - begin)
                if any(ends):
                    raise SystemExit(f"{name}: an {figure} failed")
            self.note("memory", name, memory(pid, "VmHWM"))
        shutil.rmtree(data, ignore_errors=True)

    def listing(self, count):
        """The tags are made on the disk, as copies of one that was pushed."""
        for name in ["glassbox", PEER]:
            data = self.work / "data"
            with self.server(name, data) as (port, _):
                put_manifest(port)
            one = {"glassbox": "repositories/a/_tags", PEER: "docker/registry/v2/repositories/a/_manifests/tags"}[name]
            for number in range(count):
                tag = data / one / f"{number:032d}"
                if name == "glassbox":
                    shutil.copyfile(data / one / "first", tag)
                else:
                    shutil.copytree(data / one / "first", tag)
            with self.server(name, data) as (port, pid):
                # A short answer first, so that the code which answers is in memory.
                ask(port, "GET", "/v2/a/tags/list?n=1")
                self.note("before", name, memory(pid, "VmRSS"))
                for _ in range(10):
                    found = len(all_tags(port))
                    if found != count + 1:
                        raise SystemExit(f"{name}: {found} tags of {count + 1}")
                self.note("after", name, memory(pid, "VmRSS"))
                self.note("peak", name, memory(pid, "VmHWM"))
            shutil.rmtree(data)

    def report(self):
        version = subprocess.run([self.glassbox, "--version"], capture_output=True, text=True, check=True).stdout.strip()
        peer = subprocess.run([PEER, "--version"], capture_output=True, text=True, check=True).stdout.strip()
        print(f"{version}\n{peer}\nkernel {os.uname().release}, {os.cpu_count()} processors, {AT_ONCE} blobs of {self.size >> 20} MiB\n")
        of = lambda figure, name: statistics.median(self.figures[figure, name])  # noqa: E731
        missed = False
        print(f"{'figure':22} {'glassbox':>12} {PEER:>16} {'ratio':>7}")
        for figure, unit in [("upload", "MB/s"), ("download", "MB/s"), ("memory", "MB")]:
            ours, theirs = of(figure, "glassbox"), of(figure, PEER)
            ratio = ours / theirs
            verdict = "met" if ratio <= 1 else "MISSED"
            missed |= ratio > 1
            if unit == "MB/s":
                ours, theirs = (AT_ONCE * self.size / 1e6 / seconds for seconds in (ours, theirs))
            print(f"{figure + ', ' + unit:22} {ours:12.1f} {theirs:16.1f} {ratio:7.3f}  aim ≤ 1 {verdict}")
        for figure in ["before", "after", "peak"]:
            ours, theirs = of(figure, "glassbox"), of(figure, PEER)
            print(f"{'tags, ' + figure + ', MB':22} {ours:12.1f} {theirs:16.1f} {ours / theirs:7.3f}")
        growth = of("after", "glassbox") / of("before", "glassbox")
        verdict = "met" if growth <= 1.1 else "MISSED"
        print(f"{'tags, after / before':22} {growth:12.3f} {of('after', PEER) / of('before', PEER):16.3f}          aim ≤ 1.1 {verdict}")
        return int(missed or growth > 1.1)


def run(work, *args):
    """In a forked child: does it and ends."""
    try:
        work(*args)
    except BaseException as e:  # noqa: BLE001
        print(repr(e), file=sys.stderr)
        os._exit(1)
    os._exit(0)


def ask(port, method, path, body=None, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    connection.request(method, path, body, headers or {})
    response = connection.getresponse()
    response.content = response.read()
    return response


def begin_upload(port):
    location = ask(port, "POST", "/v2/a/blobs/uploads/", b"").headers["Location"]
    path = re.sub(r"^https?://[^/]+", "", location)
    return path + ("&" if "?" in path else "?")


def upload(port, file, digest, size):
    path = begin_upload(port) + f"digest={digest}"
    with socket.create_connection(("127.0.0.1", port)) as connection, open(file, "rb") as source:
        head = f"PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode())
        connection.sendfile(source)
        answer = connection.recv(4096)
        assert b" 201 " in answer.splitlines()[0], answer


def download(port, _, digest, size):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(f"GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        buffer, total = memoryview(bytearray(1 << 20)), 0
        first = connection.recv(65536)
        head, _, rest = first.partition(b"\r\n\r\n")
        assert b" 200 " in head.splitlines()[0], head
        total = len(rest)
        while count := connection.recv_into(buffer):
            total += count
        assert total == size, total


def put_manifest(port):
    config = b"{}"
    digest = "sha256:" + hashlib.sha256(config).hexdigest()
    path = begin_upload(port) + f"digest={digest}"
    assert ask(port, "PUT", path, config, {"Content-Type": "application/octet-stream"}).status == 201
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "layers": [],
                "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": 2}}
    answer = ask(port, "PUT", "/v2/a/manifests/first", json.dumps(manifest), {"Content-Type": MANIFEST})
    assert answer.status == 201, answer.content


def all_tags(port):
    """Page after page."""
    path, tags = "/v2/a/tags/list", []
    while path:
        answer = ask(port, "GET", path)
        tags += json.loads(answer.content)["tags"]
        link = re.match(r"<([^>]+)>", answer.headers.get("Link") or "")
        path = link and re.sub(r"^https?://[^/]+", "", link[1])
    return tags


def memory(pid, field):
    """In MB."""
    status = pathlib.Path("/proc", str(pid), "status").read_text()
    return int(re.search(rf"^{field}:\s+(\d+) kB", status, re.M)[1]) / 1e3


if __name__ == "__main__":
    sys.exit(main())
