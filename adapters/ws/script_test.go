package ws_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/url"
	"os"
	"slices"
	"testing"
	"time"

	gobwas "github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/presence-go/presence"
	"github.com/presence-go/presence/adapters/wire"
	"github.com/presence-go/presence/internal/seeds"
)

// mirror is a client that keeps a channel's list by the rules of the protocol
// only, and connects and leaves.
type mirror struct {
	*script
	id   string
	role presence.Role

	c       *client // nil while it is away
	epoch   any
	seq     uint64
	members map[string]presence.View
	group   presence.Group
	knew    presence.Role // the role of that list
	anew    bool          // the next frame must be a snapshot
}

// script is a random course of events.
type script struct {
	*world
	*rand.Rand
	seed    uint64
	people  []string
	conns   map[string]*presence.Conn
	mirrors []*mirror
	granted map[string]bool // of those mirrors that need it
	marks   int
	comings int // sessions so far
	resumed int // how often a mirror resumed with diffs
}

// mark makes a change that every audience sees, after all earlier changes: a
// new member.
func (s *script) mark() string {
	s.t.Helper()
	s.pass(2 * time.Second) // more than changes are held back
	s.pass(2 * time.Second) // and those that time brought about
	s.marks++
	name := fmt.Sprint("mark-", s.marks)
	require.NoError(s.t, s.tracker.AddMember(s.t.Context(), presence.ChannelID("sales"), presence.ID(name)))
	return name
}

// pass moves the clock. Most of the connected subjects send heartbeats.
func (s *script) pass(d time.Duration) {
	s.t.Helper()
	s.advance(d)
	for _, name := range slices.Sorted(maps.Keys(s.conns)) {
		if s.IntN(4) > 0 {
			_ = s.conns[name].Heartbeat() // it may be gone
		}
	}
}

// happen makes a random act of a subject.
func (s *script) happen() {
	s.t.Helper()
	name := s.people[s.IntN(len(s.people))]
	ref, c := presence.ID(name), s.conns[name]
	switch n := s.IntN(10); {
	case n < 3 || c == nil:
		c, err := s.tracker.Connect(s.t.Context(), ref, presence.ConnectOptions{ID: "tab", Login: s.IntN(2) == 0})
		require.NoError(s.t, err)
		s.conns[name] = c
	case n < 6:
		_, _ = c.Claim(s.t.Context(), presence.Claim{Status: []string{"available", "busy", "away"}[s.IntN(3)], Text: fmt.Sprint("text ", s.IntN(5))})
	case n < 7:
		_ = c.Close()
		delete(s.conns, name)
	case n < 8:
		_ = c.Logout()
		delete(s.conns, name)
	case n < 9:
		require.NoError(s.t, s.tracker.RemoveMember(s.t.Context(), presence.ChannelID("sales"), ref))
	default:
		require.NoError(s.t, s.tracker.AddMember(s.t.Context(), presence.ChannelID("sales"), ref))
	}
}

// come opens a session over either transport, from the mirror's position.
func (m *mirror) come() {
	m.t.Helper()
	m.comings++
	m.over = []string{"ws", "sse"}[m.IntN(2)]
	query := fmt.Sprintf("id=%s&role=%s", m.id, m.role)
	epoch, _ := m.epoch.(string)
	if m.over == "sse" && m.IntN(3) > 0 && m.may() {
		at := wire.Position{{Channel: "sales", Epoch: epoch, Seq: m.seq}}.String()
		var header []string
		query += "&conn=" + m.id
		if m.IntN(2) == 0 {
			header = []string{"Last-Event-ID", at}
		} else {
			query += "&watch=sales&last=" + url.QueryEscape(at)
		}
		c, status, why := m.stream(query, header...)
		require.Equal(m.t, 200, status, why)
		c.welcome()
		m.c = c
		return
	}
	m.c, _ = m.enter(query, fmt.Sprintf(`,"conn":%q`, m.id))
	if m.may() {
		m.watch()
	}
}

// watch asks for the channel from where the mirror was.
func (m *mirror) watch() {
	m.t.Helper()
	epoch, _ := m.epoch.(string)
	m.c.do(fmt.Sprintf(`"type":"watch","channel":"sales","epoch":%q,"seq":%d`, epoch, m.seq))
}

// may reports whether the mirror may watch.
func (m *mirror) may() bool { return m.role != presence.RoleAgent || m.granted[m.id] }

// leave ends the session in some way, with frames left unread.
func (m *mirror) leave() {
	m.t.Helper()
	if words := []string{`{"type":"suspend"}`, `{"type":"bye"}`, "", ""}[m.IntN(4)]; words != "" {
		if m.c.events != nil {
			m.c.send(words) // the session may have ended
		} else {
			m.c.say(words)
		}
		m.c.closed()
	}
	m.c.conn.Close()
	m.c = nil
}

// read reads frames until a mark. It opens a new session if the server has
// ended this one.
func (m *mirror) read(mark string) {
	m.t.Helper()
	came := m.seq
	for first := true; m.members[mark].Subject.ID == ""; {
		f, ok := m.message()
		if !ok {
			m.c.conn.Close()
			m.come()
			first = true
			continue
		}
		switch f.Type {
		case "snapshot":
			m.anew = false
			m.epoch, m.group, m.members = f.Epoch, f.Group, make(map[string]presence.View)
			for _, v := range f.Members {
				m.members[v.Subject.ID] = v
			}
		case "diff":
			require.False(m.t, m.anew, "seed %d: %s, who could not know the list, is sent %s", m.seed, m.id, f.raw)
			require.Equal(m.t, m.epoch, f.Epoch, "seed %d: %s", m.seed, f.raw)
			require.Equal(m.t, m.seq+1, f.Seq, "seed %d: %s", m.seed, f.raw)
			if first && came > 0 {
				m.resumed++
			}
			m.group = f.Group
			for _, c := range f.Changes {
				if c.View == nil {
					delete(m.members, c.Subject.ID)
				} else {
					m.members[c.Subject.ID] = *c.View
				}
			}
		case "removed":
			require.Fail(m.t, "removed", "seed %d: %s", m.seed, m.id)
		default:
			continue
		}
		first = false
		m.seq, m.knew = f.Seq, m.role
	}
}

// message returns the next message, or false if the session is over.
func (m *mirror) message() (frame, bool) {
	m.t.Helper()
	if len(m.c.skipped) > 0 {
		return m.c.next(), true
	}
	for {
		op, payload, err := m.c.read()
		require.False(m.t, os.IsTimeout(err), "seed %d: %s waits in vain", m.seed, m.id)
		if err != nil || op == gobwas.OpClose {
			return frame{}, false
		}
		if op == gobwas.OpText {
			return parse(m.c, payload), true
		}
	}
}

// dismiss takes a mirror's grant away, if it has one, or gives it back.
func (m *mirror) dismiss() {
	m.t.Helper()
	if m.role != presence.RoleAgent {
		return
	}
	ref, sales := presence.ID(m.id), presence.ID("sales")
	if !m.granted[m.id] {
		require.NoError(m.t, m.tracker.AddMember(m.t.Context(), presence.Channel(sales), ref))
		m.granted[m.id] = true
		if m.c != nil {
			m.c.conn.Close()
			m.come()
		}
		return
	}
	require.NoError(m.t, m.tracker.RemoveMember(m.t.Context(), presence.Channel(sales), ref))
	m.granted[m.id], m.anew = false, true
	if m.c != nil {
		for {
			f, ok := m.message()
			if !ok {
				m.c.conn.Close()
				m.c = nil
				return
			}
			if f.Type == "removed" || f.Type == "error" { // where it was about to watch
				return
			}
		}
	}
}

// promote gives a mirror another role, with which it connects again.
func (m *mirror) promote() {
	m.t.Helper()
	if m.role == presence.RoleAgent {
		return
	}
	if m.c != nil {
		m.leave()
	}
	m.role = []presence.Role{presence.RoleVisitor, presence.RoleSupervisor, presence.RoleAdmin}[m.IntN(3)]
	m.anew = m.role != m.knew
}

// act makes one random act of the script.
func (s *script) act() {
	m := s.mirrors[s.IntN(len(s.mirrors))]
	switch n := s.IntN(20); {
	case n < 8:
		s.happen()
	case n < 10:
		s.pass(time.Duration(s.IntN(4000)) * time.Millisecond)
	case n < 13:
		mark := s.mark()
		for _, m := range s.mirrors {
			if m.c != nil && m.may() && s.IntN(3) > 0 {
				m.read(mark)
			}
		}
	case n < 18:
		if m.c == nil {
			m.come()
		} else if s.IntN(2) == 0 {
			m.leave()
		}
	case n < 19:
		m.dismiss()
	default:
		m.promote()
	}
}

// finish makes every mirror read all that is left.
func (s *script) finish() {
	for _, m := range s.mirrors {
		if !m.may() {
			m.dismiss()
		}
		if m.c == nil {
			m.come()
		}
	}
	for before := -1; before != s.comings; { // until no mirror has to connect again
		before = s.comings
		mark := s.mark()
		for _, m := range s.mirrors {
			m.read(mark)
		}
	}
}

// compare checks that every mirror equals the list of the tracker.
func (s *script) compare(t *testing.T) {
	t.Helper()
	for _, m := range s.mirrors {
		actor := presence.Actor{Subject: presence.ID(m.id), Role: m.role}
		views, group, err := s.tracker.ListAs(t.Context(), actor.Audience(), presence.ChannelID("sales"), nil)
		require.NoError(t, err)
		want := make(map[string]presence.View)
		for _, v := range views {
			want[v.Subject.ID] = v
		}
		require.Equal(t, asJSON(t, want), asJSON(t, m.members), "seed %d: what %s sees as %s", s.seed, m.id, m.role)
		require.Equal(t, group, m.group)
	}
}

// However often and by whichever way a client connects and leaves, its mirror
// equals the list of the tracker.
func TestMirrorsEqualTheList(t *testing.T) {
	resumed := 0
	for _, seed := range seeds.List(t, 24) {
		t.Run(fmt.Sprint("seed-", seed), func(t *testing.T) {
			policy := presence.DefaultPolicy()
			if seed%3 == 0 {
				policy.CoalesceSubject = time.Second
			}
			s := &script{Rand: rand.New(rand.NewPCG(seed, 5)), seed: seed, people: []string{"ann", "bob", "cyd", "dan"}, conns: make(map[string]*presence.Conn), granted: make(map[string]bool)}
			s.world = setup(t, func(c *conf) {
				c.tracker.Policy, c.mute = &policy, true
				c.tracker.WatchBuffer, c.tracker.ReplayFrames = 8, 1+s.IntN(40)
				c.ws.MaxSessionsPerSubject = 1000 // those that broke may not have been noticed
			})
			for _, name := range s.people {
				require.NoError(t, s.tracker.AddMember(t.Context(), presence.ChannelID("sales"), presence.ID(name)))
			}
			for i, role := range []presence.Role{presence.RoleVisitor, presence.RoleVisitor, presence.RoleSupervisor, presence.RoleSupervisor, presence.RoleAgent, presence.RoleAgent} {
				m := &mirror{script: s, id: fmt.Sprint("m", i), role: role, members: make(map[string]presence.View)}
				s.mirrors = append(s.mirrors, m)
				if role == presence.RoleAgent {
					m.dismiss()
				}
			}
			for range 120 {
				s.act()
			}
			s.finish()
			s.compare(t)
			resumed += s.resumed
		})
	}
	require.Greater(t, resumed, 24, "some went on with diffs")
}

func asJSON(t testing.TB, v any) string {
	t.Helper()
	out, err := json.Marshal(v)
	require.NoError(t, err)
	return string(out)
}
