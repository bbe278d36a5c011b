package wire

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/internal/edge"
)

// tape is a connection that keeps what is written to it, each call by itself.
type tape struct {
	mu     sync.Mutex
	calls  []string
	gate   chan struct{} // if not nil, a write waits for it
	broken bool
	closed chan struct{}
	once   sync.Once
}

func newTape() *tape { return &tape{closed: make(chan struct{})} }

func (c *tape) Write(p []byte) (int, error) {
	c.mu.Lock()
	gate, broken := c.gate, c.broken
	c.mu.Unlock()
	if gate != nil {
		<-gate
	}
	if broken {
		return 0, io.ErrClosedPipe
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, string(p))
	return len(p), nil
}

func (c *tape) Close() error                     { c.once.Do(func() { close(c.closed) }); return nil }
func (c *tape) SetReadDeadline(time.Time) error  { return nil }
func (c *tape) SetWriteDeadline(time.Time) error { return nil }

// set changes how writes go.
func (c *tape) set(gate chan struct{}, broken bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gate, c.broken = gate, broken
}

// take returns what was written since the last time.
func (c *tape) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	calls := c.calls
	c.calls = nil
	return calls
}

// plain writes each message on a line.
type plain struct{ streams bool }

func (p plain) Streams() bool { return p.streams }
func (plain) Message(b *Batch, payload []byte, _ Position) {
	_, _ = b.Write(payload)
	_, _ = b.WriteString("\n")
}
func (plain) Ping(b *Batch) { _, _ = b.WriteString("ping\n") }
func (plain) Close(b *Batch, status Status, _ string) {
	_, _ = b.WriteString(fmt.Sprintf("close %d\n", status))
}

// serve starts a server in a bubble.
func serve(t *testing.T, tracker *presence.Options, opts Options) (*presence.Tracker, *Server) {
	t.Helper()
	tr, err := presence.New(tracker)
	require.NoError(t, err)
	opts.Authenticate = func(*http.Request) (presence.Identity, error) { return presence.Identity{}, nil }
	h, err := New(tr, &opts)
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = h.Close()
		_ = tr.Close()
		synctest.Wait()
	})
	return tr, h
}

// join opens a session and has it begin.
func join(t *testing.T, h *Server, actor presence.Actor, framing Framing, watch Position) (*Session, *tape) {
	t.Helper()
	require.Nil(t, h.seats.Take(actor.Subject))
	conn := newTape()
	got := make(chan *Session, 1)
	h.Carrier().Open(presence.Identity{Actor: actor}, conn, framing, false, func(s *Session) {
		s.Begin(Hello{}, watch)
		got <- s
		<-conn.closed
		s.End(presence.CauseLost, StatusNone, "")
		s.Detach()
	})
	s := <-got
	synctest.Wait()
	return s, conn
}

var guest = presence.Actor{Subject: presence.ID("guest"), Role: presence.RoleVisitor}

// Messages that wait for a slow client leave in few calls, none of them large.
func TestFramesGoOutTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, h := serve(t, &presence.Options{WatchBuffer: 10_000}, Options{})
		require.NoError(t, tr.AddMember(t.Context(), presence.ChannelID("sales"), presence.ID("ann")))
		_, err := tr.Connect(t.Context(), presence.ID("ann"), presence.ConnectOptions{})
		require.NoError(t, err)
		boss := presence.Actor{Subject: presence.ID("boss"), Role: presence.RoleSupervisor}
		_, conn := join(t, h, boss, plain{}, Position{{Channel: "sales"}})
		require.Contains(t, strings.Join(conn.take(), ""), `"type":"snapshot"`)
		gate := make(chan struct{})
		conn.set(gate, false)
		const changes = 500
		crm := presence.Actor{Subject: presence.ID("crm"), Role: presence.RoleSystem}
		for i := range changes {
			_, err := tr.SetClaim(t.Context(), crm, presence.ID("ann"), presence.Claim{Status: "busy", Text: fmt.Sprintf("%d %s", i, strings.Repeat("x", 500))})
			require.NoError(t, err)
		}
		synctest.Wait()
		require.Empty(t, conn.take())
		close(gate)
		synctest.Wait()
		calls := conn.take()
		require.Less(t, len(calls), changes/20)
		seq := uint64(0)
		for _, call := range calls {
			require.LessOrEqual(t, len(call), enough+copyLimit)
			for line := range strings.Lines(call) {
				var f presence.Frame
				require.NoError(t, json.Unmarshal([]byte(line), &f))
				require.Equal(t, seq+1, f.Seq)
				seq++
			}
		}
		require.EqualValues(t, changes, seq)
	})
}

// A session that cannot be written to is over: at once where the client itself
// has to connect again, and for a stream when it was not opened again.
func TestBrokenWrites(t *testing.T) {
	for name, c := range map[string]struct {
		streams bool
		left    int
	}{"socket": {false, 0}, "stream": {true, 1}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, h := serve(t, nil, Options{})
				require.Nil(t, h.seats.Take(guest.Subject))
				conn := newTape()
				got := make(chan *Session, 1)
				h.Carrier().Open(presence.Identity{Actor: guest}, conn, plain{c.streams}, false, func(s *Session) {
					s.Begin(Hello{}, nil)
					got <- s
					<-conn.closed
					s.Detach()
				})
				s := <-got
				conn.set(nil, true)
				s.Receive([]byte(`{"type":"dance"}`))
				synctest.Wait()
				require.Equal(t, c.left, h.Sessions())
				s.Receive([]byte(`{"type":"dance"}`))
				time.Sleep(farewell)
				synctest.Wait()
				require.Zero(t, h.Sessions())
				require.Equal(t, edge.NewSeats("wire", "sessions", h.opts.MaxSessions, h.opts.MaxSessionsPerSubject), h.seats, "every seat is free")
			})
		})
	}
}

// A refused claim or request is answered with the statuses that the person may
// choose, each once, whatever the tracker allows.
func TestRefusedStatusListsTheSelectableOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, h := serve(t, nil, Options{})
		s, conn := join(t, h, presence.Agent(presence.ID("ann")), plain{}, nil)
		conn.take()
		for _, kind := range []string{"claim", "request"} {
			for status, code := range map[string]string{"lunch": "unknown", "offline": "not-allowed"} {
				s.Receive(fmt.Appendf(nil, `{"type":%q,"ref":"1","status":%q}`, kind, status))
				var answer struct {
					Type, Code string
					Allowed    []string
				}
				require.NoError(t, json.Unmarshal([]byte(strings.Join(conn.take(), "")), &answer))
				require.Equal(t, "error", answer.Type)
				require.Equal(t, code, answer.Code, "%s %s", kind, status)
				require.Equal(t, []string{"available", "away", "busy"}, answer.Allowed, "%s %s", kind, status)
			}
		}
	})
}

// A client without a hello, and a client without any sign of life.
func TestSilentClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, h := serve(t, nil, Options{HelloTimeout: 3 * time.Second})
		require.Nil(t, h.seats.Take(guest.Subject))
		mute := newTape()
		h.Carrier().Open(presence.Identity{Actor: guest}, mute, plain{}, false, func(s *Session) {
			time.Sleep(4 * time.Second) // and then it has gone by itself
			s.Detach()
		})
		_, quiet := join(t, h, guest, plain{}, nil)
		_, reader := join(t, h, guest, plain{streams: true}, nil)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		require.Equal(t, []string{"close 1008\n"}, mute.take())
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		said := strings.Join(quiet.take(), "")
		require.Equal(t, 3, strings.Count(said, `"type":"ping"`))
		require.Equal(t, 2, strings.Count(said, "ping\n"), "the client's machine is asked as well, once its page is silent")
		require.True(t, strings.HasSuffix(said, "close 1008\n"), said)
		require.GreaterOrEqual(t, strings.Count(strings.Join(reader.take(), ""), `"type":"ping"`), 4, "who reads a stream need not answer")
		_ = quiet.Close()
		synctest.Wait()
		require.Equal(t, 1, h.Sessions())
	})
}

// A server that has been closed opens nothing, and leaves nothing open.
func TestOpenAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, h := serve(t, nil, Options{})
		for range 2 {
			require.Nil(t, h.seats.Take(guest.Subject))
		}
		_, conn := joinLate(t, h)
		require.Equal(t, []string{"close 1001\n"}, conn.take())
		h.Carrier().Release(presence.Identity{Actor: guest})
		free := edge.NewSeats("wire", "sessions", h.opts.MaxSessions, h.opts.MaxSessionsPerSubject)
		free.Close()
		require.Equal(t, free, h.seats, "every seat is free")
		require.ErrorContains(t, h.seats.Take(guest.Subject), "shutting down")
	})
}

// joinLate closes the server between a client's admission and its opening.
func joinLate(t *testing.T, h *Server) (ran bool, conn *tape) {
	t.Helper()
	require.NoError(t, h.Close())
	conn = newTape()
	h.Carrier().Open(presence.Identity{Actor: guest}, conn, plain{}, false, func(*Session) { ran = true })
	<-conn.closed
	require.False(t, ran)
	return ran, conn
}

var _ Conn = (net.Conn)(nil)

// The welcome has the terms of the policy in force of the tenant. No more than
// maxTerms are kept.
func TestWelcomesFollowThePolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, h := serve(t, nil, Options{})
		people := 0
		welcomed := func(tenant string) (statuses []string, lease int64) {
			people++
			s, conn := join(t, h, presence.Agent(presence.Ref{Tenant: tenant, ID: fmt.Sprint("ann-", people)}), plain{}, nil)
			var w welcome
			require.NoError(t, json.Unmarshal([]byte(conn.take()[0]), &w))
			s.End(presence.CauseClosed, StatusNone, "")
			synctest.Wait()
			for _, status := range w.Statuses {
				statuses = append(statuses, status.ID)
			}
			return statuses, w.Lease
		}
		change := func(tenant string, lease time.Duration, more string) {
			p := presence.DefaultPolicy()
			p.Lease = lease
			p.AddStatus(presence.Status{ID: more, Class: presence.ClassBusy})
			operator := presence.Actor{Subject: presence.Ref{Tenant: tenant, ID: "operator"}, Role: presence.RoleAdmin}
			require.NoError(t, tr.SetPolicy(t.Context(), operator, p))
		}
		statuses, lease := welcomed("")
		require.Equal(t, []string{"available", "away", "busy"}, statuses)
		require.EqualValues(t, 60_000, lease)
		change("other", 70*time.Second, "lunch")
		for i := range 2 * maxTerms {
			change("", time.Duration(100+i)*time.Second, fmt.Sprint("break-", i))
			statuses, lease = welcomed("")
			require.Equal(t, []string{"available", "away", "busy", fmt.Sprint("break-", i)}, statuses)
			require.EqualValues(t, 1000*(100+i), lease)
			statuses, lease = welcomed("other")
			require.Equal(t, []string{"available", "away", "busy", "lunch"}, statuses)
			require.EqualValues(t, 70_000, lease)
			require.LessOrEqual(t, len(h.terms), maxTerms)
		}
	})
}

// A heartbeat without news is handled at once. Any other message is left to
// Receive.
func TestHeartbeatOnTheSpot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		policy := presence.DefaultPolicy()
		tr, h := serve(t, &presence.Options{Policy: &policy}, Options{MessagesPerSecond: 1, Burst: 3})
		s, conn := join(t, h, presence.Agent(presence.ID("ann")), plain{}, nil)
		time.Sleep(policy.Heartbeat)
		synctest.Wait()
		require.Contains(t, strings.Join(conn.take(), ""), `"type":"ping"`)
		same := `{"type":"pong","seq":1,"idle":1000,"visible":true}`
		require.False(t, s.Heartbeat([]byte(same)), "it tells of input, and of the page")
		s.Receive([]byte(same))
		before, messages := s.bucket, s.messages.Load()
		for _, other := range []string{
			`{"type":"pong","seq":9,"idle":1000,"visible":true}`,
			`{"type":"pong","seq":1,"idle":1000,"visible":false}`,
			`{"type":"pong","seq":1,"idle":100,"visible":true}`,
			`{"type":"pong","seq":1,"ref":"q"}`,
			`{"type":"input"}`,
		} {
			require.False(t, s.Heartbeat([]byte(other)), other)
		}
		require.Equal(t, before, s.bucket, "nothing was done")
		require.Equal(t, messages, s.messages.Load())

		heard := func() presence.Instant {
			state, err := tr.State(t.Context(), presence.ID("ann"))
			require.NoError(t, err)
			return state.Conns[0].Heard
		}
		last := heard()
		s.unheard.Store(2)
		time.Sleep(250 * time.Millisecond)
		require.True(t, s.Heartbeat([]byte(same)))
		require.Greater(t, heard(), last)
		require.Zero(t, s.unheard.Load())
		require.True(t, s.Heartbeat([]byte(`{"type":"pong","seq":1}`)))
		require.False(t, s.Heartbeat([]byte(same)), "it is one too many")
		s.Receive([]byte(same))
		require.Contains(t, strings.Join(conn.take(), ""), `"code":"rate"`)

		s.End(presence.CauseClosed, StatusNone, "")
		require.False(t, s.Heartbeat([]byte(same)))
	})
}
