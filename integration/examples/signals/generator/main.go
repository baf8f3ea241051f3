// Command generator is the traffic of the sample-signals demo: clients that ask for one route after the other, at
// random, until they are interrupted.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

var (
	url     = flag.String("url", "http://127.0.0.1:8080", "the application")
	clients = flag.Int("clients", 4, "how many ask at once")
)

// targets are the routes of the application, and one that it does not have.
var targets = []string{"one", "two", "three", "four", "error", "panic", "five"}

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	var all sync.WaitGroup
	for range *clients {
		all.Go(func() {
			for ctx.Err() == nil {
				if err := ask(ctx, targets[rand.N(len(targets))]); err != nil && ctx.Err() == nil {
					log.Print(err)
					select {
					case <-time.After(time.Second):
					case <-ctx.Done():
					}
				}
			}
		})
	}
	all.Wait()
}

// ask asks for one route. A connection that a panic breaks is an answer too; one that cannot be made is an error.
func ask(ctx context.Context, target string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, *url+"/"+target, nil)
	if err != nil {
		return err
	}
	req.Close = true // so that each may get to another worker
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		if target == "panic" {
			return nil
		}
		return fmt.Errorf("cannot connect: %w", err)
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
