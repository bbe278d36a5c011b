package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/centrifugal/centrifuge"
	"golang.org/x/sys/unix"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/sse"
	"github.com/presence-go/presence/adapters/wire"
	"github.com/presence-go/presence/adapters/ws"
	"github.com/presence-go/presence/internal/fleet"
)

// services are all servers, by name.
var services map[string]func(options) (*service, error)

func init() { // a literal would refer to itself
	services = map[string]func(options) (*service, error){
		"ours":             func(options) (*service, error) { return serveOurs(0, 0, false) },
		"ours-storm":       func(options) (*service, error) { return serveOurs(0, stormBuffer, false) },
		"ours-batch":       func(options) (*service, error) { return serveOurs(publishInterval, 0, false) },
		"ours-batch-storm": func(options) (*service, error) { return serveOurs(publishInterval, 0, false) },
		"ours-asking":      func(options) (*service, error) { return serveOurs(0, 0, true) },
		"centrifuge":       func(options) (*service, error) { return serveCentrifuge(centrifuge.WebsocketConfig{}) },
		"centrifuge-storm": func(options) (*service, error) { return serveCentrifuge(withoutPings) },
		"centrifuge-tuned": func(options) (*service, error) { return serveCentrifuge(tunedBuffers) },
		"goroutine":        func(options) (*service, error) { return serveGoroutines(0), nil },
		"coalesce":         func(options) (*service, error) { return serveGoroutines(publishInterval), nil },
		"epoll":            func(options) (*service, error) { return serveEpoll() },
		"http-channel":     func(options) (*service, error) { return serveByHand(), nil },
	}
}

// publishInterval is the batch interval of servers with one.
const publishInterval = 50 * time.Millisecond

// stormBuffer is the number of changes that a watcher may lag behind where
// storms are expected. A watcher that lags further gets a snapshot, of a large
// channel again and again.
const stormBuffer = 4096

// tunedBuffers are the buffers that Centrifuge recommends for many connections.
var tunedBuffers = centrifuge.WebsocketConfig{ReadBufferSize: 512, WriteBufferSize: 512, UseWriteBufferPool: true}

// withoutPings keeps Centrifuge from disconnecting clients that are too busy to
// answer. The clients of ours would be too busy as well, but get a ping later.
var withoutPings = centrifuge.WebsocketConfig{PingPongConfig: centrifuge.PingPongConfig{PingInterval: -1, PongTimeout: -1}}

// asked returns the parameters of a client's request: its id, its room and its
// role.
func asked(r *http.Request) (id, room, role string) {
	q := r.URL.Query()
	return q.Get("id"), q.Get("room"), q.Get("role")
}

// requestOf is such a request, upgraded to a WebSocket.
func requestOf(path, id, room, role string) string {
	query := url.Values{"id": {id}, "room": {room}, "role": {role}}
	return fleet.Upgrade("127.0.0.1", path+"?"+query.Encode(), fleet.Key, nil)
}

// seldom is the time between two pings of a server that pings on request.
const seldom = 6 * time.Hour

// serveOurs serves presence over WebSockets and streams. Members get the grant
// of their channel before they connect or, if the request names a channel, with
// the request. Grace is off, so that a departure shows at once, as with
// Centrifuge. Clients get the usual requests for heartbeats, or with toldTo
// only those of doPing.
func serveOurs(batch time.Duration, buffer int, toldTo bool) (*service, error) {
	policy := calm()
	policy.Grace, policy.CoalesceChannel = presence.Grace{}, batch
	if toldTo {
		policy.Heartbeat = seldom
	}
	t, err := newTracked(presence.Options{Policy: policy, WatchBuffer: buffer}, true)
	if err != nil {
		return nil, err
	}
	server, err := wire.New(t.Tracker, &wire.Options{
		Authenticate: func(r *http.Request) (presence.Identity, error) {
			id, room, role := asked(r)
			actor := presence.Actor{Subject: presence.ID(strings.Clone(id)), Role: presence.Role(strings.Clone(role))}
			if role != "" || room == "" {
				return presence.Identity{Actor: actor}, nil
			}
			return presence.Identity{Actor: actor}, t.AddMember(r.Context(), presence.ChannelID(strings.Clone(room)), actor.Subject)
		},
	})
	if err != nil {
		return nil, errors.Join(err, t.stop())
	}
	sockets, streams := ws.Over(server), sse.Over(server)
	listened := new(recorder)
	over := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/presence" {
			sockets.ServeHTTP(w, r)
			return
		}
		streams.ServeHTTP(w, r)
	})}
	s := &service{serve: listened.serving(over), sessions: server.Sessions, stop: func() {
		_ = over.Close()
		_ = server.Close()
		_ = t.stop()
	}}
	s.invite = func(g gathering) error {
		for i, id := range g.ids {
			if err := t.AddMember(context.Background(), presence.ChannelID(strings.Clone(g.rooms[i])), presence.ID(strings.Clone(id))); err != nil {
				return err
			}
		}
		return nil
	}
	fan, asked := &fan{t: t, listened: listened}, 0
	s.do = map[string]func() (sample, error){
		doPing: func() (sample, error) {
			asked++
			server.Carrier().SweepAt(t.Now().Add(time.Duration(asked) * seldom))
			return nil, nil
		},
		doPublish: fan.publish,
		doWrite:   func() (sample, error) { return nil, listened.write(fan.last) },
	}
	return s, nil
}

// The additional requests to some servers.
const (
	doPing    = "ping"    // asks each client for a heartbeat
	doPublish = "publish" // makes one change for all clients
	doWrite   = "write"   // writes the bytes of the last change to every socket by write(2)
)

// fan is a channel that all clients watch, with one member that connects and
// disconnects.
type fan struct {
	t        *tracked
	listened *recorder
	watch    *presence.Watch
	conn     *presence.Conn
	last     []byte // frame
}

func (f *fan) publish() (_ sample, err error) {
	ctx, who, where := context.Background(), presence.ID("member-0123456789"), presence.ChannelID(listedChannel)
	if f.watch == nil {
		if f.watch, err = f.t.Watch(ctx, supervisor, where, presence.WatchOptions{}); err != nil {
			return nil, err
		}
		if err := f.t.AddMember(ctx, where, who); err != nil {
			return nil, err
		}
		if f.conn, err = f.t.Connect(ctx, who, presence.ConnectOptions{ID: connID}); err != nil {
			return nil, err
		}
	} else if f.conn != nil {
		err, f.conn = f.conn.Logout(), nil
	} else {
		f.conn, err = f.t.Connect(ctx, who, presence.ConnectOptions{ID: connID})
	}
	for err == nil {
		var diff *presence.Frame
		if diff, err = f.watch.Poll(); diff == nil || err != nil {
			break
		}
		var encoded []byte
		if encoded, err = diff.JSON(); err == nil {
			f.last = fleet.AppendServer(nil, fleet.OpText, encoded)
		}
	}
	return nil, err
}

// recorder keeps the connections that a listener accepts, for writing to them
// without a library.
type recorder struct {
	net.Listener
	mu    sync.Mutex
	conns []*net.TCPConn
}

func (r *recorder) serving(s *http.Server) func(net.Listener) error {
	return func(l net.Listener) error {
		r.Listener = l
		return s.Serve(r)
	}
}

func (r *recorder) Accept() (net.Conn, error) {
	c, err := r.Listener.Accept()
	if err == nil {
		r.mu.Lock()
		r.conns = append(r.conns, c.(*net.TCPConn))
		r.mu.Unlock()
	}
	return c, err
}

// write writes to every connection by the system call only.
func (r *recorder) write(data []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		raw, err := c.SyscallConn()
		if err != nil {
			return err
		}
		var n int
		var fault error
		if err := raw.Control(func(fd uintptr) { n, fault = unix.Write(int(fd), data) }); err != nil {
			return err
		}
		if fault != nil || n < len(data) {
			return fmt.Errorf("%d of %d bytes were written: %w", n, len(data), fault)
		}
	}
	return nil
}

// serveCentrifuge serves Centrifuge with presence, joins and leaves, in JSON.
func serveCentrifuge(config centrifuge.WebsocketConfig) (*service, error) {
	node, err := centrifuge.New(centrifuge.Config{})
	if err != nil {
		return nil, err
	}
	node.OnConnect(func(c *centrifuge.Client) {
		member := c.UserID()[0] != 'w' // other clients only watch
		c.OnSubscribe(func(_ centrifuge.SubscribeEvent, reply centrifuge.SubscribeCallback) {
			reply(centrifuge.SubscribeReply{Options: centrifuge.SubscribeOptions{EmitPresence: member, EmitJoinLeave: member, PushJoinLeave: true}}, nil)
		})
		c.OnPresence(func(_ centrifuge.PresenceEvent, reply centrifuge.PresenceCallback) {
			reply(centrifuge.PresenceReply{}, nil)
		})
		c.OnMessage(func(centrifuge.MessageEvent) { heardByHand.Store(time.Now().UnixMilli()) })
	})
	if err := node.Run(); err != nil {
		return nil, err
	}
	handler := centrifuge.NewWebsocketHandler(node, config)
	listened := new(recorder)
	over := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, _, _ := asked(r)
		handler.ServeHTTP(w, r.WithContext(centrifuge.SetCredentials(r.Context(), &centrifuge.Credentials{UserID: strings.Clone(id)})))
	})}
	change := bytes.Repeat([]byte("x"), 200)
	change = append(append([]byte(`{"padding":"`), change...), `"}`...)
	return &service{
		serve: listened.serving(over), sessions: node.Hub().NumClients,
		stop: func() {
			_ = over.Close()
			_ = node.Shutdown(context.Background())
		},
		do: map[string]func() (sample, error){
			doPublish: func() (sample, error) {
				_, err := node.Publish(listedChannel, change)
				return nil, err
			},
			doWrite: func() (sample, error) {
				return nil, listened.write(fleet.AppendServer(nil, fleet.OpText, `{"push":{"channel":"`+listedChannel+`","pub":{"data":`+string(change)+`}}}`))
			},
		},
	}, nil
}

// heardByHand counts the heartbeats over Centrifuge that people would implement
// by hand.
var heardByHand atomic.Int64

// serveGoroutines is the floor of sockets: a goroutine for each, with its
// buffer on the stack and without a library. It sends each diff of a room to
// the members at once, or all diffs of a window together. It parses no
// messages: it answers a client's first message with a welcome, the second one
// joins the room, and later ones are heartbeats.
func serveGoroutines(window time.Duration) *service {
	f := &handServer{window: window, rooms: make(map[string]*handRoom)}
	return &service{serve: f.serve, sessions: func() int { return int(f.open.Load()) }, stop: func() {}}
}

type handServer struct {
	window time.Duration
	mu     sync.Mutex
	rooms  map[string]*handRoom
	open   atomic.Int64
}

type handRoom struct {
	mu      sync.Mutex
	members map[string]*handSocket
	pending []presence.Change
	last    time.Time
	armed   bool
	seq     uint64
	name    string
	frame   []byte
}

type handSocket struct {
	net.Conn
	id    string
	room  *handRoom
	heard atomic.Int64
}

func (f *handServer) serve(l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		f.open.Add(1)
		go f.greet(c)
	}
}

// switching is the response to the key of all clients here.
var switching = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + fleet.Accept(fleet.Key) + "\r\n\r\n"

// greet answers the request, and continues on a fresh stack.
func (f *handServer) greet(c net.Conn) {
	head := make([]byte, 1024)
	n, err := c.Read(head)
	if err == nil {
		path, _, _ := strings.Cut(string(head[:n]), " HTTP/1.1\r\n")
		u, wrong := url.Parse(strings.TrimPrefix(path, "GET "))
		if err = wrong; err == nil {
			q := u.Query()
			s := &handSocket{Conn: c, id: strings.Clone(q.Get("id"))}
			if u.Path == "/events" {
				_, err = c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\nConnection: close\r\n\r\ndata: welcome\n\n"))
			} else if _, err = c.Write([]byte(switching)); err == nil {
				s.room = f.room(strings.Clone(q.Get("room")))
			}
			if err == nil {
				go f.wait(s, 0)
				return
			}
		}
	}
	f.open.Add(-1)
	c.Close()
}

func (f *handServer) room(name string) *handRoom {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.rooms[name]
	if r == nil {
		r = &handRoom{name: name, members: make(map[string]*handSocket)}
		f.rooms[name] = r
	}
	return r
}

func (f *handServer) wait(s *handSocket, said int) {
	var buf [160]byte
	for {
		n, err := s.Read(buf[:])
		if err != nil {
			break
		}
		for data := buf[:n]; len(data) >= 6; {
			length := int(data[1] & 127)
			if len(data) < 6+length {
				break // the floor's clients send one frame at a time
			}
			mask, payload := data[2:6], data[6:6+length]
			for i := range payload {
				payload[i] ^= mask[i&3]
			}
			data = data[6+length:]
			s.heard.Store(time.Now().UnixMilli())
			if said++; said <= 2 && s.room != nil {
				f.spoken(s, said)
				if said == 2 {
					go f.wait(s, said) // on a fresh stack: the handshake has grown this one
					return
				}
			}
		}
	}
	if s.room != nil {
		f.change(s, presence.OpLeft)
	}
	s.Close()
	f.open.Add(-1)
}

//go:noinline
func (f *handServer) spoken(s *handSocket, said int) {
	if said == 1 {
		_, _ = s.Write(fleet.AppendServer(nil, fleet.OpText, `{"type":"welcome"}`))
		return
	}
	f.change(s, presence.OpJoined)
}

// change adds a socket to its room or removes it, and sends that to the
// members.
func (f *handServer) change(s *handSocket, op presence.Op) {
	r := s.room
	r.mu.Lock()
	defer r.mu.Unlock()
	who := presence.ID(s.id)
	if op == presence.OpJoined {
		r.members[s.id] = s
	} else {
		if r.members[s.id] != s {
			return
		}
		delete(r.members, s.id)
	}
	r.pending = append(r.pending, presence.Change{Op: op, Subject: who, View: &presence.View{
		Subject: who, Status: "available", Class: presence.ClassAvailable, Label: "Available", Color: "#2e9e5b", Since: presence.At(time.Now()),
	}})
	wait := f.window - time.Since(r.last)
	switch {
	case wait <= 0:
		r.flush()
	case !r.armed:
		r.armed = true
		time.AfterFunc(wait, func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.armed = false
			r.flush()
		})
	}
}

// flush sends the pending diffs to all members.
func (r *handRoom) flush() {
	r.seq++
	diff := appendFrame(nil, &presence.Frame{
		Kind: presence.FrameDiff, Version: presence.FrameVersion, Channel: presence.ChannelID(r.name), Epoch: "1", Seq: r.seq,
		Group: presence.Group{Status: presence.GroupAvailable, Count: len(r.members)}, Changes: r.pending,
	})
	r.frame = fleet.AppendServer(r.frame[:0], fleet.OpText, diff)
	r.pending, r.last = r.pending[:0], time.Now()
	for _, id := range slices.Sorted(maps.Keys(r.members)) {
		_, _ = r.members[id].Write(r.frame) // the reader of a client finds that it is gone
	}
}

// serveEpoll is the minimum of a socket: its number and its id.
func serveEpoll() (*service, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	var open atomic.Int64
	return &service{
		serve: func(l net.Listener) error {
			var ended atomic.Bool
			defer ended.Store(true)
			go epollLoop(ep, &open, &ended)
			for {
				c, err := l.Accept()
				if err != nil {
					return err
				}
				file, err := c.(*net.TCPConn).File() // a second descriptor, outside the runtime's poller
				if err != nil {
					return err
				}
				fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
				if err = errors.Join(err, file.Close(), c.Close(), unix.SetNonblock(fd, true)); err != nil {
					return err
				}
				open.Add(1)
				if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
					return err
				}
			}
		},
		sessions: func() int { return int(open.Load()) },
		stop:     func() { _ = unix.Close(ep) },
	}, nil
}

// epollLoop serves all sockets in one thread.
func epollLoop(ep int, open *atomic.Int64, ended *atomic.Bool) {
	type state struct {
		said  uint8
		heard int64
		id    [36]byte
	}
	var states []state // by descriptor of the socket
	events := make([]unix.EpollEvent, 256)
	buf := make([]byte, 4096)
	for !ended.Load() {
		n, err := unix.EpollWait(ep, events, 100)
		if err != nil && err != unix.EINTR {
			return
		}
		for _, e := range events[:max(n, 0)] {
			fd := int(e.Fd)
			for len(states) <= fd {
				states = append(states, state{})
			}
			s := &states[fd]
			n, err := unix.Read(fd, buf)
			if err == unix.EAGAIN {
				continue
			}
			if err != nil || n == 0 {
				*s = state{}
				_ = unix.Close(fd)
				open.Add(-1)
				continue
			}
			s.heard = time.Now().UnixMilli()
			switch s.said++; s.said {
			case 1:
				_, after, _ := bytes.Cut(buf[:n], []byte("?id="))
				id, _, _ := bytes.Cut(after, []byte("&"))
				copy(s.id[:], id)
				_, _ = unix.Write(fd, []byte(switching))
			case 2:
				_, _ = unix.Write(fd, fleet.AppendServer(nil, fleet.OpText, `{"type":"welcome"}`))
			case 3:
				_, _ = unix.Write(fd, fleet.AppendServer(nil, fleet.OpText, `{"type":"diff","count":1}`))
			default:
				s.said = 3
			}
		}
	}
}

// serveByHand is an event stream as people write it: the handler waits at a Go
// channel.
func serveByHand() *service {
	var open atomic.Int64
	over := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		open.Add(1)
		defer open.Add(-1)
		events := make(chan string, 16)
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Cache-Control", "no-store")
		events <- "welcome"
		for {
			select {
			case e := <-events:
				fmt.Fprintf(w, "data: %s\n\n", e)
				w.(http.Flusher).Flush()
			case <-r.Context().Done():
				return
			}
		}
	})}
	return &service{serve: over.Serve, sessions: func() int { return int(open.Load()) }, stop: func() { _ = over.Close() }}
}
