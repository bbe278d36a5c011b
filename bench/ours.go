package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/presence-go/presence"
)

// connID is the id of every user's only connection. Ids of connections must
// differ only within one user.
const connID = "0123456789abcdef"

// calm is a policy without deadlines during a measurement.
func calm() *presence.Policy {
	p := presence.DefaultPolicy()
	p.Lease = 24 * time.Hour
	p.Idle[0].After = 48 * time.Hour
	return &p
}

// tracked is a tracker full of users.
type tracked struct {
	*presence.Tracker
	people *population
	conns  []*presence.Conn // in the order of visits
	ownIDs bool             // each connection has an id of its own, which takes memory
	views  []presence.View  // see list
	stop   func() error

	beforeEach func(k int) // called before the k-th user connects
}

// newTracked starts a tracker. If run is set, it also runs the deadlines. The
// journal is off, because histories are not measured.
func newTracked(o presence.Options, run bool) (*tracked, error) {
	o.JournalRows = -1
	t, err := presence.New(&o)
	if err != nil {
		return nil, err
	}
	ran := make(chan error, 1)
	if run {
		go func() { ran <- t.Run(context.Background()) }()
	} else {
		ran <- nil
	}
	return &tracked{Tracker: t, stop: func() error { return errors.Join(t.Close(), <-ran) }}, nil
}

// fill connects a population, and makes each user a member of some channels.
// The first grant makes a record, in a random order. Handles are in the order
// of visits.
func (t *tracked) fill(p *population, channels int) error {
	t.people, t.conns = p, make([]*presence.Conn, p.size())
	for n := range channels {
		rooms := p.siblings(n)
		for _, i := range p.order {
			if err := t.join(i, rooms[i]); err != nil {
				return err
			}
		}
	}
	for i := range p.size() {
		if t.beforeEach != nil {
			t.beforeEach(i)
		}
		if err := t.connect(i); err != nil {
			return err
		}
		if i%50_000 == 0 { // so that no lease ends while filling takes long
			for _, early := range t.conns[:i] {
				if err := early.Heartbeat(); err != nil {
					return fmt.Errorf("%w: %w", errBusy, err)
				}
			}
		}
	}
	return nil
}

// filled returns a tracker full of users. It is made at the first call, and
// stopped by the stopper.
func (s *stopper) filled(p *population, channels int) func() (*tracked, error) {
	return sync.OnceValues(func() (*tracked, error) {
		t, err := newTracked(presence.Options{Policy: calm()}, true)
		if err != nil {
			return nil, err
		}
		s.add(t.stop)
		return t, t.fill(p, channels)
	})
}

// join makes a user a member of a channel.
func (t *tracked) join(i int, channel string) error {
	return t.AddMember(context.Background(), presence.ChannelID(channel), t.ref(i))
}

func (t *tracked) connect(i int) (err error) {
	o := presence.ConnectOptions{ID: connID}
	if t.ownIDs {
		o.ID = "" // the tracker makes an id of 16 bytes
	}
	t.conns[i], err = t.Connect(context.Background(), t.ref(i), o)
	return err
}

func (t *tracked) ref(i int) presence.Ref { return presence.ID(t.people.ids[i]) }

// beat sends a heartbeat through each connection's handle.
func (t *tracked) beat(from, to int) error {
	for _, c := range t.conns[from:to] {
		if err := c.Heartbeat(); err != nil {
			return err
		}
	}
	return nil
}

// beatByID sends heartbeats of users by their ids only.
func (t *tracked) beatByID(from, to int) error {
	for _, id := range t.people.ids[from:to] {
		if err := t.Heartbeat(presence.ID(id), connID); err != nil {
			return err
		}
	}
	return nil
}
