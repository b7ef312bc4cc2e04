"""The comparisons of benches/compare that need a registry: pull and push.

What it does: makes an image of several layers out of this host's /usr, starts Debian's
docker-registry on the loopback of the comparison's network namespace, and has each contender
pull the image and unpack it, or push it. Before each turn the contender has nothing of it: its
store, or the registry's, is emptied, and what that left in memory is written.

Read next: benches/compare.
"""

import gzip
import hashlib
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import time

PEERS = {
    "docker-registry": ("docker-registry", "usr/bin/docker-registry"),
    "podman": ("podman", "usr/bin/podman"),
    "skopeo": ("skopeo", "usr/bin/skopeo"),
}
ROUNDS = {"pull": 7, "push": 15}
# Bytes of gzip, at least; a file is not split.
LAYERS = [48_000_000, 24_000_000, 16_000_000, 8_000_000, 4_000_000]
CONFIGURATION = """\
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: DATA}, delete: {enabled: true}}
http: {addr: "127.0.0.1:5000", secret: none}
"""
NAME = "127.0.0.1:5000/compare/image:1"


class Registries:
    """Part of benches/compare's Contest, which has `work`, `peer`, `compare`, `attempt`."""

    def pull(self, rounds):
        source = self.pushed("pull")
        if not source or not self.start_dockerd("pull"):
            return
        podman = self.podman()
        policy = self.work / "policy.json"
        policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        removal = {
            "glassbox": [[self.glassbox, "image", "rm", NAME], [self.glassbox, "image", "prune", "-a", "-f"]],
            "podman": [[*podman, "rmi", "-a", "-f"]],
            "docker": [[self.docker, "rmi", "-f", NAME]],
        }

        def forget(name):
            for command in removal[name]:
                # The first time there is nothing to remove.
                subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, env=self.environment_of(name))
            os.sync()  # or one contender would pay for what the other left in memory

        self.compare("pull", rounds, 0.5, before=forget,
                     glassbox=[self.glassbox, "pull", "-q", NAME],
                     podman=[*podman, "pull", "-q", "--tls-verify=false", "--signature-policy", policy, NAME],
                     docker=[self.docker, "pull", "-q", NAME])

    def push(self, rounds):
        source = self.pushed("push")
        if not source or not self.attempt("push", self.glassbox, "pull", "-q", NAME):
            return
        # Both read the same files: our store is an image layout.
        layout = self.work / "glassbox/oci"

        def forget(_):
            for name in ["repositories", "blobs"]:
                shutil.rmtree(self.work / "registry/docker/registry/v2" / name, ignore_errors=True)
            # Where skopeo remembers what a registry had.
            shutil.rmtree("/var/lib/containers/cache", ignore_errors=True)
            os.sync()

        skopeo = [self.peer("skopeo"), "--insecure-policy", "copy", "-q", "--dest-tls-verify=false"]
        name = json.loads((layout / "index.json").read_text())["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"]
        self.compare("push", rounds, 1.0, before=forget,
                     glassbox=[self.glassbox, "push", "-q", NAME],
                     skopeo=[*skopeo, f"oci:{layout}:{name}", f"docker://{NAME}"])

    def environment_of(self, name):
        return self.environment | self.variables.get(name, {})

    def podman(self):
        """podman with a store of its own."""
        podman, crun = self.peer("podman"), self.peer("crun")
        configuration = self.work / "containers.conf"
        configuration.write_text('[engine]\nevents_logger = "none"\ncgroup_manager = "cgroupfs"\n')
        authentication = self.work / "auth.json"
        authentication.write_text("{}")
        more = {"CONTAINERS_CONF": str(configuration), "REGISTRY_AUTH_FILE": str(authentication)}
        self.variables.setdefault("podman", {}).update(more)
        return [podman, "--root", self.work / "podman", "--runroot", "/run/podman-compare", "--storage-driver", "overlay",
                "--runtime", crun]

    def pushed(self, name):
        """The image, in docker-registry, put there by skopeo; None if that failed."""
        private_containers()
        if not hasattr(self, "registry"):
            data = self.work / "registry"
            data.mkdir()
            configuration = self.work / "registry.yml"
            configuration.write_text(CONFIGURATION.replace("DATA", str(data)))
            log = open(self.work / "registry.log", "wb")
            self.registry = subprocess.Popen([self.peer("docker-registry"), "serve", configuration], stdin=subprocess.DEVNULL,
                                             stdout=log, stderr=log, env=self.environment_of("docker-registry"))
            self.undo.callback(self.registry.kill)
        skopeo = self.peer("skopeo")
        until = time.monotonic() + 20
        copy = [skopeo, "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", f"oci:{self.layout()}", f"docker://{NAME}"]
        while time.monotonic() < until:
            done = subprocess.run(copy, stdin=subprocess.DEVNULL, capture_output=True, env=self.environment_of("skopeo"))
            if done.returncode == 0:
                return True
            time.sleep(0.2)
        return self.attempt(name, *copy, contender="skopeo") or None

    def layout(self):
        """An OCI layout with one image of files of this host's /usr; kept in the cache."""
        place = self.cache / "compare-image"
        if not place.exists():
            print(f"writing an image of {sum(LAYERS) / 1e6:.0f} MB in {len(LAYERS)} layers", file=sys.stderr)
            part = self.work / "image"
            (part / "blobs/sha256").mkdir(parents=True)
            sources = usr_files()
            layers, ids = zip(*(write_layer(part, sources, size) for size in LAYERS))
            config = put(part, "application/vnd.oci.image.config.v1+json", {
                "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()], "os": "linux",
                "config": {"Cmd": ["sh"]}, "rootfs": {"type": "layers", "diff_ids": ids}})
            kind = "application/vnd.oci.image.manifest.v1+json"
            manifest = put(part, kind, {"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers})
            (part / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
            (part / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
            os.rename(part, place)
        blobs = sorted((b.stat().st_size for b in (place / "blobs/sha256").iterdir()), reverse=True)
        layers = ", ".join(f"{size / 1e6:.0f}" for size in blobs if size > 100_000)
        self.versions["image"] = f"layers of {layers} MB gzip of files of /usr"
        return place


def private_containers():
    """Where podman and skopeo keep what they know, for this namespace alone."""
    place = pathlib.Path("/var/lib/containers")
    place.mkdir(exist_ok=True)
    if not re.search(r" /var/lib/containers tmpfs ", pathlib.Path("/proc/self/mounts").read_text()):
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)


def write_layer(layout, sources, size):
    """The next files of `sources`, until the gzip has so many bytes: descriptor and diff id."""
    part = layout / "part"
    tar_hash = hashlib.sha256()

    class Hashed:
        def __init__(self, sink):
            self.sink = sink

        def write(self, data):
            tar_hash.update(data)
            return self.sink.write(data)

    with open(part, "wb") as sink:
        with gzip.GzipFile("", "wb", 6, sink, 0) as packed, tarfile.open(fileobj=Hashed(packed), mode="w|", format=tarfile.GNU_FORMAT) as archive:
            for source in sources:
                archive.add(source, source.lstrip("/"), recursive=False)
                if sink.tell() >= size:
                    break
    return place(layout, part, "application/vnd.oci.image.layer.v1.tar+gzip"), "sha256:" + tar_hash.hexdigest()


def put(layout, kind, document):
    part = layout / "part"
    part.write_text(json.dumps(document))
    return place(layout, part, kind)


def place(layout, part, kind):
    with open(part, "rb") as file:
        name = hashlib.file_digest(file, "sha256").hexdigest()
    size = part.stat().st_size
    os.rename(part, layout / "blobs/sha256" / name)
    return {"mediaType": kind, "digest": f"sha256:{name}", "size": size}


def usr_files():
    for directory, subdirectories, files in os.walk("/usr"):
        subdirectories.sort()
        yield directory
        for name in sorted(files):
            yield os.path.join(directory, name)
