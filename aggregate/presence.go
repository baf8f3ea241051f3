package aggregate

// presence says who has a series. It decides whether a series counts that only some have deleted.
type presence uint8

const (
	liveShown presence = 1 << iota
	liveHidden
	deadShown
	deadHidden
	archivedShown
	liveHeld // deleted, but somebody may still add to it; of a fold only
	counted  // somebody has a value of it that was not refused; of a scrape only
)

// visible reports whether a series is exposed. The living processes that have the series decide; without any, the dead ones
// decide, then the archive. An exposed series counts in full, with the values of those that have deleted it. Otherwise a
// deletion would lower the sum in part, and rate() would take that for a reset and count the remainder twice.
func (p presence) visible() bool {
	switch {
	case p&(liveShown|liveHidden) != 0:
		return p&liveShown != 0
	case p&(deadShown|deadHidden) != 0:
		return p&deadShown != 0
	default:
		return p&archivedShown != 0
	}
}

// over reports whether a fold may forget a series. It may when nobody shows the series and no living process still holds a
// value of it. Otherwise that value alone would come back, lower than before, when a process makes the series anew.
func (p presence) over() bool { return !p.visible() && p&liveHeld == 0 }
