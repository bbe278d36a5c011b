package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A server that clients connect to is a process of its own, on a processor of
// its own; its clients are in the process of the case, on another one. The two
// speak over the server's standard input and output: a line that says what to
// do, and a line that says what was measured.

// service is what a server process serves.
type service struct {
	serve    func(net.Listener) error
	sessions func() int            // how many clients there are
	invite   func(gathering) error // tells it beforehand who belongs where
	do       map[string]func() (sample, error)
	stop     func()
}

// answer is what a server process says.
type answer struct {
	Address string `json:"address,omitempty"`
	Sample  sample `json:"sample,omitempty"`
	Fault   string `json:"fault,omitempty"`
}

// What every server can do; some can do more.
const (
	doUsage  = "usage"  // the processor time used so far
	doMemory = "memory" // what is in use, after collections
	doEmpty  = "empty"  // wait until no client is left; then as usage
	doInvite = "invite" // followed by a place and a number: everybody belongs to their room
)

// The metrics of servers.
const (
	usedNs     = "used"
	heapBytes  = "heap"
	stackBytes = "stack"
	rssBytes   = "rss"
	goroutines = "goroutines"
)

// runService serves on an address of its own until there is nothing more to do.
func runService(name string, o options, in io.Reader, out io.Writer) error {
	start := services[name]
	if start == nil {
		return fmt.Errorf("bench: there is no server %q", name)
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
	say := json.NewEncoder(out)
	err = say.Encode(answer{Address: l.Addr().String()})
	for asked := bufio.NewScanner(in); err == nil && asked.Scan(); {
		got, fault := s.obey(asked.Text())
		a := answer{Sample: got}
		if fault != nil {
			a.Fault = fault.Error()
		}
		err = say.Encode(a)
	}
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

// server is the other end: a server process as its clients see it.
type server struct {
	address string
	in      io.WriteCloser
	out     *json.Decoder
	ended   func() error // waits for its end
}

// withServer runs f beside a server, each on its processor. In the test the
// server is part of this process.
func withServer(o options, name string, f func(*server) (sample, error)) (got sample, err error) {
	s, err := startServer(o, name)
	if err != nil {
		return nil, err
	}
	defer func() {
		err = errors.Join(err, s.in.Close(), s.ended())
	}()
	var hello answer
	if err := s.out.Decode(&hello); err != nil {
		return nil, fmt.Errorf("the server %s does not start: %w", name, err)
	}
	s.address = hello.Address
	if o.tiny {
		return f(s)
	}
	err = onProcessor(1, func() (err error) { got, err = f(s); return err })
	return got, err
}

func startServer(o options, name string) (*server, error) {
	if o.tiny {
		in, asked := io.Pipe()
		said, out := io.Pipe()
		ended := make(chan error, 1)
		go func() {
			err := runService(name, o, in, out)
			out.CloseWithError(errors.Join(err, io.EOF))
			ended <- err
		}()
		return &server{in: asked, out: json.NewDecoder(said), ended: func() error { return <-ended }}, nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := []string{"-serve", name, fmt.Sprintf("-quick=%t", o.quick)}
	if o.profile != "" {
		args = append(args, "-cpuprofile", o.profile+".server")
	}
	cmd := exec.Command(self, args...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := onProcessor(0, cmd.Start); err != nil { // it inherits the processor
		return nil, err
	}
	return &server{in: in, out: json.NewDecoder(out), ended: cmd.Wait}, nil
}

// do has the server do something.
func (s *server) do(what string) (sample, error) {
	if _, err := io.WriteString(s.in, what+"\n"); err != nil {
		return nil, err
	}
	var a answer
	if err := s.out.Decode(&a); err != nil {
		return nil, fmt.Errorf("the server does not answer %q: %w", what, err)
	}
	if a.Fault != "" {
		return nil, fmt.Errorf("the server, asked to %s: %s", strings.Fields(what)[0], a.Fault)
	}
	return a.Sample, nil
}

// used is the processor time that the server has used.
func (s *server) used() (float64, error) {
	got, err := s.do(doUsage)
	return got[usedNs], err
}

// onProcessor runs f on one processor, the first or the last of those that this
// process may use. A process that f starts is confined to it, all of it.
func onProcessor(which int, f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return fmt.Errorf("which processors there are: %w", err)
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
