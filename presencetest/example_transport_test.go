package presencetest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/presencetest"
)

// lines sends frames over a network connection, one line of JSON each. A
// watcher reads them at the other end.
type lines struct {
	conn net.Conn
	once sync.Once
}

// Send writes a frame, which is encoded once for all watchers. If ctx ends
// during the write, the write ends and the stream with it, because half a line
// may have been sent.
func (l *lines) Send(ctx context.Context, f *presence.Frame) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	data, err := f.JSON()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { l.conn.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	line := net.Buffers{data, []byte("\n")} // other watchers share the bytes: append nothing to them
	if _, err := line.WriteTo(l.conn); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("lines: %w", err)
	}
	return nil
}

// Close ends the connection, and a running Send.
func (l *lines) Close(reason error) error {
	err := fmt.Errorf("lines: %w: it has been closed before", presence.ErrClosed)
	l.once.Do(func() { err = l.conn.Close() })
	return err
}

// The case contains the other end, so that the suite sees what arrives.
func ExampleCheckTransport() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer listener.Close()
	err = presencetest.CheckTransport(context.Background(), func(ctx context.Context) (presencetest.TransportCase, error) {
		far, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			return presencetest.TransportCase{}, err
		}
		near, err := listener.Accept()
		if err != nil {
			return presencetest.TransportCase{}, err
		}
		context.AfterFunc(ctx, func() { far.Close() }) // the context ends with the rule
		decoder := json.NewDecoder(far)
		return presencetest.TransportCase{
			Transport: &lines{conn: near},
			Receive: func(ctx context.Context) (*presence.Frame, error) {
				stop := context.AfterFunc(ctx, func() { far.SetReadDeadline(time.Unix(1, 0)) })
				defer stop()
				f := new(presence.Frame)
				return f, decoder.Decode(f)
			},
		}, nil
	})
	fmt.Println(err)
	// Output: <nil>
}
