package master

import (
	"context"
	"time"

	"github.com/onescrape/onescrape/master/internal/endpoint"
	"github.com/onescrape/onescrape/worker/logqueue"
)

// halting ends what the master does beside its control goroutine, before an exec or the end of the process would cut it
// off: the folding of the store, scrapes that are being answered, and the writing of the log. It happens in the
// background. The control goroutine owns the fields.
type halting struct {
	over   bool
	unread int // log lines that nobody has read
}

// haltTime is how long the folding and the scrapes are waited for. A fold may be cut off at any step, as by a crash.
const haltTime = endpoint.PauseTime

func (s *supervisor) halt() *halting {
	h := &halting{}
	scrapes, folds := s.endpoint.Pause(), s.stopFold()
	s.background(func() func() {
		ctx, cancel := context.WithTimeout(context.Background(), haltTime)
		defer cancel()
		for _, over := range []<-chan struct{}{scrapes, folds} {
			select {
			case <-over:
			case <-ctx.Done():
			}
		}
		unread := logqueue.Flush(logqueue.LastWords)
		return func() { h.over, h.unread = true, unread }
	})
	return h
}

// unwritten returns how many log lines are still not written. A log that was read a moment ago is given another one, for
// the lines that came since.
func (h *halting) unwritten() int {
	if h.unread > 0 {
		return logqueue.Flush(0)
	}
	return logqueue.Flush(lastMoment)
}

// lastMoment is how long an exec waits for the last lines of a log that is read.
const lastMoment = 50 * time.Millisecond

// resume takes back a halt, whether it is over or not.
func (s *supervisor) resume() {
	if s.folding == nil {
		s.startFold()
	}
	if err := s.endpoint.Start(); err != nil {
		s.log.Error("the metrics port is not served any more", "err", err)
	}
}

// within waits until f has returned, but not for longer than the limit.
func within(limit time.Duration, f func()) {
	over := make(chan struct{})
	go func() {
		defer close(over)
		f()
	}()
	select {
	case <-over:
	case <-time.After(limit):
	}
}
