// Package sigpipe keeps a server alive when the reader of its log has gone.
package sigpipe

import (
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// Survive makes writes to standard output and standard error fail when their reader has gone, where else SIGPIPE would
// end a Go program. The signal is caught, not ignored: the commands that this process starts would inherit that it is
// ignored.
var Survive = sync.OnceFunc(func() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
})
