//go:build !(linux || darwin) || 386 || arm || mips || mipsle

package mapped

// Cells are 64-bit words that several processes change atomically; a platform that emulates those with locks of its own
// process cannot share them. Windows has neither SO_REUSEPORT nor the locks.
var _ = onescrape_runs_on_64_bit_linux_and_macos_only
