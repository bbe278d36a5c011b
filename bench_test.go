package presence

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/benbjohnson/clock"
)

// benchTime is when benchmarks begin.
var benchTime = time.Date(2026, 1, 1, 9, 0, 0, 0, time.UTC)

// benchClock shows the time that a benchmark sets.
type benchClock struct {
	*clock.Mock
	now time.Time
}

func (c *benchClock) Now() time.Time { return c.now }

// benchPolicy has no deadline within a day, and no grace.
func benchPolicy() Policy {
	p := DefaultPolicy()
	p.Lease, p.Idle, p.Grace = 24*time.Hour, nil, Grace{}
	return p
}

// benchTracker returns a tracker with n connected subjects, who belong to channel
// unless it is "".
func benchTracker(b *testing.B, opts Options, n int, channel string) (*Tracker, []*Conn) {
	b.Helper()
	t, err := New(&opts)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = t.Close() })
	conns := make([]*Conn, n)
	for i := range conns {
		subject := ID(fmt.Sprintf("subject-%06d", i))
		if channel != "" {
			if err := t.AddMember(b.Context(), ChannelID(channel), subject); err != nil {
				b.Fatal(err)
			}
		}
		if conns[i], err = t.Connect(b.Context(), subject, ConnectOptions{ID: "tab"}); err != nil {
			b.Fatal(err)
		}
	}
	return t, conns
}

// benchState returns a machine and the state of a subject with one connection.
func benchState(b *testing.B) (m *Machine, s State, now Instant) {
	b.Helper()
	m, err := Compile(benchPolicy())
	if err != nil {
		b.Fatal(err)
	}
	now = At(benchTime)
	if _, _, err := m.Step(&s, &Event{Kind: EventConnect, Subject: ID("ann"), Conn: "tab", Age: NoAge}, now, nil); err != nil {
		b.Fatal(err)
	}
	return m, s, now
}

// BenchmarkStep is one heartbeat fed to one state.
func BenchmarkStep(b *testing.B) {
	m, s, now := benchState(b)
	var out []Output
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(time.Millisecond)
		var err error
		out, _, err = m.Step(&s, &Event{Kind: EventHeartbeat, Subject: s.Subject, Conn: "tab", Age: NoAge}, now, out[:0])
		if err != nil || len(out) > 0 {
			b.Fatal(out, err)
		}
	}
}

// BenchmarkPack turns the state of a connected subject into bytes.
func BenchmarkPack(b *testing.B) {
	_, s, now := benchState(b)
	k, room := newCompactor(now), new(packRoom)
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := k.pack(&s, room); !ok {
			b.Fatal("the state is not packed")
		}
	}
}

// BenchmarkUnpack turns such bytes back.
func BenchmarkUnpack(b *testing.B) {
	_, s, now := benchState(b)
	k := newCompactor(now)
	packed, ok := k.pack(&s, new(packRoom))
	if !ok {
		b.Fatal("the state is not packed")
	}
	var back State
	words := new(borrowed)
	b.ReportAllocs()
	for b.Loop() {
		k.unpack(packed, &back, words)
	}
	b.ReportMetric(float64(len(packed)), "bytes/record")
	if len(back.Conns) != 1 {
		b.Fatal(back)
	}
}

// BenchmarkStepPacked is what a tracker does for a heartbeat that it must step:
// it turns bytes into the state, feeds the heartbeat to it and turns it back.
func BenchmarkStepPacked(b *testing.B) {
	m, s, now := benchState(b)
	k, words := newCompactor(now), new(borrowed)
	packed, _ := k.pack(&s, &words.packed)
	record := append([]byte(nil), packed...)
	var back State
	var out []Output
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(time.Millisecond)
		k.unpack(record, &back, words)
		back.Subject, back.Current.Subject = s.Subject, s.Subject
		out, _, _ = m.Step(&back, &Event{Kind: EventHeartbeat, Conn: "tab", Age: NoAge}, now, out[:0])
		var ok bool
		if packed, ok = k.pack(&back, &words.packed); !ok {
			b.Fatal("the state is not packed")
		}
		record = append(record[:0], packed...)
	}
	if len(out) > 0 || back.Conns[0].Heard != now {
		b.Fatal(out, back)
	}
}

// BenchmarkHeartbeat is a heartbeat by handle, of 10,000 subjects in turn, while
// the tracker runs.
func BenchmarkHeartbeat(b *testing.B) {
	policy := benchPolicy()
	t, conns := benchTracker(b, Options{Policy: &policy}, 10_000, "")
	ran := make(chan error)
	go func() { ran <- t.Run(context.Background()) }()
	b.Cleanup(func() {
		_ = t.Close()
		<-ran
	})
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		if err := conns[i].Heartbeat(); err != nil {
			b.Fatal(err)
		}
		if i++; i == len(conns) {
			i = 0
		}
	}
}

// BenchmarkExpire is one sweep in which 100,000 silent subjects are lost.
func BenchmarkExpire(b *testing.B) {
	const n = 100_000
	policy := benchPolicy()
	policy.Lease = time.Minute
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		c := &benchClock{Mock: clock.NewMock(), now: benchTime}
		lost := 0
		t, _ := benchTracker(b, Options{Policy: &policy, Clock: c, JournalRows: -1}, n, "")
		t.Observe(func(_ Ref, o *Output) {
			if o.Kind == OutputTransition && o.Trigger == CauseLost {
				lost++
			}
		})
		c.now = c.now.Add(2 * policy.Lease)
		runtime.GC() // of what the connections have left
		b.StartTimer()
		if _, err := t.Sweep(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if lost != n {
			b.Fatalf("%d of %d were lost", lost, n)
		}
		if err := t.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed())/float64(b.N)/n, "ns/subject")
}

// BenchmarkFanout is one member of a channel who leaves or returns, and 1,000
// watchers who read it.
func BenchmarkFanout(b *testing.B) {
	const watchers = 1000
	policy := benchPolicy()
	t, conns := benchTracker(b, Options{Policy: &policy}, 100, "sales")
	var watches []*Watch
	for range watchers {
		w, err := t.Watch(b.Context(), Actor{ID("kim"), RoleSupervisor}, ChannelID("sales"), WatchOptions{Audience: AudienceTeam})
		if err != nil {
			b.Fatal(err)
		}
		if f, err := w.Poll(); err != nil || f == nil {
			b.Fatal(f, err)
		}
		watches = append(watches, w)
	}
	c, here := conns[0], true
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if here {
			err = c.Logout()
		} else {
			c, err = t.Connect(b.Context(), ID("subject-000000"), ConnectOptions{ID: "tab", Login: true})
		}
		here = !here
		if err != nil {
			b.Fatal(err)
		}
		for _, w := range watches {
			if f, err := w.Poll(); err != nil || f == nil {
				b.Fatal(f, err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed())/float64(b.N)/watchers, "ns/watcher")
}

// BenchmarkList lists a channel of 1,000 members: one that has not changed, and
// one of which a member has.
func BenchmarkList(b *testing.B) {
	policy := benchPolicy()
	t, conns := benchTracker(b, Options{Policy: &policy}, 1000, "sales")
	list := func(b *testing.B) {
		if views, _, err := t.ListAs(b.Context(), AudienceTeam, ChannelID("sales"), nil); err != nil || len(views) != len(conns) {
			b.Fatal(len(views), err)
		}
	}
	b.Run("unchanged", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			list(b)
		}
	})
	b.Run("changed", func(b *testing.B) {
		here := true
		c := conns[0]
		b.ReportAllocs()
		for b.Loop() {
			var err error
			if here {
				err = c.Logout()
			} else {
				c, err = t.Connect(b.Context(), ID("subject-000000"), ConnectOptions{ID: "tab", Login: true})
			}
			if here = !here; err != nil {
				b.Fatal(err)
			}
			list(b)
		}
	})
}
