package worker

import (
	"context"
	"slices"
	"syscall"
	"time"
)

// Some numbers are not counted in the store but live elsewhere: in a registry of client_golang, or in what a function
// returns. A publisher takes them over: at an interval, when the process gets a store, when it is ready, and once more at
// the end. It has no goroutine while there is no store, because then they are read when somebody gathers.
type publisher struct {
	interval time.Duration
	publish  func() // may be called at any time from any goroutine

	wake chan struct{} // has room for one
	stop chan struct{} // closed to end the goroutine; nil without one. The registry's lock protects it
}

// publishing is what a registry has to publish. The registry's lock protects it.
type publishing struct {
	publishers []*publisher
	exporters  []*exporter          // in the order of Export
	claims     map[string]*exporter // of each family that an exporter has, the first that had it
	functions  []valueFunction
}

const (
	// publishEvery is how often numbers are published unless somebody says otherwise.
	publishEvery = time.Second
	// publishShare is how many times its own cost a publisher waits, so that it takes 1 % of a core at the most.
	publishShare = 100
)

// addPublisher adds a publisher. The caller holds the lock.
func (r *registry) addPublisher(interval time.Duration, publish func()) *publisher {
	p := &publisher{interval: interval, publish: publish, wake: make(chan struct{}, 1)}
	r.publishing.publishers = append(r.publishing.publishers, p)
	if r.binding.writer != nil {
		p.start()
	}
	return p
}

// removePublisher ends a publisher. The caller holds the lock.
func (r *registry) removePublisher(p *publisher) {
	r.publishing.publishers = slices.DeleteFunc(r.publishing.publishers, func(o *publisher) bool { return o == p })
	p.end()
}

// startPublishers starts all publishers and has everything published soon: the process has a store from now on. The caller
// holds the lock.
func (r *registry) startPublishers() {
	for _, p := range r.publishing.publishers {
		p.start()
	}
	r.wakePublishers()
}

// endPublishers ends the goroutines of all publishers: the process has no store any more. The caller holds the lock.
func (r *registry) endPublishers() {
	for _, p := range r.publishing.publishers {
		p.end()
	}
}

func (p *publisher) start() {
	if p.stop == nil {
		p.stop = make(chan struct{})
		go p.run(p.stop)
	}
}

func (p *publisher) end() {
	if p.stop != nil {
		close(p.stop)
		p.stop = nil
	}
}

func (p *publisher) run(stop <-chan struct{}) {
	timer := time.NewTimer(p.interval)
	defer timer.Stop()
	for {
		select {
		case <-stop:
			return
		case <-p.wake:
		case <-timer.C:
		}
		timer.Reset(max(p.interval, publishShare*cost(p.publish)))
	}
}

// cost calls f and returns what that has cost of a core at the most: the time that it took, or, if f has waited, the
// processor time that the whole process has used meanwhile.
func cost(f func()) time.Duration {
	began, used := time.Now(), processorTime()
	f()
	return min(time.Since(began), processorTime()-used)
}

func processorTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// wakePublishers has everything published soon. The caller holds the lock.
func (r *registry) wakePublishers() {
	for _, p := range r.publishing.publishers {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
}

// publishLast publishes everything once more before the process ends.
func publishLast(ctx context.Context) { process.publishLast(ctx) }

// publishLast waits no longer than ctx: a collector that hangs must not keep the process from its end.
func (r *registry) publishLast(ctx context.Context) {
	r.mu.RLock()
	all := slices.Clone(r.publishing.publishers)
	r.mu.RUnlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, p := range all {
			p.publish()
		}
	}()
	select {
	case <-done:
	case <-ctx.Done():
		r.log.Warn("the last numbers of what is exported are not published: reading them took too long")
	}
}
