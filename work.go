package presence

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// The labels of available subjects, by their work. Each is derived and never
// stored. A subject that is not available has none.
const (
	LabelFinishing    = "finishing"     // a status that drains first follows when the load is 0
	LabelNotReceiving = "not-receiving" // gets no new work: at capacity, by its status, or just lost and back
	LabelFree         = "free"          // the load is 0
	LabelActive       = "active"        // has work, and room for more
)

// The limits on the work of one subject.
const (
	MaxLoads    = 16        // work channels
	MaxRequests = 8         // open requests
	maxLoad     = 1_000_000 // pieces of work, and capacity
)

// KeyKickedOut is the key of the system claim for a subject that did not answer a
// challenge.
const KeyKickedOut = "kicked-out"

// Count is a number that may be absent. Absent is not 0. The zero Count is absent;
// [NewCount] makes the others.
type Count struct{ next uint32 } // one more than the number; 0 means absent

// NewCount returns n as a Count. A negative n counts as 0, and one over 1,000,000
// as 1,000,000.
func NewCount(n int) Count { return Count{uint32(min(max(n, 0), maxLoad)) + 1} }

// Get returns the number, or false if it is absent.
func (c Count) Get() (n int, ok bool) { return int(c.next) - 1, c.next != 0 }

// String returns the number, or "" if it is absent.
func (c Count) String() string {
	if n, ok := c.Get(); ok {
		return strconv.Itoa(n)
	}
	return ""
}

// MarshalJSON writes the number, or null if it is absent.
func (c Count) MarshalJSON() ([]byte, error) {
	if n, ok := c.Get(); ok {
		return json.Marshal(n)
	}
	return []byte("null"), nil
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (c *Count) UnmarshalJSON(data []byte) error {
	var n *int
	if err := json.Unmarshal(data, &n); err != nil {
		return refuse(ErrInvalid, "count", string(data), "it is no number").because(err)
	}
	*c = Count{}
	if n != nil {
		*c = NewCount(*n)
	}
	return nil
}

// WorkChannels is a list of named work channels, in order and each once. Lists of
// the same names are equal, so that a [View] can be compared. [NewWorkChannels]
// makes one.
type WorkChannels struct{ joined string } // by NUL, which no id has

// NewWorkChannels returns the list of the names. It leaves out the empty one, since
// that work channel has no name.
func NewWorkChannels(names ...string) WorkChannels {
	list := slices.DeleteFunc(slices.Sorted(slices.Values(names)), func(on string) bool { return on == "" })
	return WorkChannels{strings.Join(slices.Compact(list), "\x00")}
}

// List returns the names.
func (c WorkChannels) List() []string {
	if c.joined == "" {
		return nil
	}
	return strings.Split(c.joined, "\x00")
}

// String returns the names with commas between them.
func (c WorkChannels) String() string { return strings.ReplaceAll(c.joined, "\x00", ",") }

// MarshalJSON writes the names as a list.
func (c WorkChannels) MarshalJSON() ([]byte, error) { return c.appendJSON(nil), nil }

func (c WorkChannels) appendJSON(b []byte) []byte {
	sep := byte('[')
	for name := range strings.SplitSeq(c.joined, "\x00") {
		if name != "" {
			b = appendString(append(b, sep), name)
			sep = ','
		}
	}
	if sep == '[' {
		b = append(b, sep)
	}
	return append(b, ']')
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (c *WorkChannels) UnmarshalJSON(data []byte) error {
	var names []string
	if err := json.Unmarshal(data, &names); err != nil {
		return refuse(ErrInvalid, "work", "", "it is no list of work channels").because(err)
	}
	*c = NewWorkChannels(names...)
	return nil
}

// Load is how much work a subject has in one work channel, such as chats or calls,
// as the host reports it.
type Load struct {
	On       string `json:"on,omitzero"` // the work channel; empty is the channel without a name
	N        int    `json:"n"`           // pieces of work, or the sum of their weights
	Capacity Count  `json:"capacity,omitzero"`
	Pinned   Count  `json:"pinned,omitzero"` // shown beside the load; decides nothing
}

// Request is the wish of a subject for a status that an actor must allow.
type Request struct {
	ID     string    `json:"id"`
	Claim  Claim     `json:"claim"` // set when the request is accepted
	At     Instant   `json:"at"`
	Until  Instant   `json:"until,omitzero"` // the request expires then; zero means never
	Reason EndReason `json:"how,omitzero"`   // how it was closed; empty while open
	By     string    `json:"by,omitzero"`    // the actor that closed it
}

// Work is the work of a subject, and what waits for it. The host owns the pieces of
// work. The core counts them.
type Work struct {
	Loads []Load  // by work channel
	Given Instant // when work was last given or done
	// Pending is the claim that takes effect when the load is 0. Its For counts
	// from that instant.
	Pending   *Claim
	meanwhile *Claim    // the choice that holds until Pending follows, although it has ended; nil without one
	Requests  []Request // the open requests, oldest first
	Closed    *Request  // the request closed last
	Challenge string    // the id of the open challenge
	Deadline  Instant   // when the challenge must be answered
	Requeued  Instant   // the revision of the last requeue; reports counted before it are ignored
	Settles   Instant   // until then a connection that was lost gets no new work
	WrapsUp   Instant   // until then the subject gets no new work, because work has ended
}

func (w *Work) clone() *Work {
	if w == nil {
		return nil
	}
	c := *w
	c.Loads, c.Requests = slices.Clone(w.Loads), slices.Clone(w.Requests)
	if w.Pending != nil {
		pending := *w.Pending
		c.Pending = &pending
	}
	return &c
}

// Total returns the load over all work channels.
func (w *Work) Total() (n int) {
	if w == nil {
		return 0
	}
	for i := range w.Loads {
		n += w.Loads[i].N
	}
	return n
}

// pinned returns the sum of what is pinned, or absent if no load has it.
func (w *Work) pinned() (sum Count) {
	for i := range w.Loads {
		if n, ok := w.Loads[i].Pinned.Get(); ok {
			old, _ := sum.Get()
			sum = NewCount(max(old, 0) + n)
		}
	}
	return sum
}

func (w *Work) find(on string) (int, bool) {
	if w == nil {
		return 0, false
	}
	return slices.BinarySearchFunc(w.Loads, on, func(l Load, on string) int { return strings.Compare(l.On, on) })
}

// outdates reports whether work was taken away after a count at a revision, which is
// 0 if the host names none.
func (w *Work) outdates(revision Instant) bool {
	return w != nil && revision != 0 && revision < w.Requeued
}

// room returns how much more work a subject takes in the work channel of one load,
// or false if nothing limits it.
func (m *Machine) room(w *Work, l *Load) (n int, limited bool) {
	capacity, limited := l.Capacity.Get()
	if !limited {
		capacity, limited = m.policy.Work.Capacity, m.policy.Work.Capacity > 0
	}
	n = capacity - l.N
	if total := m.policy.Work.Total; total > 0 {
		if rest := total - w.Total(); !limited || rest < n {
			n = rest
		}
		limited = true
	}
	return n, limited
}

// label returns the label of a subject. It is empty unless shown is available.
// routable is that of its presence.
func (m *Machine) label(s *State, shown *definition, routable bool) string {
	switch {
	case shown.Class != ClassAvailable:
		return ""
	case s.Work != nil && s.Work.Pending != nil:
		return LabelFinishing
	case !routable:
		return LabelNotReceiving
	case s.Work.Total() == 0:
		return LabelFree
	default:
		return LabelActive
	}
}

// Labels lists the labels of available subjects, then the ids of the other statuses
// in the order of the policy. Every known subject has exactly one of them.
func (m *Machine) Labels() []string {
	labels := []string{LabelNotReceiving, LabelActive, LabelFree, LabelFinishing}
	for i := range m.statuses {
		if m.statuses[i].Class != ClassAvailable {
			labels = append(labels, m.statuses[i].ID)
		}
	}
	return labels
}

// routing returns which work reaches a subject in a status and one work channel. It
// does not consider capacity. A subject that lingers, settles or wraps up keeps its
// clients, but gets no new ones.
func (m *Machine) routing(s *State, shown *definition, reach Reach, on string) Routing {
	r := shown.Routing
	if own, given := shown.RoutingOn[on]; given {
		r = own
	}
	w := s.Work
	switch {
	case w != nil && w.Pending != nil, s.kickedOut():
		return RouteNone
	case reach == ReachNone && r != RouteLast:
		return RouteNone
	}
	if reach == ReachVirtual {
		if rule, _ := m.endpointRule(s); !rule.Routable {
			return RouteNone
		}
	}
	keeps := reach == ReachLingering || w != nil && (w.WrapsUp > s.Now || w.Settles > s.Now && reach != ReachNone)
	if keeps && (r == RouteAll || r == RouteLast) {
		return RouteSticky
	}
	return r
}

// kickedOut reports whether the subject did not answer a challenge and is still
// kicked out.
func (s *State) kickedOut() bool {
	return slices.ContainsFunc(s.Claims, func(c Claim) bool { return c.Source == SourceSystem && c.Key == KeyKickedOut })
}

// Receives returns which work reaches a subject in one work channel now, and the
// room for more. limited is false if the channel has no limit. Transferred work
// needs no room, and sticky work only if [WorkRule.Returns] is "capacity".
func (m *Machine) Receives(s *State, on string) (r Routing, room int, limited bool) {
	p := &s.Current
	shown := m.status(p.Status)
	if shown == nil || p.Disabled || !p.Known {
		return RouteNone, 0, true
	}
	return m.receives(s, shown, p.Reach, on)
}

// receives is Receives for the status shown and the reach.
func (m *Machine) receives(s *State, shown *definition, reach Reach, on string) (r Routing, room int, limited bool) {
	l := Load{On: on}
	if i, found := s.Work.find(on); found {
		l = s.Work.Loads[i]
	}
	room, limited = m.room(s.Work, &l)
	return m.routing(s, shown, reach, on), room, limited
}

// published returns which new work reaches a subject in one work channel, with
// regard to its capacity there: a subject without room keeps its clients.
func (m *Machine) published(s *State, shown *definition, reach Reach, on string) Routing {
	r, room, limited := m.receives(s, shown, reach, on)
	if limited && room <= 0 && (r == RouteAll || r == RouteLast) {
		return RouteSticky
	}
	return r
}

// routableOn returns the named work channels in which a subject may be given new
// work. The policy names work channels, and so do the loads of the subject.
func (m *Machine) routableOn(s *State, shown *definition, reach Reach) WorkChannels {
	names := m.workChannels
	if s.Work != nil {
		for i := range s.Work.Loads {
			if on := s.Work.Loads[i].On; on != "" {
				names = append(names[:len(names):len(names)], on)
			}
		}
	}
	if len(names) == 0 {
		return WorkChannels{}
	}
	return NewWorkChannels(slices.DeleteFunc(slices.Clone(names), func(on string) bool { return m.published(s, shown, reach, on) != RouteAll })...)
}

// occupy completes a presence with the work of its subject.
func (m *Machine) occupy(s *State, p *Presence, shown *definition) {
	p.Routing = m.published(s, shown, p.Reach, "")
	p.Routable, p.RoutableOn = p.Routing == RouteAll, m.routableOn(s, shown, p.Reach)
	p.Label = m.label(s, shown, p.Routable)
	w := s.Work
	if p.Label != "" || w != nil && len(w.Loads) > 0 {
		p.Load = NewCount(w.Total())
	}
	if w == nil {
		return
	}
	p.Pinned = w.pinned()
	if w.Pending != nil {
		p.Pending = w.Pending.Status
	}
	if len(w.Requests) > 0 {
		p.Request = w.Requests[0].Claim.Status
	}
}

// work returns the subject's work, which it adds if the state has none.
func (st *stepper) work() *Work {
	if st.s.Work == nil {
		st.s.Work = new(Work)
	}
	return st.s.Work
}

// load returns the load of one work channel, which it adds if the subject has none.
// It returns ErrLimit above MaxLoads.
func (st *stepper) load(on string) (*Load, error) {
	i, found := st.s.Work.find(on)
	if !found {
		w := st.work()
		if len(w.Loads) >= MaxLoads {
			return nil, refuse(ErrLimit, "work", on, "%s has %d work channels, at most %d are allowed", st.s.Subject, len(w.Loads), MaxLoads)
		}
		w.Loads = slices.Insert(w.Loads, i, Load{On: on})
	}
	return &st.s.Work.Loads[i], nil
}

// reportLoad applies a report of load. It ignores a report counted before the last
// requeue.
func (st *stepper) reportLoad(e *Event) error {
	s := st.s
	if s.Work.outdates(e.Revision) {
		return nil
	}
	l, err := st.load(e.Load.On)
	if err != nil {
		return err
	}
	capacity := cmp.Or(e.Load.Capacity, l.Capacity)
	st.room = capacity != l.Capacity
	l.Capacity, l.Pinned = capacity, cmp.Or(e.Load.Pinned, l.Pinned)
	if e.Load.N < l.N {
		st.wrapUp()
	}
	st.setLoad(l, e.Load.N)
	return nil
}

// wrapUp keeps new work away for Policy.Work.WrapUp, because work has ended.
func (st *stepper) wrapUp() {
	if d := st.m.policy.Work.WrapUp; d > 0 {
		st.s.Work.WrapsUp = st.s.Now.Add(d)
	}
}

// setLoad sets a load. A load of 0 in all channels lets the pending status follow.
func (st *stepper) setLoad(l *Load, n int) {
	if l.N != n {
		l.N, st.s.Work.Given = n, st.s.Now
	}
	st.touched = true
	st.resolveDrain()
}

// resolveDrain sets the pending claim if the load is 0.
func (st *stepper) resolveDrain() {
	w := st.s.Work
	if w.Pending == nil || w.Total() > 0 {
		return
	}
	c := *w.Pending
	w.Pending = nil
	if c.For > 0 {
		c.Until = st.s.wall(st.s.Now.Add(c.For))
	}
	st.applyChoice(c)
}

// offer gives a subject work. It returns ErrStale if the revision has changed since
// the host read it, and ErrNotAllowed if the subject does not receive the work.
func (st *stepper) offer(e *Event) error {
	s, m := st.s, st.m
	if e.Revision != 0 && e.Revision != s.Current.Revision {
		return refuse(ErrStale, "revision", e.Revision.String(), "the present revision of %s is %s; look again", s.Subject, s.Current.Revision)
	}
	n := max(e.Load.N, 1)
	r, room, limited := m.Receives(s, e.Load.On)
	fits := false
	switch e.Routing {
	case RouteNone: // the status does not decide
		fits = s.Current.Known && !s.Current.Disabled
	case RouteSticky:
		fits = (r == RouteAll || r == RouteSticky || r == RouteLast) && (m.policy.Work.Returns != ReturnsCapacity || !limited || room >= n)
	case RouteTransfer:
		fits = r == RouteAll || r == RouteTransfer || r == RouteLast
	case RouteAll, RouteLast, "":
		fits = (r == RouteAll || r == RouteLast) && (!limited || room >= n)
	}
	if !fits {
		return refuse(ErrNotAllowed, "work", e.Load.On, "%s does not receive it now", s.Subject)
	}
	l, err := st.load(e.Load.On)
	if err != nil {
		return err
	}
	st.setLoad(l, min(l.N+n, maxLoad))
	return nil
}

// done subtracts work that has ended.
func (st *stepper) done(e *Event) error {
	s := st.s
	if s.Work.outdates(e.Revision) {
		return nil
	}
	i, found := s.Work.find(e.Load.On)
	if !found || s.Work.Loads[i].N == 0 {
		return nil // it was taken away before
	}
	l := &s.Work.Loads[i]
	if !e.Reject {
		st.wrapUp()
	}
	st.setLoad(l, max(0, l.N-max(e.Load.N, 1)))
	return nil
}

// challenge asks "still there?". It does nothing while a challenge is open.
func (st *stepper) challenge(e *Event) error {
	s := st.s
	if st.m.reach(s) == ReachNone {
		return refuse(ErrOffline, "challenge", e.ID, "%s is not connected", s.Subject)
	}
	if s.Work != nil && s.Work.Challenge != "" {
		return nil // a challenge is open already
	}
	s.Serial++
	w := st.work()
	w.Challenge = cmp.Or(e.ID, eventID('h', s.Serial, s.Now))
	w.Deadline = s.Now.Add(cmp.Or(e.Claim.For, st.m.policy.Work.Challenge))
	st.out = append(st.out, Output{Kind: OutputChallenge, ID: w.Challenge, At: s.wall(w.Deadline), Noticed: s.Now})
	return nil
}

func (st *stepper) ack(e *Event) error {
	w := st.s.Work
	if w == nil || w.Challenge == "" || e.ID != "" && e.ID != w.Challenge {
		return refuse(ErrStale, "challenge", e.ID, "%s has no open challenge of that id, or the answer came too late", st.s.Subject)
	}
	w.Challenge, w.Deadline = "", 0
	return nil
}

// kickOut kicks out a subject that did not answer.
func (st *stepper) kickOut() {
	w := st.s.Work
	id := w.Challenge
	w.Challenge, w.Deadline = "", 0
	st.insert(Claim{Status: st.m.kickedOut.ID, Source: SourceSystem, Key: KeyKickedOut})
	st.requeue(id, EndChallenge)
}

// requeue takes all work away, so that the host gives it to others.
func (st *stepper) requeue(id string, why EndReason) {
	s := st.s
	w := st.work()
	st.persist()
	n := w.Total()
	for i := range w.Loads {
		w.Loads[i].N = 0
	}
	w.Given = s.Now
	st.revise()
	w.Requeued = s.Current.Revision
	st.out = append(st.out, Output{Kind: OutputRequeue, ID: id, At: s.Now, Noticed: s.Now, Load: n, Reason: why})
	st.touched = true
	st.resolveDrain()
}

// revise raises the revision, so that earlier offers are refused. A revision is an
// instant, since an instant also rises over restarts.
func (st *stepper) revise() {
	p := &st.s.Current
	p.Revision = max(p.Revision+1, st.s.Now)
}

// waits reports whether a choice waits until the load is 0. It looks at what shows
// before the choice, which may be a choice that holds only while another one waits.
func (st *stepper) waits(c *Claim) bool {
	s, m := st.s, st.m
	if !m.status(c.Status).DrainsFirst || s.Work.Total() == 0 {
		return false
	}
	if now, _, _ := m.base(s); now.Class != ClassAvailable {
		return false
	}
	return c.Source != SourceSupervisor || m.policy.Work.SupervisorDrain != DrainRequeue
}

// postpone makes a choice pending until the load is 0. What holds while another choice
// waits holds on.
func (st *stepper) postpone(c Claim) {
	w := st.s.Work
	held := w.meanwhile
	if w.Pending == nil {
		held = nil
	}
	st.cancelPlans()
	st.persist()
	c.SetAt = st.s.Now
	if c.For > 0 {
		c.Until = 0 // For counts from when the claim takes effect
	}
	w.Pending, w.meanwhile = &c, held
	st.change()
}

// cancelPlans drops the pending status and closes the requests, because an actor
// chose another status.
func (st *stepper) cancelPlans() {
	st.dropPending(func(*Claim) bool { return true })
	st.closeRequests(func(*Request) bool { return true }, EndExpired, "")
}

// dropPending drops the pending status if named returns true for its claim. It
// reports whether it dropped it.
func (st *stepper) dropPending(named func(*Claim) bool) bool {
	w := st.s.Work
	if w == nil || w.Pending == nil || !named(w.Pending) {
		return false
	}
	w.Pending = nil
	st.persist()
	st.change()
	return true
}

// holdUntilDrained lets a choice that ends hold until the pending status follows, if
// one is pending and no other choice remains. A break that waits for the work to end
// is a choice to stay available until then.
func (st *stepper) holdUntilDrained(c *Claim) {
	m, w := st.m, st.s.Work
	if w == nil || w.Pending == nil || m.rankOf(c.Source) != m.manual || m.resolved(c).Class != ClassAvailable {
		return
	}
	if w.meanwhile == nil || m.before(c, w.meanwhile) {
		kept := *c
		kept.Until = 0
		w.meanwhile = &kept
	}
}

// request opens a request for a status that another actor must allow.
func (st *stepper) request(e *Event) error {
	s, m := st.s, st.m
	c, own, err := m.resolve(s, e)
	if err != nil {
		return err
	}
	switch {
	case !own || c.Source != SourceManual:
		return refuse(ErrNotAllowed, "request", c.Status, "only %s itself may ask for a status", s.Subject)
	case m.reach(s) == ReachNone:
		return refuse(ErrOffline, "request", c.Status, "%s is not connected", s.Subject)
	}
	if c.For > 0 {
		c.Until = 0 // For counts from when the request is accepted
		c.Key = ""
	}
	w := st.work()
	if e.ID != "" && slices.ContainsFunc(w.Requests, func(r Request) bool { return r.ID == e.ID }) {
		return nil // the same event again
	}
	st.closeRequests(func(r *Request) bool { return r.Claim.Status == c.Status }, EndWithdrawn, s.Subject.ID)
	if len(w.Requests) >= MaxRequests {
		return refuse(ErrLimit, "request", c.Status, "%s has %d open requests, at most %d are allowed", s.Subject, len(w.Requests), MaxRequests)
	}
	st.persist()
	s.Serial++
	r := Request{ID: cmp.Or(e.ID, eventID('r', s.Serial, s.Now)), Claim: c, At: s.Now}
	if d := m.policy.Work.RequestFor; d > 0 {
		r.Until = s.wall(s.Now.Add(d))
	}
	w.Requests = append(w.Requests, r)
	st.out = append(st.out, Output{Kind: OutputRequestOpened, At: s.Now, Noticed: s.Now, Request: r})
	st.touched = true
	return nil
}

// closeRequests closes the open requests for which match returns true.
func (st *stepper) closeRequests(match func(*Request) bool, how EndReason, by string) {
	s := st.s
	if s.Work == nil {
		return
	}
	s.Work.Requests = slices.DeleteFunc(s.Work.Requests, func(r Request) bool {
		if !match(&r) {
			return false
		}
		st.persist()
		r.Reason, r.By = how, by
		s.Work.Closed = &r
		st.out = append(st.out, Output{Kind: OutputRequestClosed, At: s.Now, Noticed: s.Now, Request: r, Reason: how})
		st.touched = true
		return true
	})
}

// openRequest returns the open request of an id, or the oldest one for an empty id.
// It returns ErrStale if that request was closed last, and ErrUnknown otherwise.
func (st *stepper) openRequest(id string) (Request, error) {
	s := st.s
	if s.Work != nil {
		for _, r := range s.Work.Requests {
			if id == "" || r.ID == id {
				return r, nil
			}
		}
		if r := s.Work.Closed; r != nil && (id == "" || r.ID == id) {
			return Request{}, refuse(ErrStale, "request", id, "already decided, it was %s", r.Reason)
		}
	}
	return Request{}, refuse(ErrUnknown, "request", id, "%s has no such open request", s.Subject)
}

func (st *stepper) withdraw(e *Event) error {
	if e.Actor.Subject != st.s.Subject || e.Actor.Role == RoleVisitor {
		return refuse(ErrNotAllowed, "request", e.ID, "only %s itself may withdraw it", st.s.Subject)
	}
	r, err := st.openRequest(e.ID)
	if err != nil {
		return err
	}
	st.closeRequests(func(o *Request) bool { return o.ID == r.ID }, EndWithdrawn, e.Actor.Subject.ID)
	return nil
}

// decide accepts or rejects a request.
func (st *stepper) decide(e *Event) error {
	s := st.s
	switch e.Actor.Role {
	case RoleSupervisor, RoleAdmin, RoleSystem:
	default:
		return refuse(ErrNotAllowed, "role", string(cmp.Or(e.Actor.Role, RoleAgent)), "%s may not decide on a request", e.Actor.Subject).
			allow(string(RoleSupervisor), string(RoleAdmin), string(RoleSystem))
	}
	if err := e.Actor.checkTenant(s.Subject); err != nil {
		return err
	}
	if e.Actor.Subject == s.Subject && e.Actor.Role != RoleSystem {
		return refuse(ErrNotAllowed, "request", e.ID, "a subject may not decide on its own request")
	}
	r, err := st.openRequest(e.ID)
	if err != nil {
		return err
	}
	if e.Reject {
		st.closeRequests(func(o *Request) bool { return o.ID == r.ID }, EndRejected, e.Actor.Subject.ID)
		return nil
	}
	if st.m.leftFor(s, e.Actor) {
		return refuse(ErrOffline, "request", e.ID, "%s has left; reject it instead", s.Subject)
	}
	claim := Event{Kind: EventSetClaim, Subject: s.Subject, Actor: Agent(s.Subject), Claim: r.Claim}
	claim.Claim.Key = "" // the policy of now may give the status an end
	c, _, err := st.m.resolve(s, &claim)
	if err != nil {
		return err
	}
	st.closeRequests(func(o *Request) bool { return o.ID == r.ID }, EndAccepted, e.Actor.Subject.ID)
	st.applyOrDrain(c)
	return nil
}

// applyOrDrain makes a checked choice of the manual rank take effect, at once or
// when the load is 0.
func (st *stepper) applyOrDrain(c Claim) {
	if st.waits(&c) {
		st.postpone(c)
		return
	}
	st.cancelPlans()
	requeues := c.Source == SourceSupervisor && st.m.policy.Work.SupervisorDrain == DrainRequeue && st.m.status(c.Status).DrainsFirst && st.s.Work.Total() > 0
	st.applyChoice(c)
	if requeues {
		st.s.Serial++
		st.requeue(eventID('q', st.s.Serial, st.s.Now), EndSupervisor)
	}
}

// startSettling keeps new work away after a lost connection is back, for
// Policy.Work.Settle.
func (st *stepper) startSettling() {
	if d := st.m.policy.Work.Settle; d > 0 {
		st.work().Settles = st.s.Now.Add(d)
		st.touched = true
	}
}

// withdrawOnLeave withdraws the requests of a subject that left by the cause, if
// the policy rules that.
func (st *stepper) withdrawOnLeave(cause Cause) {
	on := st.m.policy.Work.WithdrawOn
	if cause == CauseLogout && on != WithdrawNever || cause == CauseClosed && on == WithdrawClosed {
		st.closeRequests(func(*Request) bool { return true }, EndWithdrawn, st.s.Subject.ID)
	}
}
