# refused: host
# needs: root
# The name is set outside. (The tests run this one in a UTS namespace that plays the host.)
hostname "$LAB_NAME"
unshare --uts --ipc sh -c 'ipcmk --shmem "$LAB_SIZE" >/dev/null; exec sleep 1000' >/dev/null 2>&1 &
echo $! > "$LAB_DIR/pid"
