package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"

	"github.com/presence-go/presence"
)

// curve shows how a cost grows with a size. Each point is measured in a process
// of its own, once a round.
type curve struct {
	id, title string
	x         string // what grows
	full      []int
	quick     []int
	measure   func(o options, n int) (sample, error)
	columns   []column
	panels    []panel
}

// panel is one diagram of a curve's picture.
type panel struct {
	title string
	lines []line
}

// line is a metric of a drawing.
type line struct{ metric, name string } // no name for the only line of a panel

// The metrics of curves, beside those of their experiments.
const (
	byHandle    = "handle"
	byUserID    = "id"
	gcWhole     = "gc-all"  // milliseconds of processors for a full collection
	perMember   = "member"  // bytes of a membership
	perWatched  = "watched" // bytes that a member takes in addition while the channel is watched
	listing     = "list"
	listingEach = "list-member"
	publication = "publish"
	claiming    = "claim"
)

var curves = []curve{
	{
		id: "users", title: "What it costs with many users", x: "users, each with one connection and one channel of 50",
		full:  []int{1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000},
		quick: []int{1_000, 10_000, 50_000}, measure: usersCurve,
		columns: []column{
			{metric: byHandle, header: "heartbeat ns"}, {metric: byUserID, header: "by id ns"},
			{metric: connecting, header: "connect cpu ns"}, {metric: reconnecting, header: "again cpu ns"}, {metric: disconnecting, header: "disconnect cpu ns"},
			{metric: bytesUser, header: "bytes a user"}, {metric: gcWhole, header: "full GC cpu ms"}, {metric: share, header: "sweep % of a core"}, {metric: worst, header: "longest tick ms"},
		},
		panels: []panel{
			{"heartbeat, ns", []line{{byUserID, "by id"}, {byHandle, "by handle"}}},
			{"connecting and leaving, ns of processor", []line{{connecting, "first connect"}, {reconnecting, "connect again"}, {disconnecting, "disconnect"}}},
			{"memory, bytes a user", []line{{bytesUser, ""}}},
			{"a full garbage collection, ms of processor", []line{{gcWhole, ""}}},
			{"sweep while nobody expires, % of one core", []line{{share, ""}}},
			{"longest tick of a sweep, ms", []line{{worst, ""}}},
		},
	},
	{
		id: "members", title: "What it costs with many members in a channel", x: "members of the channel",
		full:  []int{10, 30, 100, 300, 1_000, 3_000, 10_000},
		quick: []int{10, 100, 1_000}, measure: membersCurve,
		columns: []column{
			{metric: listing, header: "list ns"}, {metric: listingEach, header: "a member"}, {metric: p50, header: "departure p50 ns"}, {metric: p99, header: "p99"},
			{metric: publication, header: "publish ns a watcher"}, {metric: perMember, header: "bytes a member"}, {metric: perWatched, header: "and watched"},
		},
		panels: []panel{
			{"listing the members, ns", []line{{listing, "all of them"}, {listingEach, "each"}}},
			{"from a departure to a watcher's reading of it, ns", []line{{p99, "p99"}, {p50, "p50"}}},
			{"publishing to as many watchers, ns a watcher", []line{{publication, ""}}},
			{"memory, bytes a member", []line{{perMember, "membership"}, {perWatched, "more, watched"}}},
		},
	},
	{
		id: "connections", title: "What it costs with several connections a user", x: "connections of each user",
		full:  []int{1, 2, 3, 4, 6, 8},
		quick: []int{1, 2, 8}, measure: connectionsCurve,
		columns: []column{
			{metric: bytesUser, header: "bytes a user"}, {metric: connecting, header: "the last connect cpu ns"}, {metric: byHandle, header: "heartbeat ns"}, {metric: claiming, header: "claim cpu ns"},
		},
		panels: []panel{
			{"memory, bytes a user", []line{{bytesUser, ""}}},
			{"one more connection, ns of processor", []line{{connecting, ""}}},
			{"heartbeat by handle, ns", []line{{byHandle, ""}}},
			{"claim, ns of processor", []line{{claiming, ""}}},
		},
	},
}

// sizes are the sizes of the points.
func (c *curve) sizes(o options) []int {
	switch {
	case o.tiny:
		return c.quick[:1]
	case o.quick:
		return c.quick
	}
	return c.full
}

// curveCases are the points of all curves, as fresh cases.
func curveCases() map[string]freshCase {
	all := make(map[string]freshCase)
	for _, c := range curves {
		for _, n := range append(c.full, c.quick...) {
			all[c.point(n)] = func(o options) (sample, error) { return c.measure(o, n) }
		}
	}
	return all
}

func (c *curve) point(n int) string { return fmt.Sprintf("curve/%s/%d", c.id, n) }

// runCurves measures every curve. It writes the figures and a picture of each
// to a directory. It keeps every round of every point and runs none again.
func runCurves(r *runner, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, c := range curves {
		x := experiment{id: "curve/" + c.id, title: c.title, columns: c.columns, once: true}
		for _, n := range c.sizes(r.options) {
			x.cases = append(x.cases, benchCase{name: count(n), role: ours, fresh: c.point(n), x: float64(n)})
		}
		if err := r.measure(x); err != nil {
			return err
		}
	}
	rep := &report{Quick: r.quick, Machine: thisMachine(), Results: r.results}
	rep.print(os.Stdout)
	return errors.Join(rep.write(filepath.Join(dir, "curves.json")), rep.draw(dir))
}

// draw writes a picture of each curve in a report.
func (rep *report) draw(dir string) error {
	for _, c := range curves {
		res := rep.find("curve/" + c.id)
		if res == nil {
			continue
		}
		under := fmt.Sprintf("%s, %s", rep.Machine.Processor, rep.Machine.Go)
		if rep.Quick {
			under += "; a reduced run, which decides nothing"
		}
		if err := os.WriteFile(filepath.Join(dir, c.id+".svg"), c.picture(under, res), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// usersCurve measures a point of the curve of users.
func usersCurve(o options, n int) (sample, error) {
	s, err := oursInMemory(n)
	if err != nil {
		return nil, err
	}
	s[gcWhole] = s[gcCPU] * float64(n) / 1e6
	if err := s.add(churnOurs(n)); err != nil {
		return nil, err
	}
	if err := s.add(sweepOurs(n)); err != nil {
		return nil, err
	}
	freeMemory()
	t, err := newTracked(presence.Options{Policy: calm()}, true)
	if err != nil {
		return nil, err
	}
	if err := t.fill(newPopulation(n), 1); err != nil {
		return nil, err
	}
	return s, errors.Join(s.visits(o, byHandle, n, t.beat), s.visits(o, byUserID, n, t.beatByID), t.stop())
}

// add adds the figures of another sample.
func (s sample) add(other sample, err error) error {
	maps.Copy(s, other)
	return err
}

// visits measures the wall time of a visit, in the second of two runs.
func (s sample) visits(o options, metric string, n int, visit func(from, to int) error) error {
	b := newBeater(o, n)
	freeMemory()
	if _, err := b.run(1, visit); err != nil {
		return err
	}
	beats, err := b.run(1, visit)
	s[metric] = beats[wall]
	return err
}

// membersCurve measures a point of the curve of members.
func membersCurve(o options, n int) (sample, error) {
	s := make(sample)
	if err := s.memberships(o, n); err != nil {
		return nil, err
	}
	w, err := newWatching(n, 1)
	if err != nil {
		return nil, err
	}
	list, err := repeated(o, "", ours, func() (func() error, error) {
		return func() error { return w.list(n) }, nil
	}).setup()
	if err != nil {
		return nil, err
	}
	listed, err := list()
	if err != nil {
		return nil, err
	}
	s[listing], s[listingEach] = listed[wall], listed[wall]/float64(n)
	if err := s.add(w.departures(o.size(4_000, 1_000))()); err != nil {
		return nil, err
	}
	if err := w.stop(); err != nil {
		return nil, err
	}
	if w, err = newWatching(n, n); err != nil {
		return nil, err
	}
	freeMemory()
	published, err := publishing(n, func(i int) error { return w.toggle(i%2 == 0) }, w.drain)()
	s[publication] = published[wall]
	return s, errors.Join(err, w.stop())
}

// memberships measures the memory of members of channels of n, beside that of
// users.
func (s sample) memberships(o options, n int) error {
	users := n * max(1, o.size(100_000, 10_000)/n)
	p := newPopulation(users)
	names := make([]string, users/n)
	for i := range names {
		names[i] = "room-" + strconv.Itoa(i)
	}
	for k, i := range p.order {
		p.rooms[i] = names[k/n]
	}
	t, err := newTracked(presence.Options{Policy: calm()}, false)
	if err != nil {
		return err
	}
	if err := t.fill(p, 0); err != nil {
		return err
	}
	joined, err := inMemory(p, func(*population) (any, error) {
		for _, i := range p.order {
			if err := t.join(i, p.rooms[i]); err != nil {
				return nil, err
			}
		}
		return t, nil
	})
	if err != nil {
		return err
	}
	watched, err := inMemory(p, func(*population) (any, error) {
		var watches []*presence.Watch
		for _, name := range names {
			watch, err := t.Watch(context.Background(), supervisor, presence.ChannelID(name), presence.WatchOptions{Audience: presence.AudienceTeam})
			if err != nil {
				return nil, err
			}
			if _, err := watch.Poll(); err != nil {
				return nil, err
			}
			watches = append(watches, watch)
		}
		return watches, nil
	})
	s[perMember], s[perWatched] = joined[bytesUser], watched[bytesUser]
	return errors.Join(err, t.stop())
}

// connectionsCurve measures a point of the curve of connections.
func connectionsCurve(o options, k int) (sample, error) {
	s := make(sample)
	n := o.size(50_000, 10_000)
	p := newPopulation(n)
	handles := make([]*presence.Conn, k*n) // allocated before memory is measured
	connect := func(t *tracked, c int) error {
		for _, i := range p.order {
			conn, err := t.Connect(context.Background(), t.ref(i), presence.ConnectOptions{ID: fmt.Sprintf("%015d%d", i, c)})
			if err != nil {
				return err
			}
			handles[c*n+i] = conn
		}
		return nil
	}
	used, err := inMemory(p, func(p *population) (any, error) {
		t, err := newTracked(presence.Options{Policy: calm()}, false)
		if err != nil {
			return nil, err
		}
		t.people = p
		for c := range k {
			if err := connect(t, c); err != nil {
				return nil, err
			}
		}
		clear(handles) // the memory of handles is their owner's
		return t, nil
	})
	if err != nil {
		return nil, err
	}
	s[bytesUser] = used[bytesUser]
	t, err := newTracked(presence.Options{Policy: calm()}, true)
	if err != nil {
		return nil, err
	}
	t.people = p
	for c := range k {
		freeMemory()
		began := processCPU()
		if err := connect(t, c); err != nil {
			return nil, err
		}
		s[connecting] = float64(processCPU()-began) / float64(n)
	}
	t.conns = handles
	if err := s.visits(o, byHandle, len(handles), t.beat); err != nil {
		return nil, err
	}
	freeMemory()
	began := processCPU()
	for _, i := range p.order {
		if _, err := handles[i].Claim(context.Background(), presence.Claim{Status: "busy"}); err != nil {
			return nil, err
		}
	}
	s[claiming] = float64(processCPU()-began) / float64(n)
	return s, t.stop()
}

// find returns the result of an experiment, or nil.
func (rep *report) find(experiment string) *result {
	return (&runner{results: rep.Results}).find(experiment)
}
