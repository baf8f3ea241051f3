//go:build race

package worker

// raceDetector reports whether the tests run under the race detector, which makes them ten times as slow.
const raceDetector = true
