package master

import (
	"fmt"
	"log/slog"
	"net/http"

	"github.com/onescrape/onescrape/aggregate"
	"github.com/onescrape/onescrape/master/internal/endpoint"
	"github.com/onescrape/onescrape/master/internal/release"
	"github.com/onescrape/onescrape/master/internal/reuseport"
)

// trial builds what Run would build from a complete configuration and what can fail by it, without opening a socket or a
// store: what fails after an upgrade's exec ends the service.
func (c Config) trial() error {
	dir, err := release.ResolveDir(c.Chdir)
	if err != nil {
		return err
	}
	if _, err := release.Find(c.Command, dir); err != nil {
		return err
	}
	if err := c.resolveAll(); err != nil {
		return err
	}
	if err := c.tryForeign(); err != nil {
		return err
	}
	return c.tryEndpoint()
}

// resolveAll looks every address up.
func (c Config) resolveAll() error {
	for _, text := range c.Listen {
		a, err := reuseport.ParseAddress(text)
		if err == nil && a.Network == "tcp" {
			err = reuseport.LookUp(a.Addr)
		}
		if err != nil {
			return fmt.Errorf("master: listen %s: %w", text, err)
		}
	}
	if c.MetricsListen != "off" {
		if err := reuseport.LookUp(c.MetricsListen); err != nil {
			return fmt.Errorf("master: metrics address %s: %w", c.MetricsListen, err)
		}
	}
	return nil
}

// tryForeign opens the other libraries' directories as the endpoint would.
func (c Config) tryForeign() error {
	if len(c.Foreign) == 0 {
		return nil
	}
	s, err := aggregate.Open("", aggregate.Options{Foreign: c.Foreign, ReadOnly: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	return s.Close()
}

// tryEndpoint builds the endpoint's handler. Both the mux and Config.Handler can panic.
func (c Config) tryEndpoint() (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("master: build the handler of the endpoint: %v", v)
		}
	}()
	cfg := c.endpoint(endpoint.Pages{Metrics: http.NotFoundHandler()})
	if cfg.Handler == nil {
		return fmt.Errorf("master: Config.Handler returns no handler")
	}
	return nil
}
