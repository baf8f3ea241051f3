package main

import (
	"embed"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

//go:embed peers
var scripts embed.FS

// peer is one whose scrapes are measured. The first of them is the project.
type peer struct {
	name    string
	role    string   // of this program; "": it is a program of somebody else
	command []string // and its script, of peers
	store   bool     // it reads files
	all     bool     // it has all formats and native histograms
	most    int      // samples of all workers together that are not too many for it
	missing string   // why it cannot run here
}

const ours = "onescrape"

// findPeers returns all peers. modules is where npm has installed prom-client.
func findPeers(work string, modules string) ([]peer, error) {
	for _, name := range []string{"client_python.py", "client_mmap.rb", "prom_client.js"} {
		text, err := scripts.ReadFile("peers/" + name)
		if err == nil {
			err = os.WriteFile(filepath.Join(work, name), text, 0o600)
		}
		if err != nil {
			return nil, err
		}
	}
	script := func(name string) string { return filepath.Join(work, name) }
	all := []peer{
		{name: ours, role: ours, store: true, all: true},
		{name: "client_golang", role: "client_golang", all: true},
		{name: "VictoriaMetrics/metrics", role: "VictoriaMetrics"},
		{name: "client_python", command: []string{"/usr/bin/python3", script("client_python.py")}, store: true},
		{name: "prometheus-client-mmap", command: []string{"ruby", script("client_mmap.rb")}, store: true},
		{name: "prom-client", command: []string{"node", script("prom_client.js")}},
	}
	for i := range all {
		p := &all[i]
		switch p.name {
		case "client_python":
			p.most = 1_000_000 // which takes it seconds
			p.need("python3-prometheus-client", "-c", "import prometheus_client")
		case "prometheus-client-mmap":
			p.need("ruby-prometheus-client-mmap", "-e", "require 'prometheus/client'; require 'fast_mmaped_file'")
		case "prom-client":
			p.most = 1_000_000 // its reports alone would take some GiB
			os.Setenv("NODE_PATH", modules)
			p.need("node, and npm's prom-client where -node-modules says", "-e", "require('prom-client')")
		}
	}
	return all, nil
}

// need makes a peer missing whose program does not do what the arguments say.
func (p *peer) need(pkg string, args ...string) {
	if err := exec.Command(p.command[0], args...).Run(); err != nil {
		p.missing = "not installed: " + pkg
	}
}

// knows reports whether a peer has the format and the type of some work.
func (p *peer) knows(w work) bool { return p.all || w.Kind != natives && w.Format == textFormat }

// fits reports whether a peer can do some work.
func (p *peer) fits(w work) bool {
	return p.most == 0 || w.Workers*w.Series*w.samples() <= p.most
}

// start starts a peer's scraper on a directory of its own.
func (p *peer) start(dir string, w work) (*scraper, error) {
	if p.role != "" {
		argv, env := asRole(p.role, dir, w)
		return startScraper(p.name, argv, env)
	}
	return startScraper(p.name, slices.Concat(p.command, []string{dir}, w.args()[:3]), nil)
}
