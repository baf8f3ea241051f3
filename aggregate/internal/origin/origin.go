// Package origin says whose samples are merged, and which of several origins ranks higher.
package origin

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/onescrape/onescrape/shmstore"
)

// Origin is a process that has a file, or an archive, or one slot of an archive. Its rank decides which definition of a
// family rules and, of several origins with one slot, whose gauges the slot shows. An Origin is not safe for concurrent use.
type Origin struct {
	Info  shmstore.Info
	Ready bool
	Alive bool
	Since int64 // when it said READY, else when it started, see Time

	ArchivedThrough uint64 // the last release of the process whose series the archive has
}

// Observe updates the origin from the state of its process, and whether that lives. It reports whether the rank changed.
func (o *Origin) Observe(s shmstore.State, alive bool) bool {
	since := o.Time(o.Info.StartedMono)
	if s.Ready {
		since = o.Time(s.ReadyAt)
	}
	changed := o.Ready != s.Ready || o.Since != since || o.Alive != alive
	o.Ready, o.Since, o.Alive = s.Ready, since, alive
	return changed
}

// Time converts a time of shmstore.Monotonic in the origin's boot, in nanoseconds. Two results compare when both origins are
// of this boot, or neither is: without this boot's clock they are on the wall clock.
func (o *Origin) Time(mono uint64) int64 {
	if o.Info.ThisBoot {
		return int64(mono)
	}
	return o.Info.Started.UnixNano() + int64(mono-o.Info.StartedMono)
}

// Compare is positive when o ranks higher than other: ready before not ready, this boot before others, then the newer. The
// name makes it a total order, so that every scraper decides alike.
func (o *Origin) Compare(other *Origin) int {
	return cmp.Or(
		CompareBool(o.Ready, other.Ready),
		CompareBool(o.Info.ThisBoot, other.Info.ThisBoot),
		cmp.Compare(o.Since, other.Since),
		strings.Compare(o.Info.Name, other.Info.Name),
	)
}

// CompareRule is positive when o's definitions rule over other's. An origin that serves goes before all others: else a
// release that came up, died and was rolled back would rule until its series are forgotten. The dead rank the same, folded
// or not.
func (o *Origin) CompareRule(other *Origin) int {
	return cmp.Or(CompareBool(o.Ready && o.Alive, other.Ready && other.Alive), o.Compare(other))
}

// SlotLabel is the value of the label of all and liveall gauges. Processes without a slot share one value: a pid or a nonce
// would make a new series at every start.
func (o *Origin) SlotLabel() string {
	if o.Info.Slot < 0 {
		return "none"
	}
	return strconv.Itoa(o.Info.Slot)
}

// CompareBool compares as cmp.Compare does; true is the larger.
func CompareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	default:
		return -1
	}
}
