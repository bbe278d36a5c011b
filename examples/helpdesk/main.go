// Command helpdesk serves a small help desk that shows presence at work:
// consoles of several agents, a customer's widget, and a timeline of all
// statuses and their causes. Open it in several windows, break the network,
// suspend the computer, and speed up the clock.
//
// It accepts every name without a login: it is a demonstration and must not be
// reachable by others.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"
	_ "time/tzdata" // opening hours can name every zone, on every machine

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/preset"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to serve on")
	policy := flag.String("policy", "default", "preset to begin with: "+strings.Join(preset.Names(), ", "))
	speed := flag.Float64("speed", 1, "the speed of the clock as a multiple of real time, 0.1 to 600")
	db := flag.String("db", "", "file to keep claims and the journal in, for the next start; empty means one that is removed at the end")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *addr, *db, *policy, *speed, func(url string) {
		fmt.Printf("The help desk is open at %s\n", url)
	}); err != nil {
		log.Fatal(err)
	}
}

// run serves until ctx is done. It calls ready with the address once it serves.
func run(ctx context.Context, addr, db, policy string, speed float64, ready func(url string)) error {
	p, known := preset.Lookup(policy)
	if !known {
		return fmt.Errorf("helpdesk: unknown policy %q; want one of %s", policy, strings.Join(preset.Names(), ", "))
	}
	if db == "" {
		dir, err := os.MkdirTemp("", "helpdesk")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		db = filepath.Join(dir, "helpdesk.db")
	}
	d, err := open(ctx, db, p, speed)
	if err != nil {
		return err
	}
	defer d.close()
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("helpdesk: %w; choose another address with -addr", err)
	}
	server := &http.Server{Handler: d.routes(), ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	ready("http://" + listener.Addr().String())
	select {
	case err = <-ended:
	case <-ctx.Done():
		d.close() // ends the sockets and feeds, for which Shutdown would wait
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		defer cancel()
		err = server.Shutdown(bounded)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// The agents, their channels, and the widgets of the channels.
var (
	agents = map[string][]string{
		"ann": {"sales-inbox", "support-inbox"},
		"bob": {"sales-inbox"},
		"cyd": {"support-inbox"},
	}
	channels = map[string]string{"sales": "sales-inbox", "support": "support-inbox"}
	root     = presence.Actor{Subject: presence.ID("root"), Role: presence.RoleAdmin}
)
