# With the system calls themselves, from Python: unshare(2), the id maps, sethostname(2), shmget(2).
import ctypes
import os
import subprocess
import sys

CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER = 0x04000000, 0x08000000, 0x10000000
IPC_PRIVATE, IPC_CREAT = 0, 0o1000

if len(sys.argv) == 1:
    # A second copy of this file becomes the process; the lab wants it to outlive the first.
    null = subprocess.DEVNULL
    child = subprocess.Popen([sys.executable, __file__, "inside"], stdout=null, stderr=null)
    with open(os.environ["LAB_DIR"] + "/pid", "w") as f:
        f.write(f"{child.pid}\n")
    sys.exit()

libc = ctypes.CDLL(None, use_errno=True)
name, size = os.environ["LAB_NAME"].encode(), int(os.environ["LAB_SIZE"])
uid, gid = os.getuid(), os.getgid()


def call(result):
    if result < 0:
        sys.exit(os.strerror(ctypes.get_errno()))


call(libc.unshare(CLONE_NEWUSER | CLONE_NEWUTS | CLONE_NEWIPC))
for file, text in ("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1"):
    with open(f"/proc/self/{file}", "w") as f:
        f.write(text)
call(libc.sethostname(name, len(name)))
call(libc.shmget(IPC_PRIVATE, ctypes.c_size_t(size), IPC_CREAT | 0o600))
os.execvp("sleep", ["sleep", "1000"])
