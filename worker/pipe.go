package worker

import (
	"os"
	"strconv"

	"github.com/onescrape/onescrape/worker/sigpipe"
)

// A worker outlives the reader of its log from its first line on, also one that its own main function writes.
func init() {
	if os.Getenv("ONESCRAPE_SLOT") != "" && os.Getenv("LISTEN_PID") == strconv.Itoa(os.Getpid()) {
		sigpipe.Survive()
	}
}
