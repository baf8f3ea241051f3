package main

import (
	"log/slog"
	"net"
	"net/http"

	"github.com/prometheus/exporter-toolkit/web"
)

// checkWeb reports whether a file for --web.config.file is one, before anything is started.
func checkWeb(file string) error {
	if file == "" {
		return nil
	}
	return web.Validate(file)
}

// serveWeb serves on l, with the TLS and the authentication that the file asks for; none is asked for by "".
func serveWeb(l net.Listener, srv *http.Server, file string, log *slog.Logger) error {
	if file == "" {
		return srv.Serve(l)
	}
	return web.Serve(l, srv, &web.FlagConfig{WebConfigFile: &file}, log)
}
