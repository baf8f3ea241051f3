package aggregate

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/onescrape/onescrape/shmstore"
)

// member is one of those whose samples are merged, such as a process that has a file. Its rank decides whose definition
// of a family counts and, of several members of one slot, whose gauges.
type member struct {
	info  shmstore.Info
	ready bool
	alive bool
	since int64 // when it said READY, else when it started, see when

	taken uint64 // up to which release the archive has what it deleted
}

// observe takes over what the process says of itself now, and whether it lives, and tells whether the member's rank changed.
func (m *member) observe(s shmstore.State, alive bool) bool {
	since := m.when(m.info.StartedMono)
	if s.Ready {
		since = m.when(s.ReadyAt)
	}
	changed := m.ready != s.Ready || m.since != since || m.alive != alive
	m.ready, m.since, m.alive = s.Ready, since, alive
	return changed
}

// when makes a time of the member's boot, on Monotonic's clock, one that compares with those of other members that are
// of this boot too, or both of none: those are set on the wall clock.
func (m *member) when(mono uint64) int64 {
	if m.info.ThisBoot {
		return int64(mono)
	}
	return m.info.Started.UnixNano() + int64(mono-m.info.StartedMono)
}

// compare is positive when m ranks higher than o: ready before not ready, this boot before others, then the newer. The
// name makes it a total order, so that every scraper decides alike.
func (m *member) compare(o *member) int {
	return cmp.Or(
		compareBool(m.ready, o.ready),
		compareBool(m.info.ThisBoot, o.info.ThisBoot),
		cmp.Compare(m.since, o.since),
		strings.Compare(m.info.Name, o.info.Name),
	)
}

// compareRule is positive when m's definitions go before o's: who serves before all others, else a release that came up,
// died and was rolled back would rule until what it left is forgotten. The dead rank the same, folded or not.
func (m *member) compareRule(o *member) int {
	return cmp.Or(compareBool(m.ready && m.alive, o.ready && o.alive), m.compare(o))
}

// slot is the value of the label of all and liveall gauges. Processes without a slot share one value: a pid or a nonce
// would make a new series at every start.
func (m *member) slot() string {
	if m.info.Slot < 0 {
		return "none"
	}
	return strconv.Itoa(m.info.Slot)
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	default:
		return -1
	}
}
