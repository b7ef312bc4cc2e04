# With this project's own first stage. `glassbox ns run` waits for its child, so the child says its
# own id: the pid namespace is still the host's.
glassbox ns run --user --map-root-user --uts --ipc --hostname "$LAB_NAME" -- sh -c '
    ipcmk --shmem "$LAB_SIZE" >/dev/null &&
    echo $$ > "$LAB_DIR/pid" &&
    exec sleep 1000' >/dev/null 2>&1 &
until [ -s "$LAB_DIR/pid" ]; do kill -0 $! || exit 1; sleep 0.05; done
