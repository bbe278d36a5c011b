package fleet

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// A child is a server in a process of its own, so that its CPU and memory can be
// measured. It uses its standard input and output. Its first line is its address.
// Then it answers each line with one line of JSON. It ends with its input.

// Child is the parent's end of a child.
type Child struct {
	Address string
	PID     int // 0 in this process
	in      io.WriteCloser
	out     *bufio.Reader
	ended   func() error
}

// reply is the answer to a line.
type reply struct {
	Value json.RawMessage `json:"value,omitempty"`
	Fault string          `json:"fault,omitempty"`
}

// StartChild starts this program again as a child, with other arguments.
func StartChild(start func(*exec.Cmd) error, args ...string) (*Child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, args...)
	cmd.Stderr = os.Stderr
	cmd.WaitDelay = time.Second
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := start(cmd); err != nil {
		return nil, err
	}
	return attach(in, out, cmd.Process.Pid, cmd.Wait)
}

// LocalChild runs a child in this process, for tests.
func LocalChild(run func(in io.Reader, out io.Writer) error) (*Child, error) {
	in, asked := io.Pipe()
	said, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(in, out)
		out.CloseWithError(errors.Join(err, io.EOF))
		in.Close()
		ended <- err
	}()
	return attach(asked, said, 0, func() error { return <-ended })
}

func attach(in io.WriteCloser, out io.Reader, pid int, ended func() error) (*Child, error) {
	c := &Child{PID: pid, in: in, out: bufio.NewReader(out), ended: ended}
	line, err := c.out.ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("the server does not start: %w", errors.Join(err, c.Stop()))
	}
	c.Address = strings.TrimSpace(line)
	return c, nil
}

// Ask sends a line and decodes the answer into a value.
func (c *Child) Ask(line string, into any) error {
	if _, err := io.WriteString(c.in, line+"\n"); err != nil {
		return err
	}
	answer, err := c.out.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("the server does not answer %q: %w", line, err)
	}
	var a reply
	if err := json.Unmarshal(answer, &a); err != nil {
		return fmt.Errorf("the server answers %q with %q: %w", line, answer, err)
	}
	if a.Fault != "" {
		return fmt.Errorf("the server, asked %q: %s", line, a.Fault)
	}
	return json.Unmarshal(a.Value, into)
}

// Stop ends the child's input and waits until the child has ended.
func (c *Child) Stop() error { return errors.Join(c.in.Close(), c.ended()) }

// ServeChild is the child's end: it writes the address and answers lines until
// its input ends.
func ServeChild(in io.Reader, out io.Writer, address string, answer func(line string) (any, error)) error {
	if _, err := fmt.Fprintln(out, address); err != nil {
		return err
	}
	say := json.NewEncoder(out)
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var a reply
		value, err := answer(lines.Text())
		if err == nil {
			a.Value, err = json.Marshal(value)
		}
		if err != nil {
			a.Fault = err.Error()
		}
		if err := say.Encode(a); err != nil {
			return err
		}
	}
	return lines.Err()
}
