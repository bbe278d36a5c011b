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

// claimsPerMinute limits how often a connection may change its subject's claims.
const claimsPerMinute = 10

// Conn is the handle of one connection. Call its methods for what the client sends.
// It is safe for concurrent use. The end of a context does not close it. After the
// handle has left, its methods return [ErrClosed].
type Conn struct {
	// The pulse takes a sign of life or an input without a lock, while the pulse has
	// this handle's mark and the terms allow. The mark is written last. These fields
	// lie in one line of the processor's cache, and a handle in two.
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

// pulseTerms is the age in ticks up to which the last note allows another: lease
// for a sign of life, patience for input, while no idle stage can begin.
type pulseTerms struct{ lease, patience uint64 }

// origin is the device and node of a connection. Many connections share one.
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

// Subject returns the subject of the connection.
func (c *Conn) Subject() Ref { return c.handle.ref }

// Epoch returns the connection's epoch. A later Connect under the same id has a
// higher one and makes this handle stale.
func (c *Conn) Epoch() uint32 { return c.epoch }

// Heartbeat notes a sign of life. Call it every Policy.Heartbeat. It returns
// [ErrUnknown] if the connection has ended and [ErrStale] if it has left or was
// replaced: connect again. The other methods of the handle return the same errors.
func (c *Conn) Heartbeat() error {
	tick, mark := c.t.time.Coarse(), c.mark.Load()
	if p := c.pulse.Load(); tick != 0 && note(&p.heard, mark, tick, c.pulseTerms.Load().lease) {
		return nil
	}
	return c.heartbeat()
}

// heartbeat is Heartbeat if the coarse time cannot be noted.
func (c *Conn) heartbeat() error {
	if tick, whole := c.t.time.Whole(); whole && !c.t.closed.Load() {
		mark := c.mark.Load()
		if note(&c.pulse.Load().heard, mark, tick, c.pulseTerms.Load().lease) {
			return nil
		}
	}
	return c.send(context.Background(), Event{Kind: EventHeartbeat, Age: NoAge}, c.bind)
}

// bind points the handle at the pulse of its connection, whose subject is locked.
func (c *Conn) bind(h *loaded) {
	if h.stepped {
		h.commit()
	}
	p, _ := h.pulse(c.epoch)
	if p == nil {
		p = new(pulse) // that nothing reads
	}
	c.pulseTerms.Store(h.tenant.inForce.Load().terms)
	c.pulse.Store(p)
	mark := p.heard.Load() &^ tickMask
	if mark&pulsing == 0 {
		mark = ^uint64(0)
	}
	c.mark.Store(mark)
}

// Report is a heartbeat with the age of the last input, as the client knows it.
// Number reports from 1: the age in a report with a lower number than an earlier
// one is ignored. A report with number 0 always counts as new. A negative age means
// 0.
func (c *Conn) Report(seq uint64, idleFor time.Duration) error {
	if idleFor < 0 {
		idleFor = 0
	}
	return c.event(context.Background(), Event{Kind: EventHeartbeat, Seq: seq, Age: idleFor})
}

// Input notes an act of the person.
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

// Focus notes the channel that the person looks at; empty means none. It returns
// [ErrInvalid] for a faulty id.
func (c *Conn) Focus(channel string) error {
	return c.event(context.Background(), Event{Kind: EventFocus, Channel: channel})
}

// Visible notes whether the person can see the application.
func (c *Conn) Visible(visible bool) error {
	return c.event(context.Background(), Event{Kind: EventVisible, Hidden: !visible})
}

// Claim sets what the person chose over this connection. Under a policy with
// claimScope connection it binds this connection only. It returns what the person
// then sees. A connection may change claims 10 times a minute. The next call
// returns [ErrLimit], with the time to try again in [Error].Until. See
// [Tracker.SetClaim] for other errors.
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

// EndClaim ends what the person chose over this connection: the claims of a key, or
// of all keys if key is empty. It counts for the limit of [Conn.Claim].
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

// throttle refuses more than claimsPerMinute.
func (c *Conn) throttle() error {
	now := c.t.time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.claims == nil {
		c.claims = new([claimsPerMinute]Instant)
	}
	if first := c.claims[0]; first != 0 && now < first.Add(time.Minute) {
		refused := refuse(ErrLimit, "claim", "", "a connection changes its claims at most %d times a minute", claimsPerMinute)
		refused.Until = first.Add(time.Minute - c.t.time.Behind())
		return refused
	}
	copy(c.claims[:], c.claims[1:])
	c.claims[claimsPerMinute-1] = now
	return nil
}

// Resume returns a handle for the same connection on a new socket. This handle is
// stale from then on: its methods return [ErrStale] and change nothing. Resume
// returns the errors of [Tracker.Connect].
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

// ConnectOptions describes a connection.
type ConnectOptions struct {
	// ID names the connection within its subject; empty means a new id. A connection
	// of the same id is replaced, and no watcher gets a change. So a client resumes on
	// a new socket.
	ID     string
	Device string // a class of device that the policy may have rules for, such as "mobile"
	Login  bool   // the person entered credentials: that is input, and policies may reset choices
	// IdleFor is the age of the last input, as the client knows it; 0 means unknown.
	// It counts only if it is more than the age that the tracker knows.
	IdleFor time.Duration
	Kind    SubjectKind // of the subject; empty leaves it as it is, human at first
	// Node is the node that holds the connection; empty means Options.Node.
	Node string
}

// Connect opens a connection of a subject and returns its handle. Connecting is not
// input: an idle subject stays idle. With storage, Connect first loads what the
// subject chose before.
//
// It returns [ErrInvalid] for a faulty id, [ErrDisabled] if presence is switched
// off, [ErrNotAllowed] for an erased id, [ErrLimit] for too many subjects, and
// [ErrUnavailable] if storage fails.
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

// Heartbeat notes a sign of life over a connection, for callers without its handle.
// It returns the errors of [Conn.Heartbeat].
func (t *Tracker) Heartbeat(subject Ref, conn string) error {
	if tick := t.time.Coarse(); tick != 0 && t.noteHeartbeat(subject, conn, tick) {
		return nil
	}
	if tick, whole := t.time.Whole(); whole && !t.closed.Load() && t.noteHeartbeat(subject, conn, tick) {
		return nil
	}
	return t.Apply(context.Background(), Event{Kind: EventHeartbeat, Subject: subject, Conn: conn, Age: NoAge})
}
