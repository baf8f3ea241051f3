package osfile

import (
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// monotonicBase is CLOCK_MONOTONIC of the first time namespace at clockStart. From there on the runtime's own monotonic clock is used: it is the
// same clock, read without a system call.
var clockStart, monotonicBase = calibrate()

// calibrate pairs the two clocks as closely as a few tries can.
func calibrate() (start time.Time, base uint64) {
	best := time.Duration(math.MaxInt64)
	for range 16 {
		var ts unix.Timespec
		before := time.Now()
		if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
			return before, uint64(before.UnixNano())
		}
		if gap := time.Since(before); gap < best {
			best, start, base = gap, before, uint64(ts.Nano())-uint64(gap/2)
		}
	}
	return start, base - uint64(timeNamespaceOffset())
}

// Monotonic returns the time in nanoseconds on a clock that never goes back. All processes of one boot share it to within a
// microsecond, also those in different time namespaces.
func Monotonic() uint64 { return monotonicBase + uint64(time.Since(clockStart)) }
