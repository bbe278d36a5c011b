package presence_test

// Reproductions of what storage_test.go could not state because it fails now.
// Each test states what should hold. Uses the helpers of storage_test.go.

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/memory"
	"github.com/presence-go/presence/presencetest"
)

// F1: transition ids ("e1") come from State.Serial, which is stored only with
// claims; after a restart they are given again, and Append drops the new rows.
func TestF1JournalGoesOnAfterARestart(t *testing.T) {
	o := newOffice(t)
	var all []presence.JournalRow
	for range 2 {
		c := o.connect(ann, "tab")
		o.clock.Add(time.Minute)
		require.NoError(t, c.Logout())
		o.clock.Add(time.Minute)
		require.NoError(t, o.Close())
		all = append(all, o.told(ann)...)
		o.Tracker = o.open()
	}
	require.Equal(t, all, o.rows(ann))
}

// F1b: the same with a claim: Serial is stored, but not its later growth.
func TestF1bJournalGoesOnAfterARestart(t *testing.T) {
	o := newOffice(t)
	c := o.connect(ann, "tab")
	require.NoError(t, o.claim(ann, presence.Claim{Status: "busy"}))
	require.NoError(t, c.Logout()) // e4, not stored
	require.NoError(t, o.Close())
	all := o.told(ann)
	o.Tracker = o.open()
	o.clock.Add(time.Hour)
	require.NoError(t, o.connect(ann, "tab").Logout()) // e4 again
	o.sweep()
	all = append(all, o.told(ann)...)
	require.Equal(t, all, o.rows(ann))
}

// F2: after a restart a subject that never comes back shows its stored status
// for ever.
func TestF2NobodyComesBackAfterARestart(t *testing.T) {
	o := newOffice(t)
	o.connect(ann, "tab")
	require.NoError(t, o.claim(ann, presence.Claim{Status: "busy"}))
	o.restart()
	o.status(ann) // loads it
	o.clock.Add(time.Hour)
	o.sweep()
	require.Equal(t, "offline", o.status(ann))
}

// F2b: it had logged out before; the stored record still says busy.
func TestF2bLoggedOutBeforeARestart(t *testing.T) {
	o := newOffice(t)
	c := o.connect(ann, "tab")
	require.NoError(t, o.claim(ann, presence.Claim{Status: "busy"}))
	require.NoError(t, c.Logout())
	require.Equal(t, "offline", o.status(ann))
	o.restart()
	require.Equal(t, "offline", o.status(ann))
}

// F3: the last input is not stored on planned shutdown nor on becoming idle.
func TestF3IdleStaysIdleOverARestart(t *testing.T) {
	o := newOffice(t)
	c := o.connect(ann, "tab")
	for range 20 {
		o.clock.Add(25 * time.Second)
		require.NoError(t, c.Heartbeat())
		o.sweep()
	}
	require.Equal(t, "away", o.status(ann))
	o.restart()
	o.connect(ann, "tab")
	require.Equal(t, "away", o.status(ann))
}

// F4: after a lost answer a claim made again at a later instant conflicts, for
// ever.
func TestF4UnknownOutcomeLater(t *testing.T) {
	o := newOffice(t)
	o.connect(ann, "tab")
	o.storage.LoseAnswers(1, presencetest.Save)
	require.ErrorIs(t, o.claim(ann, presence.Claim{ID: "x", Status: "busy"}), presence.ErrUnavailable)
	o.clock.Add(time.Second)
	_ = o.claim(ann, presence.Claim{ID: "x", Status: "busy"}) // may find out
	require.NoError(t, o.claim(ann, presence.Claim{ID: "x", Status: "busy"}))
}

// F4b: the same behind: a dirty record whose answer was lost, with input since.
func TestF4bUnknownOutcomeBehind(t *testing.T) {
	o := newOffice(t)
	a := o.connect(ann, "a")
	b := o.connect(ann, "b")
	require.NoError(t, o.claim(ann, presence.Claim{Status: "busy", Conn: "a", DropOnDisconnect: true}))
	require.NoError(t, a.Logout())
	o.storage.LoseAnswers(1, presencetest.Save)
	_, err := o.Sweep(t.Context())
	require.ErrorIs(t, err, presence.ErrUnavailable)
	o.clock.Add(time.Second)
	require.NoError(t, b.Input())
	o.state(ann)                // takes the input over
	_, _ = o.Sweep(t.Context()) // may find out
	o.sweep()
}

// F5: a tracker that lost a conflict never recovers without a restart.
func TestF5ConflictHeals(t *testing.T) {
	o := newOffice(t)
	o.connect(ann, "tab")
	second := o.open()
	_, err := second.Connect(t.Context(), ann, presence.ConnectOptions{ID: "phone"})
	require.NoError(t, err)
	require.NoError(t, o.claim(ann, presence.Claim{Status: "busy"}))
	claim := func() error {
		_, err := second.SetClaim(t.Context(), presence.Agent(ann), ann, presence.Claim{Status: "away"})
		return err
	}
	require.ErrorIs(t, claim(), presence.ErrConflict)
	require.NoError(t, claim())
}

// F6: reads of unknown ids fill the tracker for good.
func TestF6UnknownIdsTakeNoRoom(t *testing.T) {
	tracker, err := presence.New(&presence.Options{Storage: memory.NewStorage(memory.StorageOptions{}), MaxSubjects: 3})
	require.NoError(t, err)
	for i := range 10 {
		_, err := tracker.Get(t.Context(), presence.ID(fmt.Sprint("nobody-", i)), presence.AudienceTeam)
		require.NoError(t, err)
	}
	_, err = tracker.Connect(t.Context(), ann, presence.ConnectOptions{})
	require.NoError(t, err)
}

// F7: Erase waits for itself while the subject's record is behind.
func TestF7EraseOfWhatIsBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker, err := presence.New(&presence.Options{Storage: memory.NewStorage(memory.StorageOptions{})})
		require.NoError(t, err)
		c, err := tracker.Connect(t.Context(), ann, presence.ConnectOptions{ID: "tab"})
		require.NoError(t, err)
		_, err = tracker.SetClaim(t.Context(), presence.Agent(ann), ann, presence.Claim{Status: "busy", DropOnDisconnect: true})
		require.NoError(t, err)
		require.NoError(t, c.Logout())
		start := time.Now()
		require.NoError(t, tracker.Erase(t.Context(), ann))
		require.Zero(t, time.Since(start))
	})
}

// F8: Erase and Sweep wait for each other: Sweep holds journal.flushing and
// waits for the intent, Erase holds the intent and waits for journal.flushing.
func TestF8EraseDuringSweep(t *testing.T) {
	o := newOffice(t)
	for _, ref := range []presence.Ref{bob, ann} {
		c := o.connect(ref, "tab")
		require.NoError(t, o.claim(ref, presence.Claim{Status: "busy", DropOnDisconnect: true}))
		require.NoError(t, c.Logout())
	}
	held, release := o.storage.Hold(presencetest.Save)
	swept, erased := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := o.Sweep(context.Background())
		swept <- err
	}()
	<-held // Sweep writes bob's record
	go func() { erased <- o.Erase(context.Background(), ann) }()
	<-time.After(100 * time.Millisecond) // Erase has taken ann's intent
	release()
	for _, done := range []chan error{swept, erased} {
		select {
		case err := <-done:
			require.NoError(t, err)
		case <-time.After(10 * time.Second):
			t.Fatal("Sweep and Erase wait for each other")
		}
	}
}

// F9: storage that hangs delays everybody's masks by 5 s for every record that
// is behind (watchers are told late; reads are right).
func TestF9MasksInTimeWhileStorageHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		storage := presencetest.NewFaultyStorage(memory.NewStorage(memory.StorageOptions{}))
		var late atomic.Int64
		d := newDesk(t, &presence.Options{Storage: storage, Observe: func(_ presence.Ref, o presence.Output) {
			if o.Kind == presence.OutputTransition && o.Trigger == presence.CauseIdle {
				late.Store(max(late.Load(), int64(presence.At(time.Now()).Sub(o.At))))
			}
		}})
		for i := range 10 {
			ref := presence.ID(fmt.Sprint("agent-", i))
			c, err := d.Connect(t.Context(), ref, presence.ConnectOptions{ID: "tab", Node: "n2"})
			require.NoError(t, err)
			_, err = d.SetClaim(t.Context(), presence.Agent(ref), ref, presence.Claim{Status: "busy", DropOnDisconnect: true})
			require.NoError(t, err)
			beat(t, c)
		}
		beat(t, d.login(ann, "tab"))
		time.Sleep(5*time.Minute - 20*time.Second)
		_, release := storage.Hold()
		defer release()
		// Fifteen seconds later their claims end, and their records are behind.
		require.NoError(t, d.Apply(t.Context(), presence.Event{Kind: presence.EventNodeDown, Node: "n2"}))
		time.Sleep(2 * time.Minute)
		require.Less(t, time.Duration(late.Load()), 5*time.Second)
	})
}

// F10: what happens while storage is asked makes the stored record another one
// than the state: claim id and serial differ, though the revision is the same.
func TestF10StoredIsWhatIsKnown(t *testing.T) {
	o := newOffice(t)
	c := o.connect(ann, "tab")
	for range 20 {
		o.clock.Add(25 * time.Second)
		require.NoError(t, c.Heartbeat())
		o.sweep()
	}
	require.Equal(t, "away", o.status(ann))
	held, release := o.storage.Hold(presencetest.Save)
	claimed := make(chan error, 1)
	go func() { claimed <- o.claim(ann, presence.Claim{Status: "busy"}) }()
	<-held
	require.NoError(t, c.Input()) // away -> available: takes the serial of the claim under way
	release()
	require.NoError(t, <-claimed)
	o.sweep()
	stored, _ := o.stored(ann)
	require.Equal(t, o.state(ann).Claims, stored.Claims)
	require.Equal(t, o.state(ann).Serial, stored.Serial)
}
