package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// A scraper is a process that has the series of some work, or reads them, and exposes them when it is told to. It reads
// commands from its standard input: "scrape N" makes N expositions and answers with what they cost, "write FILE" writes
// one, as text, to a file and answers when it is there. It says "ready" first.

// scraper is one from outside.
type scraper struct {
	name string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
}

// costs are what a scraper says of its scrapes: nanoseconds of each, the processor's nanoseconds of all, bytes of one.
type costs struct {
	Wall  []int64 `json:"wall"`
	CPU   int64   `json:"cpu"`
	Bytes int     `json:"bytes"`
}

func startScraper(name string, argv, env []string) (*scraper, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &scraper{name: name, cmd: cmd, in: in, out: bufio.NewReader(out)}
	if line, err := s.out.ReadString('\n'); err != nil || line != "ready\n" {
		s.stop()
		return nil, fmt.Errorf("%s did not start: it said %q: %w", name, line, err)
	}
	return s, nil
}

func (s *scraper) ask(command string, answer any) error {
	if _, err := fmt.Fprintln(s.in, command); err != nil {
		return fmt.Errorf("%s: %s: %w", s.name, command, err)
	}
	line, err := s.out.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, answer)
	}
	if err != nil {
		return fmt.Errorf("%s: %s: %w", s.name, command, err)
	}
	return nil
}

func (s *scraper) scrape(n int) (c costs, err error) {
	err = s.ask(fmt.Sprintf("scrape %d", n), &c)
	if err == nil && len(c.Wall) != n {
		err = fmt.Errorf("%s: %d scrapes instead of %d", s.name, len(c.Wall), n)
	}
	return c, err
}

// memory returns the anonymous memory of the process, in bytes: what it has for itself, without the files that it has mapped, which are
// the workers'.
func (s *scraper) memory() int64 {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	for line := range strings.Lines(string(status)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "RssAnon: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	return 0
}

func (s *scraper) stop() {
	s.in.Close()
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

// beScraper is a scraper from inside.
func beScraper(scrape, text func(io.Writer) error) error {
	fmt.Println("ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var n int
		var path string
		if _, err := fmt.Sscanf(lines.Text(), "scrape %d", &n); err == nil {
			c, err := measure(n, scrape)
			if err != nil {
				return err
			}
			json.NewEncoder(os.Stdout).Encode(c)
			continue
		}
		if _, err := fmt.Sscanf(lines.Text(), "write %s", &path); err != nil {
			return fmt.Errorf("%q is no command", lines.Text())
		}
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		if err := errors.Join(text(f), f.Close()); err != nil {
			return err
		}
		fmt.Println("{}")
	}
	return nil
}

func measure(n int, scrape func(io.Writer) error) (c costs, err error) {
	var size counting
	before := cpuTime()
	for range n {
		size = 0
		start := time.Now()
		if err := scrape(&size); err != nil {
			return c, err
		}
		c.Wall = append(c.Wall, time.Since(start).Nanoseconds())
	}
	c.CPU, c.Bytes = cpuTime()-before, int(size)
	return c, nil
}

// counting counts what is written to it.
type counting int

func (c *counting) Write(b []byte) (int, error) {
	*c += counting(len(b))
	return len(b), nil
}

// cpuTime returns the processor's nanoseconds that this process has used.
func cpuTime() int64 {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u) // it does not fail for oneself
	return u.Utime.Nano() + u.Stime.Nano()
}
