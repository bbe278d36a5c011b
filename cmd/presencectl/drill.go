package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/internal/timeline"
	"github.com/presence-go/presence/preset"
	"github.com/presence-go/presence/routing"
)

// errDrill reports that a drill found a fault.
var errDrill = errors.New("the drill failed")

// drill runs a contact centre through a day of virtual time. Agents take
// breaks, lose their connections, miss challenges and finish their work, while
// new work arrives. It checks every assignment.
func drill(flags *flag.FlagSet) action {
	d := &centre{}
	flags.IntVar(&d.agents, "agents", 200, "number of agents")
	flags.IntVar(&d.pieces, "work", 5000, "number of pieces of work")
	seed := flags.Uint64("seed", 1, "the `seed` of all chance; the same seed gives the same day")
	return func(ctx context.Context, args []string, stdout, _ io.Writer) error {
		if len(args) > 0 || d.agents < 1 || d.pieces < 1 {
			return fmt.Errorf("drill: %w: it takes -agents and -work of 1 or more, and no other arguments", errUsage)
		}
		d.out, d.rand = stdout, rand.New(rand.NewPCG(*seed, 0))
		return d.run(ctx)
	}
}

// centre is a contact centre in a drill.
type centre struct {
	agents, pieces int
	rand           *rand.Rand
	out            io.Writer

	clock   *timeline.Still
	tracker *presence.Tracker
	queue   *routing.Queue
	staff   []*agent
	faults  []string

	// The routing of each agent at each revision, and the ids of requeued work, as
	// the state machines reported them.
	received map[presence.Ref]map[presence.Instant]presence.Routing
	requeued map[string]int

	given, moved, breaks, drains, losses int
	kicked, requeues                     int // by challenges, and the requeues that follow
}

type agent struct {
	ref   presence.Ref
	conn  *presence.Conn
	quiet bool // answers no challenge
}

var channel = presence.ChannelID("desk")

func (d *centre) run(ctx context.Context) error {
	p := preset.Threads()
	p.Work = presence.WorkRule{
		KickedOut: "kicked-out", Capacity: 4, Challenge: time.Minute, RequeueAfter: 10 * time.Minute, Settle: 20 * time.Second, Affinity: 5 * time.Minute,
	}
	p.Login = presence.LoginRule{Mode: "keep"}
	d.clock = timeline.NewStill(time.Date(2026, 1, 5, 8, 0, 0, 0, time.UTC))
	d.received = make(map[presence.Ref]map[presence.Instant]presence.Routing)
	d.requeued = make(map[string]int)
	var err error
	d.tracker, err = presence.New(&presence.Options{Policy: &p, Clock: d.clock})
	if err != nil {
		return err
	}
	defer d.tracker.Close()
	d.tracker.Observe(d.note)
	if d.queue, err = routing.New(d.tracker, &routing.Options{Observe: d.check, MaxDone: d.pieces}); err != nil {
		return err
	}
	for i := range d.agents {
		a := &agent{ref: presence.ID(fmt.Sprintf("agent%03d", i))}
		if err := d.tracker.AddMember(ctx, channel, a.ref); err != nil {
			return err
		}
		if err := d.connect(ctx, a); err != nil {
			return err
		}
		d.staff = append(d.staff, a)
	}
	added := 0
	for second := 0; ; second++ {
		d.clock.Add(time.Second)
		for range d.rand.IntN(3) {
			if added < d.pieces {
				added++
				w := routing.Work{ID: fmt.Sprintf("w%05d", added), Channel: channel, Client: fmt.Sprintf("client%d", d.rand.IntN(d.pieces/2+1))}
				if _, err := d.queue.Add(ctx, w); err != nil {
					return err
				}
			}
		}
		for _, a := range d.staff {
			if err := d.live(ctx, a, second, added == d.pieces); err != nil {
				return err
			}
		}
		if _, err := d.tracker.Sweep(ctx); err != nil {
			return err
		}
		if err := d.queue.Step(ctx); err != nil {
			return err
		}
		if added == d.pieces && d.done() {
			return d.report(second)
		}
		if second == 24*3600 {
			d.fault("after a day some work is not done")
			return d.report(second)
		}
	}
}

func (d *centre) fault(format string, args ...any) {
	d.faults = append(d.faults, fmt.Sprintf(format, args...))
}

// note records the outputs of state machines.
func (d *centre) note(ref presence.Ref, o *presence.Output) {
	switch o.Kind {
	case presence.OutputTransition, presence.OutputUpdated:
		revisions := d.received[ref]
		if revisions == nil {
			revisions = make(map[presence.Instant]presence.Routing)
			d.received[ref] = revisions
		}
		// Within a revision only capacity may change. The machine checks that.
		revisions[o.Presence.Revision] = o.Presence.Routing
	case presence.OutputRequeue:
		key := ref.String() + " " + o.ID // ids are unique only within a subject
		if d.requeued[key]++; d.requeued[key] > 1 {
			d.fault("requeue %s was reported %d times", key, d.requeued[key])
		}
		if o.Reason == presence.EndChallenge {
			d.requeues++
		}
	case presence.OutputClaimSet:
		if o.Claim.Key == presence.KeyKickedOut {
			d.kicked++
		}
	}
}

// check checks each piece of work whose place changed.
func (d *centre) check(w routing.Work) {
	switch w.Place {
	case routing.Given:
		d.given++
		how, known := d.received[w.Agent][w.Revision]
		switch {
		case !known:
			d.fault("%s was given to %s under revision %d, which never was", w.ID, w.Agent, w.Revision)
		case how != presence.RouteAll && how != presence.RouteSticky:
			d.fault("%s was given to %s, which received %s at that revision", w.ID, w.Agent, how)
		}
	case routing.Waiting:
		if w.Agent != (presence.Ref{}) {
			d.moved++
		}
	}
}

func (d *centre) connect(ctx context.Context, a *agent) (err error) {
	a.conn, err = d.tracker.Connect(ctx, a.ref, presence.ConnectOptions{ID: "desk"})
	return err
}

// live runs an agent for a second. With closing set, agents stay and work.
func (d *centre) live(ctx context.Context, a *agent, second int, closing bool) error {
	chance := func(n int) bool { return d.rand.IntN(n) == 0 }
	if a.conn == nil {
		if chance(60) {
			return d.connect(ctx, a)
		}
		return nil
	}
	if second%25 == 0 && a.conn.Heartbeat() != nil {
		return d.connect(ctx, a)
	}
	s, err := d.tracker.State(ctx, a.ref)
	if err != nil {
		return err
	}
	claim := func(by presence.Actor, status string) error {
		_, err := d.tracker.SetClaim(ctx, by, a.ref, presence.Claim{Status: status})
		if errors.Is(err, presence.ErrOffline) {
			err = nil
		}
		return err
	}
	supervisor := presence.Actor{Subject: presence.ID("boss"), Role: presence.RoleSupervisor}
	own := d.queue.Of(a.ref)
	switch {
	case s.Work != nil && s.Work.Challenge != "":
		if !a.quiet && chance(20) {
			return d.tracker.Apply(ctx, presence.Event{Kind: presence.EventAck, Subject: a.ref})
		}
	case s.Current.Status == "kicked-out":
		if chance(120) {
			a.quiet = false
			return claim(supervisor, "active")
		}
	case s.Current.Class != presence.ClassAvailable:
		if chance(120) || closing {
			return claim(presence.Agent(a.ref), "active")
		}
	case chance(1500) && !closing: // the network fails, or the tab closes
		a.conn, d.losses = nil, d.losses+1
	case chance(1200) && !closing:
		d.breaks++
		if len(own) > 0 {
			d.drains++
		}
		return claim(presence.Agent(a.ref), []string{"lunch", "short", "training"}[d.rand.IntN(3)])
	case chance(2500) && !closing:
		return claim(supervisor, "meeting")
	case chance(1000) && len(own) > 0 && !closing:
		a.quiet = chance(2)
		return d.tracker.Apply(ctx, presence.Event{Kind: presence.EventChallenge, Subject: a.ref})
	case len(own) > 0 && chance(90):
		_, err := d.queue.Finish(ctx, own[d.rand.IntN(len(own))].ID)
		return err
	}
	return nil
}

// done reports whether all work is done.
func (d *centre) done() bool {
	if len(d.queue.List(channel)) > 0 {
		return false
	}
	for _, a := range d.staff {
		if len(d.queue.Of(a.ref)) > 0 {
			return false
		}
	}
	return true
}

// report counts all work again and prints the result.
func (d *centre) report(seconds int) error {
	finished := 0
	for i := range d.pieces {
		id := fmt.Sprintf("w%05d", i+1)
		switch w, there := d.queue.Get(id); {
		case !there:
			d.fault("%s is lost", id)
		case w.Place == routing.Done:
			finished++
		}
	}
	for _, a := range d.staff {
		s, err := d.tracker.State(context.Background(), a.ref)
		if err != nil {
			return err
		}
		if n := len(d.queue.Of(a.ref)); n != s.Work.Total() {
			d.fault("%s has %d pieces of work, and its state counts %d", a.ref, n, s.Work.Total())
		}
	}
	if d.kicked != d.requeues {
		d.fault("%d kick-outs, and %d requeues for them", d.kicked, d.requeues)
	}
	fmt.Fprintf(d.out, `%d agents, %v of virtual time
work      %d arrived, %d done, %d lost
given     %d times, each to an agent that received work at that revision
came back %d times
breaks    %d, %d of them after the present work was done
losses    %d
kick-outs %d, each with one requeue; %d requeues in all
`, d.agents, time.Duration(seconds)*time.Second, d.pieces, finished, d.pieces-finished, d.given, d.moved, d.breaks, d.drains, d.losses, d.kicked, len(d.requeued))
	if len(d.faults) == 0 {
		return nil
	}
	for _, f := range d.faults[:min(len(d.faults), 20)] {
		fmt.Fprintln(d.out, "FAULT    ", f)
	}
	return fmt.Errorf("%w: %d faults", errDrill, len(d.faults))
}
