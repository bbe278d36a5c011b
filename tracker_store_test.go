package presence_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/benbjohnson/clock"
	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/memory"
)

var storageSeed = flag.Uint64("storage.seed", 0, "the seed of the histories over storage with faults; 0 draws one")

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
			state, err := w.Record.State()
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
		s, err = records[0].State()
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
		for {
			f, err := w.Poll()
			require.NoError(h.t, err)
			if f == nil {
				break
			}
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

// lasts reports whether a claim ends by an actor's call alone. Another process
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

// TestTroubledStorage lets storage be in each kind of trouble at each call of
// random histories. What an actor did is stored before it is reported, and what
// was reported is there after a restart.
func TestTroubledStorage(t *testing.T) {
	seed := *storageSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("run again with -storage.seed=%d", seed)
	const histories, steps = 3, 20
	for i := range uint64(histories) {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			seed := seed + i
			calls := newTroubledHistory(t, "no trouble").run(seed, steps)
			require.Positive(t, calls)
			for first := 1; first <= calls; first++ {
				for kind := range troubles {
					h := newTroubledHistory(t, fmt.Sprintf("-storage.seed=%d: call %d in trouble %d", seed, first, kind))
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
