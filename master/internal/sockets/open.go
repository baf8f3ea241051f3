package sockets

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/onescrape/onescrape/master/internal/proc"
	"github.com/onescrape/onescrape/master/internal/reuseport"
	"github.com/onescrape/onescrape/master/internal/system"
)

// Opener opens addresses. While workers of a master that has gone drain on one, which they do for a limited time, it waits;
// anybody else is a reason to refuse.
type Opener struct {
	System  system.System
	Log     *slog.Logger
	AtMost  time.Duration               // how long it waits
	MayWait func(h proc.Holder) bool    // whether a holder may be a worker of the last master
	Pause   func(d time.Duration) error // waits; an error ends the start
}

const (
	// holderGrace is how long a foreign holder must have been seen until the address is refused: one that closes the address
	// between the bind and the look at who has it is nobody's, and one that is executing a program has no environment yet.
	holderGrace = 500 * time.Millisecond
	// openPoll is how often an address that is in use is tried again.
	openPoll = 50 * time.Millisecond
)

// Open opens an address.
func (o Opener) Open(a reuseport.Address) (*reuseport.Group, error) {
	deadline := o.System.Now().Add(o.AtMost)
	said := ""
	var foreign time.Time // since when the holders are not the last master's workers
	for {
		g, err := reuseport.Open(o.System.Kernel(), a)
		if err == nil {
			return g, nil
		}
		if !reuseport.InUse(err) {
			return nil, fmt.Errorf("master: listen %s: %w", a.Spec(), err)
		}
		holders := o.System.AddressHolders(a)
		if o.mayWait(holders) {
			foreign = time.Time{}
		} else if foreign.IsZero() {
			foreign = o.System.Now()
		}
		if !foreign.IsZero() && o.System.Now().Sub(foreign) > holderGrace || o.System.Now().After(deadline) {
			return nil, fmt.Errorf("master: listen %s: in use by %s: stop it or choose another address: %w", a.Spec(),
				proc.Text(holders), err)
		}
		if text := proc.Text(holders); foreign.IsZero() && text != said {
			o.Log.Warn("waiting for an address that workers of the last master still hold", "address", a.Spec(), "holders", text,
				"at_most", deadline.Sub(o.System.Now()).Round(time.Second))
			said = text
		}
		if err := o.Pause(openPoll); err != nil {
			return nil, err
		}
	}
}

// mayWait reports whether all holders may be workers of the last master.
func (o Opener) mayWait(holders []proc.Holder) bool {
	for _, h := range holders {
		if !o.MayWait(h) {
			return false
		}
	}
	return len(holders) > 0
}
