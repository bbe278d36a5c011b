package presence_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/memory"
	"github.com/presence-go/presence/presencetest"
)

// Who was there when the process ended has the start-up grace to come back.
func TestNobodyComesBackAfterARestart(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.connect(ann, "tab")
	require.NoError(t, o.claim(ann, presence.Claim{Status: "busy"}))
	o.crash()
	require.Equal(t, "busy", o.status(ann))
	require.Equal(t, presence.ReachLingering, o.state(ann).Current.Reach)
	o.clock.Add(presence.DefaultPolicy().StartupGrace - 1)
	o.sweep()
	require.Equal(t, "busy", o.status(ann))
	o.clock.Add(1)
	o.sweep()
	v, err := o.GetAs(t.Context(), presence.AudienceAdmin, ann)
	require.NoError(t, err)
	require.Equal(t, "offline", v.Status)
	require.Equal(t, presence.CauseNode, v.Cause)
	require.Equal(t, "busy", v.Masked)
	o.connect(ann, "tab")
	require.Equal(t, "busy", o.status(ann))
}

func TestLoggedOutBeforeARestart(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	c := o.connect(ann, "tab")
	require.NoError(t, o.claim(ann, presence.Claim{Status: "busy"}))
	o.clock.Add(time.Minute)
	require.NoError(t, c.Logout())
	before, err := o.GetAs(t.Context(), presence.AudienceAdmin, ann)
	require.NoError(t, err)
	require.Equal(t, "offline", before.Status)
	o.restart()
	o.clock.Add(time.Hour)
	after, err := o.GetAs(t.Context(), presence.AudienceAdmin, ann)
	require.NoError(t, err)
	require.Equal(t, before, after)
	require.NotContains(t, o.statuses(ann), "busy")
}

// Who is idle does not come back fresh after a deploy, nor after a crash.
func TestIdleStaysIdleOverARestart(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"close", "crash"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			o := newOffice(t)
			c := o.connect(ann, "tab")
			for range 13 {
				o.clock.Add(25 * time.Second)
				require.NoError(t, c.Heartbeat())
				o.sweep()
			}
			require.Equal(t, "away", o.status(ann))
			if end == "close" {
				o.restart()
			} else {
				o.crash()
			}
			o.connect(ann, "tab")
			require.Equal(t, "away", o.status(ann))
			require.NotContains(t, o.statuses(ann), "available")
		})
	}
}

// What happens after a restart is not taken for what happened before.
func TestJournalGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	for _, claims := range []bool{false, true} {
		o := newOffice(t)
		var all []presence.JournalRow
		for range 4 {
			o.clock.Add(time.Minute)
			c := o.connect(ann, "tab")
			if claims {
				require.NoError(t, o.claim(ann, presence.Claim{Status: "busy", For: 10 * time.Second}))
			}
			o.clock.Add(20 * time.Second)
			require.NoError(t, c.Logout())
			require.NoError(t, o.Close())
			all = append(all, o.told(ann)...)
			o.Tracker = o.open()
		}
		require.GreaterOrEqual(t, len(all), 8)
		require.Equal(t, all, o.rows(ann))
	}
}

// What nobody waits for, and may or may not have been stored, is written again,
// also if the subject has gone on meanwhile.
func TestRecordOfUnknownOutcomeIsWrittenAgain(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	laptop := o.connect(ann, "laptop")
	phone := o.connect(ann, "phone")
	require.NoError(t, o.claim(ann, presence.Claim{Status: "busy", Conn: "laptop", DropOnDisconnect: true}))
	require.NoError(t, laptop.Logout())
	o.storage.LoseAnswers(1, presencetest.Save)
	_, err := o.Sweep(t.Context())
	require.ErrorIs(t, err, presence.ErrUnavailable)
	o.clock.Add(time.Second)
	require.NoError(t, phone.Input())
	require.Equal(t, "available", o.status(ann))
	o.sweep()
	state, _ := o.stored(ann)
	require.Empty(t, state.Claims)
	require.NoError(t, o.claim(ann, presence.Claim{Status: "busy"}))
}

// contested is storage in which somebody else is always quicker.
type contested struct{ *memory.Storage }

func (contested) Save(context.Context, ...presence.Write) error {
	return fmt.Errorf("contested: %w", presence.ErrConflict)
}

func TestConflictWithoutEndIsRefused(t *testing.T) {
	t.Parallel()
	tracker, err := presence.New(&presence.Options{Storage: contested{inMemory(0)}})
	require.NoError(t, err)
	_, err = tracker.Connect(t.Context(), ann, presence.ConnectOptions{ID: "tab"})
	require.NoError(t, err)
	for range 2 {
		_, err = tracker.SetClaim(t.Context(), presence.Agent(ann), ann, presence.Claim{Status: "busy"})
		require.ErrorIs(t, err, presence.ErrUnavailable)
		require.ErrorIs(t, err, presence.ErrConflict)
		state, err := tracker.State(t.Context(), ann)
		require.NoError(t, err)
		require.Empty(t, state.Claims)
		require.Equal(t, "available", state.Current.Status)
	}
}

// What happens to a subject while storage is asked does not make storage hold
// anything else than what is known.
func TestStoredIsWhatIsKnown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		c := o.connect(ann, "tab")
		for range 13 {
			o.clock.Add(25 * time.Second)
			require.NoError(t, c.Heartbeat())
			o.sweep()
		}
		require.Equal(t, "away", o.status(ann))
		held, release := o.storage.Hold(presencetest.Save)
		claimed := make(chan error, 1)
		go func() { claimed <- o.claim(ann, presence.Claim{Status: "busy"}) }()
		<-held
		require.NoError(t, c.Input())
		require.Equal(t, "available", o.status(ann))
		o.connect(ann, "phone")
		release()
		require.NoError(t, <-claimed)
		o.sweep()
		known := o.state(ann)
		stored, _ := o.stored(ann)
		require.Equal(t, known.Claims, stored.Claims)
		require.Equal(t, known.Serial, stored.Serial)
		require.Equal(t, o.told(ann), o.rows(ann))
	})
}

// Asking for ids that nobody has heard of takes no room from those who come.
func TestReadsOfUnknownIDsTakeNoRoom(t *testing.T) {
	t.Parallel()
	tracker, err := presence.New(&presence.Options{Storage: inMemory(0), MaxSubjects: 2})
	require.NoError(t, err)
	for i := range 10 {
		ref := presence.ID(fmt.Sprint("nobody-", i))
		v, err := tracker.GetAs(t.Context(), presence.AudienceTeam, ref)
		require.NoError(t, err)
		require.Equal(t, presence.StatusUnknown, v.Status)
		_, err = tracker.SetClaim(t.Context(), presence.Agent(ref), ref, presence.Claim{Status: "busy"})
		require.ErrorIs(t, err, presence.ErrUnknown)
	}
	for _, ref := range []presence.Ref{ann, bob} {
		_, err = tracker.Connect(t.Context(), ref, presence.ConnectOptions{})
		require.NoError(t, err)
	}
	require.NoError(t, tracker.Close())
}

// Erasing does not wait for what is to be deleted to be written first.
func TestEraseOfWhatIsBehind(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	c := o.connect(ann, "tab")
	require.NoError(t, o.claim(ann, presence.Claim{Status: "busy", DropOnDisconnect: true}))
	require.NoError(t, c.Logout())
	require.NoError(t, o.Erase(t.Context(), ann))
	o.sweep()
	_, found := o.stored(ann)
	require.False(t, found)
	require.Empty(t, o.rows(ann))
}

// TestEraseOfAnUnknownSubject deletes what storage has, and refuses the id.
func TestEraseOfAnUnknownSubject(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	require.NoError(t, o.memory.Append(t.Context(), presence.JournalRow{ID: "r1", Subject: ann, Kind: "transition"}))
	for range 2 {
		require.NoError(t, o.Erase(t.Context(), ann))
		require.Empty(t, o.rows(ann))
		_, err := o.Connect(t.Context(), ann, presence.ConnectOptions{})
		require.ErrorIs(t, err, presence.ErrNotAllowed)
		o.clock.Add(time.Hour)
	}
	o.clock.Add(24 * time.Hour)
	o.connect(ann, "tab")

	tracker, err := presence.New(nil)
	require.NoError(t, err)
	defer tracker.Close()
	require.NoError(t, tracker.Erase(t.Context(), ann))
	require.ErrorIs(t, tracker.AddMember(t.Context(), sales, ann), presence.ErrNotAllowed)
	require.ErrorIs(t, tracker.Erase(t.Context(), presence.Ref{}), presence.ErrInvalid)
}

// Erasing and writing at the same time neither wait for each other nor leave
// anything behind, whichever subject is being written.
func TestEraseWhileRecordsAreWritten(t *testing.T) {
	t.Parallel()
	for _, order := range [][]presence.Ref{{ann, bob}, {bob, ann}} {
		synctest.Test(t, func(t *testing.T) {
			o := newOffice(t)
			for _, ref := range order {
				c := o.connect(ref, "tab")
				require.NoError(t, o.claim(ref, presence.Claim{Status: "busy", DropOnDisconnect: true}))
				require.NoError(t, c.Logout())
			}
			held, release := o.storage.Hold(presencetest.Save, presencetest.Append)
			done := make(chan error, 2)
			go func() {
				_, err := o.Sweep(t.Context())
				done <- err
			}()
			<-held
			go func() { done <- o.Erase(t.Context(), ann) }()
			synctest.Wait()
			release()
			require.NoError(t, <-done)
			require.NoError(t, <-done)
			o.sweep()
			_, found := o.stored(ann)
			require.False(t, found)
			require.Empty(t, o.rows(ann))
			state, _ := o.stored(bob)
			require.Empty(t, state.Claims)
			require.Equal(t, o.told(bob), o.rows(bob))
		})
	}
}

// Storage that hangs does not delay what others are told.
func TestMasksInTimeWhileStorageHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		storage := presencetest.NewFaultyStorage(inMemory(0))
		var told atomic.Int64 // when it was said that ann is idle
		d := newDesk(t, &presence.Options{Storage: storage})
		d.Observe(func(ref presence.Ref, o *presence.Output) {
			if ref == ann && o.Trigger == presence.CauseIdle {
				told.Store(int64(presence.At(time.Now())))
			}
		})
		for i := range 10 {
			ref := presence.ID(fmt.Sprint("agent-", i))
			c, err := d.Connect(t.Context(), ref, presence.ConnectOptions{ID: "tab", Node: "n2"})
			require.NoError(t, err)
			_, err = d.SetClaim(t.Context(), presence.Agent(ref), ref, presence.Claim{Status: "busy", DropOnDisconnect: true})
			require.NoError(t, err)
			beat(t, c)
		}
		beat(t, d.login(ann, "tab"))
		idle := presence.At(time.Now()).Add(5 * time.Minute)
		time.Sleep(5*time.Minute - 20*time.Second)
		_, release := storage.Hold()
		defer release()
		// Fifteen seconds later their claims end, and ten records are behind.
		require.NoError(t, d.Apply(t.Context(), presence.Event{Kind: presence.EventNodeDown, Node: "n2"}))
		time.Sleep(2 * time.Minute)
		require.Equal(t, idle, presence.Instant(told.Load()))
	})
}

// One record that cannot be read is not overwritten, and holds up no other.
func TestOneBadRecordHoldsUpNobody(t *testing.T) {
	o := newOffice(t)
	conns := make(map[presence.Ref]*presence.Conn)
	for _, ref := range []presence.Ref{ann, bob} {
		conns[ref] = o.connect(ref, "tab")
		require.NoError(t, o.claim(ref, presence.Claim{Status: "busy", DropOnDisconnect: true}))
	}
	o.sweep()
	// Somebody newer has written ann's record.
	records, err := o.memory.Load(t.Context(), ann)
	require.NoError(t, err)
	require.NoError(t, o.memory.Save(t.Context(), presence.Write{
		Record: presence.Record{Subject: ann, Revision: records[0].Revision + 1, Data: []byte(`{"version":2}`)}, Expect: records[0].Revision,
	}))
	require.NoError(t, conns[ann].Logout())
	require.NoError(t, conns[bob].Logout())
	for range 3 {
		_, err := o.Sweep(t.Context())
		require.ErrorContains(t, err, "version")
	}
	records, err = o.memory.Load(t.Context(), ann)
	require.NoError(t, err)
	require.Equal(t, `{"version":2}`, string(records[0].Data), "what somebody newer wrote is not overwritten")
	state, _ := o.stored(bob)
	require.Empty(t, state.Claims, "bob's record is written")
	require.Equal(t, o.told(bob), o.rows(bob), "and the journal")
}

// A claim of unknown outcome is in the journal once it is known to be there.
func TestJournalOfUnknownOutcome(t *testing.T) {
	for _, id := range []string{"", "x"} {
		o := newOffice(t)
		o.connect(ann, "tab")
		o.storage.LoseAnswers(1, presencetest.Save)
		require.ErrorIs(t, o.claim(ann, presence.Claim{ID: id, Status: "busy"}), presence.ErrUnavailable)
		o.clock.Add(time.Second)
		require.NoError(t, o.claim(ann, presence.Claim{ID: id, Status: "busy"}))
		o.sweep()
		set := make(map[string]bool)
		for _, row := range o.rows(ann) {
			switch row.Kind {
			case presence.RowClaimSet:
				set[row.ID[len("claim-set/"):]] = true
			case presence.RowClaimEnded:
				require.True(t, set[row.ID[len("claim-ended/"):]], "ended without having been set")
			}
		}
		for _, c := range o.state(ann).Claims {
			require.True(t, set[c.ID], "claim %s is in the journal", c.ID)
		}
	}
}

// Two trackers write the same subject in turn; no claim is lost.
func TestNoLostUpdate(t *testing.T) {
	o := newOffice(t)
	o.connect(ann, "tab")
	second := o.open()
	_, err := second.Connect(t.Context(), ann, presence.ConnectOptions{ID: "phone"})
	require.NoError(t, err)
	system := presence.Actor{Subject: presence.ID("cal"), Role: presence.RoleSystem}
	for i, tr := range []*presence.Tracker{o.Tracker, second, o.Tracker, second} {
		_, err := tr.SetClaim(t.Context(), system, ann, presence.Claim{Status: "busy", Source: presence.SourceApp, Key: string(rune('a' + i))})
		require.NoError(t, err)
	}
	state, _ := o.stored(ann)
	require.Len(t, state.Claims, 4)
	s2, err := second.State(t.Context(), ann)
	require.NoError(t, err)
	require.Equal(t, state.Claims, s2.Claims)
}

// What somebody chose is not written anew after another tracker erased them.
func TestErasedElsewhere(t *testing.T) {
	o := newOffice(t)
	c := o.connect(ann, "tab")
	require.NoError(t, o.claim(ann, presence.Claim{Status: "busy", Text: "private"}))
	o.sweep()
	second := o.open()
	require.NoError(t, second.Erase(t.Context(), ann))
	require.NoError(t, c.Logout())
	o.sweep()
	state, _ := o.stored(ann)
	require.Empty(t, state.Claims)
	require.Empty(t, o.state(ann).Claims)
}

// A tracker that is behind does not undo what another has written meanwhile.
func TestBehindAndConflict(t *testing.T) {
	o := newOffice(t)
	c := o.connect(ann, "tab")
	require.NoError(t, o.claim(ann, presence.Claim{Status: "busy", DropOnDisconnect: true}))
	o.sweep()
	first := o.Tracker
	second := o.open()
	_, err := second.SetClaim(t.Context(), presence.Agent(ann), ann, presence.Claim{Status: "away"})
	require.NoError(t, err)
	require.NoError(t, c.Logout()) // drops busy here; it is replaced by away there
	_, err = first.Sweep(t.Context())
	require.NoError(t, err)
	st, _ := o.stored(ann)
	require.Len(t, st.Claims, 1)
	require.Equal(t, "away", st.Claims[0].Status)
}

// What stands for the connections of the process before is told in words.
func TestExplainedAfterARestart(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.connect(ann, "tab")
	o.sweep()
	o.restart()
	lines, err := o.ExplainAs(t.Context(), presence.AudienceSelf, ann)
	require.NoError(t, err)
	require.Contains(t, lines, "0 of 0 connections live")
	require.Contains(t, lines, "the connections from before a restart at 2026-01-05T09:00:00Z count until 2026-01-05T09:00:30Z")
	require.NotContains(t, strings.Join(lines, ""), "\x00")
}

// What can only be refused of somebody nobody has heard of takes no room.
func TestRefusedEventsOfUnknownIDsTakeNoRoom(t *testing.T) {
	t.Parallel()
	tracker, err := presence.New(&presence.Options{MaxSubjects: 1})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, tracker.Close()) })
	for i := range 100 {
		stranger := presence.Ref{Tenant: fmt.Sprint("tenant", i%2), ID: fmt.Sprint("made-up-", i)}
		require.ErrorIs(t, tracker.Heartbeat(stranger, "tab"), presence.ErrUnknown)
		for _, e := range []presence.Event{
			{Kind: presence.EventInput, Conn: "tab"},
			{Kind: presence.EventFocus, Conn: "tab"},
			{Kind: presence.EventVisible, Conn: "tab"},
			{Kind: presence.EventDisconnect, Conn: "tab", Cause: presence.CauseClosed},
			{Kind: presence.EventEndClaim, Actor: presence.Agent(stranger)},
			{Kind: presence.EventOffer},
			{Kind: presence.EventDone},
			{Kind: presence.EventChallenge},
			{Kind: presence.EventAck},
			{Kind: presence.EventRequest, Actor: presence.Agent(stranger), Claim: presence.Claim{Status: "busy"}},
			{Kind: presence.EventWithdraw, Actor: presence.Agent(stranger)},
			{Kind: presence.EventDecide, Actor: presence.Actor{Subject: presence.Ref{Tenant: stranger.Tenant, ID: "boss"}, Role: presence.RoleSupervisor}},
		} {
			e.Subject = stranger
			require.ErrorIs(t, tracker.Apply(t.Context(), e), presence.ErrUnknown, "%d", e.Kind)
		}
	}
	_, err = tracker.Connect(t.Context(), ann, presence.ConnectOptions{})
	require.NoError(t, err)
}
