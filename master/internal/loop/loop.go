// Package loop is the agenda of the control goroutine: when its next step is due, and what work in the background has left to
// do for it.
package loop

import "time"

// Loop is the agenda. The control goroutine owns it.
type Loop struct {
	clock    Clock
	wakeAt   time.Time
	finished chan func()
}

// Clock tells the time and runs work in the background.
type Clock interface {
	Now() time.Time
	Go(f func())
}

// New returns an empty agenda on a clock.
func New(clock Clock) *Loop { return &Loop{clock: clock, finished: make(chan func(), 64)} }

// Now returns the time.
func (l *Loop) Now() time.Time { return l.clock.Now() }

// Due reports whether t has come. If not, the next step is taken at t at the latest.
func (l *Loop) Due(t, now time.Time) bool {
	if !now.Before(t) {
		return true
	}
	l.Wake(t)
	return false
}

// Wake has the next step taken at t at the latest.
func (l *Loop) Wake(t time.Time) {
	if l.wakeAt.IsZero() || t.Before(l.wakeAt) {
		l.wakeAt = t
	}
}

// WakeAt returns when the next step is due; the zero time when only an event asks for one.
func (l *Loop) WakeAt() time.Time { return l.wakeAt }

// Begin forgets the agenda, because a step begins.
func (l *Loop) Begin() { l.wakeAt = time.Time{} }

// Shift puts the next step off.
func (l *Loop) Shift(d time.Duration) {
	if !l.wakeAt.IsZero() {
		l.wakeAt = l.wakeAt.Add(d)
	}
}

// Background runs work, which may take its time, in a goroutine of its own. The control goroutine runs what work returns.
func (l *Loop) Background(work func() (finish func())) {
	l.clock.Go(func() { l.finished <- work() })
}

// Finished passes on what the control goroutine must run.
func (l *Loop) Finished() <-chan func() { return l.finished }
