# refused: uts
# A process that only carries the name, as an argument.
sh -c 'exec sleep 1000' "$LAB_NAME" >/dev/null 2>&1 &
echo $! > "$LAB_DIR/pid"
