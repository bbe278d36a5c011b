package presence_test

import (
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
		}
		for _, a := range []presence.Audience{presence.AudienceSelf, presence.AudienceVisitor} {
			require.NotEmpty(t, m.View(&s.Current, a).Status)
		}
	})
}

// Ids of every kind are taken or refused as the documentation states.
func FuzzIDs(f *testing.F) {
	for _, id := range []string{"ann", "", "a b", "ünïcode", "\x00", "\xff", "__proto__", string(make([]byte, 200))} {
		f.Add(id)
	}
	m, err := presence.Compile(presence.DefaultPolicy())
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, id string) {
		valid := len(id) >= 1 && len(id) <= presence.MaxID && utf8.ValidString(id)
		for _, r := range id {
			valid = valid && !unicode.IsControl(r)
		}
		var s presence.State
		_, _, err := m.Step(&s, &presence.Event{Kind: presence.EventConnect, Subject: presence.ID(id), Conn: "c", Age: presence.NoAge}, 1, nil)
		require.Equal(t, valid, err == nil, err)
		s = presence.State{}
		_, _, err = m.Step(&s, &presence.Event{Kind: presence.EventConnect, Subject: ann, Conn: id, Age: presence.NoAge}, 1, nil)
		require.Equal(t, valid, err == nil, err)
		if err != nil {
			require.ErrorIs(t, err, presence.ErrInvalid)
			require.False(t, s.Current.Known)
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
		s, err := presence.Record{Subject: ann, Revision: 3, Data: data}.State()
		if err != nil {
			return
		}
		r, err := m.Record(&s, 3)
		require.NoError(t, err)
		again, err := r.State()
		require.NoError(t, err)
		r2, err := m.Record(&again, 3)
		require.NoError(t, err)
		require.Equal(t, string(r.Data), string(r2.Data))
		_, _, err = m.Step(&s, &presence.Event{Kind: presence.EventTick}, s.Now.Add(1), nil)
		require.NoError(t, err)
	})
}
