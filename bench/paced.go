package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/RussellLuo/timingwheel"

	"github.com/presence-go/presence"
)

// In a paced run every user sends a heartbeat once an interval, and is lost
// after the timeout. The cost of a deadline is the difference to a run that
// only stores the time.
func pace(o options) (n int, interval, timeout, length time.Duration) {
	return o.size(1_000_000, 50_000), o.length(4*time.Second, 250*time.Millisecond), o.length(10*time.Second, 700*time.Millisecond), o.length(16*time.Second, time.Second)
}

// price is the cost of a heartbeat beyond storing the time.
const price = "price"

// paced is G4.
func paced(r *runner) error {
	n, interval, timeout, length := pace(r.options)
	return r.measure(experiment{
		id: "paced", goals: []string{"G4"}, size: n,
		title:   fmt.Sprintf("the price of a deadline: %s users, a heartbeat each %v, timeout %v, for %v", count(n), interval, timeout, length),
		columns: []column{{metric: cpu, header: "cpu ns a heartbeat"}, {metric: price, header: "of it the deadline"}, {metric: cores, header: "cores"}},
		derive: func(res *result) {
			store := res.find("store only")
			for _, c := range res.Cases {
				for round, used := range c.Rounds[cpu] {
					c.Rounds[price] = append(c.Rounds[price], used-store.Rounds[cpu][round])
				}
			}
		},
		cases: []benchCase{
			{name: "store only", role: floor, fresh: "paced/store"},
			{name: "scan of all, 10 a second", role: floor, fresh: "paced/scan"},
			{name: "lazy wheel", role: floor, fresh: "paced/wheel"},
			{name: "ours", role: ours, fresh: "paced/ours"},
			{name: "time.AfterFunc", role: byHand, fresh: "paced/afterfunc"},
			{name: "RussellLuo/timingwheel", role: peer, fresh: "paced/timingwheel"},
		},
	})
}

var pacedCases = map[string]freshCase{
	"paced/store": func(o options) (sample, error) {
		n, _, _, _ := pace(o)
		return runPaced(o, newHandleStore(newPopulation(n)).beat)
	},
	"paced/scan":        pacedScan,
	"paced/wheel":       pacedWheel,
	"paced/ours":        pacedOurs,
	"paced/afterfunc":   pacedAfterFunc,
	"paced/timingwheel": pacedTimingWheel,
}

// runPaced visits all users once an interval, a part every 10 milliseconds. The
// coarse clock runs in every case, also where it is not needed, so that no
// difference contains its cost.
func runPaced(o options, visit func(from, to int) error) (sample, error) {
	startCoarse()
	n, interval, _, length := pace(o)
	freeMemory()
	if err := visit(0, n); err != nil {
		return nil, err
	}
	m := startMeter()
	done := 0
	for elapsed := time.Duration(0); elapsed < length; elapsed = time.Since(m.start) {
		due := int(float64(n) * min(elapsed, length).Seconds() / interval.Seconds())
		for done < due {
			from := done % n
			to := min(n, from+due-done)
			if err := visit(from, to); err != nil {
				return nil, err
			}
			done += to - from
		}
		time.Sleep(10 * time.Millisecond)
	}
	return m.per(done), nil
}

// pacedScan keeps the times in a separate list, for a quick scan.
func pacedScan(o options) (sample, error) {
	n, _, timeout, _ := pace(o)
	heard := make([]atomic.Uint32, n)
	order := newPopulation(n).order
	var lost atomic.Int64
	go func() {
		for range time.Tick(100 * time.Millisecond) {
			now := coarse.Load()
			for i := range heard {
				if h := heard[i].Load(); h != 0 && int32(now-h) > int32(timeout.Milliseconds()) {
					lost.Add(1)
				}
			}
		}
	}()
	s, err := runPaced(o, func(from, to int) error {
		for _, i := range order[from:to] {
			heard[i].Store(coarse.Load())
		}
		return nil
	})
	return s, nobodyLost(err, lost.Load())
}

func pacedWheel(o options) (sample, error) {
	n, _, timeout, _ := pace(o)
	const tick = 10 * time.Millisecond
	w := newLazyWheel(n, uint32(timeout/tick))
	order := newPopulation(n).order
	var now atomic.Uint32
	var lost atomic.Int64
	go func() {
		for range time.Tick(tick) {
			now.Add(1)
			lost.Add(int64(w.advance()))
		}
	}()
	s, err := runPaced(o, func(from, to int) error {
		for _, i := range order[from:to] {
			w.heard[i].Store(now.Load())
		}
		return nil
	})
	return s, nobodyLost(err, lost.Load())
}

func pacedOurs(o options) (sample, error) {
	n, interval, timeout, _ := pace(o)
	policy := calm()
	policy.Heartbeat, policy.Lease = interval, timeout
	policy.Grace.Loss = time.Hour // a user that was lost during filling returns by its next heartbeat
	var pacing atomic.Bool
	var lost atomic.Int64
	t, err := newTracked(presence.Options{Policy: policy}, false)
	if err != nil {
		return nil, err
	}
	t.Observe(func(_ presence.Ref, out *presence.Output) {
		if pacing.Load() && out.Presence.Reach == presence.ReachLingering {
			lost.Add(1)
		}
	})
	if err := t.fill(newPopulation(n), 1); err != nil {
		return nil, err
	}
	freeMemory()
	if err := t.beat(0, n); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if _, err := t.Sweep(ctx); err != nil { // the deadlines of users that waited while others connected
		return nil, err
	}
	go t.Run(ctx)
	s, err := runPaced(o, func(from, to int) error {
		if to-from < n { // a visit to all users is the first, before the measurement
			pacing.Store(true)
		}
		return t.beat(from, to)
	})
	return s, nobodyLost(err, lost.Load())
}

// timedUser is a handle's record with a timer of its own.
type timedUser[T any] struct {
	heard atomic.Uint32
	timer T
}

func pacedAfterFunc(o options) (sample, error) {
	n, _, timeout, _ := pace(o)
	users := make([]*timedUser[*time.Timer], n)
	var lost atomic.Int64
	for _, i := range newPopulation(n).order {
		users[i] = &timedUser[*time.Timer]{timer: time.AfterFunc(time.Hour, func() { lost.Add(1) })}
	}
	s, err := runPaced(o, func(from, to int) error {
		for _, u := range users[from:to] {
			u.heard.Store(coarse.Load())
			u.timer.Reset(timeout)
		}
		return nil
	})
	return s, nobodyLost(err, lost.Load())
}

func pacedTimingWheel(o options) (sample, error) {
	n, _, timeout, _ := pace(o)
	w := timingwheel.NewTimingWheel(10*time.Millisecond, 1024)
	w.Start()
	defer w.Stop()
	var lost atomic.Int64
	expire := func() { lost.Add(1) }
	users := make([]*timedUser[*timingwheel.Timer], n)
	for _, i := range newPopulation(n).order {
		users[i] = &timedUser[*timingwheel.Timer]{timer: w.AfterFunc(timeout, expire)}
	}
	s, err := runPaced(o, func(from, to int) error {
		for _, u := range users[from:to] {
			u.heard.Store(coarse.Load())
			u.timer.Stop()
			u.timer = w.AfterFunc(timeout, expire)
		}
		return nil
	})
	return s, nobodyLost(err, lost.Load())
}

// nobodyLost fails a measurement in which users were lost.
func nobodyLost(err error, lost int64) error {
	if err == nil && lost > 0 {
		return fmt.Errorf("%w: %d users were lost although they should have been heard in time", errBusy, lost)
	}
	return err
}
