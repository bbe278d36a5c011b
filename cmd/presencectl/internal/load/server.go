package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/ws"
)

// ServerCommand is the first argument of the process that -serve starts, which
// runs [Serve] with the others.
const ServerCommand = "load-server"

// Serve is a server for a load: with the default policy, in memory, open to
// whoever is on this machine. Its arguments are the channel, the names of the
// agents and their number. It prints where it is and ends when stdin does.
func Serve(args []string, stdin io.Reader, stdout io.Writer) error {
	if len(args) != 3 {
		return fmt.Errorf("%s wants the channel, the names of the agents and their number, got %q", ServerCommand, args)
	}
	n, err := strconv.Atoi(args[2])
	if err != nil || n < 0 || n > maxClients {
		return fmt.Errorf("%s: %q is no number of agents from 0 to %d", ServerCommand, args[2], maxClients)
	}
	// Control-C is for the process that puts the load on; this one ends after it.
	signal.Ignore(os.Interrupt)
	handler, stop, err := newServer(args[0], args[1], n, ws.Options{})
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
	fmt.Fprintf(stdout, "ws://%s/\n", listener.Addr())
	_, err = io.Copy(io.Discard, stdin)
	err = errors.Join(err, server.Close())
	if failed := <-ended; !errors.Is(failed, http.ErrServerClosed) {
		err = errors.Join(err, failed)
	}
	return err
}

// newServer is the handler of such a server, and what ends it.
func newServer(channel, names string, agents int, opts ws.Options) (handler *ws.Handler, stop func(), err error) {
	tracker, err := presence.New(nil)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- tracker.Run(ctx) }()
	stop = func() {
		if handler != nil {
			_ = handler.Close() // they are being ended all the same
		}
		cancel()
		<-ran
		_ = tracker.Close()
	}
	known := make(map[string]bool)
	for i := range agents {
		id := numbered(names, i)
		known[id] = true
		if err := tracker.AddMember(ctx, presence.ID(id), presence.ID(channel)); err != nil {
			stop()
			return nil, nil, err
		}
	}
	opts.Authenticate = func(r *http.Request) (presence.Actor, error) {
		q := r.URL.Query()
		switch agent, visitor := q.Get("agent"), q.Get("visitor"); {
		case known[agent]:
			return presence.Agent(presence.ID(agent)), nil
		case visitor != "":
			return presence.Actor{Subject: presence.ID(visitor), Role: presence.RoleVisitor}, nil
		default:
			return presence.Actor{}, fmt.Errorf("%w: want ?agent= of %s, or ?visitor=", presence.ErrNotAllowed, names)
		}
	}
	if handler, err = ws.NewHandler(tracker, opts); err != nil {
		stop()
		return nil, nil, err
	}
	return handler, stop, nil
}

// child is a server in a process of its own, so that what it uses can be told
// from what the load does.
type child struct {
	process *exec.Cmd
	stdin   io.Closer
	url     string
	pid     int
}

func startServer(c *Config) (*child, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &child{process: exec.Command(path, ServerCommand, c.Channel, c.Names, strconv.Itoa(c.Agents))}
	s.process.Stderr = os.Stderr
	s.process.WaitDelay = time.Second
	stdout, err := s.process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if s.stdin, err = s.process.StdinPipe(); err != nil {
		return nil, err
	}
	if err := s.process.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		s.stop()
		return nil, fmt.Errorf("the server of its own did not start: %w", err)
	}
	s.url, s.pid = strings.TrimSpace(line), s.process.Process.Pid
	return s, nil
}

func (s *child) stop() {
	s.stdin.Close()
	_ = s.process.Wait() // what it had to say is on stderr
}
