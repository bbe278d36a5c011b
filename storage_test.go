package presence_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/memory"
	"github.com/presence-go/presence/presencetest"
)

// office is a tracker over storage with faults, on a clock moved by hand.
type office struct {
	*presence.Tracker
	t       *testing.T
	clock   *clock.Mock
	memory  *memory.Storage
	storage *presencetest.FaultyStorage

	mu  sync.Mutex
	out map[presence.Ref][]presence.Output // everything that was told
}

// newOffice opens storage and a tracker over it.
func newOffice(t *testing.T) *office {
	t.Helper()
	m := inMemory(100_000)
	o := &office{t: t, clock: clock.NewMock(), memory: m, storage: presencetest.NewFaultyStorage(m)}
	o.clock.Set(time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC))
	o.Tracker = o.open()
	return o
}

// open starts another tracker over the same storage. What it tells is noted.
func (o *office) open() *presence.Tracker {
	o.t.Helper()
	o.out = make(map[presence.Ref][]presence.Output)
	tracker, err := presence.New(&presence.Options{Storage: o.storage, Clock: o.clock})
	require.NoError(o.t, err)
	tracker.Observe(func(ref presence.Ref, out *presence.Output) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.out[ref] = append(o.out[ref], *out)
	})
	return tracker
}

// restart closes the tracker and opens another one in its place.
func (o *office) restart() {
	o.t.Helper()
	require.NoError(o.t, o.Close())
	o.Tracker = o.open()
}

// crash leaves the tracker as it is and opens another one in its place.
func (o *office) crash() { o.Tracker = o.open() }

func (o *office) connect(ref presence.Ref, conn string) *presence.Conn {
	o.t.Helper()
	c, err := o.Connect(o.t.Context(), ref, presence.ConnectOptions{ID: conn})
	require.NoError(o.t, err)
	return c
}

func (o *office) claim(ref presence.Ref, c presence.Claim) error {
	_, err := o.SetClaim(o.t.Context(), presence.Agent(ref), ref, c)
	return err
}

func (o *office) status(ref presence.Ref) string {
	o.t.Helper()
	v, err := o.GetAs(o.t.Context(), presence.AudienceAdmin, ref)
	require.NoError(o.t, err)
	return v.Status
}

func (o *office) sweep() {
	o.t.Helper()
	_, err := o.Sweep(o.t.Context())
	require.NoError(o.t, err)
}

// statuses returns every status of a subject that was told since the tracker
// was opened.
func (o *office) statuses(ref presence.Ref) (list []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, out := range o.out[ref] {
		if out.Kind == presence.OutputTransition || out.Kind == presence.OutputUpdated {
			list = append(list, out.Presence.Status)
		}
	}
	return list
}

// told returns the rows of a subject's journal as the outputs had them.
func (o *office) told(ref presence.Ref) (rows []presence.JournalRow) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, out := range o.out[ref] {
		if row, ok := out.Row(); ok {
			row.Subject = ref
			rows = append(rows, row)
		}
	}
	return rows
}

// rows returns the rows of a subject's journal that are stored.
func (o *office) rows(ref presence.Ref) []presence.JournalRow {
	o.t.Helper()
	rows, err := o.memory.Journal(o.t.Context(), presence.JournalQuery{Subject: ref, Limit: 100_000})
	require.NoError(o.t, err)
	return rows
}

// stored returns what storage has of a subject.
func (o *office) stored(ref presence.Ref) (presence.State, bool) {
	o.t.Helper()
	records, err := o.memory.Load(o.t.Context(), ref)
	require.NoError(o.t, err)
	if len(records) == 0 {
		return presence.State{}, false
	}
	state, err := records[0].State()
	require.NoError(o.t, err)
	return state, true
}

// state returns all that is known of a subject.
func (o *office) state(ref presence.Ref) presence.State {
	o.t.Helper()
	state, err := o.State(o.t.Context(), ref)
	require.NoError(o.t, err)
	return state
}

func TestClaimsSurviveARestart(t *testing.T) {
	t.Parallel()
	boss := presence.Actor{Subject: presence.ID("boss"), Role: presence.RoleSupervisor}
	tests := []struct {
		name  string
		actor presence.Actor
		claim presence.Claim
		away  time.Duration // for which nobody runs
		want  string
	}{
		{"chosen", presence.Agent(ann), presence.Claim{Status: "busy"}, time.Hour, "busy"},
		{"chosen for longer", presence.Agent(ann), presence.Claim{Status: "busy", For: 2 * time.Hour}, time.Hour, "busy"},
		{"chosen until just after", presence.Agent(ann), presence.Claim{Status: "busy", For: time.Hour + 1}, time.Hour, "busy"},
		{"chosen until then", presence.Agent(ann), presence.Claim{Status: "busy", For: time.Hour}, time.Hour, "away"}, // idle all the while
		{"imposed", boss, presence.Claim{Status: "busy", Reason: "training"}, time.Hour, "busy"},
	}
	for _, test := range tests {
		for _, end := range []string{"close", "crash"} {
			t.Run(test.name+", then "+end, func(t *testing.T) {
				t.Parallel()
				o := newOffice(t)
				o.connect(ann, "tab")
				_, err := o.SetClaim(t.Context(), test.actor, ann, test.claim)
				require.NoError(t, err)
				require.Equal(t, "busy", o.status(ann))
				before := o.state(ann).Claims[0]

				if end == "close" {
					o.restart()
				} else {
					o.crash()
				}
				o.clock.Add(test.away)
				o.connect(ann, "tab")
				require.Equal(t, test.want, o.status(ann))
				if test.want == "busy" {
					for _, status := range o.statuses(ann) {
						require.Equal(t, "busy", status, "nothing else is told first")
					}
					require.Equal(t, []presence.Claim{before}, o.state(ann).Claims)
				} else {
					require.Empty(t, o.state(ann).Claims)
				}
			})
		}
	}
}

// Whoever watches before the connection is back does not see it come as
// available either.
func TestWatcherOfARestartSeesWhatWasChosen(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.connect(ann, "tab")
	require.NoError(t, o.claim(ann, presence.Claim{Status: "busy"}))
	o.restart()
	w, err := o.WatchSubject(t.Context(), presence.Agent(bob), ann, presence.WatchOptions{})
	require.NoError(t, err)
	o.connect(ann, "tab")
	o.sweep()
	for {
		f, err := w.Poll()
		require.NoError(t, err)
		if f == nil {
			break
		}
		for _, v := range f.Members {
			require.NotEqual(t, "available", v.Status)
		}
		for _, c := range f.Changes {
			require.NotEqual(t, "available", c.View.Status)
		}
	}
	require.Equal(t, "busy", o.status(ann))
}

// A subject of which storage cannot be asked is not taken for a new one.
func TestSubjectThatCannotBeLoadedIsRefused(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.connect(ann, "tab")
	require.NoError(t, o.claim(ann, presence.Claim{Status: "busy"}))
	o.restart()

	o.storage.Down()
	_, err := o.Connect(t.Context(), ann, presence.ConnectOptions{ID: "tab", Login: true})
	require.ErrorIs(t, err, presence.ErrUnavailable)
	require.ErrorIs(t, err, presencetest.ErrFault)
	_, err = o.GetAs(t.Context(), presence.AudienceTeam, ann)
	require.ErrorIs(t, err, presence.ErrUnavailable)
	require.ErrorIs(t, o.claim(ann, presence.Claim{Status: "away"}), presence.ErrUnavailable)
	require.ErrorIs(t, o.Erase(t.Context(), ann), presence.ErrUnavailable)
	require.Empty(t, o.statuses(ann), "nothing is told of it")

	o.storage.Up()
	o.connect(ann, "tab")
	require.Equal(t, "busy", o.status(ann))
	require.NotContains(t, o.statuses(ann), "available")
}

func TestRecordThatCannotBeReadIsRefused(t *testing.T) {
	t.Parallel()
	for _, data := range []string{"", "{", `{"version":2}`} {
		o := newOffice(t)
		require.NoError(t, o.memory.Save(t.Context(), presence.Write{Record: presence.Record{Subject: ann, Revision: 3, Data: []byte(data)}}))
		_, err := o.Connect(t.Context(), ann, presence.ConnectOptions{})
		require.ErrorContains(t, err, `record "ann"`, "%q", data)
		require.Empty(t, o.statuses(ann))
	}
}

func TestStorageDown(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	require.NoError(t, o.AddMember(t.Context(), sales, ann))
	c := o.connect(ann, "tab")
	o.connect(bob, "tab")
	require.NoError(t, o.claim(bob, presence.Claim{Status: "busy"}))
	o.sweep()
	w, err := o.Watch(t.Context(), presence.Agent(ann), sales, presence.WatchOptions{})
	require.NoError(t, err)
	f, err := w.Poll()
	require.NoError(t, err)
	require.Equal(t, "available", f.Members[0].Status)

	o.storage.Down()
	before := o.state(ann)
	for range 3 {
		err := o.claim(ann, presence.Claim{Status: "busy"})
		require.ErrorIs(t, err, presence.ErrUnavailable)
		require.ErrorIs(t, err, presencetest.ErrFault)
	}
	_, err = c.Claim(t.Context(), presence.Claim{Status: "busy"})
	require.ErrorIs(t, err, presence.ErrUnavailable)
	require.ErrorIs(t, o.Disable(t.Context(), ann), presence.ErrUnavailable)
	require.ErrorIs(t, o.Erase(t.Context(), ann), presence.ErrUnavailable)
	require.Equal(t, before, o.state(ann), "what was refused changed nothing")
	_, err = o.EndClaim(t.Context(), presence.Agent(bob), bob, presence.Claim{})
	require.ErrorIs(t, err, presence.ErrUnavailable)
	require.Equal(t, "busy", o.status(bob))

	// Reads, masks and connections of those who are known go on.
	for range 13 {
		o.clock.Add(25 * time.Second)
		require.NoError(t, c.Heartbeat())
		_, _ = o.Sweep(t.Context())
	}
	require.Equal(t, "away", o.status(ann))
	require.Equal(t, "offline", o.status(bob), "its lease has run out")
	f, err = w.Poll()
	require.NoError(t, err)
	require.Equal(t, "away", f.Changes[0].View.Status)
	list, group, err := o.ListAs(t.Context(), presence.AudienceTeam, sales, nil)
	require.NoError(t, err)
	require.Equal(t, "away", list[0].Status)
	require.Equal(t, presence.GroupAway, group.Status)
	o.connect(bob, "tab")
	require.Equal(t, "busy", o.status(bob))
	require.NoError(t, c.Input())
	require.Equal(t, "available", o.status(ann))
	_, err = o.Sweep(t.Context())
	require.ErrorIs(t, err, presence.ErrUnavailable, "and it is said that storage is behind")

	// It goes on without a restart.
	o.storage.Up()
	require.NoError(t, o.claim(ann, presence.Claim{Status: "busy"}))
	require.Equal(t, "busy", o.status(ann))
	o.sweep()
	require.Equal(t, o.told(ann), o.rows(ann))
	require.Equal(t, o.told(bob), o.rows(bob))
	o.restart()
	o.connect(ann, "tab")
	require.Equal(t, "busy", o.status(ann))
}

// What changed without anybody waiting for it is written when storage is back.
func TestRecordsThatAreBehindAreWritten(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{"down", "fails", "loses answers"} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			o := newOffice(t)
			refs := []presence.Ref{ann, bob, {Tenant: "acme", ID: "ann"}}
			conns := make(map[presence.Ref]*presence.Conn)
			for _, ref := range refs {
				conns[ref] = o.connect(ref, "tab")
				require.NoError(t, o.claim(ref, presence.Claim{Status: "busy", DropOnDisconnect: true}))
			}
			o.sweep()
			switch fault {
			case "down":
				o.storage.Down()
			case "fails":
				o.storage.Fail(len(refs)+1, presencetest.Save, presencetest.Append)
			case "loses answers":
				o.storage.LoseAnswers(len(refs)+1, presencetest.Save, presencetest.Append)
			}
			for _, ref := range refs {
				require.NoError(t, conns[ref].Logout())
				require.Equal(t, "offline", o.status(ref))
				require.Empty(t, o.state(ref).Claims)
			}
			_, err := o.Sweep(t.Context())
			require.ErrorIs(t, err, presence.ErrUnavailable)
			for _, ref := range refs {
				if state, _ := o.stored(ref); fault != "loses answers" {
					require.Len(t, state.Claims, 1, "storage is behind")
				}
			}
			o.storage.Up()
			o.clock.Add(time.Second)
			o.sweep()
			for _, ref := range refs {
				state, _ := o.stored(ref)
				require.Empty(t, state.Claims)
				require.Equal(t, o.told(ref), o.rows(ref))
			}
			calls := o.storage.Calls(presencetest.Save, presencetest.Append)
			o.sweep()
			require.Equal(t, calls, o.storage.Calls(presencetest.Save, presencetest.Append), "nothing is left to be written")
		})
	}
}

// A claim whose storing may or may not have worked is refused; made again, now
// or later, it is there once.
func TestClaimOfUnknownOutcomeCanBeRepeated(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"", "the-callers"} {
		for _, later := range []time.Duration{0, time.Second} {
			t.Run(fmt.Sprintf("id %q after %v", id, later), func(t *testing.T) {
				t.Parallel()
				o := newOffice(t)
				o.connect(ann, "tab")
				before := o.state(ann)
				o.storage.LoseAnswers(1, presencetest.Save)
				require.ErrorIs(t, o.claim(ann, presence.Claim{ID: id, Status: "busy"}), presence.ErrUnavailable)
				require.Equal(t, before, o.state(ann))
				require.Equal(t, "available", o.status(ann))

				o.clock.Add(later)
				require.NoError(t, o.claim(ann, presence.Claim{ID: id, Status: "busy"}))
				require.Equal(t, "busy", o.status(ann))
				require.Len(t, o.state(ann).Claims, 1)
				require.NoError(t, o.claim(ann, presence.Claim{Status: "away"}), "and it goes on from there")
				o.sweep()
				require.Equal(t, o.told(ann), o.rows(ann))
				state, _ := o.stored(ann)
				require.Equal(t, o.state(ann).Claims, state.Claims)
			})
		}
	}
}

// The journal holds what was told, each once and in order, whatever storage
// does meanwhile.
// A change that is known to have failed may be stored all the same. Taking it
// back must then reach storage, although there seems to be nothing to take back.
func TestChangeOfUnknownOutcomeIsTakenBack(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.connect(ann, "tab")
	o.sweep()
	o.storage.LoseAnswers(1, presencetest.Save)
	require.ErrorIs(t, o.claim(ann, presence.Claim{Status: "busy"}), presence.ErrUnavailable)
	require.Equal(t, "available", o.status(ann))
	_, err := o.EndClaim(t.Context(), presence.Agent(ann), ann, presence.Claim{})
	require.NoError(t, err)
	stored, ok := o.stored(ann)
	require.True(t, ok)
	require.Empty(t, stored.Claims)
	o.crash()
	o.connect(ann, "tab")
	require.Equal(t, "available", o.status(ann))
}

func TestJournalHoldsEachRowOnceInOrder(t *testing.T) {
	t.Parallel()
	refs := []presence.Ref{ann, bob, {Tenant: "acme", ID: "ann"}}
	for seed := range uint64(40) {
		random := rand.New(rand.NewPCG(seed, 7))
		o := newOffice(t)
		conns := make(map[presence.Ref]*presence.Conn)
		for _, ref := range refs {
			conns[ref] = o.connect(ref, "tab")
		}
		for range 150 {
			ref := refs[random.IntN(len(refs))]
			switch random.IntN(12) {
			case 0:
				_ = conns[ref].Close()
			case 1, 2:
				if c, err := o.Connect(t.Context(), ref, presence.ConnectOptions{ID: "tab"}); err == nil {
					conns[ref] = c
				}
			case 3:
				_ = conns[ref].Input()
			case 4, 5:
				_ = o.claim(ref, presence.Claim{Status: []string{"busy", "away", "available"}[random.IntN(3)]})
			case 6:
				_ = o.claim(ref, presence.Claim{Status: "busy", For: time.Duration(1+random.IntN(100)) * time.Second, DropOnDisconnect: true})
			case 7:
				o.storage.Fail(1+random.IntN(3), presencetest.Append)
			case 8:
				o.storage.LoseAnswers(1+random.IntN(3), presencetest.Append)
			case 9:
				o.storage.Fail(1, presencetest.Save)
			default:
				o.clock.Add(time.Duration(random.IntN(120)) * time.Second)
				_, _ = o.Sweep(t.Context())
			}
		}
		o.storage.Up()
		o.sweep()
		for _, ref := range refs {
			require.Equal(t, o.told(ref), o.rows(ref), "seed %d, journal of %s", seed, ref)
			var read []presence.JournalRow
			for row, err := range o.Journal(t.Context(), presence.JournalQuery{Subject: ref}) {
				require.NoError(t, err)
				read = append(read, row)
			}
			require.Equal(t, o.told(ref), read, "seed %d, journal of %s read back", seed, ref)
		}
	}
}

// More rows than go into one call are stored piece by piece, and what storage
// took before it failed is not lost or doubled.
func TestJournalInPieces(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	c := o.connect(ann, "tab")
	o.storage.Down()
	for range 800 {
		require.NoError(t, c.Logout())
		c = o.connect(ann, "tab")
	}
	_, err := o.Sweep(t.Context())
	require.ErrorIs(t, err, presence.ErrUnavailable)
	o.storage.Up()
	o.storage.LoseAnswers(1, presencetest.Append)
	_, err = o.Sweep(t.Context())
	require.ErrorIs(t, err, presence.ErrUnavailable)
	require.NoError(t, c.Logout())
	o.sweep()
	require.Len(t, o.rows(ann), 1602)
	require.Equal(t, o.told(ann), o.rows(ann))

	for _, limit := range []int{0, -1} {
		var read []presence.JournalRow
		for row, err := range o.Journal(t.Context(), presence.JournalQuery{Subject: ann, Limit: limit}) {
			require.NoError(t, err)
			read = append(read, row)
		}
		require.Equal(t, o.told(ann), read, "page by page")
	}
}

func TestJournalOfStorageThatCannotReadIt(t *testing.T) {
	t.Parallel()
	tracker, err := presence.New(&presence.Options{Storage: struct{ presence.Storage }{inMemory(0)}})
	require.NoError(t, err)
	_, err = tracker.Connect(t.Context(), ann, presence.ConnectOptions{})
	require.NoError(t, err)
	for _, err := range tracker.Journal(t.Context(), presence.JournalQuery{Subject: ann}) {
		require.ErrorIs(t, err, presence.ErrUnavailable)
	}
	require.NoError(t, tracker.Close())
}

func TestCloseWritesWhatIsLeft(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	c := o.connect(ann, "tab")
	require.NoError(t, o.claim(ann, presence.Claim{Status: "busy", DropOnDisconnect: true}))
	require.NoError(t, c.Logout())
	require.Empty(t, o.rows(ann), "nobody swept yet")
	require.NoError(t, o.Close())
	require.Equal(t, o.told(ann), o.rows(ann))
	state, _ := o.stored(ann)
	require.Empty(t, state.Claims)

	o = newOffice(t)
	o.connect(ann, "tab")
	o.storage.Down()
	require.ErrorIs(t, o.Close(), presence.ErrUnavailable, "it says so if it cannot")
}

func TestEraseLeavesNothingInStorage(t *testing.T) {
	t.Parallel()
	other := presence.Ref{Tenant: "acme", ID: "ann"}
	o := newOffice(t)
	for _, ref := range []presence.Ref{ann, bob, other} {
		o.connect(ref, "tab")
		require.NoError(t, o.claim(ref, presence.Claim{Status: "busy"}))
	}
	o.sweep()
	require.NoError(t, o.claim(ann, presence.Claim{Status: "away", Text: "not stored yet as a row"}))

	o.storage.Fail(1, presencetest.Delete)
	require.ErrorIs(t, o.Erase(t.Context(), ann), presence.ErrUnavailable)
	require.Equal(t, "away", o.status(ann), "what could not be erased is as it was")

	require.NoError(t, o.Erase(t.Context(), ann))
	o.sweep()
	_, found := o.stored(ann)
	require.False(t, found)
	require.Empty(t, o.rows(ann))
	for _, ref := range []presence.Ref{bob, other} {
		require.Equal(t, "busy", o.status(ref))
		_, found := o.stored(ref)
		require.True(t, found)
		require.Equal(t, o.told(ref), o.rows(ref))
	}

	refused := func() {
		_, err := o.Connect(t.Context(), ann, presence.ConnectOptions{ID: "tab"})
		require.ErrorIs(t, err, presence.ErrNotAllowed, "the id is refused")
		require.ErrorIs(t, o.claim(ann, presence.Claim{Status: "busy"}), presence.ErrUnknown)
	}
	refused()
	o.clock.Add(24*time.Hour - 1)
	refused()
	o.clock.Add(1)
	o.sweep()
	_, found = o.stored(ann)
	require.False(t, found)
	require.Empty(t, o.rows(ann))
	o.connect(ann, "tab")
	require.Equal(t, "available", o.status(ann), "nothing of before is left")
	require.NoError(t, o.claim(ann, presence.Claim{Status: "busy"}))
}

// Two trackers over one record: whoever finds that the other has written takes
// that over first, so that neither undoes what the other was told to store.
func TestConflictTakesOverWhatIsStored(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.connect(ann, "tab")
	first, second := o.Tracker, o.open()
	_, err := second.Connect(t.Context(), ann, presence.ConnectOptions{ID: "phone"})
	require.NoError(t, err)
	calendar := presence.Actor{Subject: presence.ID("calendar"), Role: presence.RoleSystem}
	_, err = first.SetClaim(t.Context(), calendar, ann, presence.Claim{Status: "busy", Source: presence.SourceCalendar})
	require.NoError(t, err)

	view, err := second.SetClaim(t.Context(), presence.Agent(ann), ann, presence.Claim{Status: "away"})
	require.NoError(t, err)
	require.Equal(t, "away", view.Status)
	stored, _ := o.stored(ann)
	require.Len(t, stored.Claims, 2)

	view, err = first.EndClaim(t.Context(), calendar, ann, presence.Claim{Source: presence.SourceCalendar})
	require.NoError(t, err)
	require.Equal(t, "away", view.Status, "it has learnt of her choice")
	stored, _ = o.stored(ann)
	require.Len(t, stored.Claims, 1)
	require.Equal(t, "away", stored.Claims[0].Status)
}

// Storage that does not answer holds up nobody but those who need it, and them
// not for long.
func TestStorageThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		storage := presencetest.NewFaultyStorage(inMemory(0))
		tracker, err := presence.New(&presence.Options{Storage: storage, StorageTimeout: 3 * time.Second})
		require.NoError(t, err)
		c, err := tracker.Connect(t.Context(), ann, presence.ConnectOptions{ID: "tab"})
		require.NoError(t, err)
		_, err = tracker.Connect(t.Context(), bob, presence.ConnectOptions{ID: "tab"})
		require.NoError(t, err)

		start := time.Now()
		held, release := storage.Hold(presencetest.Save, presencetest.Load)
		claimed := make(chan error, 2)
		go func() {
			_, err := tracker.SetClaim(t.Context(), presence.Agent(ann), ann, presence.Claim{Status: "busy"})
			claimed <- err
		}()
		require.Equal(t, presencetest.Save, <-held)

		// Meanwhile the subject lives, and is not what is not stored.
		require.NoError(t, c.Heartbeat())
		require.NoError(t, c.Input())
		v, err := tracker.GetAs(t.Context(), presence.AudienceSelf, ann)
		require.NoError(t, err)
		require.Equal(t, "available", v.Status)

		// A second claim waits for the first one's answer, as long as its caller
		// wants to.
		why := errors.New("no patience")
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() {
			_, err := tracker.SetClaim(ctx, presence.Agent(ann), ann, presence.Claim{Status: "away"})
			claimed <- err
		}()
		synctest.Wait()
		require.Empty(t, claimed)
		cancel(why)
		require.ErrorIs(t, <-claimed, why)
		require.Zero(t, time.Since(start), "nobody has waited so far")

		err = <-claimed
		require.ErrorIs(t, err, presence.ErrUnavailable)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 3*time.Second, time.Since(start))

		_, err = tracker.Connect(t.Context(), presence.ID("eve"), presence.ConnectOptions{})
		require.ErrorIs(t, err, presence.ErrUnavailable, "of whom nothing can be known")
		require.Equal(t, 6*time.Second, time.Since(start))

		release()
		_, err = tracker.SetClaim(t.Context(), presence.Agent(ann), ann, presence.Claim{Status: "busy"})
		require.NoError(t, err)
		require.NoError(t, tracker.Close())
	})
}

// Claims made at once are all stored, one after the other.
func TestClaimsAtOnce(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.connect(ann, "tab")
	const count = 20
	var wg sync.WaitGroup
	errs := make([]error, count)
	system := presence.Actor{Subject: presence.ID("phone"), Role: presence.RoleSystem}
	for i := range count {
		wg.Go(func() {
			_, errs[i] = o.SetClaim(t.Context(), system, ann, presence.Claim{Status: "busy", Source: presence.SourceApp, Key: fmt.Sprintf("call-%02d", i)})
		})
	}
	wg.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	claims := o.state(ann).Claims
	require.Len(t, claims, count)
	serials := make(map[uint64]bool)
	for _, c := range claims {
		serials[c.Serial] = true
	}
	require.Len(t, serials, count)
	o.restart()
	o.connect(ann, "tab")
	require.Equal(t, claims, o.state(ann).Claims)
	require.False(t, slices.Contains(o.statuses(ann), "available"))
}

// Trackers that share storage show what the others stored once they look.
func TestRefresh(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	c := o.connect(ann, "tab")
	first := o.Tracker
	o.connect(bob, "tab")
	o.Tracker = o.open()
	o.connect(ann, "phone")
	require.NoError(t, o.claim(ann, presence.Claim{Status: "busy"}))
	status := func(ref presence.Ref) string {
		view, err := first.GetAs(t.Context(), presence.AudienceTeam, ref)
		require.NoError(t, err)
		return view.Status
	}
	require.Equal(t, "available", status(ann))
	require.NoError(t, first.Reload(t.Context(), bob, presence.ID("never heard of")))
	require.Equal(t, "available", status(ann))
	require.NoError(t, first.Reload(t.Context(), ann))
	require.Equal(t, "busy", status(ann))

	// What was there already is left alone, whatever else has happened.
	before := o.storage.Calls(presencetest.Save)
	require.NoError(t, first.Reload(t.Context()))
	require.NoError(t, o.Reload(t.Context()))
	require.Equal(t, before, o.storage.Calls(presencetest.Save))

	_, err := c.Claim(t.Context(), presence.Claim{Status: "away"})
	require.NoError(t, err)
	require.NoError(t, o.Reload(t.Context()))
	require.Equal(t, "away", o.status(ann))
	require.NoError(t, first.Erase(t.Context(), ann))
	require.NoError(t, o.Reload(t.Context()))
	require.Equal(t, "available", o.status(ann), "here, ann is connected and has chosen nothing")

	o.storage.Fail(1, presencetest.Load)
	require.ErrorIs(t, o.Reload(t.Context()), presence.ErrUnavailable)
	require.NoError(t, first.Close())
	require.ErrorIs(t, first.Reload(t.Context()), presence.ErrClosed)
}

// History reaches storage by itself, soon after it happened and before too much
// of it waits, though no deadline falls due.
func TestRowsAreStoredByThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		storage := inMemory(0)
		d := newDesk(t, &presence.Options{Storage: storage})
		c := d.login(ann, "tab")
		stored := func() int {
			rows, err := storage.Journal(t.Context(), presence.JournalQuery{Subject: ann, Limit: 10_000})
			require.NoError(t, err)
			return len(rows)
		}
		time.Sleep(2 * time.Second)
		before := stored()
		_, err := c.Claim(t.Context(), presence.Claim{Status: "busy"})
		require.NoError(t, err)
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, before+2, stored(), "a second later")

		for range 300 {
			for _, status := range []string{"away", "busy"} {
				_, err := d.SetClaim(t.Context(), boss, ann, presence.Claim{Status: status})
				require.NoError(t, err)
			}
		}
		synctest.Wait()
		require.Greater(t, stored(), before+512, "at once")
	})
}

// Input that is noted without a lock while something else is being stored counts.
func TestInputWhileStoring(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		storage := presencetest.NewFaultyStorage(inMemory(0))
		d := newDesk(t, &presence.Options{Storage: storage})
		c := d.login(ann, "tab")
		beat(t, c)
		time.Sleep(4*time.Minute + 50*time.Second)
		held, release := storage.Hold(presencetest.Save)
		done := make(chan error)
		go func() {
			done <- d.SetEndpoint(context.Background(), ann, presence.Endpoint{ID: "phone", Kind: presence.EndpointPush})
		}()
		<-held
		time.Sleep(time.Second)
		require.NoError(t, c.Input())
		time.Sleep(time.Second)
		release()
		require.NoError(t, <-done)
		time.Sleep(4 * time.Minute)
		require.Equal(t, "available", d.status(ann))
		time.Sleep(time.Minute)
		require.Equal(t, "away", d.status(ann))
	})
}

// X46: a subject that is disabled by another process loses its connections and
// its work here as well.
func TestDisabledElsewhere(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	c := o.connect(ann, "tab")
	require.NoError(t, o.SetLoad(t.Context(), ann, presence.Load{N: 2}))
	other, err := presence.New(&presence.Options{Storage: o.storage, Clock: o.clock})
	require.NoError(t, err)
	change := func(verb func(context.Context, presence.Ref) error) {
		require.NoError(t, verb(t.Context(), ann))
		require.NoError(t, o.Reload(t.Context()))
	}
	o.sweep()
	require.NoError(t, other.Reload(t.Context()))
	change(other.Disable)
	s := o.state(ann)
	require.True(t, s.Disabled)
	require.Empty(t, s.Conns)
	require.Zero(t, s.Work.Total())
	require.ErrorIs(t, c.Heartbeat(), presence.ErrUnknown)
	o.mu.Lock()
	last := o.out[ann][len(o.out[ann])-1]
	requeued := slices.ContainsFunc(o.out[ann], func(out presence.Output) bool { return out.Kind == presence.OutputRequeue && out.Load == 2 })
	o.mu.Unlock()
	require.Equal(t, presence.StatusDisabled, last.Presence.Status)
	require.True(t, requeued)

	o.sweep()
	require.NoError(t, other.Reload(t.Context()))
	change(other.Enable)
	require.Equal(t, "offline", o.status(ann), "nobody is back before connecting again")
}

// Connections come and go from memory while storage is down, also those of a
// subject that storage is behind with already.
func TestLoginAndLogoutWhileStorageIsDown(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	c := o.connect(ann, "tab")
	o.sweep()
	o.storage.Down()
	require.NoError(t, c.Close())
	o.clock.Add(time.Minute)
	require.Equal(t, "offline", o.status(ann))
	_, err := o.Sweep(t.Context())
	require.ErrorIs(t, err, presence.ErrUnavailable)
	_, err = o.Connect(t.Context(), ann, presence.ConnectOptions{ID: "tab", Login: true})
	require.NoError(t, err)
	require.Equal(t, "available", o.status(ann))
	require.NoError(t, o.Logout(t.Context(), ann))
	require.Equal(t, "offline", o.status(ann))
	o.storage.Up()
	o.sweep()
	s, _ := o.stored(ann)
	require.Equal(t, o.state(ann).LoggedIn, s.LoggedIn)
}
