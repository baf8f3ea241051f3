package aggregate

// presence says who has a series: it decides whether what was deleted by some still counts.
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

// visible tells whether a series is exposed, with everything that all origins, those that have deleted it too, have
// counted. Living origins decide as long as there are any that have it, then the dead, then the archive: subtracting the
// part of one that deleted it would make the sum fall part of the way, and rate() would add the whole remainder again.
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

// over tells whether a fold may forget a series: nobody shows it, and no living process holds a part of it that would be
// there again alone, as a value that has fallen part of the way, when some process makes the series anew.
func (p presence) over() bool { return !p.visible() && p&liveHeld == 0 }
