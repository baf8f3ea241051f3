package master

import "fmt"

// startup is what the master has learned about the workers' command since it started.
type startup struct {
	progress  progress
	protocol  protocol
	refused   error  // why the command cannot be executed; nil: it can, as far as is known
	complaint string // what was logged last about workers that ended before they were ready
}

// progress is how many slots have had a ready worker at the same time.
type progress int

const (
	noneReady progress = iota // no worker has been ready
	someReady                 // a worker has been ready
	allReady                  // all slots have been ready
)

// protocol is how workers of the command say that they are ready, as far as the master has learned it.
type protocol int

const (
	unknownProtocol protocol = iota // no worker has said READY=1: one that lives long enough counts as ready
	saysWhenReady                   // a worker has said READY=1: one that does not say it in time has failed
)

// reached notes how many of the slots are ready. It returns true once: when all are for the first time.
func (st *startup) reached(readySlots, slots int) (allForTheFirstTime bool) {
	if readySlots > 0 {
		st.progress = max(st.progress, someReady)
	}
	if st.progress == allReady || slots == 0 || readySlots < slots {
		return false
	}
	st.progress = allReady
	return true
}

// repeats reports whether a complaint was the last one too, and keeps it.
func (st *startup) repeats(complaint string) bool {
	before := st.complaint
	st.complaint = complaint
	return before == complaint
}

// hopeless returns an error when no worker has ever been ready and there is no hope that one will be: the command
// cannot be executed, or every slot has failed several times in a row.
func (s *supervisor) hopeless() error {
	if s.startup.progress > noneReady {
		return nil
	}
	if s.startup.refused != nil {
		return s.startup.refused
	}
	for _, sl := range s.slots {
		if sl.Failures < patience || sl.cur != nil || sl.short {
			return nil
		}
	}
	if len(s.slots) == 0 {
		return nil
	}
	return fmt.Errorf("master: no worker became ready: each of %d slots failed %d times in a row, the last by %s: the "+
		"workers' own output says why", len(s.slots), patience, s.slots[len(s.slots)-1].LastExit)
}
