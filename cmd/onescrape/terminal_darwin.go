package main

import "golang.org/x/sys/unix"

// termiosRequest asks a terminal for its settings.
const termiosRequest = unix.TIOCGETA
