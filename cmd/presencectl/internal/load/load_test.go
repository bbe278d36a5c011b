package load

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gobwas "github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence/adapters/ws"
	"github.com/presence-go/presence/internal/fleet"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == ServerCommand {
		if err := Serve(os.Args[2:], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// config is a load on a server of its own in this process, through a proxy if
// between is set.
func config(t *testing.T, agents, visitors int, between func(address string) string) *Config {
	t.Helper()
	handler, stop, err := newServer("desk", "agent-{n}", agents, &ws.Options{PingInterval: time.Second})
	require.NoError(t, err)
	server := httptest.NewServer(handler)
	t.Cleanup(func() { stop(); server.Close() })
	address := strings.TrimPrefix(server.URL, "http://")
	if between != nil {
		address = between(address)
	}
	return &Config{
		AgentURL: "ws://" + address + "/?agent={id}", VisitorURL: "ws://" + address + "/?visitor={id}",
		Channel: "desk", Names: "agent-{n}", VisitorNames: "load-{n}", Agents: agents, Visitors: visitors,
		For: time.Minute, patience: 10 * time.Second,
	}
}

// until receives the progress. It ends the load once enough has happened.
type until struct {
	stop   context.CancelFunc
	enough func() bool
	text   bytes.Buffer
}

func (u *until) Write(b []byte) (int, error) {
	if u.enough() {
		u.stop()
	}
	return u.text.Write(b)
}

// execute runs a load until enough reports true.
func execute(t *testing.T, c *Config, enough func(*runner) bool) (*Result, string) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	u := &until{stop: stop}
	r := newRunner(c, u)
	u.enough = func() bool { return enough(r) }
	return r.execute(ctx), u.text.String()
}

func TestLoad(t *testing.T) {
	t.Parallel()
	c := config(t, 8, 12, nil)
	c.every = [actions]time.Duration{
		300 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 3 * time.Second, 500 * time.Millisecond,
	}
	result, progress := execute(t, c, func(r *runner) bool {
		ends := r.ends.all()
		for _, how := range []string{"reload", "lost", "logout", "left", "closed"} {
			if ends[how] == 0 {
				return false
			}
		}
		r.frames.mu.Lock()
		defer r.frames.mu.Unlock()
		return r.frames.seen > 5 && r.pings.Load() > 5 && r.resumed.Load() > 0 && r.connected.Load() > 5
	})
	require.Empty(t, result.Faults)
	require.Empty(t, result.Refusals)
	require.True(t, result.Interrupted)
	require.Less(t, result.Seconds, 60.0)
	require.Positive(t, result.Compared)
	require.Equal(t, result.Compared, result.Same)
	require.Positive(t, result.Answered)
	require.GreaterOrEqual(t, result.Claims, result.Answered, "a connection may be lost before")
	require.GreaterOrEqual(t, result.Claims, result.Seen)
	require.Equal(t, result.Answered, result.Answer.Count)
	require.Greater(t, result.Change.Count, result.Seen, "several watch")
	require.Equal(t, result.Connects, result.Connect.Count)
	require.Positive(t, result.BytesIn)
	require.Positive(t, result.BytesOut)
	require.Nil(t, result.Server)
	var sum uint64
	for _, b := range result.Changes {
		require.Less(t, b.Above, b.UpTo)
		sum += b.Count
	}
	require.Equal(t, result.Change.Count, sum)
	var gone uint64
	for _, n := range result.Disconnects {
		gone += n
	}
	require.Equal(t, result.Connects, gone, "every client disconnects: %v", result.Disconnects)
	require.Contains(t, progress, "claims")

	var text bytes.Buffer
	result.writeText(&text)
	for _, part := range []string{"8 agents and 12 visitors", "interrupted", "from a claim to a watcher p50", "memory and CPU not known", "faults       none"} {
		require.Contains(t, text.String(), part)
	}
	data, err := json.Marshal(result)
	require.NoError(t, err)
	var again Result
	require.NoError(t, json.Unmarshal(data, &again))
	require.Equal(t, result, &again)
	requireXML(t, result.svg(), "no faults", "messages a second", "p99")
}

func requireXML(t *testing.T, data []byte, parts ...string) {
	t.Helper()
	for d := xml.NewDecoder(bytes.NewReader(data)); ; {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
	}
	require.NotContains(t, string(data), "NaN")
	require.NotContains(t, string(data), "Inf")
	for _, part := range parts {
		require.Contains(t, string(data), part)
	}
}

// TestSVGOfNothing checks that a load without events has a picture too.
func TestSVGOfNothing(t *testing.T) {
	t.Parallel()
	requireXML(t, (&Result{}).svg(), "none was seen")
	requireXML(t, (&Result{Seconds: 3, FaultCount: 2, Server: &fleet.Process{}, Samples: []Sample{{At: 1, Change: fleet.Quantiles{Count: 1, P50: 1, P90: 1, P99: 1, Max: 1}}, {At: 2}, {At: 3}}}).svg(), "2 faults")
}

// TestServe checks that the command starts its own server and reports its use.
func TestServe(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	var out, progress bytes.Buffer
	err := Command(t.Context(), []string{"-serve", "-agents", "5", "-visitors", "10", "-for", "1s", "-stay", "0", "-reload", "0", "-lose", "0", "-logout", "0", "-svg", filepath.Join(folder, "x.svg"), "-json", filepath.Join(folder, "x.json")}, &out, &progress)
	require.NoError(t, err, progress.String())
	require.Contains(t, out.String(), "faults       none")
	if usable() {
		require.Regexp(t, `server +process \d+, \d+ [KM]B of memory at most`, out.String())
	}
	drawing, err := os.ReadFile(filepath.Join(folder, "x.svg"))
	require.NoError(t, err)
	requireXML(t, drawing, "5 agents and 10 visitors")
	data, err := os.ReadFile(filepath.Join(folder, "x.json"))
	require.NoError(t, err)
	var result Result
	require.NoError(t, json.Unmarshal(data, &result))
	require.Equal(t, 15, result.Compared)
}

// proxy is a proxy between clients and a server. It changes the server's
// messages.
type proxy struct {
	net.Listener
	to      string
	treat   func(conn int, payload []byte) []byte // nil drops a message; it must not keep the payload
	end     func(conn int) *gobwas.Frame          // called before each message; returns the last frame, or an empty one to cut the connection
	running sync.WaitGroup
	conns   atomic.Int64
}

// between starts a proxy and returns its address for clients.
func (p *proxy) between(t *testing.T) func(string) string {
	return func(address string) string {
		var err error
		p.Listener, err = net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		p.to = address
		p.running.Go(func() {
			for {
				conn, err := p.Accept()
				if err != nil {
					return
				}
				n := int(p.conns.Add(1))
				p.running.Go(func() { p.pass(n, conn) })
			}
		})
		t.Cleanup(func() { p.Close(); p.running.Wait() })
		return p.Addr().String()
	}
}

func (p *proxy) pass(n int, client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer server.Close()
	p.running.Go(func() {
		_, _ = io.Copy(server, client)
		server.Close()
	})
	// An empty line ends the response to the handshake.
	var head []byte
	for one := make([]byte, 1); !bytes.HasSuffix(head, []byte("\r\n\r\n")); {
		if _, err := server.Read(one); err != nil {
			return
		}
		head = append(head, one[0])
	}
	if _, err := client.Write(head); err != nil {
		return
	}
	for {
		h, err := gobwas.ReadHeader(server)
		if err != nil {
			return
		}
		f := gobwas.Frame{Header: h, Payload: make([]byte, h.Length)}
		if _, err := io.ReadFull(server, f.Payload); err != nil {
			return
		}
		if f.Header.OpCode == gobwas.OpText {
			if p.end != nil {
				if last := p.end(n); last != nil {
					if last.Header.Fin {
						_ = gobwas.WriteFrame(client, *last)
						_, _ = io.Copy(io.Discard, server) // until the client closes
					}
					return
				}
			}
			if p.treat != nil {
				if f.Payload = p.treat(n, f.Payload); f.Payload == nil {
					continue
				}
				f.Header.Length = int64(len(f.Payload))
			}
		}
		if gobwas.WriteFrame(client, f) != nil {
			return
		}
	}
}

func kinds(r *Result) (list []string) {
	for _, f := range r.Faults {
		list = append(list, f.Kind)
	}
	return list
}

// TestBrokenServers checks that faults of a server are found.
func TestBrokenServers(t *testing.T) {
	t.Parallel()
	isDiff := func(payload []byte) bool { return bytes.HasPrefix(payload, []byte(`{"type":"diff"`)) }
	closing := gobwas.NewCloseFrame(gobwas.NewCloseFrameBody(gobwas.StatusPolicyViolation, "no more"))
	for name, c := range map[string]struct {
		proxy  func(done *atomic.Int64) *proxy // counts its faults
		visits time.Duration                   // the stay of visitors
		want   string
		says   string
	}{
		"a lie in diffs": {
			proxy: func(done *atomic.Int64) *proxy {
				return &proxy{treat: func(n int, payload []byte) []byte {
					if n != 3 || !isDiff(payload) {
						return payload
					}
					done.Add(1)
					return bytes.Replace(payload, []byte(`"count":`), []byte(`"count":1`), 1)
				}}
			},
			want: "list differs", says: "the group",
		},
		"a diff is dropped": {
			proxy: func(done *atomic.Int64) *proxy {
				return &proxy{treat: func(n int, payload []byte) []byte {
					if n == 3 && isDiff(payload) && done.Add(1) == 1 {
						return nil
					}
					return payload
				}}
			},
			want: "out of order", says: "came after frame",
		},
		"answers are dropped": {
			proxy: func(done *atomic.Int64) *proxy {
				return &proxy{treat: func(_ int, payload []byte) []byte {
					if bytes.HasPrefix(payload, []byte(`{"type":"done"`)) {
						done.Add(1)
						return nil
					}
					return payload
				}}
			},
			want: "no answer", says: "a claim was not answered within 2s",
		},
		"claims are refused": {
			proxy: func(done *atomic.Int64) *proxy {
				return &proxy{treat: func(_ int, payload []byte) []byte {
					if bytes.HasPrefix(payload, []byte(`{"type":"done"`)) && !bytes.Contains(payload, []byte(`"watch"`)) {
						done.Add(1)
						return bytes.Replace(payload, []byte(`"done"`), []byte(`"error","code":"limit","message":"too much"`), 1)
					}
					return payload
				}}
			},
			want: "refused as limit", says: "too much",
		},
		"no snapshots": {
			proxy: func(done *atomic.Int64) *proxy {
				return &proxy{treat: func(n int, payload []byte) []byte {
					if n == 3 && bytes.HasPrefix(payload, []byte(`{"type":"snapshot"`)) {
						done.Add(1)
						return nil
					}
					return payload
				}}
			},
			want: "out of order", says: "before a snapshot",
		},
		"no JSON": {
			proxy: func(done *atomic.Int64) *proxy {
				return &proxy{treat: func(n int, payload []byte) []byte {
					if isDiff(payload) && done.Add(1) == 1 {
						return []byte(`{"type":"diff",`)
					}
					return payload
				}}
			},
			want: "protocol", says: "unexpected end of JSON",
		},
		"sessions are closed": {
			proxy: func(done *atomic.Int64) *proxy {
				return &proxy{end: func(n int) *gobwas.Frame {
					if n == 2 && done.Add(1) > 3 {
						return &closing
					}
					return nil
				}}
			},
			want: "closed with 1008", says: "1008 no more",
		},
		"sessions are cut off": {
			proxy: func(done *atomic.Int64) *proxy {
				return &proxy{end: func(n int) *gobwas.Frame {
					if n == 2 && done.Add(1) > 3 {
						return &gobwas.Frame{}
					}
					return nil
				}}
			},
			want: "cut off", says: "without a close frame",
		},
		"nobody is welcome": {
			proxy: func(done *atomic.Int64) *proxy {
				return &proxy{treat: func(n int, payload []byte) []byte {
					if n == 2 && bytes.HasPrefix(payload, []byte(`{"type":"welcome"`)) {
						done.Add(1)
						return nil
					}
					return payload
				}}
			},
			want: "protocol", says: "hello was not answered within 2s",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var done atomic.Int64
			cfg := config(t, 3, 4, c.proxy(&done).between(t))
			cfg.patience = 2 * time.Second
			cfg.every[actClaim] = 300 * time.Millisecond
			result, _ := execute(t, cfg, func(r *runner) bool {
				list, _ := r.faults.all()
				for _, f := range list {
					if f.Kind == c.want {
						return true
					}
				}
				return c.want == "list differs" && done.Load() > 0 // this fault is found at the end
			})
			require.Contains(t, kinds(result), c.want, "%v", result.Faults)
			for _, f := range result.Faults {
				if f.Kind == c.want {
					require.Contains(t, f.First, c.says)
				}
			}
			var text bytes.Buffer
			result.writeText(&text)
			require.Contains(t, text.String(), c.want)
			require.Contains(t, string(result.svg()), fmt.Sprintf("%d faults", result.FaultCount))
		})
	}
}

// TestTokens checks that each client sends a token to a server that needs one.
func TestTokens(t *testing.T) {
	t.Parallel()
	handler, stop, err := newServer("desk", "ann,bob", 2, &ws.Options{})
	require.NoError(t, err)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" || r.Header.Get("X-User") == "" {
			http.Error(w, "a token is wanted", http.StatusUnauthorized)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	defer server.Close()
	defer stop()
	file := filepath.Join(t.TempDir(), "tokens")
	require.NoError(t, os.WriteFile(file, []byte("* secret\n"), 0o600))
	args := []string{"-url", "ws" + strings.TrimPrefix(server.URL, "http") + "/", "-channel", "desk", "-agents", "2", "-visitors", "2", "-header", "X-User: {id}", "-for", "1s"}
	var out bytes.Buffer
	err = Command(t.Context(), args, &out, io.Discard)
	require.ErrorContains(t, err, "HTTP status 401: a token is wanted")
	require.NoError(t, Command(t.Context(), append(args, "-tokens", file), &out, io.Discard))
	require.Contains(t, out.String(), "faults       none")
}

// TestNotLetIn checks that a missing permission is reported before the load
// starts.
func TestNotLetIn(t *testing.T) {
	t.Parallel()
	c := config(t, 2, 2, nil)
	stranger := *c
	stranger.Names = "eve"
	_, err := Run(t.Context(), &stranger, io.Discard)
	require.ErrorContains(t, err, "agent eve")
	require.ErrorContains(t, err, "HTTP status 403")
	require.ErrorContains(t, err, "want ?agent= of agent-{n}", "what the server says")

	elsewhere := *c
	elsewhere.Channel = "support"
	_, err = Run(t.Context(), &elsewhere, io.Discard)
	require.ErrorContains(t, err, `channel "support" cannot be watched: not-allowed`)

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	err = Command(t.Context(), []string{"-url", "ws://" + listener.Addr().String()}, io.Discard, io.Discard)
	require.ErrorContains(t, err, "connection refused")
	require.ErrorContains(t, err, "-serve")
	require.NotErrorIs(t, err, ErrFaults)
}

// TestCompare checks that a list that differs from a fresh one is found, and
// that a list with changes under way gets time.
func TestCompare(t *testing.T) {
	t.Parallel()
	at := func(seq uint64, rows ...uint32) list { return list{epoch: "e", seq: seq, rows: rows} }
	for name, c := range map[string]struct {
		own, fresh   list
		asking, last bool
		settled      bool
		fault        string
	}{
		"the same":                    {own: at(3, 1, 2), fresh: at(3, 1, 2), settled: true},
		"the same in a longer list":   {own: at(3, 1, 2), fresh: at(3, 1, 2, 0, 0), settled: true},
		"the same of another epoch":   {own: at(3, 1, 2), fresh: list{epoch: "f", rows: []uint32{1, 2}}, settled: true},
		"behind":                      {own: at(2, 1, 1), fresh: at(3, 1, 2)},
		"behind for ever":             {own: at(2, 1, 1), fresh: at(3, 1, 2), last: true, settled: true, fault: "list differs"},
		"a row differs":               {own: at(3, 1, 1), fresh: at(3, 1, 2), settled: true, fault: "list differs"},
		"a row is missing":            {own: at(3, 1), fresh: at(3, 1, 2), settled: true, fault: "list differs"},
		"a row too many":              {own: at(3, 1, 2, 7), fresh: at(3, 1, 2), settled: true, fault: "list differs"},
		"an answer is due":            {own: at(3, 1, 2), fresh: at(3, 1, 2), asking: true},
		"no list yet":                 {fresh: at(3, 1, 2)},
		"no list ever":                {fresh: at(3, 1, 2), last: true, settled: true, fault: "no list"},
		"nothing to compare with yet": {own: at(3, 1, 2)},
		"nothing to compare with":     {own: at(3, 1, 2), last: true, settled: true, fault: "not compared"},
	} {
		r := newRunner(&Config{}, io.Discard)
		for i := range 3 {
			_, err := r.frames.number(fmt.Sprint("subject", i))
			require.NoError(t, err)
		}
		own, fresh := &client{r: r, there: true, list: c.own, asking: c.asking}, &client{r: r, there: true, list: c.fresh}
		require.Equal(t, c.settled, r.compare(own, fresh, c.last), name)
		list, n := r.faults.all()
		if c.fault == "" {
			require.Zero(t, n, name)
			continue
		}
		require.Len(t, list, 1, name)
		require.Equal(t, c.fault, list[0].Kind, name)
	}
}
