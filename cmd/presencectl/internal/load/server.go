package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"time"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/ws"
	"github.com/presence-go/presence/internal/fleet"
)

// ServerCommand is the first argument of the process that -serve starts. That
// process runs [Serve] with the other arguments.
const ServerCommand = "load-server"

// Serve runs a server for a load: with the default policy, in memory, open to
// all users of this machine. Its arguments are the channel, the names of the
// agents and their number. It prints its address and ends when stdin does.
func Serve(args []string, stdin io.Reader, stdout io.Writer) error {
	if len(args) != 3 {
		return fmt.Errorf("%s wants the channel, the names of the agents and their number, got %q", ServerCommand, args)
	}
	n, err := strconv.Atoi(args[2])
	if err != nil || n < 0 || n > maxClients {
		return fmt.Errorf("%s: %q is no number of agents from 0 to %d", ServerCommand, args[2], maxClients)
	}
	// Control-C interrupts the parent. This process ends after it.
	signal.Ignore(os.Interrupt)
	handler, stop, err := newServer(args[0], args[1], n, &ws.Options{})
	if err != nil {
		return err
	}
	defer stop()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	err = errors.Join(fleet.ServeChild(stdin, stdout, fmt.Sprintf("ws://%s/", listener.Addr()), func(line string) (any, error) {
		return nil, fmt.Errorf("%s cannot %q", ServerCommand, line)
	}), server.Close())
	if failed := <-ended; !errors.Is(failed, http.ErrServerClosed) {
		err = errors.Join(err, failed)
	}
	return err
}

// newServer returns the handler of such a server, and the function that stops
// it.
func newServer(channel, names string, agents int, opts *ws.Options) (handler *ws.Handler, stop func(), err error) {
	tracker, err := presence.New(nil)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- tracker.Run(ctx) }()
	stop = func() {
		if handler != nil {
			_ = handler.Close() // the connections end in any case
		}
		cancel()
		<-ran
		_ = tracker.Close()
	}
	known := make(map[string]bool)
	for i := range agents {
		id := numbered(names, i)
		known[id] = true
		if err := tracker.AddMember(ctx, presence.ChannelID(channel), presence.ID(id)); err != nil {
			stop()
			return nil, nil, err
		}
	}
	opts.Authenticate = func(r *http.Request) (presence.Identity, error) {
		q := r.URL.Query()
		switch agent, visitor := q.Get("agent"), q.Get("visitor"); {
		case known[agent]:
			return presence.Identity{Actor: presence.Agent(presence.ID(agent))}, nil
		case visitor != "":
			return presence.Identity{Actor: presence.Actor{Subject: presence.ID(visitor), Role: presence.RoleVisitor}}, nil
		default:
			return presence.Identity{}, fmt.Errorf("%w: want ?agent= of %s, or ?visitor=", presence.ErrNotAllowed, names)
		}
	}
	if handler, err = ws.NewHandler(tracker, opts); err != nil {
		stop()
		return nil, nil, err
	}
	return handler, stop, nil
}
