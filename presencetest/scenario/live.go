package scenario

import (
	"context"
	"time"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/internal/timeline"
	"github.com/presence-go/presence/routing"
)

// live runs a file through a whole tracker, on a clock that moves only when it
// is set. Nothing runs in the background: sweep meets the deadlines.
type live struct {
	tracker *presence.Tracker
	clock   *timeline.Still
	offset  time.Duration // the sum of the steps of the wall clock
	conns   map[string]handle
}

// handle is the handle of a connection, with the options it was opened with.
type handle struct {
	*presence.Conn
	device, node string
}

// journalRows is the number of rows kept of a subject's journal, for expect
// log.
const journalRows = 100_000

func newLive(start presence.Instant, policy presence.Policy, observe func(presence.Ref, *presence.Output)) (*live, error) {
	l := &live{clock: timeline.NewStill(start.Time()), conns: make(map[string]handle)}
	var err error
	if l.tracker, err = presence.New(&presence.Options{Policy: &policy, Clock: l.clock, JournalRows: journalRows}); err != nil {
		return nil, err
	}
	l.tracker.Observe(observe)
	return l, nil
}

func (l *live) set(now presence.Instant) { l.clock.Set(now.Time().Add(l.offset)) }

// stepWall sets the clock. Before and after, it reads every subject and sweeps,
// because a running tracker also reads its clock just before and after a step.
func (l *live) stepWall(ctx context.Context, now presence.Instant, by time.Duration, known []string) error {
	look := func() error {
		for _, id := range known {
			if _, err := l.tracker.State(ctx, presence.ID(id)); err != nil {
				return err
			}
		}
		_, err := l.tracker.Sweep(ctx)
		return err
	}
	if err := look(); err != nil {
		return err
	}
	l.offset += by
	l.set(now)
	return look()
}

func (l *live) close() error { return l.tracker.Close() }

func (l *live) sweep(ctx context.Context) (presence.Instant, error) { return l.tracker.Sweep(ctx) }

// apply makes an event of a client through the handle of its connection, if one
// is open. It makes every other event as the host.
func (l *live) apply(ctx context.Context, e presence.Event) error {
	switch e.Kind {
	case presence.EventConnect, presence.EventLogin:
		return l.connect(ctx, e)
	case presence.EventSetClaim, presence.EventEndClaim:
		return l.claim(ctx, e)
	case presence.EventRequest:
		_, err := l.tracker.Request(ctx, e.Actor, e.Subject, e.Claim)
		return err
	case presence.EventWithdraw:
		_, err := l.tracker.Withdraw(ctx, e.Actor, e.Subject, e.ID)
		return err
	case presence.EventDecide:
		_, err := l.tracker.DecideRequest(ctx, e.Actor, e.Subject, e.ID, !e.Reject)
		return err
	}
	c, ok := l.conns[key(e)]
	if !ok {
		return l.tracker.Apply(ctx, e)
	}
	switch e.Kind {
	case presence.EventHeartbeat:
		if e.Age == presence.NoAge {
			return c.Heartbeat()
		}
		return c.Report(e.Seq, e.Age)
	case presence.EventInput:
		return c.Input()
	case presence.EventFocus:
		return c.Focus(e.Channel)
	case presence.EventVisible:
		return c.Visible(!e.Hidden)
	case presence.EventLogout:
		delete(l.conns, key(e))
		return c.Logout()
	case presence.EventDisconnect:
		delete(l.conns, key(e))
		return c.Close()
	default:
		return l.tracker.Apply(ctx, e)
	}
}

func key(e presence.Event) string { return e.Subject.ID + "/" + e.Conn }

// connect resumes through the handle if the event has nothing but a new
// connection. Otherwise it opens a new handle.
func (l *live) connect(ctx context.Context, e presence.Event) (err error) {
	c, known := l.conns[key(e)]
	if known && e.Kind == presence.EventConnect && e.Age == presence.NoAge && c.device == e.Device && c.node == e.Node {
		c.Conn, err = c.Resume(ctx)
	} else {
		c = handle{device: e.Device, node: e.Node}
		c.Conn, err = l.tracker.Connect(ctx, e.Subject, presence.ConnectOptions{
			ID: e.Conn, Device: e.Device, Node: e.Node, Login: e.Kind == presence.EventLogin, IdleFor: max(e.Age, 0),
		})
	}
	if err == nil {
		l.conns[key(e)] = c
	}
	return err
}

// claim sets or ends a claim through the handle if the event names a
// connection.
func (l *live) claim(ctx context.Context, e presence.Event) (err error) {
	c, ok := l.conns[key(e)]
	switch {
	case e.Conn != "" && !ok:
		err = l.tracker.Apply(ctx, e) // the tracker returns that the connection has left
	case e.Conn != "":
		_, err = c.Claim(ctx, e.Claim)
	case e.Kind == presence.EventSetClaim:
		_, err = l.tracker.SetClaim(ctx, e.Actor, e.Subject, e.Claim)
	default:
		_, err = l.tracker.EndClaim(ctx, e.Actor, e.Subject, e.Claim)
	}
	return err
}

func (l *live) policy(ctx context.Context, actor presence.Actor, p presence.Policy) error {
	return l.tracker.SetPolicy(ctx, actor, p)
}

func (l *live) define(ctx context.Context, actor presence.Actor, s presence.Status) error {
	return l.tracker.AddStatus(ctx, actor, s)
}

func (l *live) undefine(ctx context.Context, actor presence.Actor, id, fallback string) error {
	return l.tracker.RemoveStatus(ctx, actor, id, fallback)
}

func (l *live) desk(func() *presence.Machine, func() presence.Instant) routing.Desk { return l.tracker }

func (l *live) grant(ctx context.Context, channel presence.Channel, subject presence.Ref) error {
	return l.tracker.AddMember(ctx, channel, subject)
}

func (l *live) revoke(ctx context.Context, channel presence.Channel, subject presence.Ref) error {
	return l.tracker.RemoveMember(ctx, channel, subject)
}

func (l *live) link(ctx context.Context, channel, group presence.Channel) error {
	return l.tracker.Link(ctx, channel, group)
}

func (l *live) hours(ctx context.Context, channel presence.Channel, h presence.Hours) error {
	return l.tracker.SetHours(ctx, channel, h)
}

func (l *live) join(ctx context.Context, actor presence.Actor, channel presence.Channel) error {
	return l.tracker.Join(ctx, actor, channel)
}

func (l *live) watch(ctx context.Context, actor presence.Actor, channel presence.Channel, a presence.Audience) (feed, error) {
	w, err := l.tracker.Watch(ctx, actor, channel, presence.WatchOptions{Audience: a})
	if err != nil {
		return nil, err
	}
	return liveFeed{w}, nil
}

type liveFeed struct{ *presence.Watch }

// poll returns no frame after the end of the stream: a frame has reported the
// end.
func (f liveFeed) poll() *presence.Frame {
	frame, err := f.Poll()
	if err != nil {
		return nil
	}
	return frame
}

func (f liveFeed) close() { _ = f.Close() } // it may be closed already

func (l *live) gate(ctx context.Context, subject presence.Ref, kind, channel string) (presence.Decision, error) {
	return l.tracker.Gate(ctx, presence.Notification{Subject: subject, Kind: kind, Channel: channel})
}

func (l *live) state(ctx context.Context, subject presence.Ref) (presence.State, error) {
	return l.tracker.State(ctx, subject)
}

func (l *live) view(ctx context.Context, subject presence.Ref, a presence.Audience) (presence.View, error) {
	return l.tracker.GetAs(ctx, a, subject)
}

func (l *live) explain(ctx context.Context, subject presence.Ref, a presence.Audience) ([]string, error) {
	return l.tracker.ExplainAs(ctx, a, subject)
}

func (l *live) list(ctx context.Context, channel presence.Channel, a presence.Audience) ([]presence.View, presence.Group, error) {
	return l.tracker.ListAs(ctx, a, channel, nil)
}

func (l *live) journal(ctx context.Context, subject presence.Ref) ([]presence.JournalRow, error) {
	var rows []presence.JournalRow
	for row, err := range l.tracker.Journal(ctx, presence.JournalQuery{Subject: subject}) {
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}
