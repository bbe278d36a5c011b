package presence_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/memory"
	"github.com/presence-go/presence/internal/seeds"
	"github.com/presence-go/presence/presencetest"
)

// A trouble is what storage does with a call.
type trouble int

const (
	conflicts    trouble = iota // another process writes the record just before
	refuses                     // ErrInvalid
	fails                       // the call is not carried out
	losesAnswer                 // the call is carried out, its answer is an error
	hangs                       // until its context is done
	hangsStored                 // the call is carried out, its answer is the end of the context
	hangsForLong                // until something else has happened to the subjects
	troubles
)

var errStorage = errors.New("storage is in trouble")

// troubledStorage is storage that is in trouble at some of its calls.
type troubledStorage struct {
	*memory.Storage
	h *troubledHistory

	mu    sync.Mutex
	calls int
	first int // the first call in trouble, counted from 1; 0 is none
	last  int
	kind  trouble
	met   bool
	texts map[string]bool       // of the claims that any record ever had
	lost  map[presence.Ref]bool // subjects of records that were stored although the answer was an error
	hang  chan func()           // receives what ends the hang of a call
}

func (s *troubledStorage) do(ctx context.Context, subjects []presence.Ref, saves bool, call func() error) error {
	s.mu.Lock()
	s.calls++
	in := s.first != 0 && s.first <= s.calls && s.calls <= s.last
	s.met = s.met || in
	if in && (s.kind == losesAnswer || s.kind == hangsStored) {
		for _, ref := range subjects {
			s.lost[ref] = true
		}
	}
	s.mu.Unlock()
	if !in {
		return call()
	}
	wait := func() {
		ended := make(chan struct{})
		s.hang <- func() { close(ended) }
		<-ended
	}
	switch s.kind {
	case conflicts:
		if saves {
			s.h.writeElsewhere(subjects[0])
		}
		return call()
	case refuses:
		if saves {
			return fmt.Errorf("%w record", presence.ErrInvalid)
		}
		return errStorage
	case fails:
		return errStorage
	case losesAnswer:
		if err := call(); err != nil {
			return err
		}
		return errStorage
	case hangs, hangsStored:
		if s.kind == hangsStored {
			if err := call(); err != nil {
				return err
			}
		}
		wait()
		<-ctx.Done()
		return context.Cause(ctx)
	default:
		wait()
		return call()
	}
}

func (s *troubledStorage) Load(ctx context.Context, subjects ...presence.Ref) (records []presence.Record, err error) {
	err = s.do(ctx, subjects, false, func() (err error) {
		records, err = s.Storage.Load(context.WithoutCancel(ctx), subjects...)
		return err
	})
	return records, err
}

func (s *troubledStorage) Save(ctx context.Context, writes ...presence.Write) error {
	var subjects []presence.Ref
	for _, w := range writes {
		subjects = append(subjects, w.Record.Subject)
	}
	return s.do(ctx, subjects, true, func() error {
		err := s.Storage.Save(context.WithoutCancel(ctx), writes...)
		if err != nil {
			return err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, w := range writes {
			state, err := w.Record.State(0, 0)
			if err != nil {
				return err
			}
			for _, c := range state.Claims {
				s.texts[c.Text] = true
			}
		}
		return nil
	})
}

func (s *troubledStorage) Append(ctx context.Context, rows ...presence.JournalRow) error {
	return s.do(ctx, nil, false, func() error { return s.Storage.Append(context.WithoutCancel(ctx), rows...) })
}

func (s *troubledStorage) Delete(ctx context.Context, subjects ...presence.Ref) error {
	return s.do(ctx, subjects, false, func() error { return s.Storage.Delete(context.WithoutCancel(ctx), subjects...) })
}

// troubledHistory is one random history over troubled storage.
type troubledHistory struct {
	t       *testing.T
	name    string
	clock   *clock.Mock
	policy  presence.Policy
	storage *troubledStorage
	tracker *presence.Tracker
	watches []*presence.Watch
	conns   map[presence.Ref]*presence.Conn
	written int // by another process

	mu     sync.Mutex
	claims map[presence.Ref]map[string]presence.Claim // that are reported as set, and not as ended
	faults []string
}

var troubledSubjects = []presence.Ref{ann, bob, {Tenant: "acme", ID: "cy"}}

func newTroubledHistory(t *testing.T, name string) *troubledHistory {
	t.Helper()
	h := &troubledHistory{
		t: t, name: name, clock: clock.NewMock(), policy: presence.DefaultPolicy(), conns: make(map[presence.Ref]*presence.Conn),
		claims: make(map[presence.Ref]map[string]presence.Claim),
	}
	h.clock.Set(time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC))
	h.policy.AddStatus(presence.Status{ID: "asked", Class: presence.ClassAway, NeedsApproval: true})
	store, err := inMemory(0), error(nil)
	require.NoError(t, err)
	h.storage = &troubledStorage{Storage: store, h: h, texts: make(map[string]bool), lost: make(map[presence.Ref]bool), hang: make(chan func())}
	h.tracker, err = presence.New(&presence.Options{Policy: &h.policy, Storage: h.storage, Clock: h.clock})
	require.NoError(t, err)
	h.tracker.Observe(h.observe)
	for _, ref := range troubledSubjects {
		channel := presence.Channel{Tenant: ref.Tenant, ID: "sales"}
		require.NoError(t, h.tracker.AddMember(t.Context(), channel, ref))
		w, err := h.tracker.Watch(t.Context(), presence.Actor{Subject: presence.Ref{Tenant: ref.Tenant, ID: "boss"}, Role: presence.RoleSupervisor}, channel, presence.WatchOptions{})
		require.NoError(t, err)
		h.watches = append(h.watches, w)
	}
	h.storage.calls = 0
	return h
}

func (h *troubledHistory) fault(format string, args ...any) {
	h.faults = append(h.faults, fmt.Sprintf(format, args...))
}

// stored returns what storage has of a subject.
func (h *troubledHistory) stored(ref presence.Ref) (s presence.State) {
	records, err := h.storage.Storage.Load(context.Background(), ref)
	if err == nil && len(records) > 0 {
		s, err = records[0].State(0, 0)
	}
	if err != nil {
		h.fault("%v", err)
	}
	return s
}

// observe checks that what an actor did is stored when it is reported.
func (h *troubledHistory) observe(ref presence.Ref, o *presence.Output) {
	h.mu.Lock()
	defer h.mu.Unlock()
	has := func(c *presence.Claim) bool {
		return slices.ContainsFunc(h.stored(ref).Claims, func(s presence.Claim) bool { return s.ID == c.ID })
	}
	asks := func() bool {
		w := h.stored(ref).Work
		return w != nil && slices.ContainsFunc(w.Requests, func(r presence.Request) bool { return r.ID == o.Request.ID })
	}
	switch o.Kind {
	case presence.OutputClaimSet:
		if !has(&o.Claim) {
			h.fault("claim %s of %s is reported before it is stored", o.Claim.ID, ref)
		}
		if h.claims[ref] == nil {
			h.claims[ref] = make(map[string]presence.Claim)
		}
		h.claims[ref][o.Claim.ID] = o.Claim
	case presence.OutputClaimEnded:
		if (o.Reason == presence.EndReleased || o.Reason == presence.EndReplaced) && has(&o.Claim) {
			h.fault("the end of claim %s of %s is reported before it is stored", o.Claim.ID, ref)
		}
		delete(h.claims[ref], o.Claim.ID)
	case presence.OutputRequestOpened:
		if !asks() {
			h.fault("request %s of %s is reported before it is stored", o.Request.ID, ref)
		}
	case presence.OutputRequestClosed:
		if o.Reason != presence.EndExpired && asks() {
			h.fault("the end of request %s of %s is reported before it is stored", o.Request.ID, ref)
		}
	case presence.OutputTransition:
		if o.Presence.Disabled && !h.stored(ref).Disabled {
			h.fault("that %s is disabled is reported before it is stored", ref)
		}
	}
}

// poll checks that the watches show no claim that was never stored.
func (h *troubledHistory) poll() {
	shown := func(v *presence.View) {
		h.storage.mu.Lock()
		defer h.storage.mu.Unlock()
		if v.Text != "" && !h.storage.texts[v.Text] {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.fault("a watcher sees %q of %s, which was never stored", v.Text, v.Subject)
		}
	}
	for _, w := range h.watches {
		_, frames := read(h.t, w)
		for _, f := range frames {
			for i := range f.Members {
				shown(&f.Members[i])
			}
			for _, c := range f.Changes {
				if c.View != nil {
					shown(c.View)
				}
			}
		}
	}
}

// lasts reports whether only an actor's call ends a claim. Another process
// ends a claim that is dropped on disconnect, since it has no connection.
func (h *troubledHistory) lasts(c presence.Claim) bool {
	return !c.DropOnDisconnect && (c.Until == 0 || c.Until > presence.At(h.clock.Now()))
}

// kept checks that storage has every claim that was reported and not ended. It
// leaves out subjects whose last change had an unknown outcome, which may have
// been the end of such a claim.
func (h *troubledHistory) kept() {
	h.storage.mu.Lock()
	lost := maps.Clone(h.storage.lost)
	h.storage.mu.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	for ref, claims := range h.claims {
		if lost[ref] {
			continue
		}
		stored := h.stored(ref)
		for id, c := range claims {
			if !slices.ContainsFunc(stored.Claims, func(s presence.Claim) bool { return s.ID == id }) && h.lasts(c) {
				h.fault("claim %s of %s was reported, and is not stored", id, ref)
			}
		}
	}
}

// writeElsewhere is another process that sets a claim of a subject.
func (h *troubledHistory) writeElsewhere(ref presence.Ref) {
	ctx := context.Background()
	other, err := presence.New(&presence.Options{Policy: &h.policy, Storage: h.storage.Storage, Clock: h.clock})
	if err == nil {
		_, err = other.Connect(ctx, ref, presence.ConnectOptions{})
	}
	h.written++
	text := fmt.Sprint("elsewhere ", h.written)
	h.storage.mu.Lock()
	h.storage.texts[text] = true
	h.storage.mu.Unlock()
	if err == nil {
		c := presence.Claim{Status: "busy", Source: presence.SourceApp, Key: fmt.Sprint("k", h.written%3), Text: text}
		_, err = other.SetClaim(ctx, presence.Actor{Subject: presence.Ref{Tenant: ref.Tenant, ID: "cal"}, Role: presence.RoleSystem}, ref, c)
		err = errors.Join(err, other.Close())
		h.mu.Lock()
		maps.DeleteFunc(h.claims[ref], func(_ string, o presence.Claim) bool { return o.Source == c.Source && o.Key == c.Key }) // it replaces them
		h.mu.Unlock()
	}
	if err != nil && !errors.Is(err, presence.ErrDisabled) && !errors.Is(err, presence.ErrNotAllowed) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.fault("another process cannot write: %v", err)
	}
}

// step does one random thing with storage. Errors are expected.
func (h *troubledHistory) step(ctx context.Context, random *rand.Rand, n int) {
	ref := troubledSubjects[random.IntN(len(troubledSubjects))]
	agent := presence.Agent(ref)
	supervisor := presence.Actor{Subject: presence.Ref{Tenant: ref.Tenant, ID: "boss"}, Role: presence.RoleSupervisor}
	text := fmt.Sprint("text ", n)
	status := []string{"busy", "away", "available"}[random.IntN(3)]
	switch kind, pick := random.IntN(16), random.IntN(4); kind {
	case 0, 1:
		if c, err := h.tracker.Connect(ctx, ref, presence.ConnectOptions{ID: "tab", Login: pick == 0}); err == nil {
			h.conns[ref] = c
		}
	case 2, 3, 4:
		_, _ = h.tracker.SetClaim(ctx, agent, ref, presence.Claim{Status: status, Text: text, DropOnDisconnect: pick == 0})
	case 5:
		_, _ = h.tracker.SetClaim(ctx, agent, ref, presence.Claim{Status: status, Text: text, For: time.Duration(10+pick*20) * time.Second})
	case 6:
		_, _ = h.tracker.SetClaim(ctx, supervisor, ref, presence.Claim{Status: status, Text: text})
	case 7:
		_, _ = h.tracker.EndClaim(ctx, []presence.Actor{agent, supervisor}[pick%2], ref, presence.Claim{})
	case 8:
		_, _ = h.tracker.Request(ctx, agent, ref, presence.Claim{Status: "asked", Text: text})
	case 9:
		_, _ = h.tracker.DecideRequest(ctx, supervisor, ref, "", pick > 0)
	case 10:
		kind := presence.EventEnable
		if pick == 0 {
			kind = presence.EventDisable
		}
		_ = h.tracker.Apply(ctx, presence.Event{Kind: kind, Subject: ref})
	case 11:
		_ = h.tracker.Apply(ctx, presence.Event{Kind: presence.EventEndpoint, Subject: ref, Endpoint: presence.Endpoint{ID: fmt.Sprint("e", pick), Kind: presence.EndpointPush}})
	case 12:
		if pick == 0 {
			h.writeElsewhere(ref)
		} else {
			_ = h.tracker.Reload(ctx)
		}
	default:
		_, _ = h.tracker.Sweep(ctx)
	}
}

// meanwhile lets things happen that do not wait for storage.
func (h *troubledHistory) meanwhile(random *rand.Rand) {
	h.clock.Add(time.Duration(random.IntN(40)) * time.Second)
	for _, ref := range troubledSubjects {
		c := h.conns[ref]
		if c == nil {
			continue
		}
		switch random.IntN(4) {
		case 0:
			_ = c.Input()
		case 1:
			_ = c.Visible(random.IntN(2) == 0)
		case 2:
			_ = c.Close()
		}
		_, _ = h.tracker.GetAs(context.Background(), presence.AudienceTeam, ref)
	}
	h.poll()
}

// run lets a history happen, and returns how many calls of storage it made.
func (h *troubledHistory) run(seed uint64, steps int) int {
	h.t.Helper()
	random := rand.New(rand.NewPCG(seed, 1))
	for n := range steps {
		ctx, cancel := context.WithCancel(h.t.Context())
		done := make(chan struct{})
		own := rand.New(rand.NewPCG(random.Uint64(), 2))
		beside := rand.New(rand.NewPCG(random.Uint64(), 3))
		go func() {
			defer close(done)
			h.step(ctx, own, n)
		}()
		for waits := true; waits; {
			select {
			case end := <-h.storage.hang:
				h.meanwhile(beside)
				if h.storage.kind != hangsForLong {
					cancel()
				}
				end()
			case <-done:
				waits = false
			}
		}
		cancel()
		h.meanwhile(beside)
		h.kept()
		if len(h.faults) > 0 {
			h.t.Fatalf("%s, step %d: %s", h.name, n, strings.Join(h.faults, "; "))
		}
	}
	return h.storage.calls
}

// settle ends the trouble: what had an unknown outcome is known after a sweep.
func (h *troubledHistory) settle() {
	h.t.Helper()
	h.storage.first = 0
	_, err := h.tracker.Sweep(h.t.Context())
	require.NoError(h.t, err, h.name)
	h.poll()
	clear(h.storage.lost)
	h.kept()
	require.Empty(h.t, h.faults, h.name)
}

// restart leaves the tracker as it is, and checks what another one shows.
func (h *troubledHistory) restart() {
	h.t.Helper()
	tracker, err := presence.New(&presence.Options{Policy: &h.policy, Storage: h.storage, Clock: h.clock})
	require.NoError(h.t, err)
	for ref, claims := range h.claims {
		state, err := tracker.State(h.t.Context(), ref)
		if len(claims) == 0 && errors.Is(err, presence.ErrUnknown) {
			continue
		}
		require.NoError(h.t, err, h.name)
		for id, c := range claims {
			if h.lasts(c) {
				require.True(h.t, slices.ContainsFunc(state.Claims, func(s presence.Claim) bool { return s.ID == id }), "%s: claim %s of %s is lost", h.name, id, ref)
			}
		}
	}
}

// H6: storage is in each kind of trouble at each call of random histories. What an
// actor did is stored before it is reported. What was reported is there after a
// restart.
func TestTroubledStorage(t *testing.T) {
	const steps = 20
	for _, seed := range seeds.List(t, 3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			calls := newTroubledHistory(t, "no trouble").run(seed, steps)
			require.Positive(t, calls)
			for first := 1; first <= calls; first++ {
				for kind := range troubles {
					h := newTroubledHistory(t, fmt.Sprintf("-seed %d: call %d in trouble %d", seed, first, kind))
					h.storage.kind, h.storage.first = kind, first
					h.storage.last = first + rand.New(rand.NewPCG(seed, uint64(first))).IntN(3)
					h.run(seed, steps)
					require.True(t, h.storage.met, h.name)
					h.settle()
					h.restart()
				}
			}
		})
	}
}

// What happens after a restart is not taken for what happened before.
func TestJournalGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	for _, claims := range []bool{false, true} {
		o := newStored(t)
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

// A record of the backlog that may have been stored is written again, also if the
// subject has changed meanwhile.
func TestRecordOfUnknownOutcomeIsWrittenAgain(t *testing.T) {
	t.Parallel()
	o := newStored(t)
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

// contested is storage in which another process is always quicker.
type contested struct{ *memory.Storage }

func (contested) Save(context.Context, ...presence.Write) error {
	return fmt.Errorf("contested: %w", presence.ErrConflict)
}

func TestConflictWithoutEndIsRefused(t *testing.T) {
	t.Parallel()
	tracker := newTracker(t, &presence.Options{Storage: contested{inMemory(0)}})
	_, err := tracker.Connect(t.Context(), ann, presence.ConnectOptions{ID: "tab"})
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

// A connection that opens while a claim is stored is there after the claim.
func TestChangeWhileAClaimIsStored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newStored(t)
		o.connect(ann, "tab")
		o.sweep()
		held, release := o.storage.Hold(presencetest.Save)
		claimed := make(chan error, 1)
		go func() { claimed <- o.claim(ann, presence.Claim{Status: "busy"}) }()
		<-held
		phone := o.connect(ann, "phone")
		release()
		require.NoError(t, <-claimed)
		require.Equal(t, "busy", o.status(ann))
		require.Len(t, o.state(ann).Conns, 2)
		require.NoError(t, phone.Heartbeat())
		require.NoError(t, phone.Logout())
		require.Len(t, o.state(ann).Conns, 1)
	})
}

// A claim that ends while the record before its end is stored is ended in storage
// by the next sweep.
func TestChangeWhileTheBacklogIsStored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newStored(t)
		laptop, phone := o.connect(ann, "laptop"), o.connect(ann, "phone")
		for _, conn := range []string{"laptop", "phone"} {
			require.NoError(t, o.claim(ann, presence.Claim{Status: "busy", Conn: conn, DropOnDisconnect: true}))
		}
		o.sweep()
		require.NoError(t, laptop.Logout())
		held, release := o.storage.Hold(presencetest.Save)
		swept := make(chan error, 1)
		go func() {
			_, err := o.Sweep(t.Context())
			swept <- err
		}()
		<-held
		require.NoError(t, phone.Logout())
		release()
		require.NoError(t, <-swept)
		stored, _ := o.stored(ann)
		require.Len(t, stored.Claims, 1, "the claim over the phone had not ended yet")
		require.Equal(t, 1, o.Stats().RecordsBehind)
		o.sweep()
		stored, _ = o.stored(ann)
		require.Empty(t, stored.Claims)
	})
}

// What happens to a subject while storage is asked does not make storage hold
// anything else than what is known.
func TestStoredIsWhatIsKnown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newStored(t)
		c := o.connect(ann, "tab")
		o.idle(c)
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

// One record that cannot be read is not overwritten, and holds up no other.
func TestOneBadRecordHoldsUpNobody(t *testing.T) {
	o := newStored(t)
	conns := make(map[presence.Ref]*presence.Conn)
	for _, ref := range []presence.Ref{ann, bob} {
		conns[ref] = o.connect(ref, "tab")
		require.NoError(t, o.claim(ref, presence.Claim{Status: "busy", DropOnDisconnect: true}))
	}
	o.sweep()
	// A newer version has written ann's record.
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

// A claim of unknown outcome is in the journal once it is known to be stored.
func TestJournalOfUnknownOutcome(t *testing.T) {
	for _, id := range []string{"", "x"} {
		o := newStored(t)
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
	o := newStored(t)
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

// A choice is not written again after another tracker erased its subject.
func TestErasedElsewhere(t *testing.T) {
	o := newStored(t)
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
	o := newStored(t)
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

// A subject of which storage cannot be asked is not taken for a new one.
func TestSubjectThatCannotBeLoadedIsRefused(t *testing.T) {
	t.Parallel()
	o := newStored(t)
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

func TestStorageDown(t *testing.T) {
	t.Parallel()
	o := newStored(t)
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

	// Reads, masks and connections of known subjects still work.
	o.idle(c)
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

	// It works again without a restart.
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
			o := newStored(t)
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
				o := newStored(t)
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

// A change that is known to have failed may be stored all the same. Taking it
// back must then reach storage, although there seems to be nothing to take back.
func TestChangeOfUnknownOutcomeIsTakenBack(t *testing.T) {
	t.Parallel()
	o := newStored(t)
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
	for seed := range seeds.Range(t, 40) {
		random := rand.New(rand.NewPCG(seed, 7))
		o := newStored(t)
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
	o := newStored(t)
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
	tracker := newTracker(t, &presence.Options{Storage: struct{ presence.Storage }{inMemory(0)}})
	_, err := tracker.Connect(t.Context(), ann, presence.ConnectOptions{})
	require.NoError(t, err)
	for _, err := range tracker.Journal(t.Context(), presence.JournalQuery{Subject: ann}) {
		require.ErrorIs(t, err, presence.ErrUnavailable)
	}
	require.NoError(t, tracker.Close())
}

func TestCloseWritesWhatIsLeft(t *testing.T) {
	t.Parallel()
	o := newStored(t)
	c := o.connect(ann, "tab")
	require.NoError(t, o.claim(ann, presence.Claim{Status: "busy", DropOnDisconnect: true}))
	require.NoError(t, c.Logout())
	require.Empty(t, o.rows(ann), "nobody swept yet")
	require.NoError(t, o.Close())
	require.Equal(t, o.told(ann), o.rows(ann))
	state, _ := o.stored(ann)
	require.Empty(t, state.Claims)

	o = newStored(t)
	o.connect(ann, "tab")
	o.storage.Down()
	require.ErrorIs(t, o.Close(), presence.ErrUnavailable, "it says so if it cannot")
}

// Of two trackers over one record, the one that meets a conflict takes over the
// stored record first, so that neither undoes a change of the other.
func TestConflictTakesOverWhatIsStored(t *testing.T) {
	t.Parallel()
	o := newStored(t)
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

// Storage that does not answer holds up only the callers that need it, for
// StorageTimeout at most.
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

// Trackers that share storage show what the others stored once they look.
func TestRefresh(t *testing.T) {
	t.Parallel()
	o := newStored(t)
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

	// Reload writes nothing.
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
		d := newRunning(t, &presence.Options{Storage: storage})
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

// X46: a subject that is disabled by another process loses its connections and
// its work here as well.
func TestDisabledElsewhere(t *testing.T) {
	t.Parallel()
	o := newStored(t)
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

// Connections open and close in memory while storage is down, also those of a
// subject that storage is behind with already.
func TestLoginAndLogoutWhileStorageIsDown(t *testing.T) {
	t.Parallel()
	o := newStored(t)
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

// many is a lot of subjects with a connection each, whose records are stored.
func many(o *testTracker, n int) (refs []presence.Ref, conns []*presence.Conn) {
	for i := range n {
		ref := presence.ID(fmt.Sprintf("subject-%d", i))
		refs = append(refs, ref)
		conns = append(conns, o.connect(ref, "tab"))
	}
	o.sweep()
	return refs, conns
}

// What many changed without anybody waiting for it is written in few calls, also
// after it could not be for a while.
func TestRecordsAreWrittenTogether(t *testing.T) {
	t.Parallel()
	o := newStored(t)
	before := o.storage.Calls(presencetest.Save)
	refs, conns := many(o, 1000)
	require.LessOrEqual(t, o.storage.Calls(presencetest.Save)-before, 4)

	o.storage.Down()
	for _, c := range conns {
		require.NoError(t, c.Logout())
	}
	_, err := o.Sweep(t.Context())
	require.ErrorIs(t, err, presence.ErrUnavailable)
	require.Equal(t, 1000, o.Stats().RecordsBehind)
	o.storage.Up()
	before = o.storage.Calls(presencetest.Save)
	o.sweep()
	require.LessOrEqual(t, o.storage.Calls(presencetest.Save)-before, 4)
	require.Zero(t, o.Stats().RecordsBehind)
	for _, ref := range refs {
		state, _ := o.stored(ref)
		require.Equal(t, "offline", state.Current.Status)
	}
}

// One record that another tracker has written meanwhile is taken over; the
// records beside it are written all the same.
func TestRecordsAreWrittenBesideAConflict(t *testing.T) {
	t.Parallel()
	o := newStored(t)
	refs, conns := many(o, 20)
	first := o.Tracker
	second := o.open()
	_, err := second.SetClaim(t.Context(), presence.Agent(refs[7]), refs[7], presence.Claim{Status: "busy"})
	require.NoError(t, err)
	for _, c := range conns {
		require.NoError(t, c.Logout())
	}
	_, err = first.Sweep(t.Context())
	require.NoError(t, err)
	for i, ref := range refs {
		state, _ := o.stored(ref)
		require.Equal(t, "offline", state.Current.Status, ref)
		require.Equal(t, i == 7, len(state.Claims) == 1, ref)
	}
}

// A record that is being stored for a claim does not hold up those beside it.
func TestRecordsAreWrittenBesideAClaim(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newStored(t)
		refs, conns := many(o, 20)
		for _, c := range conns {
			require.NoError(t, c.Logout())
		}
		held, release := o.storage.Hold(presencetest.Save)
		var wg sync.WaitGroup
		var claimed, swept error
		wg.Go(func() { claimed = o.claim(refs[0], presence.Claim{Status: "busy"}) })
		<-held
		wg.Go(func() { _, swept = o.Sweep(t.Context()) })
		<-held
		release()
		wg.Wait()
		require.NoError(t, claimed)
		require.NoError(t, swept)
		o.sweep()
		for i, ref := range refs {
			state, _ := o.stored(ref)
			require.Equal(t, "offline", state.Current.Status, ref)
			require.Equal(t, i == 0, len(state.Claims) == 1, ref)
		}
	})
}

// picky is storage that refuses the records of one subject for good.
type picky struct {
	presence.Storage
	refuses presence.Ref
}

func (p *picky) Save(ctx context.Context, writes ...presence.Write) error {
	for _, w := range writes {
		if w.Record.Subject == p.refuses {
			return fmt.Errorf("%w record: it is too large", presence.ErrInvalid)
		}
	}
	return p.Storage.Save(ctx, writes...)
}

func TestRecordsAreWrittenBesideOneThatIsRefused(t *testing.T) {
	t.Parallel()
	m := inMemory(0)
	tracker := newTracker(t, &presence.Options{Storage: &picky{m, ann}})
	for _, ref := range []presence.Ref{ann, bob} {
		_, err := tracker.Connect(t.Context(), ref, presence.ConnectOptions{})
		require.NoError(t, err)
	}
	for range 3 {
		_, err := tracker.Sweep(t.Context())
		require.ErrorContains(t, err, "the record of ann cannot be stored")
		require.Equal(t, 1, tracker.Stats().RecordsBehind)
		require.NoError(t, tracker.Stats().StorageErr, "storage works")
	}
	records, err := m.Load(t.Context(), ann, bob)
	require.NoError(t, err)
	require.Len(t, records, 1)
	require.Equal(t, bob, records[0].Subject)
}

// The rows that wait have a limit. The rows dropped beyond it are counted, and
// the newest are stored in the end.
func TestRowsThatWaitAreBounded(t *testing.T) {
	t.Parallel()
	o := newStored(t)
	c := o.connect(ann, "tab")
	o.storage.Down()
	for range 35_000 {
		require.NoError(t, c.Logout())
		c = o.connect(ann, "tab")
	}
	h := storageStats(o)
	require.LessOrEqual(t, h.RowsBehind, 65536)
	require.Equal(t, 70_001, h.RowsBehind+h.RowsDropped)
	o.storage.Up()
	o.sweep()
	told, rows := o.told(ann), o.rows(ann)
	require.Equal(t, told[len(told)-len(rows):], rows)
	require.Len(t, rows, h.RowsBehind)
	require.Equal(t, presence.Stats{RowsDropped: h.RowsDropped}, storageStats(o))
}

// Connect waits for the stored choice, for StorageTimeout at most. Nothing else is
// shown meanwhile or after.
func TestConnectWaitsForWhatWasChosen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newStored(t)
		require.NoError(t, o.AddMember(t.Context(), sales, ann))
		o.connect(ann, "tab")
		require.NoError(t, o.claim(ann, presence.Claim{Status: "busy"}))
		require.NoError(t, o.Close())

		tracker, err := presence.New(&presence.Options{Storage: o.storage, StorageTimeout: 2 * time.Second})
		require.NoError(t, err)
		require.NoError(t, tracker.AddMember(t.Context(), sales, bob))
		w, err := tracker.Watch(t.Context(), presence.Agent(bob), sales, presence.WatchOptions{})
		require.NoError(t, err)
		seen := func() (statuses []string) {
			_, frames := read(t, w)
			for _, f := range frames {
				for _, v := range f.Members {
					if v.Subject == ann {
						statuses = append(statuses, v.Status)
					}
				}
				for _, c := range f.Changes {
					if c.View.Subject == ann {
						statuses = append(statuses, c.View.Status)
					}
				}
			}
			return statuses
		}
		held, release := o.storage.Hold(presencetest.Load)
		began := time.Now()
		_, err = tracker.Connect(t.Context(), ann, presence.ConnectOptions{ID: "tab"})
		require.ErrorIs(t, err, presence.ErrUnavailable)
		require.Equal(t, 2*time.Second, time.Since(began))
		<-held

		connected := make(chan error)
		go func() {
			_, err := tracker.Connect(t.Context(), ann, presence.ConnectOptions{ID: "tab"})
			connected <- errors.Join(err, tracker.AddMember(t.Context(), sales, ann))
		}()
		<-held
		require.Empty(t, seen())
		release()
		require.NoError(t, <-connected)
		_, err = tracker.Sweep(t.Context())
		require.NoError(t, err)
		require.Subset(t, []string{"busy"}, seen())
		v, err := tracker.GetAs(t.Context(), presence.AudienceTeam, ann)
		require.NoError(t, err)
		require.Equal(t, "busy", v.Status)
		require.NoError(t, w.Close())
		require.NoError(t, tracker.Close())
	})
}

func TestJournalOfATenant(t *testing.T) {
	t.Parallel()
	o := newStored(t)
	acme := presence.Ref{Tenant: "acme", ID: "ann"}
	began := presence.At(o.clock.Now())
	var all []presence.JournalRow
	for range 700 {
		for _, ref := range []presence.Ref{ann, bob, acme} {
			o.clock.Add(time.Second)
			require.NoError(t, o.connect(ref, "tab").Logout())
		}
	}
	scan := func(q presence.JournalQuery) (rows []presence.JournalRow) {
		for row, err := range o.Journal(t.Context(), q) {
			require.NoError(t, err)
			rows = append(rows, row)
		}
		return rows
	}
	all = scan(presence.JournalQuery{})
	require.Len(t, all, 2*2*700)
	require.ElementsMatch(t, append(o.told(ann), o.told(bob)...), all)
	require.IsNonDecreasing(t, instants(all))
	require.Equal(t, all[:1500], scan(presence.JournalQuery{Limit: 1500}))
	require.Len(t, scan(presence.JournalQuery{Subject: presence.Ref{Tenant: "acme"}}), 2*700)
	require.Len(t, scan(presence.JournalQuery{From: began, To: began.Add(4 * time.Second)}), 4)
	for range o.Journal(t.Context(), presence.JournalQuery{}) {
		break
	}

	o.storage.Down()
	for _, err := range o.Journal(t.Context(), presence.JournalQuery{}) {
		require.ErrorIs(t, err, presencetest.ErrFault)
	}
	o.storage.Up()
	for _, storage := range []presence.Storage{nil, struct{ presence.Storage }{o.memory}} {
		tracker, err := presence.New(&presence.Options{Storage: storage})
		require.NoError(t, err)
		for _, err := range tracker.Journal(t.Context(), presence.JournalQuery{}) {
			require.ErrorIs(t, err, presence.ErrUnavailable)
		}
	}
	require.NoError(t, o.Close())
	for _, err := range o.Journal(t.Context(), presence.JournalQuery{}) {
		require.ErrorIs(t, err, presence.ErrClosed)
	}
}

func instants(rows []presence.JournalRow) (list []int64) {
	for _, r := range rows {
		list = append(list, int64(r.At))
	}
	return list
}
