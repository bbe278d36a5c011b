package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/centrifugal/centrifuge"

	"github.com/presence-go/presence"
)

// In an expiry, many users fall silent at one instant, and others send
// heartbeats at a fixed rate. The latency of a heartbeat counts from its
// planned instant, so that a delayed start counts too.
const survivorRate = 20_000 // heartbeats a second, of all survivors

func survivorCount(o options) int { return o.size(10_000, 10_000) }

func expirySize(o options) int { return o.size(1_000_000, 50_000) }

// silence is the time after which a silent user expires.
func silence(o options) time.Duration { return o.length(40*time.Second, 2*time.Second) }

// The metrics of expiries.
const (
	p50    = "p50" // microseconds
	p99    = "p99"
	most   = "max"
	event  = "event"  // milliseconds from the first removal to the last
	spent  = "spent"  // nanoseconds of processors a removed user, without the survivors' own
	before = "before" // MB resident before
	growth = "growth" // percent by which the peak lies above before
)

// expiries is G6.
func expiries(r *runner) error {
	n := expirySize(r.options)
	return r.measure(experiment{
		id: "expire", goals: []string{"G6"}, size: n,
		title: fmt.Sprintf("%s users expire at once, %s others are heard %s times a second", count(n), count(survivorCount(r.options)), count(survivorRate)),
		columns: []column{
			{metric: spent, header: "cpu ns a user"},
			{metric: p50, header: "p50 us"}, {metric: p99, header: "p99 us"}, {metric: most, header: "max us", ratio: true},
			{metric: event, header: "event ms"}, {metric: before, header: "MB before"}, {metric: growth, header: "peak +%"},
		},
		cases: []benchCase{
			{name: "idle", role: floor, fresh: "expire/idle"},
			{name: "ours", role: ours, fresh: "expire/ours"},
			{name: "Centrifuge, removals by 64 goroutines", role: peer, fresh: "expire/centrifuge"},
			{name: "mutex + map, one sweep", role: byHand, fresh: "expire/map"},
			{name: "mutex + map + AfterFunc", role: byHand, fresh: "expire/afterfunc"},
		},
		derive: func(res *result) {
			// If callers wait although no user expires, other work on the machine
			// is the cause.
			if median(res.find("idle").Rounds[p99]) > 500 {
				for _, c := range res.Cases {
					c.Noisy = true
				}
			}
		},
	})
}

var expiryCases = map[string]freshCase{
	"expire/idle":       expireIdle,
	"expire/ours":       expireOurs,
	"expire/centrifuge": expireCentrifuge,
	"expire/map":        expireMap,
	"expire/afterfunc":  expireAfterFunc,
}

// removals counts expired users, and records their times and the processor time
// before them.
type removals struct {
	all               int64
	count             atomic.Int64
	first, last       atomic.Int64 // nanoseconds since start
	cpuFirst, cpuLast atomic.Int64
	start             time.Time
}

func newRemovals(n int) *removals {
	return &removals{all: int64(n), start: time.Now()}
}

func (r *removals) one() {
	switch n := r.count.Add(1); n {
	case 1:
		r.cpuFirst.Store(int64(processCPU()))
		r.first.Store(int64(time.Since(r.start)))
	case r.all:
		r.cpuLast.Store(int64(processCPU()))
		r.last.Store(int64(time.Since(r.start)))
	}
}

// survive sends heartbeats of survivors at the fixed rate until all removals
// are done, or for a second without removals. It calls begin shortly after its
// start. It spins on a thread of its own, whose processor time is not counted.
func survive(r *removals, begin func(), surviving int, heard func(i int) error) (sample, error) {
	const interval = time.Second / survivorRate
	took := make([]float32, 0, 80*survivorRate) // microseconds
	for i := range cap(took) {
		took[:cap(took)][i] = 1 // allocates the memory before the event
	}
	freeMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		return nil, fmt.Errorf("resetting the peak of memory: %w", err)
	}
	resident, err := memoryStatus("VmRSS")
	if err != nil {
		return nil, err
	}
	time.AfterFunc(200*time.Millisecond, begin)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var ownFirst, ownLast time.Duration
	over := false
	began := time.Since(r.start)
	for i := 0; !over && i < cap(took); i++ {
		at := began + time.Duration(i)*interval
		for time.Since(r.start) < at {
		}
		if err := heard(i % surviving); err != nil {
			return nil, err
		}
		took = append(took, float32((time.Since(r.start)-at).Seconds()*1e6))
		if r.all == 0 {
			over = at-began > time.Second
			continue
		}
		if ownFirst == 0 && r.first.Load() != 0 {
			ownFirst = threadCPU()
		}
		if last := r.last.Load(); last != 0 {
			if ownLast == 0 {
				ownLast = threadCPU()
			}
			over = int64(at) > last // counts the heartbeats that waited until the last removal
		}
	}
	if !over {
		return nil, fmt.Errorf("%d of %d users had expired by the end", r.count.Load(), r.all)
	}
	return r.sample(took, began, interval, resident, ownLast-ownFirst)
}

// sample sums up the survivors' waits and the cost of the removals.
func (r *removals) sample(took []float32, began, interval time.Duration, resident float64, own time.Duration) (sample, error) {
	peak, err := memoryStatus("VmHWM")
	if err != nil {
		return nil, err
	}
	first, last := time.Duration(r.first.Load()), time.Duration(r.last.Load())
	if r.all > 0 { // only heartbeats that were due during the event
		took = took[min(len(took)-1, int(max(0, first-began)/interval)):min(len(took), 1+int((last-began)/interval))]
	}
	slices.Sort(took)
	s := sample{
		p50: float64(quantile(took, 0.5)), p99: float64(quantile(took, 0.99)), most: float64(took[len(took)-1]),
		before: resident / 1024, growth: 100 * (peak - resident) / resident,
	}
	if r.all > 0 {
		s[event] = ms(last - first)
		s[spent] = max(0, float64(r.cpuLast.Load()-r.cpuFirst.Load()-int64(own))) / float64(r.all)
	}
	return s, nil
}

// memoryStatus returns a value in kilobytes from the process's status.
func memoryStatus(name string) (float64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte(name+":")); ok {
			return strconv.ParseFloat(string(bytes.TrimSpace(bytes.TrimSuffix(bytes.TrimSpace(rest), []byte("kB")))), 64)
		}
	}
	return 0, errors.New("the process's status has no " + name)
}

// expiryPeople returns the users that expire and the survivors.
func expiryPeople(o options) (expiring, surviving *population) {
	return newPopulation(expirySize(o)), newPopulation(survivorCount(o) + 1) // the survivors are other users
}

func expireIdle(o options) (sample, error) {
	_, surviving := expiryPeople(o)
	t, err := newTracked(presence.Options{Policy: calm()}, true)
	if err != nil {
		return nil, err
	}
	if err := t.fill(surviving, 1); err != nil {
		return nil, err
	}
	return survive(newRemovals(0), func() {}, surviving.size(), func(i int) error { return t.beatByID(i, i+1) })
}

// expireOurs puts the survivors in a tenant whose policy has a long lease.
func expireOurs(o options) (sample, error) {
	expiring, surviving := expiryPeople(o)
	policy := calm()
	policy.Heartbeat, policy.Lease, policy.Grace.Loss = silence(o)/3, silence(o), 0
	r := newRemovals(expiring.size())
	t, err := newTracked(presence.Options{Policy: policy}, true)
	if err != nil {
		return nil, err
	}
	t.Observe(func(who presence.Ref, out *presence.Output) {
		if out.Kind == presence.OutputTransition && out.Trigger == presence.CauseLost {
			r.one()
		}
	})
	patient := presence.Ref{Tenant: "patient"}
	system := presence.Actor{Subject: presence.Ref{Tenant: patient.Tenant, ID: "operator"}, Role: presence.RoleSystem}
	ctx := context.Background()
	if err := t.SetPolicy(ctx, system, *calm()); err != nil {
		return nil, err
	}
	if err := t.fill(expiring, 1); err != nil {
		return nil, err
	}
	for _, id := range surviving.ids {
		who := presence.Ref{Tenant: patient.Tenant, ID: id}
		if _, err := t.Connect(ctx, who, presence.ConnectOptions{ID: connID}); err != nil {
			return nil, err
		}
	}
	freeMemory()
	if err := t.beat(0, expiring.size()); err != nil { // after this they are silent
		return nil, err
	}
	if n := r.count.Load(); n > 0 {
		return nil, fmt.Errorf("%w: %d users expired before all were there", errBusy, n)
	}
	return survive(r, func() {}, surviving.size(), func(i int) error {
		who := presence.Ref{Tenant: patient.Tenant, ID: surviving.ids[i]}
		return t.Heartbeat(who, connID)
	})
}

func expireCentrifuge(o options) (sample, error) {
	expiring, surviving := expiryPeople(o)
	c, err := newCentrifuge(expiring)
	if err != nil {
		return nil, err
	}
	if err := c.fill(expiring.rooms); err != nil {
		return nil, err
	}
	others := &centrifugePresence{MemoryPresenceManager: c.MemoryPresenceManager, people: surviving, clients: surviving.ids, infos: make([]*centrifuge.ClientInfo, surviving.size())}
	if err := others.fill(surviving.rooms); err != nil {
		return nil, err
	}
	refresh := others.refresh(surviving.rooms)
	r := newRemovals(expiring.size())
	var faults atomic.Int64
	removeAll := func() {
		for g := range 64 {
			go func() {
				for i := g; i < expiring.size(); i += 64 {
					if err := c.RemovePresence(expiring.rooms[i], expiring.ids[i], expiring.ids[i]); err != nil {
						faults.Add(1)
					}
					r.one()
				}
			}()
		}
	}
	got, err := survive(r, removeAll, surviving.size(), func(i int) error { return refresh(i, i+1) })
	if n := faults.Load(); err == nil && n > 0 {
		err = fmt.Errorf("%d removals failed", n)
	}
	return got, err
}

func expireMap(o options) (sample, error) {
	expiring, surviving := expiryPeople(o)
	h := newHandTimers(expiring, 0)
	cutoff := time.Now()
	for _, id := range surviving.ids {
		h.add(id)
	}
	r := newRemovals(expiring.size())
	h.gone = r.one
	beat := h.beat(surviving)
	return survive(r, func() { h.sweep(cutoff) }, surviving.size(), func(i int) error { return beat(i, i+1) })
}

func expireAfterFunc(o options) (sample, error) {
	expiring, surviving := expiryPeople(o)
	h := newHandTimers(expiring, 24*time.Hour)
	for _, id := range surviving.ids {
		h.add(id)
	}
	r := newRemovals(expiring.size())
	h.gone = r.one
	freeMemory()
	at := time.Now().Add(o.length(8*time.Second, time.Second))
	for _, id := range expiring.ids {
		h.users[id].timer.Reset(time.Until(at))
	}
	beat := h.beat(surviving)
	return survive(r, func() {}, surviving.size(), func(i int) error { return beat(i, i+1) })
}
