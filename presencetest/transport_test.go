package presencetest_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/memory"
	"github.com/presence-go/presence/presencetest"
)

// receiver returns the other end of a memory transport.
func receiver(t *memory.Transport) func(context.Context) (*presence.Frame, error) {
	return func(ctx context.Context) (*presence.Frame, error) {
		frames, err := t.Wait(ctx, 1)
		if err != nil {
			return nil, err
		}
		return frames[0], nil
	}
}

func TestTransportSuitePasses(t *testing.T) {
	t.Parallel()
	for _, bound := range []int{1, 1024, 1_000_000} {
		open := func(context.Context) (presencetest.TransportCase, error) {
			m := openTransport(bound)
			return presencetest.TransportCase{Transport: m, Receive: receiver(m)}, nil
		}
		require.NoError(t, presencetest.CheckTransport(t.Context(), open), "bound %d", bound)
		presencetest.RunTransport(t, open)
	}
}

// openTransport returns a transport with a bound that is allowed.
func openTransport(bound int) *memory.Transport {
	m, err := memory.NewTransport(&memory.TransportOptions{Bound: bound})
	if err != nil {
		panic(err)
	}
	return m
}

// transportMutant is a memory transport with some methods replaced.
type transportMutant struct {
	*memory.Transport
	onSend  func(ctx context.Context, to *memory.Transport, f *presence.Frame) error
	onClose func(to *memory.Transport, reason error) error
}

func (m *transportMutant) Send(ctx context.Context, f *presence.Frame) error {
	if m.onSend == nil {
		return m.Transport.Send(ctx, f)
	}
	return m.onSend(ctx, m.Transport, f)
}

func (m *transportMutant) Close(reason error) error {
	if m.onClose == nil {
		return m.Transport.Close(reason)
	}
	return m.onClose(m.Transport, reason)
}

// sending makes a case of a transport that sends by the given function.
func sending(send func(ctx context.Context, to *memory.Transport, f *presence.Frame) error) func(<-chan struct{}) presencetest.TransportCase {
	return func(<-chan struct{}) presencetest.TransportCase {
		m := &transportMutant{Transport: openTransport(0), onSend: send}
		return presencetest.TransportCase{Transport: m, Receive: receiver(m.Transport)}
	}
}

// changing makes a case of a transport that sends a changed copy of each frame.
func changing(change func(*presence.Frame)) func(<-chan struct{}) presencetest.TransportCase {
	return sending(func(ctx context.Context, to *memory.Transport, f *presence.Frame) error {
		c := *f
		change(&c)
		return to.Send(ctx, &c)
	})
}

func TestTransportSuiteCatches(t *testing.T) {
	t.Parallel()
	closed := func(m *transportMutant) presencetest.TransportCase {
		return presencetest.TransportCase{Transport: m, Receive: receiver(m.Transport)}
	}
	caught(t, presencetest.CheckTransport, []mutant[presencetest.TransportCase]{
		{"two change places", "order", func(<-chan struct{}) presencetest.TransportCase {
			var held *presence.Frame
			return sending(func(ctx context.Context, to *memory.Transport, f *presence.Frame) error {
				switch {
				case f.Seq == 10 && ctx.Err() == nil:
					held = f
					return nil
				case f.Seq == 11 && held != nil:
					return errors.Join(to.Send(ctx, f), to.Send(ctx, held))
				}
				return to.Send(ctx, f)
			})(nil)
		}},
		{"one is lost", "order", sending(func(ctx context.Context, to *memory.Transport, f *presence.Frame) error {
			if f.Seq == 13 {
				return ctx.Err()
			}
			return to.Send(ctx, f)
		})},
		{"one comes twice", "order", sending(func(ctx context.Context, to *memory.Transport, f *presence.Frame) error {
			if f.Seq == 13 {
				return errors.Join(to.Send(ctx, f), to.Send(ctx, f))
			}
			return to.Send(ctx, f)
		})},
		{"long lists are cut", "whole", changing(func(f *presence.Frame) { f.Members = f.Members[:min(len(f.Members), 500)] })},
		{"lagged is not told", "whole", changing(func(f *presence.Frame) { f.Lagged = false })},
		{"the tenant is not told", "whole", changing(func(f *presence.Frame) { f.Channel.Tenant = "" })},
		{"the end of access is not told", "whole", sending(func(ctx context.Context, to *memory.Transport, f *presence.Frame) error {
			if f.Kind == presence.FrameRemoved {
				return ctx.Err()
			}
			return to.Send(ctx, f)
		})},
		{"frames are numbered anew", "unchanged", sending(func(ctx context.Context, to *memory.Transport, f *presence.Frame) error {
			c := *f
			f.Seq++
			return to.Send(ctx, &c)
		})},
		{"a done context is not looked at", "done-context", sending(func(ctx context.Context, to *memory.Transport, f *presence.Frame) error {
			if ctx.Err() != nil {
				ctx = context.WithoutCancel(ctx)
			}
			return to.Send(ctx, f)
		})},
		{"a blocked Send does not look at its context", "done-context", sending(func(ctx context.Context, to *memory.Transport, f *presence.Frame) error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return to.Send(context.WithoutCancel(ctx), f)
		})},
		{"what is sent after Close is dropped", "after-close", sending(func(ctx context.Context, to *memory.Transport, f *presence.Frame) error {
			if err := to.Send(ctx, f); !errors.Is(err, presence.ErrClosed) || len(to.Frames()) > 0 {
				return err
			}
			return nil
		})},
		{"Close drops what is under way", "end", func(<-chan struct{}) presencetest.TransportCase {
			// The transport delivers frames slowly, and Close does not wait for
			// them.
			far := openTransport(10_000)
			m := &transportMutant{Transport: openTransport(10_000)}
			over, stop := context.WithCancel(context.Background())
			go func() {
				for {
					frames, err := m.Wait(over, 1)
					if err != nil {
						return
					}
					select {
					case <-time.After(time.Microsecond):
					case <-over.Done():
						return
					}
					if err := far.Send(over, frames[0]); err != nil {
						return
					}
				}
			}()
			m.onClose = func(near *memory.Transport, reason error) error {
				stop()
				return errors.Join(near.Close(reason), far.Close(reason))
			}
			return presencetest.TransportCase{Transport: m, Receive: receiver(far)}
		}},
		{"the end is not told", "end", func(<-chan struct{}) presencetest.TransportCase {
			m := openTransport(0)
			return presencetest.TransportCase{Transport: m, Receive: func(ctx context.Context) (*presence.Frame, error) {
				f, err := receiver(m)(ctx)
				if errors.Is(err, presence.ErrClosed) {
					<-ctx.Done()
				}
				return f, err
			}}
		}},
		{"a second Close panics", "close-again", func(<-chan struct{}) presencetest.TransportCase {
			return closed(&transportMutant{Transport: openTransport(0), onClose: func(to *memory.Transport, reason error) error {
				if err := to.Close(reason); err != nil {
					panic("close of closed transport")
				}
				return nil
			}})
		}},
		{"a second Close hangs", "close-again", func(release <-chan struct{}) presencetest.TransportCase {
			return closed(&transportMutant{Transport: openTransport(0), onClose: func(to *memory.Transport, reason error) error {
				err := to.Close(reason)
				if err != nil {
					<-release
				}
				return err
			}})
		}},
		{"a blocked Send does not notice Close", "close-unblocks", func(<-chan struct{}) presencetest.TransportCase {
			p := &pipe{frames: make(chan *presence.Frame, 8), closed: make(chan struct{})}
			return presencetest.TransportCase{Transport: p, Receive: p.receive}
		}},
		{"Close waits for a blocked Send", "close-unblocks", func(<-chan struct{}) presencetest.TransportCase {
			turn := make(chan struct{}, 1)
			return closed(&transportMutant{
				Transport: openTransport(0),
				onSend: func(ctx context.Context, to *memory.Transport, f *presence.Frame) error {
					turn <- struct{}{}
					defer func() { <-turn }()
					return to.Send(ctx, f)
				},
				onClose: func(to *memory.Transport, reason error) error {
					turn <- struct{}{}
					defer func() { <-turn }()
					return to.Close(reason)
				},
			})
		}},
	})
}

// pipe is a transport over a Go channel. Its Send checks for Close only before
// it starts.
type pipe struct {
	frames chan *presence.Frame
	once   sync.Once
	closed chan struct{}
}

func (p *pipe) Send(ctx context.Context, f *presence.Frame) error {
	select {
	case <-p.closed:
		return presence.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	default:
	}
	select {
	case p.frames <- f:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *pipe) Close(error) error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipe) receive(ctx context.Context) (*presence.Frame, error) {
	select {
	case f := <-p.frames:
		return f, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-p.closed:
	}
	select {
	case f := <-p.frames:
		return f, nil
	default:
		return nil, presence.ErrClosed
	}
}
