# refused: host
# The segment is made before the namespace. (The tests run this one in an IPC namespace that plays
# the host.)
ipcmk --shmem "$LAB_SIZE" >/dev/null
unshare --user --map-root-user --uts --ipc sh -c 'hostname "$LAB_NAME"; exec sleep 1000' >/dev/null 2>&1 &
echo $! > "$LAB_DIR/pid"
