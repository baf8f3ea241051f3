package worker

import "strings"

// DefaultExportMode returns the mode of an exported gauge for which ExportOptions.Mode names none. The first line that fits
// counts:
//
//	family                               mode     why
//	go_info, go_build_info               LiveMax  1; one series for each version that runs
//	go_gc_gogc_percent                   LiveMax  a setting, not an amount
//	go_gc_gomemlimit_bytes               LiveMax  a setting; where it is "none" the sum would overflow
//	go_gc_limiter_last_enabled_gc_cycle  LiveMax  a number of a cycle
//	go_gc_stack_starting_size_bytes      LiveMax  a size of each goroutine
//	go_memstats_last_gc_time_seconds     LiveMax  a time: when one of them last collected
//	go_sched_gomaxprocs_threads          LiveSum  what all of them may use
//	process_max_fds                      LiveMax  a limit of each process
//	process_virtual_memory_max_bytes     LiveMax  a limit of each process, often infinite
//	process_start_time_seconds           LiveMin  the oldest worker's: since then somebody serves
//	process_network_…_bytes_total        LiveMax  not the process's own: the kernel counts for a network namespace,
//	                                              which all workers share; published as untyped for that
//	…_info                               LiveMax  1, by convention
//	…_timestamp_seconds                  Max      a time, by convention: that of the last event, whoever saw it
//	…_ratio                              LiveAvg  a share, by convention
//	any other                            LiveSum  memory, goroutines, threads, descriptors, connections, queues: each
//	                                              worker has its own, and they end with it. Sum would keep what a
//	                                              worker had when it died, and grow with every restart
//
// The sum of process_resident_memory_bytes counts memory that workers share, such as the program's text, once for each
// worker.
func DefaultExportMode(family string) GaugeMode {
	if mode, ok := standardModes[family]; ok {
		return mode
	}
	switch {
	case strings.HasSuffix(family, "_info"):
		return LiveMax
	case strings.HasSuffix(family, "_timestamp_seconds"):
		return Max
	case strings.HasSuffix(family, "_ratio"):
		return LiveAvg
	}
	return LiveSum
}

// standardModes are those of the families that client_golang's collectors of the Go runtime and of the process have and
// that do not add up.
var standardModes = map[string]GaugeMode{
	"go_gc_gogc_percent":                   LiveMax,
	"go_gc_gomemlimit_bytes":               LiveMax,
	"go_gc_limiter_last_enabled_gc_cycle":  LiveMax,
	"go_gc_stack_starting_size_bytes":      LiveMax,
	"go_memstats_last_gc_time_seconds":     LiveMax,
	"process_max_fds":                      LiveMax,
	"process_virtual_memory_max_bytes":     LiveMax,
	"process_start_time_seconds":           LiveMin,
	"process_network_receive_bytes_total":  LiveMax,
	"process_network_transmit_bytes_total": LiveMax,
}

// sharedCounters are counters of the standard collectors that several processes have as one: added up they would be too
// high by as much as there are workers.
var sharedCounters = map[string]bool{
	"process_network_receive_bytes_total":  true,
	"process_network_transmit_bytes_total": true,
}
