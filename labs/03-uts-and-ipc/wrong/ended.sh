# refused: process
# Everything was made, and nothing stayed to hold it.
unshare --user --map-root-user --uts --ipc sh -c '
    hostname "$LAB_NAME"; ipcmk --shmem "$LAB_SIZE" >/dev/null' &
echo $! > "$LAB_DIR/pid"
wait
