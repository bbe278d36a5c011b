package presence_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/preset"
)

// What is read as a policy can be written and read again to the same, and works.
func FuzzParsePolicy(f *testing.F) {
	for _, name := range preset.Names() {
		p, _ := preset.Lookup(name)
		data, err := p.JSON()
		require.NoError(f, err)
		f.Add(data)
	}
	f.Add([]byte(`{"version":1,"extends":"respondio","idle":[{"after":"1m","to":"offline","on":["busy"]}]}`))
	f.Add([]byte(`{"version":1.3,"extends":"default","novelty":true}`))
	f.Add([]byte(`{"version":1,"statuses":[{"id":"a","class":"away"}],"disconnected":"a"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, _, err := preset.Parse(data)
		if err != nil {
			return
		}
		again, err := p.JSON()
		require.NoError(t, err)
		q, warnings, err := preset.Parse(again)
		require.NoError(t, err, string(again))
		require.Empty(t, warnings)
		twice, err := q.JSON()
		require.NoError(t, err)
		require.Equal(t, string(again), string(twice))

		m, err := presence.Compile(p)
		require.NoError(t, err)
		whole, err := presence.Compile(m.Policy())
		require.NoError(t, err, "a policy with its defaults is one")
		require.Equal(t, m.Policy(), whole.Policy())
		hides := slices.ContainsFunc(p.Statuses, func(s presence.Status) bool { return len(s.HiddenFrom) > 0 })
		var s presence.State
		now := presence.Instant(1)
		for _, e := range []presence.Event{
			{Kind: presence.EventLogin, Conn: "c", Age: presence.NoAge},
			{Kind: presence.EventSetClaim, Actor: presence.Agent(ann), Claim: presence.Claim{Status: m.Policy().Statuses[0].ID}},
			{Kind: presence.EventLogout},
		} {
			e.Subject = ann
			_, _, _ = m.Step(&s, &e, now, nil) // a policy may refuse it
			now = now.Add(m.Policy().Lease)
			_, _, err := m.Step(&s, &presence.Event{Kind: presence.EventTick}, now, nil)
			require.NoError(t, err)
			if next, ok := m.Next(&s); ok {
				require.Greater(t, next, s.Now)
			}
			for _, a := range everyone {
				v := m.View(&s.Current, a)
				def, known := m.Status(v.Status)
				require.Equal(t, known, v.Status != presence.StatusUnknown && v.Status != presence.StatusDisabled, v.Status)
				require.Equal(t, def.Class, v.Class)
				require.NotContains(t, def.HiddenFrom, a, "the word of a status that is hidden from %s", a)
				if !hides && len(p.Hideable) == 0 && known {
					require.Equal(t, s.Current.Status, v.Status)
				}
			}
			for kind := range p.Gate {
				d := m.Gate(&s, presence.Notification{Subject: ann, Kind: kind})
				require.Contains(t, []presence.Verdict{presence.Deliver, presence.Skip, presence.Defer}, d.Verdict)
			}
		}
	})
}

// Ids of every kind are taken or refused as the documentation states: wherever an event
// has one, and whatever it names.
func FuzzIDs(f *testing.F) {
	for _, id := range []string{"ann", "", "a b", "ünïcode", "\x00", "\xff", "__proto__", string(make([]byte, 200))} {
		f.Add(id)
	}
	m, err := presence.Compile(presence.DefaultPolicy())
	require.NoError(f, err)
	host := presence.System(presence.ID("host"))
	f.Fuzz(func(t *testing.T, id string) {
		valid := len(id) >= 1 && len(id) <= presence.MaxID && utf8.ValidString(id)
		for _, r := range id {
			valid = valid && !unicode.IsControl(r)
		}
		claim := presence.Claim{Status: "busy", Source: presence.SourceCall}
		with := func(change func(*presence.Claim)) presence.Claim {
			c := claim
			change(&c)
			return c
		}
		for what, e := range map[string]struct {
			event    presence.Event
			optional bool // empty leaves it to the core
		}{
			"subject":         {event: presence.Event{Kind: presence.EventConnect, Subject: presence.ID(id), Conn: "c", Age: presence.NoAge}},
			"tenant":          {presence.Event{Kind: presence.EventConnect, Subject: presence.Ref{Tenant: id, ID: "ann"}, Conn: "c", Age: presence.NoAge}, true},
			"connection":      {event: presence.Event{Kind: presence.EventConnect, Conn: id, Age: presence.NoAge}},
			"device":          {presence.Event{Kind: presence.EventConnect, Conn: "c", Device: id, Age: presence.NoAge}, true},
			"node":            {presence.Event{Kind: presence.EventConnect, Conn: "c", Node: id, Age: presence.NoAge}, true},
			"node down":       {event: presence.Event{Kind: presence.EventNodeDown, Node: id}},
			"node up":         {event: presence.Event{Kind: presence.EventNodeUp, Node: id}},
			"endpoint":        {event: presence.Event{Kind: presence.EventEndpoint, Endpoint: presence.Endpoint{ID: id, Kind: presence.EndpointPush}}},
			"actor":           {presence.Event{Kind: presence.EventSetClaim, Actor: presence.System(presence.ID(id)), Claim: claim}, true},
			"claim":           {presence.Event{Kind: presence.EventSetClaim, Actor: host, Claim: with(func(c *presence.Claim) { c.ID = id })}, true},
			"key":             {presence.Event{Kind: presence.EventSetClaim, Actor: host, Claim: with(func(c *presence.Claim) { c.Key = id })}, true},
			"end of a key":    {presence.Event{Kind: presence.EventEndClaim, Actor: host, Claim: presence.Claim{Key: id}}, true},
			"end of an id":    {presence.Event{Kind: presence.EventEndClaim, Actor: host, Claim: presence.Claim{ID: id}}, true},
			"end on a device": {presence.Event{Kind: presence.EventEndClaim, Actor: host, Claim: presence.Claim{Conn: id}}, true},
			"work":            {presence.Event{Kind: presence.EventLoad, Load: presence.Load{On: id}}, true},
		} {
			if e.event.Subject == (presence.Ref{}) && what != "subject" {
				e.event.Subject = ann
			}
			var s presence.State
			_, _, err := m.Step(&s, &e.event, 1, nil)
			require.Equal(t, valid || e.optional && id == "", err == nil, "%s %q: %v", what, id, err)
			if err != nil {
				require.ErrorIs(t, err, presence.ErrInvalid, what)
				require.False(t, s.Current.Known, what)
			}
		}
		for what, e := range map[string]presence.Event{
			"focus": {Kind: presence.EventFocus, Conn: "c", Channel: id}, "challenge": {Kind: presence.EventChallenge, ID: id},
			"logout": {Kind: presence.EventLogout, Conn: id}, "withdrawal": {Kind: presence.EventWithdraw, Actor: presence.Agent(ann), ID: id},
		} {
			s := presence.State{}
			_, _, err := m.Step(&s, &presence.Event{Kind: presence.EventConnect, Subject: ann, Conn: "c", Age: presence.NoAge}, 1, nil)
			require.NoError(t, err)
			_, _, err = m.Step(&s, &e, 2, nil)
			require.Equal(t, !valid && id != "", errors.Is(err, presence.ErrInvalid), "%s %q: %v", what, id, err)
		}
	})
}

// bytesSource makes choices by bytes, and after the last one by a sequence.
type bytesSource struct {
	left []byte
	n    uint64
}

func (b *bytesSource) Uint64() uint64 {
	b.n += 0x9e3779b97f4a7c15 // so that no choice is repeated for ever
	if len(b.left) < 2 {
		b.left = nil
		return b.n
	}
	high := uint64(b.left[0])<<8 | uint64(b.left[1])
	b.left = b.left[2:]
	return high<<48 | b.n>>16
}

// Whatever the events, a step keeps the invariants and agrees with the naive model. What
// is refused changes nothing. The state survives its record.
func FuzzStep(f *testing.F) {
	for i := range 8 {
		seed := make([]byte, 400)
		for j := range seed {
			seed[j] = byte((j + 1) * (i + 3) * 37)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 3000 {
			return
		}
		source := &bytesSource{left: data}
		names := preset.Names()
		r := rand.New(source)
		first, _ := preset.Lookup(names[r.IntN(len(names))])
		second, _ := preset.Lookup(names[r.IntN(len(names))])
		g := newGenerator(1, newRuling(first, second), peter)
		g.Rand, g.work = r, true
		for len(source.left) > 0 && len(g.h.events) < 40 {
			g.add(g.event())
			g.pass()
		}
		h := &g.h
		require.NoError(t, compareWithNaive(h, h.policies), "%s", h)
		fl := follow(h)
		held := make(map[string]presence.Claim)
		for i, e := range h.events {
			before, told := fl.s.Clone(), len(fl.out)
			err := fl.feed(e)
			require.NoError(t, fl.unreachable(), "event %d\n%s", i, h)
			require.NoError(t, fl.claims(&e, &before, fl.out[told:], held), "event %d\n%s", i, h)
			require.NoError(t, fl.inOrder(&before, fl.out[told:]), "event %d\n%s", i, h)
			if next, ok := fl.m.Next(&fl.s); ok {
				require.Greater(t, next, fl.s.Now, "event %d\n%s", i, h)
			}
			if err != nil && e.event.Kind != presence.EventPolicy && e.event.Kind != presence.EventSuspended {
				_, _, _ = fl.m.Step(&before, &presence.Event{}, e.at, nil)
				require.Equal(t, before, fl.s, "event %d was refused\n%s", i, h)
			}
		}
		require.NoError(t, fl.spent(), "%s", h)
		record, err := fl.m.Record(&fl.s, 1)
		require.NoError(t, err)
		back, err := record.State(fl.s.Now, fl.s.Behind)
		require.NoError(t, err)
		require.ElementsMatch(t, fl.s.Claims, back.Claims)
		require.ElementsMatch(t, fl.s.Endpoints, back.Endpoints)
		again, err := fl.m.Record(&back, 1)
		require.NoError(t, err)
		if len(fl.s.Conns) == 0 {
			require.Equal(t, string(record.Data), string(again.Data), "%s", h)
		}
	})
}

// A record that cannot be read is an error; one that can is written again to
// the same.
func FuzzRecord(f *testing.F) {
	m, err := presence.Compile(preset.TawkTo())
	require.NoError(f, err)
	var s presence.State
	for i, e := range []presence.Event{
		{Kind: presence.EventLogin, Conn: "c", Age: presence.NoAge},
		{Kind: presence.EventSetClaim, Actor: presence.Agent(ann), Claim: presence.Claim{Status: "invisible", Conn: "c"}},
		{Kind: presence.EventEndpoint, Endpoint: presence.Endpoint{ID: "phone", Kind: presence.EndpointPush}},
	} {
		e.Subject = ann
		_, _, err := m.Step(&s, &e, presence.Instant(i+1), nil)
		require.NoError(f, err)
	}
	r, err := m.Record(&s, 3)
	require.NoError(f, err)
	f.Add(r.Data)
	f.Add([]byte(`{"version":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := presence.Record{Subject: ann, Revision: 3, Data: data}.State(0, 0)
		if err != nil {
			return
		}
		r, err := m.Record(&s, 3)
		require.NoError(t, err)
		again, err := r.State(0, 0)
		require.NoError(t, err)
		r2, err := m.Record(&again, 3)
		require.NoError(t, err)
		require.Equal(t, string(r.Data), string(r2.Data))
		_, _, err = m.Step(&s, &presence.Event{Kind: presence.EventTick}, s.Now.Add(1), nil)
		require.NoError(t, err)
	})
}
