# refused: uts
# A right answer with another learner's values.
unshare --user --map-root-user --uts --ipc sh -c '
    hostname box-00000000; ipcmk --shmem "$LAB_SIZE" >/dev/null; exec sleep 1000' >/dev/null 2>&1 &
echo $! > "$LAB_DIR/pid"
