package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/presence-go/presence/internal/fleet"
)

// A server for clients is a process of its own, on a processor of its own. Its
// clients are in the process of the case, on another processor.

// service is the service of a server process.
type service struct {
	serve    func(net.Listener) error
	sessions func() int            // the number of clients
	invite   func(gathering) error // announces the rooms of clients before they connect
	do       map[string]func() (sample, error)
	stop     func()
}

// The requests to a server. Some servers have more.
const (
	doUsage  = "usage"  // the processor time since the start
	doMemory = "memory" // the memory in use, after collections
	doEmpty  = "empty"  // waits until no client is left; then as usage
	doInvite = "invite" // followed by a place and a number: clients belong to rooms
)

// The metrics of servers.
const (
	usedNs     = "used"
	heapBytes  = "heap"
	stackBytes = "stack"
	rssBytes   = "rss"
	goroutines = "goroutines"
)

// runService serves on an address of its own until its input ends.
func runService(name string, o options, in io.Reader, out io.Writer) error {
	start := services[name]
	if start == nil {
		return fmt.Errorf("bench: unknown server %q", name)
	}
	s, err := start(o)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- s.serve(l) }()
	err = fleet.ServeChild(in, out, l.Addr().String(), func(line string) (any, error) { return s.obey(line) })
	_ = l.Close()
	s.stop()
	<-served
	return err
}

func (s *service) obey(what string) (sample, error) {
	switch what {
	case doUsage:
		return sample{usedNs: float64(processCPU())}, nil
	case doMemory:
		return s.memory()
	case doEmpty:
		for deadline := time.Now().Add(time.Minute); s.sessions() > 0; time.Sleep(2 * time.Millisecond) {
			if time.Now().After(deadline) {
				return nil, fmt.Errorf("%d clients are still there", s.sessions())
			}
		}
		return s.obey(doUsage)
	}
	var place string
	var clients int
	if _, err := fmt.Sscanf(what, doInvite+" %s %d", &place, &clients); err == nil && s.invite != nil {
		return nil, s.invite(gather(clients, place))
	}
	if do := s.do[what]; do != nil {
		return do()
	}
	return nil, fmt.Errorf("this server cannot do %q", what)
}

func (s *service) memory() (sample, error) {
	for range 5 { // stacks shrink by half at a time
		freeMemory()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	resident, err := memoryStatus("VmRSS")
	return sample{
		rssBytes: resident * 1024, heapBytes: float64(m.HeapAlloc), stackBytes: float64(m.StackInuse),
		goroutines: float64(runtime.NumGoroutine()),
	}, err
}

// server is a server process as its clients see it.
type server struct{ *fleet.Child }

// withServer runs f beside a server, each on its processor. In tests the server
// is part of this process.
func withServer(o options, name string, f func(*server) (sample, error)) (got sample, err error) {
	if o.tiny {
		child, err := fleet.LocalChild(func(in io.Reader, out io.Writer) error { return runService(name, o, in, out) })
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, child.Stop()) }()
		return f(&server{child})
	}
	args := []string{"-serve", name, fmt.Sprintf("-quick=%t", o.quick)}
	if o.profile != "" {
		args = append(args, "-cpuprofile", o.profile+".server")
	}
	start := func(cmd *exec.Cmd) error { return onProcessor(0, cmd.Start) } // the child inherits the processor
	child, err := fleet.StartChild(start, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, child.Stop()) }()
	err = onProcessor(1, func() (err error) { got, err = f(&server{child}); return err })
	return got, err
}

// do sends a request to the server.
func (s *server) do(what string) (got sample, err error) {
	err = s.Ask(what, &got)
	return got, err
}

// spends returns the nanoseconds of processors that the server uses while
// meanwhile runs.
func (s *server) spends(meanwhile func() error) (float64, error) {
	before, err := s.do(doUsage)
	if err != nil {
		return 0, err
	}
	if err := meanwhile(); err != nil {
		return 0, err
	}
	after, err := s.do(doUsage)
	return after[usedNs] - before[usedNs], err
}

// onProcessor runs f on one processor: the first or the last that this process
// may use. A process that f starts is limited to that processor too.
func onProcessor(which int, f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return fmt.Errorf("listing processors: %w", err)
	}
	first, last := -1, -1
	for i := range 1024 {
		if all.IsSet(i) {
			last = i
			if first < 0 {
				first = i
			}
		}
	}
	one.Set([]int{first, last}[which])
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return fmt.Errorf("staying on one processor: %w", err)
	}
	return errors.Join(f(), unix.SchedSetaffinity(0, &all))
}
