package presence

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Stats has the counters of a tracker and the state of its storage. While storage
// fails, the tracker decides from memory. A change that must be stored first is
// refused with [ErrUnavailable]. Every other change waits and is written later.
// Only the end of the process loses waiting changes, except for the rows that
// RowsDropped counts.
type Stats struct {
	Running     bool // Run meets the deadlines
	Subjects    int  // in memory
	Connections int  // open; a lingering one does not count
	Channels    int  // with members, links, hours, watches or a recent list
	Watches     int  // open

	// Counters since New.
	Frames       uint64 // frames queued for watches, once for each watch
	Lagged       uint64 // how often a watch got a snapshot instead of more than WatchBuffer frames
	Notified     uint64 // notifications that the notifier delivered
	NotDelivered uint64 // notifications for which the notifier returned an error

	StorageErr    error   // the last storage error; nil if the last call succeeded
	StorageSince  Instant // when storage began to fail; zero while it works
	RecordsBehind int     // subjects whose newest changes are not stored, or may not be
	RowsBehind    int     // journal rows that are not stored
	RowsDropped   int     // journal rows dropped, the oldest first, because more than 65,536 waited
}

// Stats returns the counters of the tracker.
func (t *Tracker) Stats() Stats {
	s := Stats{
		Running: t.running.Load(), Subjects: int(t.count.Load()), Watches: int(t.watches.Load()),
		Frames: t.counts.frames.Load(), Lagged: t.counts.lagged.Load(),
		Notified: t.counts.notified.Load(), NotDelivered: t.counts.notDelivered.Load(),
	}
	for i := range t.shards {
		sh := &t.shards[i]
		sh.mu.Lock()
		s.Connections += sh.open
		sh.mu.Unlock()
	}
	t.mu.RLock()
	s.Channels = len(t.channels)
	t.mu.RUnlock()
	j := &t.journal
	j.mu.Lock()
	s.RecordsBehind, s.RowsBehind, s.RowsDropped = len(distinct(j.dirty))+j.writing.records, len(j.waiting)+j.writing.rows, j.given
	j.mu.Unlock()
	s.StorageSince, s.StorageErr = t.health.last()
	return s
}

// StatusCounts returns how many subjects of a tenant have each status. It counts
// subjects in memory by their true status, hidden or not. Use it for metrics only,
// and show it to no client. A subject that changes during the call counts as before
// or as after.
func (t *Tracker) StatusCounts(tenant string) map[string]int {
	counts := make(map[string]int)
	if tn, ok := t.tenants.find(tenant); ok {
		for _, c := range tn.statuses.all() {
			if n := c.n.Load(); n > 0 {
				counts[c.status] = int(n)
			}
		}
	}
	return counts
}

// trackerCounts are the counters since New.
type trackerCounts struct{ frames, lagged, notified, notDelivered atomic.Uint64 }

// tally is what one subject adds to the counters.
type tally struct {
	status string // empty while the subject is unknown
	open   int    // connections
}

func (h *loaded) tally() (n tally) {
	if h.state.Current.Known {
		n.status = h.state.Current.Status
	}
	for i := range h.state.Conns {
		if h.state.Conns[i].Left == 0 {
			n.open++
		}
	}
	return n
}

// recount counts a subject as n. It is called where a record is kept or dropped, so
// that erased and restored subjects are counted right.
func (h *loaded) recount(n tally) {
	was := h.counted
	h.counted = n
	h.sh.open += n.open - was.open
	if n.status == was.status {
		return
	}
	if was.status != "" {
		h.tenant.statuses.count(was.status).Add(-1)
	}
	if n.status != "" {
		h.tenant.statuses.count(n.status).Add(1)
	}
}

// statusCounts counts the subjects of a tenant by status. It has a counter for each
// status that a subject had under the present policy.
type statusCounts struct {
	mu   sync.Mutex // held while the list is replaced; nothing is locked under it
	list atomic.Pointer[[]*statusCount]
}

type statusCount struct {
	status string
	n      atomic.Int64
}

func (cs *statusCounts) all() []*statusCount {
	if list := cs.list.Load(); list != nil {
		return *list
	}
	return nil
}

func findStatus(list []*statusCount, status string) *atomic.Int64 {
	for _, c := range list {
		if c.status == status {
			return &c.n
		}
	}
	return nil
}

// count returns the counter of a status. It adds the counter if the status has
// none.
func (cs *statusCounts) count(status string) *atomic.Int64 {
	if n := findStatus(cs.all(), status); n != nil {
		return n
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if n := findStatus(cs.all(), status); n != nil {
		return n
	}
	c := &statusCount{status: strings.Clone(status)}
	list := append(slices.Clone(cs.all()), c)
	cs.list.Store(&list)
	return &c.n
}

// prune drops the counters of statuses that only the policy before had. Call it
// when all subjects follow the policy m, so that none has such a status.
func (cs *statusCounts) prune(before, m *Machine) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	list := slices.DeleteFunc(slices.Clone(cs.all()), func(c *statusCount) bool {
		_, was := before.Status(c.status)
		_, is := m.Status(c.status)
		return was && !is && c.n.Load() == 0
	})
	cs.list.Store(&list)
}

// health is the result of the last call of storage.
type health struct {
	mu    sync.Mutex
	err   error
	since Instant
}

// note records the result of a call of storage. A refused record shows that storage
// works.
func (h *health) note(err error, now Instant) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil || errors.Is(err, ErrConflict) || errors.Is(err, ErrInvalid) {
		h.err, h.since = nil, 0
		return
	}
	if h.err == nil {
		h.since = now
	}
	h.err = err
}

func (h *health) last() (since Instant, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.since, h.err
}

// lateBeats is the number of heartbeats by which a deadline may be late before the
// tracker logs that neither Run nor Sweep meets it.
const lateBeats = 3

// warnLate logs once that a deadline was met late because neither Run nor Sweep was
// called in time.
func (h *loaded) warnLate(at, now Instant) {
	late := now.Sub(at)
	if late > lateBeats*h.m.heartbeat && !h.t.warned.Load() && !h.t.running.Load() && !h.t.warned.Swap(true) {
		h.t.log.Warn("presence: a deadline was met late: call Run, or Sweep in time", "subject", h.ref, "late", late.Round(time.Millisecond))
	}
}

// catchUp meets the due deadlines of a subject.
func (h *loaded) catchUp(now Instant) {
	if !h.t.running.Load() && !h.t.warned.Load() {
		h.applyClockBreaks()
		if at, ok := h.m.Next(h.state); ok {
			h.warnLate(at, now)
		}
	}
	h.step(&Event{Kind: EventTick}, now)
}

// Observe calls f with every output of every subject. The outputs of one subject
// are in order. Each is passed to all observers in the order in which they were
// added. The subject is locked during the call, so f must be quick and must not
// call the tracker. The *Output is valid only during the call.
//
// After stop has returned, f is called for no step that begins later. Another
// goroutine may still run f. f itself may call stop: the present output is then its
// last of that subject. A second stop changes nothing.
func (t *Tracker) Observe(f func(Ref, *Output)) (stop func()) {
	o := &observer{f}
	t.observers.change(func(list []*observer) []*observer { return append(list, o) })
	return func() {
		t.observers.change(func(list []*observer) []*observer {
			return slices.DeleteFunc(list, func(other *observer) bool { return other == o })
		})
	}
}

// observer is the function of one Observe call.
type observer struct{ call func(Ref, *Output) }

// observers is a list that is replaced as a whole, so that it is read without a
// lock.
type observers struct {
	mu   sync.Mutex // held while the list is replaced; nothing is locked under it
	list atomic.Pointer[[]*observer]
}

func (os *observers) all() []*observer {
	if list := os.list.Load(); list != nil {
		return *list
	}
	return nil
}

func (os *observers) change(change func([]*observer) []*observer) {
	os.mu.Lock()
	defer os.mu.Unlock()
	list := change(slices.Clone(os.all()))
	os.list.Store(&list)
}

func (os *observers) call(ref Ref, o *Output) {
	for _, each := range os.all() {
		each.call(ref, o)
	}
}

// report passes an output that no step has to the observers.
func (t *Tracker) report(subject Ref, kind OutputKind, channel Channel, now Instant) {
	if len(t.observers.all()) > 0 {
		t.observers.call(subject, &Output{Kind: kind, At: now, Noticed: now, Channel: channel})
	}
}
