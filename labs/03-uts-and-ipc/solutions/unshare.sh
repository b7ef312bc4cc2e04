# With util-linux: unshare makes the namespaces and becomes the shell, the shell becomes sleep, so
# one process id goes through all three.
unshare --user --map-root-user --uts --ipc sh -c '
    hostname "$LAB_NAME" &&
    ipcmk --shmem "$LAB_SIZE" >/dev/null &&
    exec sleep 1000' >/dev/null 2>&1 &
echo $! > "$LAB_DIR/pid"
