package presence

import (
	"cmp"
	"context"
	"crypto/rand"
	"sync"
	"sync/atomic"
	"time"
	"unique"
)

// claimsPerMinute bounds how often a connection may change its subject's claims.
const claimsPerMinute = 10

// Conn is the handle of one connection: what comes over it is said through it.
// It is safe for concurrent use. It is not closed by the end of any context.
type Conn struct {
	// What can be noted without any lock is noted in the pulse, while its mark is
	// this handle's and the terms allow. The mark is written last. All of it lies
	// in one line of the processor's cache, and a handle in two.
	t          *Tracker
	pulse      atomic.Pointer[pulse]
	mark       atomic.Uint64
	pulseTerms atomic.Pointer[pulseTerms]

	handle handle
	id     string
	epoch  uint32
	closed atomic.Bool
	from   origin

	mu     sync.Mutex
	claims *[claimsPerMinute]Instant // the last ones, none before the first
}

// pulseTerms is how old what was noted last may be, in ticks, for more to be noted:
// a sign of life within the lease, input while no idle stage can have been reached.
type pulseTerms struct{ lease, patience uint64 }

// origin is where a connection comes from, of which many have the same: its
// device and its node.
type origin struct{ unique.Handle[[2]string] }

func originOf(device, node string) (o origin) {
	if device != "" || node != "" {
		o.Handle = unique.Make([2]string{device, node})
	}
	return o
}

func (o origin) names() (device, node string) {
	if o == (origin{}) {
		return "", ""
	}
	v := o.Value()
	return v[0], v[1]
}

// ID returns the connection's id, under which [Tracker.Connect] resumes it.
func (c *Conn) ID() string { return c.id }

// Subject returns whose connection it is.
func (c *Conn) Subject() Ref { return c.handle.ref }

// Epoch returns the connection's epoch. A later Connect under the same id has a
// higher one and makes this handle stale.
func (c *Conn) Epoch() uint32 { return c.epoch }

// Heartbeat notes a sign of life. Send one every Policy.Heartbeat. An error that
// wraps [ErrUnknown] or [ErrStale] says that the connection has left or has been
// replaced: connect again. The same goes for whatever else is said through the
// handle.
func (c *Conn) Heartbeat() error {
	tick, mark := c.t.time.Coarse(), c.mark.Load()
	if p := c.pulse.Load(); tick != 0 && note(&p.heard, mark, tick, c.pulseTerms.Load().lease) {
		return nil
	}
	return c.heartbeat()
}

// heartbeat is what Heartbeat does where no coarse tick can be noted.
func (c *Conn) heartbeat() error {
	if tick, whole := c.t.time.Whole(); whole && !c.t.closed.Load() {
		mark := c.mark.Load()
		if note(&c.pulse.Load().heard, mark, tick, c.pulseTerms.Load().lease) {
			return nil
		}
	}
	return c.send(context.Background(), Event{Kind: EventHeartbeat, Age: NoAge}, c.bind)
}

// bind has the handle note what it can in the pulse of its connection, which is
// held and has been kept.
func (c *Conn) bind(h *loaded) {
	if h.stepped {
		h.commit()
	}
	p, _ := h.pulse(c.epoch)
	if p == nil {
		p = new(pulse) // it is never heard
	}
	c.pulseTerms.Store(h.tenant.inForce.Load().terms)
	c.pulse.Store(p)
	mark := p.heard.Load() &^ tickMask
	if mark&pulsing == 0 {
		mark = ^uint64(0)
	}
	c.mark.Store(mark)
}

// Report is a heartbeat that says how long ago the last input was, as the
// client knows it. Reports are numbered from 1 so that the age of late ones is
// ignored; 0 is always taken for new.
func (c *Conn) Report(seq uint64, idleFor time.Duration) error {
	if idleFor < 0 {
		idleFor = 0
	}
	return c.event(context.Background(), Event{Kind: EventHeartbeat, Seq: seq, Age: idleFor})
}

// Input notes that the person did something.
func (c *Conn) Input() error {
	tick := c.t.time.Coarse()
	if tick == 0 {
		now, whole := c.t.time.Whole()
		if whole && !c.t.closed.Load() {
			tick = now
		}
	}
	mark := c.mark.Load()
	p, terms := c.pulse.Load(), c.pulseTerms.Load()
	if tick != 0 && note(&p.heard, mark, tick, terms.lease) && note(&p.input, c.t.connMark(c.id), tick, terms.patience) {
		return nil
	}
	return c.send(context.Background(), Event{Kind: EventInput}, c.bind)
}

// Focus notes which channel the person looks at; empty for none.
func (c *Conn) Focus(channel string) error {
	return c.event(context.Background(), Event{Kind: EventFocus, Channel: channel})
}

// Visible notes whether the person can see the application.
func (c *Conn) Visible(visible bool) error {
	return c.event(context.Background(), Event{Kind: EventVisible, Hidden: !visible})
}

// Claim sets what the person chose over this connection. Under a policy with
// claimScope connection it binds this connection only. It returns what the person
// then sees. A connection may change claims 10 times a minute; the next is refused
// with [ErrLimit]. See [Tracker.SetClaim] for other errors.
func (c *Conn) Claim(ctx context.Context, claim Claim) (View, error) {
	if err := c.throttle(); err != nil {
		return View{}, err
	}
	actor := Agent(c.handle.ref)
	if err := c.t.allow(ctx, Question{Actor: actor, Action: ActionClaim, Subject: c.handle.ref, Status: claim.Status}); err != nil {
		return View{}, err
	}
	return c.claimEvent(ctx, Event{Kind: EventSetClaim, Actor: actor, Claim: claim})
}

// EndClaim ends what the person chose over this connection, of one key or, if
// that is empty, of every key.
func (c *Conn) EndClaim(ctx context.Context, key string) (View, error) {
	if err := c.throttle(); err != nil {
		return View{}, err
	}
	if err := c.t.allow(ctx, Question{Actor: Agent(c.handle.ref), Action: ActionClaim, Subject: c.handle.ref}); err != nil {
		return View{}, err
	}
	return c.claimEvent(ctx, Event{Kind: EventEndClaim, Actor: Agent(c.handle.ref), Claim: Claim{Key: key}})
}

func (c *Conn) claimEvent(ctx context.Context, e Event) (view View, err error) {
	err = c.send(ctx, e, func(h *loaded) { view = h.m.View(&h.state.Current, AudienceSelf) })
	return view, err
}

// throttle refuses more claims a minute than a person makes.
func (c *Conn) throttle() error {
	now := c.t.time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.claims == nil {
		c.claims = new([claimsPerMinute]Instant)
	}
	if first := c.claims[0]; first != 0 && now < first.Add(time.Minute) {
		refused := refuse(ErrLimit, "claim", "", "a connection changes its claims at most %d times a minute", claimsPerMinute)
		refused.Until = first.Add(time.Minute)
		return refused
	}
	copy(c.claims[:], c.claims[1:])
	c.claims[claimsPerMinute-1] = now
	return nil
}

// Resume returns a handle for the same connection on a new socket. This handle
// is stale from then on: what is still said through it is refused, and its
// Close changes nothing.
func (c *Conn) Resume(ctx context.Context) (*Conn, error) {
	device, node := c.from.names()
	return c.t.Connect(ctx, c.handle.ref, ConnectOptions{ID: c.id, Device: device, Node: node})
}

// Leave ends the connection. The cause is closed (the page was closed), lost (the
// transport broke), logout (the person left for good) or drain (the process shuts
// down); the policy's grace and logoutScope follow from it. It returns [ErrInvalid]
// for any other cause, after which the handle can still be used, and [ErrClosed] if
// the handle has left before.
func (c *Conn) Leave(cause Cause) error {
	switch cause {
	case CauseClosed, CauseLost, CauseLogout, CauseDrain:
	default:
		return refuse(ErrInvalid, "reason", string(cause), "a connection does not leave so").allow(string(CauseClosed), string(CauseLost), string(CauseLogout), string(CauseDrain))
	}
	if c.closed.Swap(true) {
		return refuse(ErrClosed, "connection", c.id, "it has left before")
	}
	err := c.event(context.Background(), Event{Kind: EventDisconnect, Cause: cause})
	c.mark.Store(^uint64(0))
	return err
}

// Close is Leave(CauseClosed).
func (c *Conn) Close() error { return c.Leave(CauseClosed) }

// Logout is Leave(CauseLogout).
func (c *Conn) Logout() error { return c.Leave(CauseLogout) }

func (c *Conn) event(ctx context.Context, e Event) error { return c.send(ctx, e, nil) }

func (c *Conn) send(ctx context.Context, e Event, done func(*loaded)) error {
	if c.t.closed.Load() {
		return c.t.closedError()
	}
	if c.closed.Load() && e.Kind != EventDisconnect {
		return refuse(ErrClosed, "connection", c.id, "its handle has left")
	}
	e.Subject, e.Conn, e.Epoch = c.handle.ref, c.id, c.epoch
	return c.t.apply(ctx, c.handle, &e, done)
}

// ConnectOptions says how a connection is.
type ConnectOptions struct {
	// ID names the connection within its subject; empty means a new one. A
	// connection of the same id is replaced silently: that is how a client
	// resumes on a new socket.
	ID     string
	Device string // a class of device that the policy may have rules for, such as "mobile"
	Login  bool   // the person entered credentials: that is input, and policies may reset choices
	// IdleFor is how long ago the last input was, as the client knows it; 0 says
	// nothing. It counts only if it is longer ago than what is known here.
	IdleFor time.Duration
	Kind    SubjectKind // of the subject; empty leaves it as it is, human at first
	// Node is the node that holds the connection; empty means Options.Node.
	Node string
}

// Connect notes a connection of a subject and returns the handle for what comes
// over it. Connecting is not input: a subject that was idle stays so. Where
// there is storage, it first loads what the subject chose before, and fails with
// [ErrUnavailable] if that cannot be done. Other errors wrap [ErrInvalid] (an
// id), [ErrDisabled], [ErrNotAllowed] (an id that has been erased) or [ErrLimit].
func (t *Tracker) Connect(ctx context.Context, subject Ref, opts ConnectOptions) (*Conn, error) {
	if opts.ID == "" {
		opts.ID = rand.Text()[:16]
	}
	e := Event{Kind: EventConnect, Subject: subject, Conn: opts.ID, Device: opts.Device, Node: cmp.Or(opts.Node, t.opts.Node), Age: NoAge, SubjectKind: opts.Kind}
	if opts.Login {
		e.Kind = EventLogin
	}
	if opts.IdleFor > 0 {
		e.Age = opts.IdleFor
	}
	who, err := t.subject(ctx, subject)
	if err != nil {
		return nil, err
	}
	var c *Conn
	err = t.apply(ctx, who, &e, func(h *loaded) {
		c = &Conn{t: t, handle: who, id: opts.ID, from: originOf(opts.Device, opts.Node), epoch: h.state.Epoch}
		c.bind(h)
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Heartbeat notes a sign of life of a subject over one of its connections, for
// those who have no handle of it. It is the same as [Conn.Heartbeat].
func (t *Tracker) Heartbeat(subject Ref, conn string) error {
	if tick := t.time.Coarse(); tick != 0 && t.noteHeartbeat(subject, conn, tick) {
		return nil
	}
	if tick, whole := t.time.Whole(); whole && !t.closed.Load() && t.noteHeartbeat(subject, conn, tick) {
		return nil
	}
	return t.Apply(context.Background(), Event{Kind: EventHeartbeat, Subject: subject, Conn: conn, Age: NoAge})
}
