package master

import (
	"math/rand/v2"
	"time"
)

const (
	backoffFirst = 25 * time.Millisecond
	backoffMost  = 30 * time.Second
	// settled is how long a worker must have been ready to count as one that works. If it ends after that, its successor
	// starts at once.
	settled = 5 * time.Second
	// crashWindow is how long after READY=1 an error counts towards a crash loop. Some servers say READY=1 before they have
	// loaded anything, so a broken release can be ready for quite a while.
	crashWindow = time.Minute
	// crashErrors is how many errors in a row are a crash loop.
	crashErrors = 3
	// patience is how many failures in a row make a slot failed: it is still tried again, at the longest interval.
	patience = 7
)

// backoff returns how long to wait after so many failures in a row, half of it by chance, so that slots that failed for
// one reason do not all come back at once.
func backoff(failures int) time.Duration {
	if failures <= 0 {
		return 0
	}
	d := backoffMost
	if shift := failures - 1; shift < 11 {
		d = min(d, backoffFirst<<shift)
	}
	return d/2 + rand.N(d/2+1)
}

// jittered spreads v by up to the share either way.
func jittered[T ~int64](v T, share float64) T {
	if v <= 0 || share <= 0 {
		return v
	}
	return max(1, T(float64(v)*(1+share*(2*rand.Float64()-1))))
}
