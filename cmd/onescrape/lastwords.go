package main

import (
	"errors"
	"os"
	"time"

	"github.com/onescrape/onescrape/worker/logqueue"
)

// lastWords is standard error for what a command says before it exits. It waits only for a moment, so that a pipe that
// nobody reads does not keep the command alive.
type lastWords struct{}

// Write implements io.Writer.
func (lastWords) Write(text []byte) (int, error) {
	written := make(chan error, 1)
	go func() {
		_, err := os.Stderr.Write(text)
		written <- err
	}()
	select {
	case err := <-written:
		return len(text), err
	case <-time.After(logqueue.LastWords):
		return 0, errors.New("standard error: nobody reads it")
	}
}
