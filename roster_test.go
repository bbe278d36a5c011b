package presence

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence/internal/seeds"
)

// A stream keeps nothing of members who have gone: when they were last spoken of
// can be seen from within only.
func TestStreamsForgetThoseWhoLeft(t *testing.T) {
	t.Parallel()
	policy := DefaultPolicy()
	policy.CoalesceSubject = time.Second
	m, err := Compile(policy)
	require.NoError(t, err)
	r := NewRoster(ChannelID("sales"), m)
	r.Open(AudienceTeam, Ref{}, func() string { return "1" })
	s := r.stream(newStreamKey(AudienceTeam, Ref{}))
	now := Instant(1)
	for i := range 100 {
		p := Presence{Subject: ID(fmt.Sprint(i)), Known: true, Status: "available", Class: ClassAvailable}
		r.Put(&p, now)
		if i%2 == 0 {
			now = now.Add(policy.CoalesceSubject) // otherwise it leaves before it may be sent
		}
		r.Remove(p.Subject, now)
		if i%3 == 0 {
			r.Put(&p, now)
			r.Remove(p.Subject, now)
		}
	}
	for at, ok := r.Next(); ok; at, ok = r.Next() {
		r.Flush(at)
	}
	require.Zero(t, s.rows.Len())
	require.Empty(t, s.sent)
	require.Empty(t, s.pending)
}

// A stream has one diff about all changes of a batch interval, one for each
// batch interval, with the newest state of each.
func TestBatchesOfAStorm(t *testing.T) {
	t.Parallel()
	policy := DefaultPolicy()
	policy.CoalesceChannel = 50 * time.Millisecond
	m, err := Compile(policy)
	require.NoError(t, err)
	r := NewRoster(ChannelID("sales"), m)
	r.Open(AudienceTeam, Ref{}, func() string { return "1" })
	put := func(i int, status string, class Class, now Instant) []*Frame {
		return r.Put(&Presence{Subject: ID(fmt.Sprint(i)), Known: true, Status: status, Class: class}, now)
	}
	now := Instant(1)
	frames := put(0, "available", ClassAvailable, now)
	require.Len(t, frames, 1, "the first goes out at once")
	for i := 1; i < 1000; i++ {
		now = now.Add(20 * time.Microsecond)
		require.Empty(t, put(i, "available", ClassAvailable, now))
		require.Empty(t, put(i, "busy", ClassBusy, now))
	}
	at, ok := r.Next()
	require.True(t, ok)
	require.Equal(t, Instant(1).Add(policy.CoalesceChannel), at)
	frames = r.Flush(at)
	require.Len(t, frames, 1)
	require.Equal(t, uint64(2), frames[0].Seq)
	require.Len(t, frames[0].Changes, 999)
	for _, c := range frames[0].Changes {
		require.Equal(t, OpJoined, c.Op)
		require.Equal(t, "busy", c.View.Status)
	}
	_, ok = r.Next()
	require.False(t, ok)
	require.Empty(t, put(1, "away", ClassAway, at.Add(policy.CoalesceChannel-1)))
	require.Len(t, r.Flush(at.Add(policy.CoalesceChannel)), 1)
	require.Len(t, put(2, "away", ClassAway, at.Add(2*policy.CoalesceChannel)), 1, "at the end of the interval, no longer within it")
}

// With both intervals neither is undercut.
func TestBatchesOfWhatIsHeldBackForASubject(t *testing.T) {
	t.Parallel()
	policy := DefaultPolicy()
	policy.CoalesceSubject, policy.CoalesceChannel = 1500*time.Millisecond, time.Second
	m, err := Compile(policy)
	require.NoError(t, err)
	r := NewRoster(ChannelID("sales"), m)
	r.Open(AudienceTeam, Ref{}, func() string { return "1" })
	put := func(id, status string, class Class, at time.Duration) int {
		return len(r.Put(&Presence{Subject: ID(id), Known: true, Status: status, Class: class}, Instant(1).Add(at)))
	}
	flush := func(at time.Duration) int { return len(r.Flush(Instant(1).Add(at))) }
	require.Equal(t, 1, put("ann", "available", ClassAvailable, 0))
	require.Equal(t, 0, put("ann", "busy", ClassBusy, 100*time.Millisecond)) // until 1.5s
	require.Equal(t, 1, put("bob", "available", ClassAvailable, time.Second))
	require.Equal(t, 0, flush(1500*time.Millisecond), "bob's has just gone out")
	require.Equal(t, 1, flush(2*time.Second))
	_, waits := r.Next()
	require.False(t, waits)
}

// H7: a roster with emit gives emit the frames that one without returns, in the same
// order, each with its stream.
func TestRosterEmitsWhatItReturns(t *testing.T) {
	t.Parallel()
	var machines []*Machine
	for i := range 4 {
		policy := DefaultPolicy()
		policy.CoalesceSubject = time.Duration(i%2) * 3 * time.Second
		policy.CoalesceChannel = time.Duration(i/2) * time.Second
		m, err := Compile(policy)
		require.NoError(t, err)
		machines = append(machines, m)
	}
	frames, held := 0, 0
	for seed := range seeds.Range(t, 200) {
		draw := rand.New(rand.NewPCG(seed, 7))
		m := machines[draw.IntN(len(machines))]
		var emitted []*Frame
		returning := NewRoster(ChannelID("sales"), m)
		emitting := newRoster(ChannelID("sales"), m, 0, false, func(s *stream, f *Frame) {
			require.Equal(t, s.epoch, f.Epoch)
			require.Equal(t, "mine", s.attached)
			emitted = append(emitted, f)
		})
		now := Instant(1)
		for step := range 100 {
			now = now.Add(time.Duration(draw.IntN(900)) * time.Millisecond)
			act := randomAct(draw, machines, now)
			want := act(returning)
			require.Empty(t, act(emitting))
			emitting.eachStream(func(s *stream) { s.attached = "mine" })
			require.Equal(t, want, emitted, "seed %d, step %d", seed, step)
			frames += len(want)
			if emitting.waits() {
				held++
			}
			emitted = nil
		}
	}
	if !seeds.Single() {
		require.Greater(t, frames, 1000)
		require.Greater(t, held, 1000)
	}
}

// randomAct returns something to do to a roster.
func randomAct(draw *rand.Rand, machines []*Machine, now Instant) func(*Roster) []*Frame {
	statuses := []Presence{
		{Status: "available", Class: ClassAvailable}, {Status: "busy", Class: ClassBusy}, {Status: "away", Class: ClassAway}, {Status: "offline", Class: ClassOffline},
	}
	subject := ID(fmt.Sprint(draw.IntN(5)))
	a := audiences[draw.IntN(len(audiences))]
	p := statuses[draw.IntN(len(statuses))]
	p.Subject, p.Known = subject, true
	m := machines[draw.IntN(len(machines))]
	hours := turns(time.Duration(1+draw.IntN(20)) * time.Second)
	behind := time.Duration(draw.IntN(3)) * time.Second
	switch n := draw.IntN(20); {
	case n < 9:
		return func(r *Roster) []*Frame { return r.Put(&p, now) }
	case n < 11:
		return func(r *Roster) []*Frame { return r.Remove(subject, now) }
	case n < 12:
		return func(r *Roster) []*Frame { return r.Tell(Change{Op: OpChallenge, Subject: subject, ID: "c"}) }
	case n < 14:
		return func(r *Roster) []*Frame { return r.Flush(now) }
	case n < 16:
		return func(r *Roster) []*Frame {
			r.Open(a, subject, func() string { return fmt.Sprint(a, subject) })
			return nil
		}
	case n < 17:
		return func(r *Roster) []*Frame {
			r.Close(a, subject)
			return nil
		}
	case n < 18:
		return func(r *Roster) []*Frame {
			r.SetMachine(m)
			return r.Republish(now)
		}
	case n < 19:
		return func(r *Roster) []*Frame { return r.SetHours(hours, now) }
	}
	return func(r *Roster) []*Frame { return r.SetClock(behind, now) }
}

// turns are hours that change every so often.
type turns time.Duration

func (h turns) OpenAt(now Instant) (bool, Instant) {
	n := int64(now) / int64(h)
	return n%2 == 0, Instant((n + 1) * int64(h))
}

// Closing a stream ends none that has begun since for the same audience.
func TestClosedStreamsEndNoOther(t *testing.T) {
	t.Parallel()
	m, err := Compile(DefaultPolicy())
	require.NoError(t, err)
	r := NewRoster(ChannelID("sales"), m)
	old := r.open(AudienceTeam, Ref{}, func() string { return "1" })
	r.closeStream(old)
	r.open(AudienceTeam, Ref{}, func() string { return "2" })
	r.closeStream(old)
	require.Len(t, r.Put(&Presence{Subject: ID("ann"), Known: true, Status: "available", Class: ClassAvailable}, 1), 1)
}

// List and Group of a roster are those of the snapshot that an audience gets.
func TestRosterListsWhatItSends(t *testing.T) {
	t.Parallel()
	policy := DefaultPolicy()
	policy.Widget.List = "online"
	r := NewRoster(ChannelID("sales"), must(Compile(policy)))
	for _, p := range []Presence{{Status: "available", Class: ClassAvailable}, {Status: "offline", Class: ClassOffline}} {
		p.Subject, p.Known = ID(p.Status), true
		r.Put(&p, 1)
	}
	for _, a := range audiences {
		f := r.Open(a, ID("offline"), func() string { return "1" })
		require.Equal(t, f.Members, r.List(a, ID("offline")), a)
		require.Equal(t, f.Group, r.Group(a, ID("offline")), a)
	}
	require.Len(t, r.List(AudienceVisitor, Ref{}), 1)
	require.Len(t, r.List(AudienceTeam, Ref{}), 2)
}
