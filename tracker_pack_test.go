package presence

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence/internal/seeds"
	"github.com/presence-go/presence/internal/vocab"
)

// packed packs and unpacks a state. It returns false if the state cannot be packed.
func packed(k *compactor, s *State) (State, bool) {
	b, ok := k.pack(s, new(packRoom))
	if !ok {
		return State{}, false
	}
	var got State
	k.unpack(b, &got, new(borrowed))
	got.Subject, got.Current.Subject, got.Behind = s.Subject, s.Current.Subject, s.Behind // the caller's to fill in
	return got, true
}

// Packer packs states as one tracker does. Other packages' tests use it.
type Packer struct{ k *compactor }

func NewPacker(start Instant) Packer { return Packer{newCompactor(start)} }

// Again returns the state that a tracker has after it packed and unpacked s. It
// returns false if the tracker would not pack s.
func (p Packer) Again(s *State) (State, bool) { return packed(p.k, s) }

// Own returns a copy that shares nothing with a state that was unpacked.
func Own(s *State) State { return s.own() }

// A state that can be packed is the same after it is unpacked.
func TestPackedStatesComeBack(t *testing.T) {
	start := At(time.Date(2026, 5, 4, 9, 0, 0, 0, time.UTC))
	k := newCompactor(start)
	plain, rich := 0, 0
	for seed := range seeds.Range(t, 150) {
		rng := rand.New(rand.NewPCG(seed, 3))
		p := DefaultPolicy()
		p.Activity = []string{"input", "login", "claim", "focus", "show"}
		if seed%3 == 0 {
			p.Devices = map[string]DeviceRule{"kiosk": {IgnoreInput: true}}
		}
		if seed%4 == 0 {
			p.Work.Settle = 10 * time.Second
		}
		m, err := Compile(p)
		require.NoError(t, err)
		var s State
		now := start
		ids := []string{"tab", "ABCDEFGHIJKLMNOP", "234567", strings.Repeat("Z", MaxID), "ünï"}
		pick := func(from ...string) string { return from[rng.IntN(len(from))] }
		for range 60 {
			switch rng.IntN(4) {
			case 0:
				now = now.Add(time.Duration(rng.IntN(100)) * time.Millisecond)
			case 1:
				now = now.Add(time.Duration(rng.Int64N(int64(10 * time.Minute))))
			case 2:
				now = now.Add(30 * time.Second)
			}
			e := Event{Subject: ID("ann"), Conn: ids[rng.IntN(1+int(seed)%len(ids))], Age: NoAge, Actor: Agent(ID("ann"))}
			e.Kind = []EventKind{
				EventTick, EventConnect, EventConnect, EventLogin, EventHeartbeat, EventHeartbeat, EventInput, EventFocus, EventVisible, EventDisconnect, EventLogout,
				EventGrant, EventDisable, EventEnable, EventSetClaim, EventEndClaim, EventSuspended, EventNodeDown,
			}[rng.IntN(18)]
			switch e.Kind {
			case EventConnect, EventLogin:
				e.Device, e.Node = pick("", "web", "kiosk"), pick("", "local", "n2")
				e.SubjectKind = SubjectKind(pick("", "human", "bot"))
				if rng.IntN(3) == 0 {
					e.Age = time.Duration(rng.Int64N(int64(time.Hour)))
				}
			case EventHeartbeat:
				if rng.IntN(2) == 0 {
					e.Seq, e.Age = rng.Uint64N(300), time.Duration(rng.Int64N(int64(time.Minute)))
				}
			case EventFocus:
				e.Channel = pick("", "room-1", strings.Repeat("r", MaxID))
			case EventVisible:
				e.Hidden = rng.IntN(2) == 0
			case EventDisconnect:
				e.Cause = Cause(pick("closed", "lost", "node", "drain", "logout"))
			case EventSetClaim:
				e.Conn = ""
				e.Claim = Claim{Status: pick("available", "away", "busy")}
			case EventEndClaim:
				e.Conn = ""
			case EventSuspended:
				e.From, e.To = now.Add(-time.Minute), now
			case EventNodeDown:
				e.Node = pick("local", "n2")
			}
			_, _, _ = m.Step(&s, &e, now, nil) // refusals change nothing
			got, ok := packed(k, &s)
			if !ok {
				rich++
				long := len(s.Conns) == 1 && len(s.Conns[0].ID)+len(s.Conns[0].Focus) > 200 // too large to be packed
				require.True(t, long || len(s.Conns) > 1 || len(s.Claims) > 0 || s.Work != nil || s.Now == 0, "seed %d: a plain state was refused: %+v", seed, s)
				continue
			}
			plain++
			want := s.own()
			require.Equal(t, want, got.own(), "seed %d", seed)
		}
	}
	if !seeds.Single() {
		require.Greater(t, plain, 4000)
		require.Greater(t, rich, 1000)
	}
}

// vary gives a field another value.
func vary(t *testing.T, name string, v reflect.Value) {
	t.Helper()
	if !v.CanSet() { // not exported
		v = reflect.NewAt(v.Type(), v.Addr().UnsafePointer()).Elem()
	}
	if n, ok := v.Interface().(Count); ok {
		v.Set(reflect.ValueOf(Count{n.next + 1}))
	} else if v.Type() == reflect.TypeFor[WorkChannels]() {
		v.Set(reflect.ValueOf(NewWorkChannels("calls", "chat")))
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int, reflect.Int64:
		v.SetInt(v.Int() + 12345)
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		v.SetUint(v.Uint() + 1)
	case reflect.Slice:
		v.Set(reflect.Append(v, reflect.New(v.Type().Elem()).Elem()))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
	case reflect.Struct:
		require.Contains(t, []reflect.Type{reflect.TypeFor[Count](), reflect.TypeFor[WorkChannels]()}, v.Type(), name) // which is set
	default:
		t.Fatalf("%s is of a kind that this test does not know: %s", name, v.Kind())
	}
}

// Each field of a state is packed, or keeps the state from being packed.
func TestNothingOfAStateIsLost(t *testing.T) {
	m, err := Compile(DefaultPolicy())
	require.NoError(t, err)
	start := At(time.Date(2026, 5, 4, 9, 0, 0, 0, time.UTC))
	fresh := func() State {
		var s State
		_, _, err := m.Step(&s, &Event{Kind: EventConnect, Subject: ID("ann"), Conn: "tab", Age: NoAge}, start.Add(time.Second), nil)
		require.NoError(t, err)
		return s
	}
	k := newCompactor(start)
	plain := fresh()
	_, ok := packed(k, &plain)
	require.True(t, ok)
	var kept, refused []string
	check := func(name string, change func(*State) reflect.Value) {
		s := fresh()
		v := change(&s)
		vary(t, name, v)
		got, ok := packed(k, &s)
		if !ok {
			refused = append(refused, name)
			return
		}
		kept = append(kept, name)
		require.Equal(t, s.own(), got.own(), "%s is lost", name)
	}
	fields := func(prefix string, of reflect.Type, except []string, at func(*State) reflect.Value) {
		for i := range of.NumField() {
			name := of.Field(i).Name
			skip := false
			for _, e := range except {
				skip = skip || e == name
			}
			if !skip {
				check(prefix+name, func(s *State) reflect.Value { return at(s).Field(i) })
			}
		}
	}
	fields("", reflect.TypeFor[State](), []string{"Subject", "Current"}, func(s *State) reflect.Value { return reflect.ValueOf(s).Elem() })
	fields("Conn.", reflect.TypeFor[ConnState](), nil, func(s *State) reflect.Value { return reflect.ValueOf(&s.Conns[0]).Elem() })
	fields("Current.", reflect.TypeFor[Presence](), []string{"Subject"}, func(s *State) reflect.Value { return reflect.ValueOf(&s.Current).Elem() })
	require.Greater(t, len(kept), 30)
	require.Contains(t, refused, "Claims")
	require.Contains(t, refused, "Conn.Incarnation")
}

// A full vocabulary numbers no new word, and keeps those that it has.
func TestVocabularyIsBounded(t *testing.T) {
	k := newCompactor(1)
	device := func(i int) State {
		return State{Now: 5, Conns: []ConnState{{ID: "tab", Device: fmt.Sprint(i)}}}
	}
	for i := range vocab.Max {
		s := device(i)
		_, ok := packed(k, &s)
		require.True(t, ok)
	}
	s := device(vocab.Max)
	_, ok := packed(k, &s)
	require.False(t, ok)
	s = device(100)
	got, ok := packed(k, &s)
	require.True(t, ok)
	require.Equal(t, "100", got.Conns[0].Device)
}

// An id of any letters survives packing. Letters of rand.Text take five bits each.
func TestIDsArePackedAsTheyAre(t *testing.T) {
	k := newCompactor(1)
	rng := rand.New(rand.NewPCG(seeds.List(t, 1)[0], 2))
	try := func(id string) int {
		s := State{Now: 5, Conns: []ConnState{{ID: id}}}
		b, ok := k.pack(&s, new(packRoom))
		require.True(t, ok)
		var got State
		k.unpack(b, &got, new(borrowed))
		require.Equal(t, id, got.Conns[0].ID)
		return len(b)
	}
	none := try("")
	const of = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	for length := range MaxID {
		id := make([]byte, length)
		for i := range id {
			id[i] = of[rng.IntN(len(of))]
		}
		require.Equal(t, none+(length*5+7)/8, try(string(id)), "%s", id)
		if length == 0 {
			continue
		}
		for c := range 256 {
			other := slices.Clone(id)
			other[rng.IntN(length)] = byte(c)
			size := try(string(other))
			if !strings.Contains(of, string(rune(c))) {
				require.Equal(t, none+length, size, "%q", other)
			}
		}
	}
}
