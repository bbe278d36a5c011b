package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/wire"
)

// beats measures the cost of a heartbeat within the process, from its text on.
// The sessions are real; their connections are fakes.
func beats(r *runner) error {
	const text = `{"idle":60000,"visible":true,"type":"pong","seq":1}` // as the browser's client writes it
	data := []byte(text)
	if p, ok := wire.ParsePong(data); !ok || p != (wire.Pong{Seq: 1, Idle: 60_000, Visible: true, Told: true}) {
		return fmt.Errorf("%s is read as %+v", text, p)
	}
	n := idleClients(r.options)
	var running stopper
	each := func(name string, role role, build func() (func(i int) error, error)) benchCase {
		return visiting(options{quick: r.quick, tiny: r.tiny}, name, role, n, 1, 50, func() (visit, error) {
			do, err := build()
			return func(from, to int) error {
				for i := from; i < to; i++ {
					if err := do(i); err != nil {
						return err
					}
				}
				return nil
			}, err
		})
	}
	return errors.Join(r.measure(experiment{
		id: "beat", goals: []string{"G16", "G18"}, size: n,
		title:   fmt.Sprintf("a heartbeat of one of %s sessions, from its text on; %d bytes", count(n), len(data)),
		columns: operationColumns,
		cases: []benchCase{
			each("encoding/json, decoding alone", peer, func() (func(int) error, error) {
				return func(int) error {
					var m struct {
						Type    string   `json:"type"`
						Seq     uint64   `json:"seq"`
						Idle    *float64 `json:"idle"`
						Visible *bool    `json:"visible"`
					}
					return json.Unmarshal(data, &m)
				}, nil
			}),
			each("ours, a session's", ours, func() (func(int) error, error) {
				sessions, stop, err := silentSessions(n)
				if err != nil {
					return nil, err
				}
				running.add(stop)
				return func(i int) error { sessions[i].Receive(data); return nil }, nil
			}),
			each("ours, decoding alone", ours, func() (func(int) error, error) {
				return func(int) error {
					if _, ok := wire.ParsePong(data); !ok {
						return errUnknown
					}
					return nil
				}, nil
			}),
		},
	}), running.stop())
}

// silentSessions opens sessions over fake connections that drop all writes.
// Each session has sent a request for a heartbeat.
func silentSessions(n int) ([]*wire.Session, func() error, error) {
	policy := calm()
	policy.Heartbeat = seldom
	t, err := newTracked(presence.Options{Policy: policy}, true)
	if err != nil {
		return nil, nil, err
	}
	server, err := wire.New(t.Tracker, &wire.Options{
		Authenticate: func(*http.Request) (presence.Identity, error) {
			return presence.Identity{}, presence.ErrNotAllowed
		},
		MessagesPerSecond: 1e12, Burst: 1e12,
	})
	if err != nil {
		return nil, nil, errors.Join(err, t.stop())
	}
	people := newPopulation(n)
	sessions := make([]*wire.Session, n)
	asked := make(chan struct{}, n)
	over := make(chan struct{})
	for i, id := range people.ids {
		opened := make(chan struct{})
		server.Carrier().Open(presence.Identity{Actor: presence.Agent(presence.ID(id))}, swallowing{asked}, texts{}, false, func(s *wire.Session) {
			sessions[i] = s
			close(opened)
			<-over
			s.End(presence.CauseClosed, wire.StatusNone, "")
			s.Detach()
		})
		<-opened
		sessions[i].Receive([]byte(`{"type":"hello","v":1}`))
	}
	server.Carrier().SweepAt(t.Now().Add(seldom))
	for range n {
		<-asked
	}
	return sessions, func() error {
		close(over)
		return errors.Join(server.Close(), t.stop())
	}, nil
}

// swallowing is a connection without a client. It signals each write on asked.
type swallowing struct{ asked chan<- struct{} }

func (c swallowing) Write(p []byte) (int, error) {
	if strings.Contains(string(p), `"type":"ping"`) {
		c.asked <- struct{}{}
	}
	return len(p), nil
}

func (swallowing) Close() error                     { return nil }
func (swallowing) SetReadDeadline(time.Time) error  { return nil }
func (swallowing) SetWriteDeadline(time.Time) error { return nil }

// texts is messages as they are.
type texts struct{}

func (texts) Streams() bool                                          { return false }
func (texts) Message(b *wire.Batch, payload []byte, _ wire.Position) { _, _ = b.Write(payload) }
func (texts) Ping(*wire.Batch)                                       {}
func (texts) Close(*wire.Batch, wire.Status, string)                 {}
