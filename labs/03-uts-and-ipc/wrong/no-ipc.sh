# refused: ipc
# The segment is asked for, and the namespace for it is not: it would land on the host, so here it
# is not even made.
unshare --user --map-root-user --uts sh -c 'hostname "$LAB_NAME"; exec sleep 1000' >/dev/null 2>&1 &
echo $! > "$LAB_DIR/pid"
