package main

import (
	"cmp"
	"log/slog"
	"net"
	"net/http"
	"os"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/promslog"
	promslogflag "github.com/prometheus/common/promslog/flag"

	"github.com/onescrape/onescrape/master"
	"github.com/onescrape/onescrape/worker"
	"github.com/onescrape/onescrape/worker/logqueue"
)

// logFlags are the flags that say how this process logs.
type logFlags struct{ config promslog.Config }

func (f *logFlags) add(cmd *kingpin.CmdClause) {
	f.config.Writer = os.Stderr
	f.config.Level = promslog.NewLevel()
	f.config.Format = promslog.NewFormat()
	valueFlag(cmd, promslogflag.LevelFlagName, promslogflag.LevelFlagHelp, f.config.Level).
		Default("info").HintOptions(promslog.LevelFlagOptions...)
	valueFlag(cmd, promslogflag.FormatFlagName, promslogflag.FormatFlagHelp, f.config.Format).
		Default("logfmt").HintOptions(promslog.FormatFlagOptions...)
}

func (f *logFlags) logger() *slog.Logger {
	return slog.New(logqueue.Wrap(promslog.New(&f.config).Handler()))
}

// endpointFlags are the flags of the port with the metrics.
type endpointFlags struct {
	listen, path, webConfig string
	retention               span
}

func (f *endpointFlags) add(cmd *kingpin.CmdClause) {
	cmd.Flag("web.listen-address", "Address of the metrics, of health and of status; off for none.").
		Default("127.0.0.1:9464").StringVar(&f.listen)
	cmd.Flag("web.telemetry-path", "Path under which the metrics are.").Default("/metrics").StringVar(&f.path)
	cmd.Flag("web.config.file", "File with TLS and basic authentication for that port, see "+
		"https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md.").
		PlaceHolder("FILE").StringVar(&f.webConfig)
	valueFlag(cmd, "store.retention", "How long the series of dead workers stay when no live one touches them; 0 for "+
		"ever.", &f.retention).Default("24h")
}

// masterFlags are the flags of every command that supervises workers. Their defaults are master.Config's.
type masterFlags struct {
	endpointFlags
	log         logFlags
	workers     workerCount
	listenOn    []string
	store       storeFlags
	graceful    span
	linger      span
	ready       span
	settle      span
	delay       span
	watchdog    span
	maxAge      span
	maxRequests requestCount
	jitter      fraction
	stop        signalName
}

func (f *masterFlags) add(cmd *kingpin.CmdClause, settle string, listen ...string) {
	valueFlag(cmd, "workers", "Number of worker processes (default: one a CPU).", &f.workers).PlaceHolder("N")
	cmd.Flag("listen", "Address that the workers share: HOST:PORT, unix:PATH[?mode=0660&group=NAME], or "+
		"NAME=ADDRESS; may be repeated.").
		PlaceHolder("ADDRESS").Default(listen...).StringsVar(&f.listenOn)
	f.endpointFlags.add(cmd)
	f.store.add(cmd, "one for this user and --service in /dev/shm")
	valueFlag(cmd, "graceful-timeout", "How long a worker may take to finish what it is answering before it is killed.",
		&f.graceful).Default(worker.DefaultGracefulTimeout.String())
	valueFlag(cmd, "linger", "How long a stopping worker still answers on open connections, with Connection: close.",
		&f.linger).Default(worker.DefaultLinger.String())
	valueFlag(cmd, "ready-timeout", "How long a worker may take until it says READY=1.", &f.ready).Default("30s")
	valueFlag(cmd, "ready-settle", "How long a new worker must live after READY=1 before its predecessor is stopped.",
		&f.settle).Default(settle)
	valueFlag(cmd, "shutdown-delay", "How long to go on serving, no longer ready, after TERM.", &f.delay).Default("0s")
	valueFlag(cmd, "stop-signal", "Signal by which workers stop gracefully.", &f.stop).Default("TERM")
	valueFlag(cmd, "watchdog", "Kill a worker that says no WATCHDOG=1 for this long; 0 for never.", &f.watchdog).
		Default("0s")
	valueFlag(cmd, "max-requests", "Replace a worker after so many requests; 0 for never. For workers that use the "+
		"worker package.", &f.maxRequests).Default("0")
	valueFlag(cmd, "max-age", "Replace a worker that is older than this; 0 for never.", &f.maxAge).Default("0s")
	valueFlag(cmd, "jitter", "Share by which --max-requests and --max-age vary from worker to worker.", &f.jitter).
		Default("0.1")
	f.log.add(cmd)
}

// config is what the flags say, for the service of that name unless they have another.
func (f *masterFlags) config(service string) (master.Config, error) {
	store, err := f.store.chosen()
	if err != nil {
		return master.Config{}, err
	}
	if err := checkWeb(f.webConfig); err != nil {
		return master.Config{}, err
	}
	log := f.log.logger()
	slog.SetDefault(log) // for what the worker package says of itself
	return master.Config{
		Service:         cmp.Or(string(f.store.service), service),
		Workers:         int(f.workers),
		Listen:          f.listenOn,
		MetricsListen:   f.listen,
		TelemetryPath:   f.path,
		Store:           store,
		Retention:       f.retention.config(),
		GracefulTimeout: f.graceful.config(),
		Linger:          f.linger.config(),
		ReadyTimeout:    f.ready.config(),
		ReadySettle:     f.settle.config(),
		ShutdownDelay:   f.delay.config(),
		Watchdog:        f.watchdog.config(),
		MaxAge:          f.maxAge.config(),
		MaxRequests:     int64(f.maxRequests),
		Jitter:          f.jitter.config(),
		StopSignal:      f.stop.Signal,
		Serve:           func(l net.Listener, srv *http.Server) error { return serveWeb(l, srv, f.webConfig, log) },
		Logger:          log,
	}, nil
}
