// Package master supervises the worker processes of a prefork server: it owns the sockets, starts the workers, replaces
// them without dropping a connection, and answers one scrape for all of them.
//
// A program calls Run. The environment decides whether it becomes the master or one of its workers:
//
//	func main() {
//		err := master.Run(master.Config{Listen: []string{":8080"}}, func(ctx context.Context, w *worker.Worker) error {
//			return w.Serve(&http.Server{Handler: handler})
//		})
//		if err != nil {
//			log.Fatal(err)
//		}
//	}
//
// What the master promises: a worker that dies leaves its accept queue to its successor; a rolling restart, an upgrade and
// a change of the number of workers lose no connection; a release that fails to start does not replace one that runs;
// whatever dies, the numbers that were counted stay.
//
// The master never accepts a connection at the workers' addresses, never joins another server's group of sockets, and never
// calls shutdown(2) or listen(fd, 0) on a socket that workers share.
//
// # Signals
//
//	HUP        rolling restart, with the binary that is on disk now
//	USR2       upgrade in place: the master too
//	TTIN TTOU  one worker more, one less
//	USR1       passed on to the workers that are ready (log rotation)
//	TERM       graceful stop; the second one stops at once
//	INT QUIT   stop at once
//
// # Upgrade in place
//
// At USR2 the master runs the program that is on disk now in check mode: with the same arguments, up to Run, which
// validates its Config and ends. If that succeeds within Config.ReadyTimeout, the master executes the program in its own
// process, with its sockets, the store's lock and its workers, and the new one rolls them, as HUP does. If not, all goes on
// as it was, and the rollout is shown as abandoned with what the program said. The new configuration's addresses, metrics
// port and number of workers apply; the store stays.
//
// Between the exec and the start of the new program nobody handles signals: some milliseconds on an idle machine, which the
// log states as "deaf". HUP, INT, TTIN and TTOU are lost then; the rolling restart that follows does what HUP would have
// done. USR1 and USR2 wait, except in the last microseconds before the exec. TERM and QUIT end the master at once, and its
// workers drain, as they do whenever their master is gone.
//
// # Workers of other kinds
//
// With Config.Command a worker is any program that takes its sockets from LISTEN_FDS and says READY=1 on NOTIFY_SOCKET, as
// systemd's services do. A program that knows LISTEN_FDS but not NOTIFY_SOCKET counts as ready when it has lived for
// Config.ReadyTimeout. After the first READY=1 of that command, a worker that does not say READY=1 in time has failed.
package master
