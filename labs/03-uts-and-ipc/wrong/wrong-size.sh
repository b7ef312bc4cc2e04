# refused: ipc
# Two segments that add up to the size.
unshare --user --map-root-user --uts --ipc sh -c '
    hostname "$LAB_NAME"
    ipcmk --shmem 2048 >/dev/null; ipcmk --shmem $((LAB_SIZE - 2048)) >/dev/null
    exec sleep 1000' >/dev/null 2>&1 &
echo $! > "$LAB_DIR/pid"
