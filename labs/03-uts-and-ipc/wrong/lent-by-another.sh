# refused: owner
# The namespaces are right and belong to an outer user namespace; the process went into a further
# one afterwards.
unshare --user --map-root-user --uts --ipc sh -c '
    hostname "$LAB_NAME"; ipcmk --shmem "$LAB_SIZE" >/dev/null
    exec unshare --user --map-root-user sleep 1000' >/dev/null 2>&1 &
echo $! > "$LAB_DIR/pid"
