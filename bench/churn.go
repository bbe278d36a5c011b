package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/presence-go/presence"
)

// The metrics of churn, in nanoseconds of processors a user.
const (
	connecting    = "connect"
	disconnecting = "disconnect"
	reconnecting  = "again"
)

func churnSize(o options) int { return o.size(1_000_000, 50_000) }

// churns is G8: all users connect, in a random order, and disconnect in another
// order.
func churns(r *runner) error {
	n := churnSize(r.options)
	return r.measure(experiment{
		id: "churn", goals: []string{"G8"}, size: n,
		title: fmt.Sprintf("%s users, each with a connection and a channel, connect and disconnect", count(n)),
		columns: []column{
			{metric: connecting, header: "connect cpu ns", ratio: true}, {metric: disconnecting, header: "disconnect cpu ns", ratio: true},
			{metric: reconnecting, header: "connect again cpu ns"},
		},
		cases: []benchCase{
			{name: "F3 own table", role: floor, fresh: "churn/table"},
			{name: "F2 sharded maps", role: floor, fresh: "churn/sharded"},
			{name: "ours, rooms of 50", role: ours, fresh: "churn/ours"},
			{name: "Centrifuge, rooms of 50", role: peer, fresh: "churn/centrifuge-rooms"},
			{name: "Centrifuge, one channel", role: peer, fresh: "churn/centrifuge-one"},
			{name: "mutex + map + AfterFunc", role: byHand, fresh: "churn/afterfunc"},
		},
	})
}

var churnCases = map[string]freshCase{
	"churn/table": func(o options) (sample, error) {
		t := newTable()
		return runChurn(churnSize(o), func(p *population, i int) error { t.add(p.ids[i]); return nil }, func(p *population, i int) error { t.remove(p.ids[i]); return nil }, false)
	},
	"churn/sharded": func(o options) (sample, error) {
		m := newShardedMap(newPopulation(0))
		return runChurn(churnSize(o), func(p *population, i int) error { m.add(p.ids[i]); return nil }, func(p *population, i int) error { m.remove(p.ids[i]); return nil }, false)
	},
	"churn/ours":             func(o options) (sample, error) { return churnOurs(churnSize(o)) },
	"churn/centrifuge-rooms": func(o options) (sample, error) { return churnCentrifuge(o, ownRoom) },
	"churn/centrifuge-one":   func(o options) (sample, error) { return churnCentrifuge(o, oneChannel) },
	"churn/afterfunc": func(o options) (sample, error) {
		h := newHandTimers(newPopulation(0), 24*time.Hour)
		return runChurn(churnSize(o), func(p *population, i int) error { h.add(p.ids[i]); return nil }, func(p *population, i int) error {
			h.users[p.ids[i]].timer.Stop()
			h.remove(p.ids[i])
			return nil
		}, false)
	},
}

// runChurn connects and disconnects all users. If again is set, it connects
// them again, for structures in which that costs something else.
func runChurn(n int, connect, disconnect func(p *population, i int) error, again bool) (sample, error) {
	p := newPopulation(n).copied()
	leaving := newPopulation(p.size() + 1).order // another random order of the same users, and one user more
	s := make(sample)
	phase := func(metric string, order []int, do func(p *population, i int) error) error {
		freeMemory()
		began := processCPU()
		for _, i := range order {
			if i == p.size() {
				continue
			}
			if err := do(p, i); err != nil {
				return err
			}
		}
		s[metric] = float64(processCPU()-began) / float64(p.size())
		return nil
	}
	if err := phase(connecting, p.order, connect); err != nil {
		return nil, err
	}
	if err := phase(disconnecting, leaving, disconnect); err != nil {
		return nil, err
	}
	if again {
		if err := phase(reconnecting, p.order, connect); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// churnOurs makes members of its users by a grant. They log out and stay
// members, since membership follows grants. Connecting again is the common
// case.
func churnOurs(n int) (sample, error) {
	t, err := newTracked(presence.Options{}, true)
	if err != nil {
		return nil, err
	}
	s, err := runChurn(n, func(p *population, i int) error {
		if t.people == nil {
			t.people, t.conns = p, make([]*presence.Conn, p.size())
		}
		if t.conns[i] == nil {
			if err := t.join(i, p.rooms[i]); err != nil {
				return err
			}
		}
		return t.connect(i)
	}, func(_ *population, i int) error { return t.conns[i].Logout() }, true)
	return s, errors.Join(err, t.stop())
}

func churnCentrifuge(o options, channels func(*population) []string) (sample, error) {
	var c *centrifugePresence
	var list []string
	return runChurn(churnSize(o), func(p *population, i int) (err error) {
		if c == nil {
			if c, err = newCentrifuge(p); err != nil {
				return err
			}
			list = channels(p)
		}
		return c.add(list[i], i)
	}, func(p *population, i int) error { return c.RemovePresence(list[i], p.ids[i], p.ids[i]) }, false)
}
